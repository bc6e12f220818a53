"""A table says which categories the swept values can reach, and how."""

import json

import pytest

from ctt.plan import compile_plan
from ctt.recorded.show import results
from ctt.report.render import render
from ctt.report.table import build
from ctt.store import Store
from ctt.sweep import compile_sweep


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], ["directly, descriptive, explanatory and counterfactual ones through ALOE's shared weights alone"]),
        (["aloe.rollout_frames=all"], ["reaches all four directly"]),
        (["aloe.protocol=shared"], ["with one ALOE for all runs nothing else"]),
        (["aloe.protocol=shared", "aloe.rollout_frames=all"], ["reaches all four directly"]),
    ],
)
def test_the_table_names_what_can_be_reached(tmp_path, overrides, said) -> None:
    plan = compile_plan(compile_sweep("demo", ["seed=0", *overrides]))
    table = build(results(plan, Store.open(tmp_path)))
    assert len(table.reach) == len(said)
    for line, words in zip(table.reach, said, strict=True):
        assert words in line and line in " ".join(render(table, "md").replace("\\", "").split())
    assert json.loads(render(table, "json"))["reach"] == list(table.reach)
