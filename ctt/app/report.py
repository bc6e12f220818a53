"""`ctt report`: the table of a sweep in every format, pivots of it, its pictures, a notebook over it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctt.core.atomic_files import write
from ctt.core.errors import UsageError
from ctt.core.terminal_console import terminal
from ctt.report.tables.pivot import pivot_page
from ctt.report.tables.table import Table
from ctt.report.writers import draw, render
from ctt.store import Store
from ctt.study.chosen_submission import submission_of
from ctt.study.notebooks import render_notebook
from ctt.study.report_files import render_terminal, write_report
from ctt.study.study import Study


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """What to print or draw. `at` fixes settings of a pivot; `against` and `picture` draw; "" is the default notebook."""

    format: str = "terminal"
    cost: bool = False
    by_form: bool = False
    differences: bool = False
    transpose: bool = False
    pivot: tuple[str, str] | None = None
    metric: str | None = None
    at: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    against: str | None = None
    picture: Path | None = None
    files: Path | None = None
    notebook: str | None = None
    evalai: Path | None = None
    run: str | None = None

    def __post_init__(self) -> None:
        if self.run and self.evalai is None:
            raise UsageError("--run names the run whose test answers are written; add --evalai FILE")
        if self.evalai is not None:
            self._alone("--evalai", "it writes a run's test answers", "run")
        if self.notebook is not None:
            self._alone("--notebook", "a notebook draws and writes its own page")
        elif self.picture is not None:
            self._alone("--picture", "a picture is no text", "picture", "pivot", "metric", "at", "against")
        elif self.files is not None:
            self._alone("--files", "it writes every format and all pictures")
        if self.against and self.picture is None:
            raise UsageError("--against draws a picture; name its file with --picture FILE.png")
        if self.against and self.pivot:
            raise UsageError("--against and --pivot are two pictures; choose one")
        if self.metric and not self.pivot:
            raise UsageError("--metric is that of a pivot; add --pivot X Y")
        if self.at and not self.pivot:
            raise UsageError("--at fixes a setting of a pivot; add --pivot X Y")
        if self.pivot and self.picture is None:
            if self.format in ("csv", "json"):
                raise UsageError(f"a pivot is text (terminal, md, tex, html); --format {self.format} holds every row anyway")
            self._unused("a pivot has one metric of runs", "cost", "by_form", "differences", "transpose")
        if self.by_form and self.format in ("csv", "json"):
            raise UsageError(f"--format {self.format} holds the question forms anyway; leave out --by-form")
        if self.format in ("csv", "json"):
            self._unused(f"--format {self.format} holds all numbers of every point", "differences", "transpose")
        if self.differences:
            self._unused("--differences shows these alone", "cost", "by_form")
        if self.picture is not None and self.picture.suffix not in (".png", ".svg", ".pdf"):
            raise UsageError(f"--picture must end in .png, .svg or .pdf, got {self.picture}")

    def _alone(self, option: str, reason: str, *allowed: str) -> None:
        """Raises UsageError if an option other than the allowed ones is given with this one."""
        others = [field.name for field in dataclasses.fields(self) if field.name not in (*allowed, option.strip("-"))]
        self._unused(f"{option}: {reason}", *others)

    def _unused(self, reason: str, *names: str) -> None:
        defaults: dict[str, Any] = {field.name: {} if field.name == "at" else field.default for field in dataclasses.fields(self)}
        if given := [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) != defaults[name]]:
            raise UsageError(f"{', '.join(given)} would have no effect ({reason}); leave {'it' if len(given) == 1 else 'them'} out")


def print_report(store: Store, name: str, options: ReportOptions) -> int:
    """Prints or draws the newest record of the sweep `name`, from the artifacts in the store."""
    if options.notebook is not None:
        print(render_notebook(name, store, options.notebook or None))
        return 0
    study = Study(name, store.root)
    if options.evalai is not None:
        run, submission = submission_of(study, options.run)
        options.evalai.parent.mkdir(parents=True, exist_ok=True)
        write(options.evalai, submission.read_bytes())
        print(f"{options.evalai}: the test answers of {run}")
        return 0
    if options.files is not None:
        for path in write_report(study.plan, store, options.files)[2]:
            print(path)
        return 0
    table = study.comparison
    metric = options.metric or table.leading
    if options.picture is not None:
        _draw(table, options, metric, options.picture)
    elif options.pivot:
        page = pivot_page(table, *options.pivot, metric, options.at)
        print(draw(page, options.format), end="")
    elif options.format == "terminal":
        chosen = dict(cost=options.cost, by_form=options.by_form, differences_alone=options.differences)
        print(render_terminal(table, terminal(), transpose=options.transpose, **chosen), end="")
    else:
        chosen = dict(cost=options.cost, by_form=options.by_form, differences=options.differences)
        print(render(table, options.format, transpose=options.transpose, **chosen), end="")
    return 0


def _draw(table: Table, options: ReportOptions, metric: str, picture: Path) -> None:
    from ctt.report.figures import comparison  # imports matplotlib

    if options.pivot:
        comparison.heat_map(table, *options.pivot, metric, picture, at=options.at)
    elif options.against:
        comparison.accuracy_against(table, options.against, picture)
    else:
        comparison.table_picture(table, picture)
    print(picture)
