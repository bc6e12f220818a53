"""The verb report: the options of tables, pivots, pictures and notebooks."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctt.cli.parsing import STORE, open_store, parse, verb_parser
from ctt.core.errors import UsageError


def report(arguments: Sequence[str]) -> int:
    """Print the comparison table of a sweep from the artifacts in the store.

    The same artifacts give the same bytes.
    """
    parsed = parse(_parser(), arguments)
    from ctt.app.report import ReportOptions, print_report

    options = ReportOptions(
        format=parsed.format,
        cost=parsed.cost,
        by_form=parsed.by_form,
        differences=parsed.differences,
        transpose=parsed.transpose,
        pivot=parsed.pivot and (parsed.pivot[0], parsed.pivot[1]),
        metric=parsed.metric,
        at=_fixed(parsed.at),
        against=parsed.against,
        picture=parsed.picture,
        files=parsed.files,
        notebook=parsed.notebook,
        evalai=parsed.evalai,
        run=parsed.run,
    )
    return print_report(open_store(parsed.overrides), parsed.name, options)


def _parser() -> argparse.ArgumentParser:
    from ctt.report.writers import FORMATS

    parser = verb_parser("report", report, named="a recorded sweep", settings=STORE)
    add = parser.add_argument
    add("--format", default="terminal", choices=FORMATS, help="format to print (default: terminal)")
    add("--cost", action="store_true", help="with device-hours, it/s and memory")
    add("--by-form", action="store_true", help="with a table of question forms for each category")
    add("--differences", action="store_true", help="the differences to the baseline alone")
    add("--transpose", action="store_true", help="a column for each point; a terminal gets it anyway where it is shorter")
    add("--pivot", nargs=2, metavar=("X", "Y"), help="a table of one metric over two swept settings")
    add("--metric", help="metric of the pivot: a category, a pooled metric (default: average), category/form, or an error")
    add("--at", action="append", default=[], metavar="KEY=VALUE", help="fix another swept setting of the pivot")
    add("--against", metavar="X", help="with --picture: accuracy against one swept setting")
    picture = "draw the table, --pivot as a heat map, or --against (png, svg, pdf)"
    add("--picture", type=Path, metavar="FILE", help=picture)
    add("--files", type=Path, metavar="DIR", help="write every format and all pictures (png, svg and pdf) to a folder")
    notebook = "run a notebook of analysis/ over the sweep and render it to HTML"
    add("--notebook", nargs="?", const="", metavar="NOTEBOOK", help=notebook)
    evalai = "write a run's answers to CLEVRER's test questions, as EvalAI's challenge 667 takes them"
    add("--evalai", type=Path, metavar="FILE", help=evalai)
    add("--run", metavar="RUN", help="with --evalai: this run (default: the best on the validation questions)")
    return parser


def _fixed(pairs: Sequence[str]) -> dict[str, Any]:
    """The settings of --at, as {key: value}. Raises UsageError."""
    from ctt.sweep.overrides import plain_value

    fixed = {}
    for pair in pairs:
        key, sign, text = pair.partition("=")
        if not key or not sign:
            raise UsageError(f"--at {pair}: write --at KEY=VALUE")
        fixed[key] = plain_value(text, f"--at {pair}")
    return fixed
