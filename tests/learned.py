"""`make learned`: has the demo learnt anything? Demands on its baseline, means over its seeds; the rest reported as it is.

Descriptive accuracy at least 12 points above always giving the most frequent answer of the question's form. Where objects are
visible, the world model's validation error at most 0.42 and its 32-frame rollout error at most 0.60 of copying the last frame.
The position reader: at least 90 % of the predictive questions; of the counterfactual ones at least 42 %, and not fewer than by
ancestry, from what was observed and rolled out.
"""

import json
import sys
from statistics import mean
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from ctt.config import Config
from ctt.data.questions.vocab import CATEGORIES
from ctt.stages.auxiliary.reader import PositionReader
from ctt.store import Store
from ctt.study import record
from ctt.study.loading import error_of


class Demand(NamedTuple):
    """What is demanded of a number, at least or at most `bound`."""

    what: str
    reached: float
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        return self.reached >= self.bound if self.at_least else self.reached <= self.bound


def main() -> int:
    """Prints the demands and what was reached; 1 if one is missed."""
    store = Store.open(Config().store)
    plan = record.load(record.newest(store, "demo"))
    console = Console(width=110)

    def metrics(stage: Any) -> dict[str, Any]:
        artifact = store.get(stage.key)
        if artifact is None:
            raise SystemExit(f"{stage.kind} {stage.key[:12]} is missing: run `make demo` first")
        return json.loads(artifact.file("metrics.json").read_text(encoding="utf-8"))

    chosen = [n for n, run in enumerate(plan.sweep.runs) if run.point.baseline]
    targets = [plan.targets[n] for n in chosen]
    answers = [metrics(t) for t in targets]
    states = [metrics(t.rollout.state)["validation"] for t in targets]
    rollouts = [metrics(t.rollout) for t in targets]
    readers = [metrics(one) for n in chosen for one in plan.auxiliaries[n] if isinstance(one, PositionReader)]
    ancestry = mean(r["levels"]["ancestry_of_rollout"]["per_question"]["counterfactual"] for r in readers)

    above = mean(a["per_question"]["descriptive"] - a["blind"]["per_question"]["descriptive"] for a in answers)
    one_step = mean(error_of(s) for s in states) / mean(error_of(s, "copy_last") for s in states)
    far = mean(error_of(r) for r in rollouts) / mean(error_of(r, "copy_last") for r in rollouts)
    counterfactual = mean(r["counterfactual"] for r in readers)
    demands = [
        Demand("descriptive accuracy above the form-blind level, points", above, 12.0, True),
        Demand("world model's validation error over copying's, visible slots", one_step, 0.42, False),
        Demand("32-frame rollout error over copying's, visible slots", far, 0.60, False),
        Demand("position reader, predictive questions, %", mean(r["predictive"] for r in readers), 90.0, True),
        Demand("position reader, counterfactual questions, %", counterfactual, 42.0, True),
        Demand("the same, against ancestry from what was seen and rolled out, %", counterfactual, ancestry, True),
    ]
    table = Table(title=f"What the demo's baseline has learnt (mean of {len(targets)} seeds)")
    for column in ("", "reached", "demanded", ""):
        table.add_column(column, justify="left" if not column else "right")
    for demand in demands:
        bound = f"at {'least' if demand.at_least else 'most'} {demand.bound:.3f}"
        table.add_row(demand.what, f"{demand.reached:.3f}", bound, "[green]yes[/]" if demand.met else "[red]no[/]")
    console.print(table)

    table = Table(title="All categories and their blind levels (most frequent answer of the question's form), %")
    for column in ("category", "per question", "blind", "per option", "blind"):
        table.add_column(column, justify="left" if column == "category" else "right")
    for category in CATEGORIES:
        row = []
        for kind in ("per_question", "per_option"):
            own = [a[kind][category] for a in answers if category in a[kind]]
            blind = [a["blind"][kind][category] for a in answers if category in a["blind"][kind]]
            row += [f"{mean(own):.1f}" if own else "–", f"{mean(blind):.1f}" if blind else "–"]
        table.add_row(category, *row)
    console.print(table)
    return 0 if all(demand.met for demand in demands) else 1


if __name__ == "__main__":
    sys.exit(main())
