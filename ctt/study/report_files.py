"""A sweep's report in the store's sweeps/NAME/report: its table in every format, and its pictures."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from ctt.planning import Plan
from ctt.report.tables.table import Table, build
from ctt.report.writers import render, terminal_text
from ctt.store import Store
from ctt.study.loading import results

FILES = {"table.md": "md", "table.json": "json", "table.csv": "csv", "table.tex": "tex", "table.html": "html"}
ENDINGS = (".png", ".svg", ".pdf")


def write_report(plan: Plan, store: Store, to: Path | None = None) -> tuple[Table, Path, list[Path]]:
    """Writes the table in every format and the pictures; returns the table, the folder and the files.

    to: a folder; None: the store's own, with pictures as PNG alone, elsewhere as SVG and PDF too.
    """
    from ctt.report.figures.style import save  # imports matplotlib
    from ctt.study.pictures import pictures

    table = build(results(plan, store))
    folder, endings = (store.sweeps_folder(plan.sweep.name) / "report", ENDINGS[:1]) if to is None else (to, ENDINGS)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {name: render(table, format) for name, format in FILES.items()}
    drawn = pictures(table, plan, store)
    shown = {name: [folder / Path(name).with_suffix(ending) for ending in endings] for name in drawn}
    files = [*(folder / name for name in texts), *(path for paths in shown.values() for path in paths)]
    if all(path.is_file() for path in files) and (folder / "table.json").read_text(encoding="utf-8") == texts["table.json"]:
        return table, folder, files  # unchanged numbers: the pictures are up to date
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    for name, paths in shown.items():
        figure = drawn[name]()
        for path in paths:
            save(figure, path)
    return table, folder, files


def show_report(plan: Plan, store: Store, console: Console) -> list[Path]:
    """Writes the report's files, prints the table and the folder; returns the files."""
    table, folder, files = write_report(plan, store)
    console.print()
    print(render_terminal(table, console), end="")
    console.print(f"table and plots: {folder}", soft_wrap=True)
    return files


def render_terminal(table: Table, console: Console, *, transpose: bool = False, **chosen: bool) -> str:
    """The table at the width of the terminal, with a column for each point where that is shorter; in a file or pipe of at least
    100 columns, with a line for each point unless `transpose`. chosen: what of it, as of terminal_text."""
    turned = None if console.is_terminal and not transpose else transpose
    width = console.width if console.is_terminal else max(100, console.width)
    return terminal_text(
        table, width=width, colour=console.is_terminal and console.color_system is not None, transpose=turned, **chosen
    )
