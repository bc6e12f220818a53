"""The verb `report`: the table of a sweep in every form, pivots of it, its pictures, a notebook over it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctt.cli.parsing import open_store, parse, verb_parser
from ctt.core.errors import UsageError


def report(arguments: Sequence[str]) -> int:
    """print a sweep's comparison table from the artifacts in the store

    The same artifacts give the same bytes.
    """
    parsed = parse(_parser(), arguments)
    _check(parsed)
    store = open_store(parsed.overrides)
    if parsed.notebook is not None:
        from ctt.study.notebooks import render_notebook

        print(render_notebook(parsed.name, store, parsed.notebook or None))
        return 0
    from rich.console import Console

    from ctt.report.tables.table import build
    from ctt.report.writers.render import render
    from ctt.study import loading, record
    from ctt.study.report_files import render_terminal, write_report

    plan = record.load(record.newest(store, parsed.name))
    if parsed.files:
        write_report(plan, store)
    table = build(loading.results(plan, store))
    if parsed.picture is not None:
        _draw(table, parsed)
    elif parsed.pivot:
        from ctt.report.tables.pivot import pivot_page
        from ctt.report.writers.render import draw

        x, y = parsed.pivot
        print(draw(pivot_page(table, x, y, parsed.metric, _at(parsed)), parsed.format), end="")
    elif parsed.format == "terminal" and not (parsed.cost or parsed.by_form):
        print(render_terminal(table, Console()), end="")
    else:
        print(render(table, parsed.format, cost=parsed.cost, by_form=parsed.by_form), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    from ctt.report.writers.render import FORMATS

    parser = verb_parser("report", report, named="a recorded sweep")
    add = parser.add_argument
    add("--format", default="terminal", choices=FORMATS, help="how to print it (default: terminal)")
    add("--cost", action="store_true", help="with device-hours, it/s and memory")
    add("--by-form", action="store_true", help="with a table of question forms for each category")
    add("--pivot", nargs=2, metavar=("X", "Y"), help="numbers over two swept settings instead")
    add("--metric", default="average", help="of the pivot: a category, a pooled metric or category/form")
    add("--at", action="append", default=[], metavar="KEY=VALUE", help="fix another swept setting of the pivot")
    add("--against", metavar="X", help="with --picture: accuracy against one swept setting")
    add(
        "--picture", type=Path, metavar="FILE", help="draw (png, svg, pdf): the table, its pivot as heat map, --against"
    )
    add("--files", action="store_true", help="write every form and all pictures to sweeps/NAME/report too")
    add(
        "--notebook",
        nargs="?",
        const="",
        metavar="WHICH",
        help="run a notebook of analysis/ over it, render it to HTML",
    )
    return parser


def _check(parsed: argparse.Namespace) -> None:
    if parsed.against and parsed.picture is None:
        raise UsageError("--against draws a picture; say where: --picture FILE.png")
    if parsed.against and parsed.pivot:
        raise UsageError("--against and --pivot are two pictures; ask for one")
    if parsed.at and not parsed.pivot:
        raise UsageError("--at fixes a setting of a pivot; say --pivot X Y too")
    if parsed.pivot and parsed.picture is None and parsed.format in ("csv", "json"):
        raise UsageError(f"a pivot is text (terminal, md, tex, html); --format {parsed.format} holds every row anyway")
    if parsed.picture is not None and parsed.picture.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"--picture must end in .png, .svg or .pdf, got {parsed.picture}")


def _at(parsed: argparse.Namespace) -> dict[str, Any]:
    import yaml

    fixed = {}
    for word in parsed.at:
        key, sign, value = word.partition("=")
        if not sign:
            raise UsageError(f"--at {word}: write --at KEY=VALUE")
        fixed[key] = yaml.safe_load(value)
    return fixed


def _draw(table: Any, parsed: argparse.Namespace) -> None:
    from ctt.report.figures import comparison

    if parsed.pivot:
        x, y = parsed.pivot
        comparison.heat_map(table, x, y, parsed.metric, parsed.picture, at=_at(parsed))
    elif parsed.against:
        comparison.accuracy_against(table, parsed.against, parsed.picture)
    else:
        comparison.table_picture(table, parsed.picture)
    print(parsed.picture)
