"""Study: one recorded sweep: its runs, table, answers, curves, figures and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctt.config import Config
from ctt.core.errors import UsageError
from ctt.planning import Budget, Plan
from ctt.store import Store
from ctt.study import record
from ctt.study.on_demand import OnDemand
from ctt.study.stored_plan import StoredPlan
from ctt.sweep import Run, run_name

if TYPE_CHECKING:  # pandas and matplotlib, which take a second to import
    import pandas as pd
    from matplotlib.figure import Figure

    from ctt.report.tables.table import Table
    from ctt.report.writers.notebook_display import Shown


class Study:
    """The newest record of sweep `name` in a store, and what the store holds of it; each property is computed once.

    store: its folder; None: CTT_STORE, else ./store, or that of the nearest folder above which has one.
    Raises UsageError if there is no store, or no such sweep in it.

    >>> study = ctt.Study("demo", store="store")
    >>> study.table.query("metric == 'accuracy' and category == 'counterfactual'")[["point", "mean", "delta", "p_holm"]]
    >>> study.predictions("baseline seed=0").groupby("form").correct.mean()
    >>> study.figures["table"].savefig("differences.pdf")
    """

    def __init__(self, name: str, store: Path | str | None = None) -> None:
        self.store = Store.open(store or _store_nearby())
        if not self.store.root.is_dir():
            raise UsageError(f"no store at {self.store.root}; set CTT_STORE, or run a sweep first")
        self.name = name
        self.plan: Plan = record.load(record.newest(self.store, name))

    def __repr__(self) -> str:
        return f"Study({self.name!r}, store={str(self.store.root)!r})"

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run, points × seeds, finished or not."""
        return self.plan.sweep.runs

    @cached_property
    def comparison(self) -> Table:
        """The table as `ctt report` prints it: rows with intervals, differences, notes and warnings."""
        from ctt.report.tables.table import build
        from ctt.study import loading

        return build(loading.results(self.plan, self.store))

    @cached_property
    def table(self) -> pd.DataFrame:
        """The comparison as a tidy DataFrame, one line for each point, metric and category; columns as in `tidy`
        (ctt/report/tables/tidy.py): point, the swept settings, seeds, metric, category, mean, low, high, delta, p, …"""
        from ctt.report.tables.tidy import tidy

        return tidy(self.comparison)

    def predictions(self, run: Run | str) -> pd.DataFrame:
        """ALOE's answers of a run (one of `runs`, or its name), a line for each descriptive question or choice.

        Raises UsageError if there is no such run, or if it is not finished.
        """
        import pandas as pd

        name = run_name(run) if isinstance(run, str) else run.name
        targets = {run.name: target for run, target in zip(self.runs, self.plan.targets, strict=True)}
        if name not in targets:
            raise UsageError(f"{self.name} has no run {name!r}; its runs are called like {', '.join(map(repr, list(targets)[:3]))}")
        artifact = self.store.get(targets[name].key)
        if artifact is None:
            raise UsageError(f"the run {name!r} of {self.name} is not finished; `ctt status {self.name}` shows what it lacks")
        if not (artifact.path / "predictions.parquet").is_file():
            raise UsageError(f"the run {name!r} of {self.name} has no answers: its data has no questions")
        return pd.read_parquet(artifact.file("predictions.parquet"))

    @cached_property
    def curves(self) -> pd.DataFrame:
        """Metrics over training: columns point, seed, metric, epoch, value; ALOE's training loss is `vqa_loss`, its
        learning rate, gradient norm, throughput, memory and utilisation `aloe_NAME`."""
        import pandas as pd

        from ctt.study import loading

        lines = [
            (curve.label, curve.seed, metric, epoch, value)
            for curve in loading.curves(self.plan, self.store)
            for metric, points in curve.metrics.items()
            for epoch, value in points
        ]
        return pd.DataFrame(lines, columns=["point", "seed", "metric", "epoch", "value"])

    @property
    def figures(self) -> Mapping[str, Figure]:
        """Its figures by name, drawn at their lookup: `table`, `learning_curves`, `rollout_errors`, `against_SETTING`,
        `heat_map_X_Y`, `spending`; with diagnostics `graphs`, `losses`, `mean_graphs`; after `ctt promote` `ranking`."""
        from ctt.study.pictures import study_pictures

        made = study_pictures(self.comparison, self.plan, self.store, self._spending, self.promoted)
        return OnDemand("figure", made, self._remedies())

    @property
    def pages(self) -> Mapping[str, Shown]:
        """Its tables as Jupyter displays them, by name: `ablation`, `comparison`, `comparison_with_costs`, `forms`, `costs`,
        `power`, `spending`; with diagnostics `graph_density`, `graph_recovery`, `loss_terms`; after `ctt promote` `ranking`,
        `promoted`."""
        from ctt.report.tables.ranking import ranking_grid
        from ctt.report.writers.notebook_display import shown
        from ctt.study import loading, pages

        made = pages.pages_of(self.comparison) | pages.graph_pages(loading.diagnoses(self.plan, self.store))
        made["spending"] = lambda: pages.spending_page(self._spending)
        if (promoted := self.promoted) is not None:
            made["ranking"] = lambda: shown(ranking_grid(self.comparison, promoted))
            made["promoted"] = lambda: shown(promoted)
        return OnDemand("page", made, self._remedies())

    def _remedies(self) -> dict[str, str]:
        """What to run to have the figures and pages that not every sweep has."""
        screened = self.plan.sweep.baseline.config.aloe.protocol == "shared"
        screen = "" if screened else f"screen it (`ctt sweep {self.name} aloe.protocol=shared`), then "
        promote = f"to compare screening with retraining, {screen}run `ctt promote {self.name}`"
        measure = f"it is of the slot graphs that diagnostics measure; run `ctt sweep {self.name} diagnostics.enabled=true`"
        graphs = ("graphs", "losses", "mean_graphs", "graph_density", "graph_recovery", "loss_terms")
        return dict.fromkeys(("ranking", "promoted"), promote) | dict.fromkeys(graphs, measure)

    @cached_property
    def promoted(self) -> Table | None:
        """The table of the points that `ctt promote` retrained, with the labels of this screened sweep; None: there is none."""
        from ctt.report.tables.table import build
        from ctt.study import loading
        from ctt.study.promotion import relabelled

        if (name := f"{self.name}-promoted") not in record.names(self.store):
            return None
        plan = record.load(record.newest(self.store, name))
        return relabelled(self.plan, plan, build(loading.results(plan, self.store)))

    def browser(self) -> Any:
        """A selector for Jupyter: every sweep of the store, with its pages and figures. Needs ipywidgets."""
        from ctt.study.browser import browser

        return browser(self)

    def cost(self) -> Budget:
        """What the sweep costs, from the timings of this store, as `ctt.plan(…).cost()`."""
        return StoredPlan(self.plan, self.store).cost()

    @cached_property
    def _spending(self) -> dict[str, Any]:
        return self.cost().numbers()

    def missing(self) -> Sequence[Run]:
        """The runs that are not finished."""
        every = zip(self.runs, self.plan.targets, strict=True)
        return [run for run, target in every if not self.store.has(target.key)]


def _store_nearby() -> Path:
    """The store that the command line would find, in this folder or in one above: Jupyter runs notebooks in their own."""
    root = Path(Config().store)
    found = (folder / root for folder in (Path(), *Path.cwd().parents))
    return next((path for path in found if path.is_dir()), root)
