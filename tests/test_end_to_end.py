"""A small sweep on the command line: cached the second time, the same table after SIGKILL and with another launcher."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forking
from tests.tiny import TINY, TINY_ONE_SEED, TINY_SWEEP, artifacts, ctt, ctt_commands, environment

CATEGORIES = {"descriptive", "explanatory", "predictive", "counterfactual", "multiple_choice", "average"}


@pytest.fixture(scope="module")
def finished(tiny_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the tiny sweep has run by `inproc`; a copy, as a test runs the sweep again."""
    return shutil.copytree(tiny_sweep, tmp_path_factory.mktemp("inproc") / "store")


def table(store: Path) -> str:
    return ctt(store, "report", "demo", "--format", "json").stdout


def test_the_json_table_has_the_documented_fields(finished: Path) -> None:
    out = json.loads(table(finished))
    assert out["sweep"] == "demo" and len(out["rows"]) == 2 and out["quoted"]
    baseline, other = out["rows"]
    assert baseline["baseline"] and not other["baseline"]
    for row in out["rows"]:
        assert set(row["metrics"]) == CATEGORIES
        assert set(row["errors"]) >= {"world_model", "rollout"}
        assert set(row["reader"]) >= {"predictive", "counterfactual"}
        assert row["seeds"] == [0, 1]
        for estimate in row["metrics"].values():
            assert {"mean", "low", "high", "delta", "delta_low", "delta_high"} <= set(estimate)
            assert 0 <= estimate["mean"] <= 100
            assert estimate["low"] is None  # two seeds: no interval
    assert [level["point"] for level in out["levels"]][:3] == [
        "true future", "linear extrapolation", "copy of the last frame",
    ]  # fmt: skip
    assert all(estimate["delta"] is None for estimate in baseline["metrics"].values())
    assert all(estimate["delta"] is not None for estimate in other["metrics"].values())


def test_accuracies_in_the_table_are_those_of_the_prediction_files(finished: Path) -> None:
    """Recomputed here from parquet with plain Python."""
    import pandas as pd

    expected = []
    for path in finished.glob("artifacts/*/*/predictions.parquet"):
        frame = pd.read_parquet(path)
        right: dict[tuple[int, int], bool] = {}
        for row in frame.itertuples():
            question = (row.scene, row.question_id)
            right[question] = right.get(question, True) and bool(row.correct)
        expected.append(100 * sum(right.values()) / len(right))
    means = [row["metrics"]["average"]["mean"] for row in json.loads(table(finished))["rows"]]
    assert sum(means) / 2 == pytest.approx(sum(expected) / 4, abs=0.01)


def test_the_second_run_finds_everything(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.glob("artifacts/*/*/manifest.json")}
    again = ctt(finished, "sweep", *TINY_SWEEP)
    assert {p: p.stat().st_mtime_ns for p in finished.glob("artifacts/*/*/manifest.json")} == before
    assert f"({len(before)} cached)" in again.stdout
    plan = json.loads(ctt(finished, "plan", *TINY_SWEEP, "--json").stdout)
    assert {s["status"] for s in plan["stages"]} == {"cached"} and len(plan["stages"]) == len(before)


def test_report_gives_the_same_bytes_in_every_form(finished: Path) -> None:
    """In two processes, whose sets have different orders."""
    forms = ("terminal", "md", "tex", "csv", "html", "json")
    commands = [("report", "demo", "--format", form) for form in forms]
    one, two = ([text for text, _ in ctt_commands(finished, *commands, PYTHONHASHSEED=seed)] for seed in ("1", "2"))
    assert one == two and len(one) == 6 and all(len(text) > 200 for text in one)
    assert one[-1] == table(finished)


def test_status_counts_what_is_done(finished: Path) -> None:
    status = json.loads(ctt(finished, "status", "demo", "--json").stdout)
    assert status["share"] == 1.0 and len(status["runs"]) == 4
    assert all(s["state"] == "done" for run in status["runs"] for s in run["stages"].values())
    assert "4/4 runs done" in ctt(finished, "status").stdout


def test_mlflow_has_each_run_with_the_history_of_its_shared_prefix(finished: Path) -> None:
    database = sqlite3.connect(finished / "mlflow.db")
    tagged = database.execute("select count(distinct run_uuid) from tags where key = 'ctt.point'").fetchone()[0]
    assert tagged == 4
    rows = database.execute(
        "select m.run_uuid, count(*), min(m.step) from metrics m join tags t on t.run_uuid = m.run_uuid and t.key = 'ctt.point'"
        " where m.key = 'world_model/train_loss' group by m.run_uuid"
    ).fetchall()
    assert len(rows) == 4 and all(count == 3 for _, count, _ in rows), rows


def test_files_and_pictures_are_written(finished: Path) -> None:
    names = {p.name for p in (finished / "sweeps/demo/report").iterdir()}
    assert {"table.md", "table.json", "table.png", "learning_curves.png", "rollout_errors.png"} <= names


def test_a_killed_sweep_continues_to_the_same_table(tiny_one_seed: Path, tmp_path: Path) -> None:
    """SIGKILL to the whole process group at several moments, then the same command again."""
    store = tmp_path / "store"
    command = [sys.executable, "-m", "ctt", "sweep", *TINY_ONE_SEED, "launch=local"]
    seen = -1
    for _ in range(3):
        process = subprocess.Popen(
            command,
            env=environment(store),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.time() + 300
        while process.poll() is None and time.time() < deadline:
            finished_now = len(list(store.glob("artifacts/*/*/manifest.json")))
            if finished_now > seen and list(store.glob("work/*/*/progress.json")):
                seen = finished_now
                break
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert 0 <= seen < len(artifacts(tiny_one_seed)), "every kill came while a stage was being built"
    ctt(store, "sweep", *TINY_ONE_SEED, "launch=local")
    assert table(store) == table(tiny_one_seed)
    assert artifacts(store) == artifacts(tiny_one_seed)


def test_a_failing_run_does_not_end_the_others(store_with_data: Path, tmp_path: Path) -> None:
    """One point diverges; the rest is built, the failure is recorded, the exit code is 1."""
    store = store_with_data
    sweep = tmp_path / "mine.yaml"
    sweep.write_text("name: mine\ndata: mini\nworld_model: mini\naloe: mini\npoints: [{world_model.learning_rate: 1.0e+30}]\n")
    done = ctt(store, "sweep", str(sweep), *TINY, "launch=local", "tracking=off", check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 of 2 runs are missing" in done.stdout and "diverged" in done.stdout
    status = json.loads(ctt(store, "status", "mine", "--json", check=False).stdout)
    states = {run["point"]: {k: s["state"] for k, s in run["stages"].items()} for run in status["runs"]}
    assert states["baseline"]["vqa"] == "done"
    assert sorted(s["world_model"] for s in states.values()) == ["done", "failed"]


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["sweep", "dmeo"], 2, "no sweep named dmeo"),
        (["sweep", "demo", "ctt_inv_wieght=1"], 2, "did you mean ctt_inv_weight"),
        (["sweep", "demo", "ctt_inv_weight=-1"], 2, "ctt_inv_weight must be at least 0, got -1"),
        (["sweep", "demo", "--jsn"], 2, "--jsn"),
        (["plan", "demo", "--jsn"], 2, "--jsn"),
        (["report", "demo"], 2, "no store at"),
        (["swep"], 2, "did you mean sweep"),
        (["-m", "seed=x"], 2, "seeds are whole numbers"),
    ],
)
def test_mistakes_stop_before_any_work(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = ctt(tmp_path / "store", *arguments, check=False)
    assert message in done.stderr and done.returncode == code, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("store/artifacts/*"))


def test_plain_hydra_multirun_is_compiled_too(store_with_data: Path) -> None:
    store = store_with_data
    ctt(store, "-m", *TINY, "ctt_inv_weight=0.2", "ctt_start_epoch=1", "tracking=off")
    out = json.loads(ctt(store, "report", "multirun", "--format", "json").stdout)
    assert [row["baseline"] for row in out["rows"]] == [True, False]


def test_hydras_own_flags_work(tmp_path: Path) -> None:
    shown = ctt(tmp_path / "store", "run", "data=mini", "world_model=mini", "--cfg", "job").stdout
    assert "ctt_inv_weight: 0.0" in shown and "frameskip: 5" in shown
    assert "world_model" in ctt(tmp_path / "store", "run", "--help").stdout
    assert "world_model" in ctt(tmp_path / "store", "-m", "seed=0,1", "--help").stdout


@pytest.mark.parametrize("words", ["report demo --format md", "plan ablation", "status demo", "settings"])
def test_a_full_disk_and_a_closed_pipe_end_quietly(finished: Path, words: str) -> None:
    """Whether text is printed by Python or by rich."""
    arguments = [*forking.command(environment(finished)), *words.split()]
    with open("/dev/full", "w") as full:
        done = subprocess.run(arguments, env=environment(finished), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "ctt: standard output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(arguments, env=environment(finished), stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
