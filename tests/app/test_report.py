"""`ctt report` over a made-up store: pivots, pictures, noise, cost, and refused options."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ctt.cli import VERBS, report_errors
from ctt.report.tables.table import build
from ctt.store import Store
from ctt.study import loading
from ctt.study.noise_runs import noise
from ctt.study.pictures import pictures
from ctt.study.study import Study
from ctt.training.graph_measures import warning
from ctt.training.world_model import worse_than_copying
from tests.app.test_status_width import on_terminal
from tests.made_store import made_store

GRID = ("ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "seed=0,1,2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two sweeps: both weights, and one of a third setting too."""
    root = tmp_path_factory.mktemp("made") / "store"
    made_store(root, "weights", *GRID)
    return made_store(root, "weights", *GRID, "num_masked_slots=1,2", "seed=0", "name=three")[0]


def report(store: Store, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = report_errors(lambda: VERBS["report"]([*arguments, f"store={store.root}"]))
    return code, *capsys.readouterr()


def test_a_pivot_holds_the_tables_numbers(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(report(store, capsys, "weights", "--format", "json")[1])["rows"]
    arguments = ("--pivot", "ctt_inv_weight", "ctt_suf_weight", "--metric", "counterfactual", "--format", "md")
    code, text, _ = report(store, capsys, "weights", *arguments)
    assert code == 0
    first, last = rows[0]["metrics"]["counterfactual"], rows[-1]["metrics"]["counterfactual"]
    assert rows[-1]["values"] == {"ctt_inv_weight": 0.2, "ctt_suf_weight": 0.1}
    lines = [line for line in text.splitlines() if line.startswith("| ctt_suf_weight=")]
    assert re.search(rf"baseline {first['mean']:.1f}\b", lines[0])
    assert f"{abs(last['delta']):.1f} ±" in lines[1].split("|")[3], lines
    assert f"{last['mean']:.1f} " in lines[3].split("|")[3]


def test_a_third_setting_is_fixed_by_at(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("three", "--pivot", "ctt_inv_weight", "ctt_suf_weight")
    code, _, error = report(store, capsys, *arguments)
    assert code == 2 and "fix num_masked_slots too" in error
    code, text, _ = report(store, capsys, *arguments, "--at", "num_masked_slots=1")
    assert code == 0 and "ctt_suf_weight=0.1" in text


@pytest.mark.parametrize(
    "arguments", [("--pivot", "ctt_inv_weight", "ctt_suf_weight"), ("--against", "ctt_inv_weight"), ()], ids=str
)
def test_pictures_are_drawn_where_asked(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    path = tmp_path / "picture.png"
    code, text, _ = report(store, capsys, "weights", *arguments, "--picture", str(path))
    assert code == 0 and text.strip() == str(path)
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_files_writes_every_format_and_every_picture(store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "of" / "the paper"
    code, text, _ = report(store, capsys, "weights", "--files", str(folder))
    assert code == 0 and sorted(text.splitlines()) == sorted(map(str, folder.iterdir()))
    assert {path.name for path in folder.glob("table.*")} == {
        f"table.{e}" for e in ("md", "json", "csv", "tex", "html", "png", "svg", "pdf")
    }
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    names = {
        Path(name).stem for name in pictures(Study("weights", store.root).comparison, Study("weights", store.root).plan, store)
    }
    for ending, start in starts.items():
        found = list(folder.glob(f"*{ending}"))
        assert {path.stem for path in found} == names and all(path.read_bytes().startswith(start) for path in found)


def test_every_swept_setting_and_every_clear_pair_has_a_picture(store: Store) -> None:
    two, three = (Study(name, store.root) for name in ("weights", "three"))
    names = set(pictures(two.comparison, two.plan, store))
    assert names == {
        "table.png", "accuracies.png", "learning_curves.png", "against_ctt_inv_weight.png", "against_ctt_suf_weight.png",
        "heat_map_ctt_inv_weight_ctt_suf_weight.png",
    }  # fmt: skip
    assert not any(name.startswith("heat_map") for name in pictures(three.comparison, three.plan, store)), "which masks?"


def test_cost_has_hours_rates_and_memory(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    plain, costly = (report(store, capsys, "weights", "--format", "json", *more)[1] for more in ((), ("--cost",)))
    assert "device_hours" not in plain
    for row in json.loads(costly)["rows"]:
        assert row["cost"]["vqa_rate"] == row["cost"]["world_model_rate"] == 12.5
        assert row["cost"]["device_hours"] == pytest.approx(3 * 90 / 3600, rel=1e-3)
        assert row["cost"]["shared_prefix_hours"] == pytest.approx(90 / 3600, rel=1e-3)
        assert row["cost"]["vqa_hours"] == pytest.approx(90 / 3600, rel=1e-3)
        assert row["cost"]["world_model_memory_mib"] == row["cost"]["rollout_memory_mib"] == 512
    drawn = report(store, capsys, "weights", "--format", "md", "--cost")[1]
    assert re.search(r"\| ALOE +\| +1 min 30 s \| +12.5 \| +512 \|", drawn)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--against", "ctt_inv_weight"), "--against draws a picture; name its file"),
        (("--at", "seed=1"), "--at fixes a setting of a pivot"),
        (("--pivot", "ctt_inv_weight", "ctt_suf_weight", "--at", "seed=["), "(--at seed=[)"),
        (("--pivot", "ctt_inv_weight", "ctt_suf_weight", "--at", "seed=1,2"), "give one value"),
        (("--pivot", "ctt_inv_weight", "ctt_suf_weight", "--at", "seed=${oc.env:HOME}"), "no interpolation"),
        (("--metric", "nonsense"), "--metric is that of a pivot"),
        (("--pivot", "ctt_inv_weight", "ctt_suf_weight", "--metric", "nonsense"), "nonsense"),
        (("--pivot", "ctt_inv_weight", "ctt_suf_weight", "--cost"), "--cost would have no effect"),
        (("--by-form", "--format", "json"), "holds the question forms anyway"),
        (("--picture", "a.png", "--format", "md", "--cost"), "--format, --cost would have no effect (--picture"),
        (("--notebook", "--format", "md"), "--format would have no effect (--notebook"),
        (("--notebook", "--picture", "a.png"), "--picture would have no effect (--notebook"),
        (("--files", "a", "--format", "md"), "--format would have no effect (--files"),
        (("--picture", "a.jpeg"), "--picture must end in .png, .svg or .pdf"),
        (("--pivot", "ctt_inv_weight", "depth"), "depth was not swept in weights"),
        (("--pivot", "ctt_inv_weight", "ctt_suf_weight", "--format", "csv"), "holds every row anyway"),
    ],
)
def test_wrong_options_are_refused(
    store: Store, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, _, error = report(store, capsys, "weights", *arguments)
    assert code == 2 and message in error


def test_a_graph_without_information_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A warning of a run's diagnostics is printed below the table, with the point and the seed."""
    store, plan = made_store(tmp_path / "store", "weights", "ctt_inv_weight=0,0.2", "ctt_suf_weight=0", "seed=0,1")
    place = next(i for i, run in enumerate(plan.sweep.runs) if not run.point.baseline and run.seed == 1)
    run, (diagnostics,) = plan.sweep.runs[place], [s for s in plan.auxiliaries[place] if s.kind == "diagnostics"]
    found = warning("soft", 0.15, density=1.0, low=0.2, high=0.4)
    with store.lease(diagnostics.key) as lease:
        folder = store.work_folder(diagnostics.key)
        (folder / "metrics.json").write_text("{}")
        made = {"numerics": "made up", "began": 0.0, "ended": 1.0}
        store.publish(diagnostics.key, folder, lease, {**diagnostics.describe(), "facts": {"warning": found}, "provenance": made})
    rows = json.loads(report(store, capsys, "weights", "--format", "json")[1])["rows"]
    text = f"{found} (seed 1)"
    assert "(soft) is full at ctt_adj_threshold 0.15: 100.0 % of pairs" in text
    assert [row["warnings"] for row in rows] == [[], [text]] and rows[1]["point"] == run.point.label
    drawn = report(store, capsys, "weights", "--format", "md")[1]
    assert f"- warning: {run.point.label}: {text}" in " ".join(drawn.replace("\\", "").split())


def test_a_world_model_that_predicts_worse_than_copying_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, plan = made_store(tmp_path / "store", "weights", "ctt_inv_weight=0,0.2", "ctt_suf_weight=0", "seed=0,1")
    state = next(
        t.rollout.state for t, run in zip(plan.targets, plan.sweep.runs, strict=True) if run.seed == 1 and run.point.baseline
    )
    found = worse_than_copying(1.98, 1.0)
    path = next(store.root.glob(f"artifacts/*/{state.key}/manifest.json"))
    manifest = json.loads(path.read_text())
    manifest["facts"] = {"warning": found}
    with store.lease(state.key) as lease:
        moved = store.work_folder(state.key)
        for file in path.parent.iterdir():
            if file != path:
                shutil.copy(file, moved)
        shutil.rmtree(path.parent)
        store.publish(state.key, moved, lease, {name: manifest[name] for name in (*state.describe(), "facts", "provenance")})
    warnings = {
        row["point"]: row["warnings"] for row in json.loads(report(store, capsys, "weights", "--format", "json")[1])["rows"]
    }
    assert warnings.pop("baseline") == [f"{found} (seed 1)"] and not any(warnings.values())


def test_the_table_notes_where_early_stopping_ended_aloe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, _ = made_store(tmp_path / "store", "weights", *GRID, "aloe.patience=1")
    drawn = report(store, capsys, "weights", "--format", "md")[1]
    assert drawn.count("ALOE stopped after 4 of 5 epochs (seeds 0 to 2)") == 4
    # a shared ALOE is trained once, for the baseline
    store, _ = made_store(tmp_path / "shared", "weights", *GRID, "aloe.patience=1", "aloe.protocol=shared")
    drawn = report(store, capsys, "weights", "--format", "md")[1]
    assert drawn.count("ALOE stopped") == 1


def test_noise_is_found_in_the_runs_of_another_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The seed noise comes from ALOE's other seeds on the baseline's own rollouts, and from nothing else in the store."""
    store, plan = made_store(tmp_path / "store", "weights", *GRID)
    assert noise(plan, store) == []
    assert "Seed noise not estimated: run `ctt sweep noise`" in report(store, capsys, "weights")[1]
    made_store(tmp_path / "store", "noise", "num_masked_slots=1", "name=elsewhere")  # another baseline's noise
    assert noise(plan, store) == []
    _, repeated = made_store(tmp_path / "store", "noise")
    (found,) = noise(plan, store)
    assert [len(group) for group in found.groups] == [7], "six seeds of ALOE, and the baseline's own of seed 0"

    accuracies = []
    for target in repeated.targets:
        answers = pd.read_parquet(store.path(target.key) / "predictions.parquet")
        accuracies.append(100 * answers[answers.category == "descriptive"].correct.mean())
    row = build(loading.results(plan, store)).noise[0]
    assert row.deviation["descriptive"] == pytest.approx(np.std(accuracies, ddof=1))
    assert (row.runs, row.pairs, row.freedom) == (7, 3, 6)
    code, text, _ = report(store, capsys, "weights", "--format", "md")
    # two runs differ by t(.975, 6) √2 SD at most, 19 times in 20
    apart = 2.446912 * np.sqrt(2) * np.std(accuracies, ddof=1)
    assert code == 0 and f"two single runs differ by at most descriptive {apart:.1f}" in text


@pytest.mark.slow
def test_a_narrow_terminal_gets_points_as_columns_where_that_is_shorter(store: Store) -> None:
    narrow, wide = (on_terminal(store.root, columns, "report", "weights") for columns in (90, 160))
    assert max(map(len, narrow)) <= 90 and not any(line.startswith(" point ") for line in narrow)
    assert any(line.split()[:1] == ["counterfactual"] for line in narrow)
    assert any(line.startswith(" point ") for line in wide)
