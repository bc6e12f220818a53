"""A table shows which categories the swept settings can reach, and how."""

import json

import pytest

from ctt.planning import compile_plan
from ctt.report.tables.table import build
from ctt.report.writers import render
from ctt.store import Store
from ctt.study.loading import results
from ctt.sweep import compile_sweep

WORLD_MODEL = "directly, descriptive, explanatory and counterfactual ones through ALOE's shared weights alone"

NO_PREDICTED = "aloe.shares=[1,0.2,0,0.1]"
PATIENT = ["aloe.epochs=6", "aloe.patience=1"]


@pytest.mark.parametrize(
    ("sweep", "overrides", "parts"),
    [
        ("demo", [], [WORLD_MODEL]),
        ("demo", ["aloe.rollout_frames=all"], ["reaches all four directly"]),
        ("demo", ["aloe.protocol=shared"], ["with one ALOE for all runs nothing else"]),
        ("demo", ["aloe.protocol=shared", "aloe.rollout_frames=all"], ["reaches all four directly"]),
        ("noise", [], ["reach: a change of ALOE itself reaches all four categories directly (aloe.aloe_seed)"]),
        (
            "noise",
            ["aloe.aloe_seed=7", "aloe.epochs=2,3"],
            ["reach: a change of ALOE itself reaches all four categories directly"],
        ),
        (
            "demo",
            ["data.noise=0.05,0.1"],
            [
                WORLD_MODEL,
                "a change of the data reaches all four categories directly (data.noise)",
            ],
        ),
        ("demo", ["aloe.protocol=train,shared"], [WORLD_MODEL, "with one ALOE for all runs nothing else"]),
        ("demo", ["aloe.threads=1,2"], [WORLD_MODEL]),
        ("demo", [NO_PREDICTED], ["directly, in evaluation alone, as ALOE is trained without them, and nothing else"]),
        ("demo", [NO_PREDICTED, "aloe.rollout_frames=all"], ["reaches all four directly"]),
        ("demo", [NO_PREDICTED, *PATIENT], ["counterfactual ones through the epoch at which ALOE stops"]),
    ],
)
def test_the_table_names_what_can_be_reached(tmp_path, sweep, overrides, parts) -> None:
    plan = compile_plan(compile_sweep(sweep, ["seed=0", *overrides]))
    table = build(results(plan, Store.open(tmp_path)))
    assert len(table.reach) == len(parts)
    for line, part in zip(table.reach, parts, strict=True):
        assert part in line and line in " ".join(render(table, "md").replace("\\", "").split())
    assert json.loads(render(table, "json"))["reach"] == list(table.reach)


def test_a_shared_aloe_leaves_nothing_unreached_where_the_data_differ(tmp_path) -> None:
    plan = compile_plan(compile_sweep("demo", ["seed=0", "aloe.protocol=shared", "data.noise=0.05,0.1"]))
    points = results(plan, Store.open(tmp_path)).points
    assert [point.unreached for point in points[1:]] == [("descriptive", "explanatory", "counterfactual"), ()]


@pytest.mark.parametrize(
    ("overrides", "unreached"),
    [
        ([], ()),
        ([NO_PREDICTED], ("descriptive", "explanatory", "counterfactual")),
        ([NO_PREDICTED, *PATIENT], ()),
        ([NO_PREDICTED, "aloe.rollout_frames=all"], ()),
    ],
)
def test_an_aloe_trained_without_predicted_frames_reaches_as_little_as_a_shared_one(tmp_path, overrides, unreached) -> None:
    plan = compile_plan(compile_sweep("demo", ["seed=0", *overrides]))
    baseline, *others = results(plan, Store.open(tmp_path)).points
    assert baseline.baseline and baseline.unreached == ()
    assert others and all(point.unreached == unreached for point in others)
