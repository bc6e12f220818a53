"""`make learned`: has the demo learnt anything? Three demands on its baseline, the rest reported as it is.

Descriptive accuracy at least 12 points above always giving the most frequent answer of the question's form; the world
model's validation error at most 1/1.8 of copying the last frame, where objects are visible; its 32-frame rollout error at
most 0.75 of copying. Means over the baseline's seeds.
"""

import json
import sys
from statistics import mean
from typing import Any

from rich.console import Console
from rich.table import Table

from ctt.config import Config
from ctt.data.questions.vocab import CATEGORIES
from ctt.store import Store
from ctt.study import record
from ctt.study.loading import error_of


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

    targets = [t for run, t in zip(plan.sweep.runs, plan.targets, strict=True) if run.point.baseline]
    answers = [metrics(t) for t in targets]
    states = [metrics(t.rollout.state)["validation"] for t in targets]
    rollouts = [metrics(t.rollout) for t in targets]

    above = mean(a["per_question"]["descriptive"] - a["blind"]["per_question"]["descriptive"] for a in answers)
    one_step = mean(error_of(s) for s in states) / mean(error_of(s, "copy_last") for s in states)
    far = mean(error_of(r) for r in rollouts) / mean(error_of(r, "copy_last") for r in rollouts)
    demands = [
        ("descriptive accuracy above the form-blind level, points", above, 12.0, above >= 12.0, "at least"),
        (
            "world model's validation error over copying's, visible slots",
            one_step,
            1 / 1.8,
            one_step <= 1 / 1.8,
            "at most",
        ),
        ("32-frame rollout error over copying's, visible slots", far, 0.75, far <= 0.75, "at most"),
    ]
    table = Table(title=f"What the demo's baseline has learnt (mean of {len(targets)} seeds)")
    for column in ("", "reached", "demanded", ""):
        table.add_column(column, justify="left" if not column else "right")
    for what, value, bound, fine, word in demands:
        table.add_row(what, f"{value:.3f}", f"{word} {bound:.3f}", "[green]yes[/]" if fine else "[red]no[/]")
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
    return 0 if all(fine for *_, fine, _ in demands) else 1


if __name__ == "__main__":
    sys.exit(main())
