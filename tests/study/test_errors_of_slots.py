"""Errors of visible and of all slots: both in tables, each under its own name, reported numbers under theirs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from ctt.report.tables import layout
from ctt.report.tables.table import build
from ctt.report.writers import render
from ctt.store import Artifact
from ctt.study.loading import errors
from tests.report import made_up_answers


def artifact(folder: Path, metrics: dict[str, Any]) -> Artifact:
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return cast(Artifact, SimpleNamespace(path=folder, file=lambda name: folder / name))


def test_both_are_read_and_neither_stands_for_the_other(tmp_path: Path) -> None:
    state = artifact(tmp_path / "state", {"validation": {"error": 0.3, "error_visible": 0.2}})
    rollout = artifact(tmp_path / "rollout", {"error": 0.5, "error_visible": 0.4})
    assert errors(state, rollout) == {"world_model": 0.2, "world_model_all": 0.3, "rollout": 0.4, "rollout_all": 0.5}
    unknown = artifact(tmp_path / "real", {"validation": {"error": 0.0147, "error_visible": None}})
    assert errors(unknown, None) == {"world_model_all": 0.0147}


def test_a_reported_error_stands_under_all_slots_alone() -> None:
    results = made_up_answers.results(quoted=["reported"])
    runs = [replace(r, errors={"world_model": 0.02, "world_model_all": 0.03}) for r in results.runs]
    table = build(replace(results, runs=runs))
    of_ours, visible, every = layout.accuracy(table), layout.errors(table), layout.errors(table, every=True)
    assert "world model error (visible slots)" in of_ours.header and "all slots" not in " ".join(of_ours.header)
    reported = [[line for line in grid.lines if line[0].startswith("cjepa README, baseline")] for grid in (visible, every)]
    assert reported == [[], [("cjepa README, baseline (reported)", "1", "0.0147", "–")]]
    record = json.loads(render(table, "json"))
    assert record["quoted"][0]["errors"] == {"world_model_all": 0.0147}
    assert all(f"error of {which} slots" in render(table, "terminal") for which in ("visible", "all"))
    assert "(visible slots)" in render(table, "md")
