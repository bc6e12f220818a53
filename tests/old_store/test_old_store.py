"""A store that an earlier version made is found, shown and reported as it was, and nothing of it is built again.

store.tar.xz was made at commit 95dde7c, and expected.json is what that version printed of it (by make_old_store.py). Only the
command line is used, so that the test holds whatever moves inside ctt. Labels may change; keys and numbers may not.
"""

import json
import os
import re
import sqlite3
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import forking

pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))
SWEEPS: dict[str, Any] = EXPECTED["sweeps"]
RUN_AGAIN = ["small", "screened"]
KINDS = ["data", "world_model", "rollout", "vqa", "diagnostics", "probe", "reader"]
REPORTED_WITH_ERROR = [
    ["1", "91.4", "84.9", "80.1", "57.5", "72.1", "0.0147"],
    ["1", "89.8", "81.0", "77.9", "49.4", "66.7", "0.0150"],
]
"""Rows whose error stands in another column now."""
OF_BEFORE = [
    "num_masked_slots=2", "world_model.muon_rate=0.03", "world_model.decay_steps=150",
    "world_model.muon_precision=bf16", "aloe.muon_precision=bf16", "reader.reach=all",
]  # fmt: skip
"""What recipes and defaults said then."""
AS_THEN = "from ctt.stages.data import Data; Data.version = 3; from ctt.cli import main; raise SystemExit(main())"
"""Scenes of later versions have other questions. Nothing is made here, so that the command line's own process is enough."""
NUMBER = re.compile(r"[-+−±]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old store, at another place than where it was made."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(HERE / "store.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "store"


def environment(store: Path) -> dict[str, str]:
    own = {"CTT_LEASES": str(store.parent / "leases"), "XDG_CONFIG_HOME": str(store.parent / "config")}
    return {**os.environ, **own, "OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}


def ctt(store: Path, *arguments: str, code: int = 0) -> str:
    """What the command line prints about the store; fails unless it ends with `code`."""
    done = forking.run([*arguments, f"store={store}"], environment(store), 300, AS_THEN)
    assert done.returncode == code, f"ctt {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def arguments(name: str, *left_out: str) -> list[str]:
    """The sweep's file and overrides, as they were given when the store was made."""
    file, *overrides = SWEEPS[name]["words"]
    return [str(HERE / file), *OF_BEFORE, *(word for word in overrides if not word.startswith(left_out))]


def artifacts(store: Path) -> dict[str, int]:
    """{key: when its manifest was written} of everything in the store; nothing may have been found damaged."""
    assert not list(store.glob("quarantine/*"))
    return {path.parent.name: path.stat().st_mtime_ns for path in store.glob("artifacts/*/*/manifest.json")}


def numbers(value: Any) -> Iterator[float]:
    """Every number in a JSON value, in order, whatever the keys are called."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def numbers_of_rows(text: str) -> list[list[str]]:
    """The numbers in each row of the tables of a Markdown text, titles of columns left out."""
    lines = text.splitlines()
    titles = {i for i, line in enumerate(lines[1:]) if re.match(r"\| -", line)}
    rows = (line for i, line in enumerate(lines) if line.startswith("|") and i not in titles)
    return [found for line in rows if (found := NUMBER.findall(line))]


def tracked_runs(store: Path) -> int:
    """How many runs of sweeps MLflow's database shows."""
    database = sqlite3.connect(store / "mlflow.db")
    count: int = database.execute("select count(distinct run_uuid) from tags where key = 'ctt.point'").fetchone()[0]
    database.close()
    return count


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_every_stage_has_the_key_it_had(store: Path, name: str) -> None:
    stages = json.loads(ctt(store, "plan", *arguments(name, "launch="), "--json"))["stages"]
    assert {stage["key"]: stage["kind"] for stage in stages} == SWEEPS[name]["stages"]
    cached = {stage["key"] for stage in stages if stage["status"] == "cached"}
    assert cached == SWEEPS[name]["stages"].keys() & set(EXPECTED["artifacts"])
    assert (cached == SWEEPS[name]["stages"].keys()) == SWEEPS[name]["finished"]


@pytest.mark.parametrize("name", RUN_AGAIN)
def test_the_same_sweep_builds_nothing(store: Path, name: str) -> None:
    before = artifacts(store)
    assert sorted(before) == EXPECTED["artifacts"]
    out = ctt(store, "sweep", *arguments(name))
    count = len(SWEEPS[name]["stages"])
    assert f"({count} cached)" in out
    assert artifacts(store) == before
    pictures = store / "sweeps" / name / "report"
    assert (pictures / "table.png").stat().st_size > 1000


def holds(found: Any, expected: Any) -> bool:
    """Whether every number of a JSON value is where it was; texts may differ, and there may be more. A reported row's errors
    have another name since they stand apart from those of visible slots."""
    if isinstance(expected, dict):
        if set(expected) == {"world_model"} and "world_model" not in found:
            return bool(found == {"world_model_all": expected["world_model"]})
        return all(holds(found[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(holds, found, expected))
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return bool(found == pytest.approx(expected, rel=1e-9, abs=1e-12))
    return isinstance(expected, str) or found == expected


def within(short: list[str], long: list[str]) -> bool:
    """Whether `long` has the items of `short` in this order."""
    rest = iter(long)
    return all(item in rest for item in short)


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_the_report_has_the_same_numbers(store: Path, name: str) -> None:
    before = artifacts(store)
    found, expected = json.loads(ctt(store, "report", name, "--format", "json")), SWEEPS[name]["report"]["json"]
    assert list(numbers(json.loads(expected))) and holds(found, json.loads(expected))
    rows = iter(numbers_of_rows(ctt(store, "report", name, "--format", "md")))
    for row in numbers_of_rows(SWEEPS[name]["report"]["md"]):  # in order; tables have more rows and columns now
        if row not in REPORTED_WITH_ERROR:
            assert any(within(row, line) for line in rows), row
    assert artifacts(store) == before


@pytest.mark.parametrize("name", sorted(SWEEPS))
def test_status_reports_the_same_states_of_the_same_keys(store: Path, name: str) -> None:
    status = json.loads(ctt(store, "status", name, "--json", code=0 if SWEEPS[name]["finished"] else 1))
    assert len(status["runs"]) == len(SWEEPS[name]["runs"])
    for run, expected in zip(status["runs"], SWEEPS[name]["runs"], strict=True):
        assert run["seed"] == expected["seed"]
        assert {kind: stage["key"] for kind, stage in run["stages"].items()} == expected["stages"]
        assert {kind: stage["state"] for kind, stage in run["stages"].items()} == expected["states"]
    assert (status["share"] == 1.0) == SWEEPS[name]["finished"]


@pytest.mark.parametrize("kind", KINDS)
def test_show_describes_every_kind_of_stage(store: Path, kind: str) -> None:
    key = next(key for key, its in SWEEPS["small"]["stages"].items() if its == kind)
    out = ctt(store, "show", key)
    assert kind in out.splitlines()[0] and key in out.splitlines()[0]
    assert EXPECTED["commit"] in out  # the code that built it


def test_runs_are_known_by_their_names(store: Path) -> None:
    for run in SWEEPS["small"]["runs"]:
        if run["point"] == "baseline":
            assert run["target"] in ctt(store, "show", f"small/{run['run']}")


def test_logs_of_finished_and_of_failed_jobs_are_printed(store: Path) -> None:
    assert SWEEPS["small"]["runs"][0]["stages"]["vqa"][:12] in ctt(store, "logs", "small/baseline seed=0")
    failed = next(run for run in SWEEPS["failing"]["runs"] if "failed" in run["states"].values())
    assert "diverged" in ctt(store, "logs", f"failing/{failed['run']}", code=1)


def test_every_artifact_is_reached_by_a_recorded_sweep(store: Path) -> None:
    assert "nothing to remove" in ctt(store, "gc")


def test_sync_knows_the_runs_it_has_sent(store: Path) -> None:
    runs = sum(len(sweep["runs"]) for sweep in SWEEPS.values())
    assert tracked_runs(store) == runs
    assert "sent to sqlite" in ctt(store, "sync")
    assert tracked_runs(store) == runs


def test_ui_serves_the_old_runs(store: Path) -> None:
    output = store.parent / "ui.txt"
    command = [sys.executable, "-c", AS_THEN, "ui", "--host", "127.0.0.1", "--port", "0", f"store={store}"]
    with open(output, "wb") as out:
        process = subprocess.Popen(command, env=environment(store), stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + 240
        while not (found := re.search(r"http://127\.0\.0\.1:\d+", output.read_text())):
            assert process.poll() is None and time.monotonic() < deadline, output.read_text()
            time.sleep(0.2)
        with urllib.request.urlopen(found[0], timeout=30) as answer:
            assert answer.status == 200
        question = f"{found[0]}/ajax-api/2.0/mlflow/experiments/search?max_results=100"
        with urllib.request.urlopen(question, timeout=30) as answer:
            assert SWEEPS.keys() <= {experiment["name"] for experiment in json.load(answer)["experiments"]}
    finally:
        process.terminate()
        process.wait(60)
    with pytest.raises(OSError):
        urllib.request.urlopen(found[0], timeout=5)
