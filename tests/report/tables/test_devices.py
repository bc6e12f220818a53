"""The table names the device of every stage, in all of its forms."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from ctt.planning import Plan
from ctt.report.writers import FORMATS, render
from ctt.store import Store
from ctt.store.artifact import MANIFEST, seal
from ctt.study.study import Study
from tests.made_store import made_store

NAME = "weights"
GPU = "cuda (NVIDIA H200)"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Store, Plan]:
    return made_store(tmp_path / "store", NAME, "ctt_inv_weight=0,0.2", "ctt_suf_weight=0", "seed=0,1")


def run_on(store: Store, key: str, device: str, model: str = "AVX2") -> None:
    """As if the stage had run there."""
    path = store.path(key) / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["provenance"] |= {"device": device, "numerics": f"{model}, torch 2.13.0, 1 threads"}
    path.write_text(json.dumps({**manifest, "seal": seal(manifest)}))


def texts(store: Store) -> dict[str, str]:
    table = Study(NAME, store.root).comparison
    return {form: render(table, form) for form in FORMATS if form != "terminal"}


def test_without_records_nothing_is_named(made: tuple[Store, Plan]) -> None:
    assert all("devices: " not in text and "devices (" not in text for text in texts(made[0]).values())


def test_one_device_is_one_line(made: tuple[Store, Plan]) -> None:
    store, plan = made
    for key in plan.stages:
        if store.has(key):
            run_on(store, key, f"cuda:{len(key) % 2}", "NVIDIA H200")
    found = texts(store)
    for form in ("md", "html", "tex"):
        assert f"devices: all stages on {GPU}" in found[form], form
    rows = json.loads(found["json"])["rows"]
    assert all(set(map(tuple, row["devices"].values())) == {(GPU,)} for row in rows)
    assert {"world model", "rollout", "ALOE"} <= rows[0]["devices"].keys()
    lines = list(csv.DictReader(io.StringIO(found["csv"])))
    assert {line["devices"] for line in lines if line["seeds"] == "2"} == {f"all stages on {GPU}"}


def test_where_stages_differ_each_is_named(made: tuple[Store, Plan]) -> None:
    """One seed's ALOE of one point ran on a CPU, with all of the baseline's stages."""
    store, plan = made
    for run, line in zip(plan.sweep.runs, plan.lines, strict=True):
        for stage in line.own:
            fast = not run.point.baseline and not (stage.kind == "vqa" and run.seed == 1)
            run_on(store, stage.key, "cuda" if fast else "cpu", "NVIDIA H200" if fast else "AVX2")
    found = texts(store)
    point = plan.sweep.runs[-1].point.label
    assert f"devices ({point}): world model, rollout on {GPU}; ALOE on cpu and {GPU}" in found["md"].replace("\\_", "_")
    assert "devices (baseline): all stages on cpu" in found["md"]
    rows = {row["point"]: row["devices"] for row in json.loads(found["json"])["rows"]}
    assert rows[point]["ALOE"] == ["cpu", GPU] and rows["baseline"] == {"world model": ["cpu"], "rollout": ["cpu"], "ALOE": ["cpu"]}
