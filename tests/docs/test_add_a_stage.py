"""docs/how-to/add-a-stage.md: its example is installed as a package outside of the checkout and runs in a sweep."""

import csv
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prepared import copy_artifacts
from tests.tiny import TINY, ctt

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "add-a-stage.md"
MOST_LINES = 60
SWEEP = ["demo", *TINY, "ctt_start_epoch=1", "seed=0,1", "reader.enabled=false", "diagnostics.enabled=false"]


def example() -> dict[str, str]:
    """The files of the page: each block of code that begins with its name."""
    return {name: code for name, code in re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)}


def install(folder: Path, project: Path) -> None:
    """Installs the project into `folder` as pip does, without an index."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*command, "--target", str(folder), str(project)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project, folder = tmp_path_factory.mktemp("slot-jitter"), tmp_path_factory.mktemp("installed")
    for name, code in example().items():
        (project / name).write_text(code)
    install(folder, project)
    return folder


@pytest.fixture(scope="module")
def store(installed: Path, tiny_sweep: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which the tiny sweep has run, and then again with the stage."""
    store = shutil.copytree(empty_database, tmp_path_factory.mktemp("stage") / "store")
    copy_artifacts(tiny_sweep, store)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(installed), prepend=":")
        ctt(store, "sweep", *SWEEP, 'auxiliary=["jitter {frames: 8}"]')
    return store


@pytest.fixture
def plugin(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(installed), prepend=":")


def manifests(store: Path) -> list[dict]:
    found = [json.loads(path.read_text()) for path in store.glob("artifacts/*/*/manifest.json")]
    return [manifest for manifest in found if manifest["kind"] == "jitter"]


def test_the_example_is_short() -> None:
    assert set(example()) == {"pyproject.toml", "slot_jitter.py"}
    assert sum(len(code.splitlines()) for code in example().values()) <= MOST_LINES


def test_the_table_has_its_column_with_paired_differences(store: Path, plugin: None) -> None:
    """In every format; the difference is recomputed from the artifacts of the runs of the same seed."""
    rows = json.loads(ctt(store, "report", "demo", "--format", "json").stdout)["rows"]
    base, other = (row["auxiliary"]["jitter"]["jitter"] for row in rows)
    assert base["delta"] is None and base["mean"] > 0 and other["unit"] == "per frame²" and other["better"] == "lower"
    assert other["delta"] == pytest.approx(other["mean"] - base["mean"], abs=1e-9)
    lines = list(csv.DictReader(io.StringIO(ctt(store, "report", "demo", "--format", "csv").stdout)))
    (line,) = (line for line in lines if line["kind"] == "jitter" and line["baseline"] == "False")
    assert float(line["delta"]) == pytest.approx(other["delta"])
    for format in ("md", "html", "tex"):
        text = ctt(store, "report", "demo", "--format", format).stdout.replace(" \\\\ ", " ")  # LaTeX's lines of a head
        assert "Slot jitter" in text and "jitter (per frame², lower is better)" in text, format
    shown = ctt(store, "report", "demo").stdout
    assert "Slot jitter" in shown and f"{base['mean']:.4f}" in shown


def test_numbers_and_differences_are_in_mlflow(store: Path) -> None:
    database = sqlite3.connect(store / "mlflow.db")
    counts = dict(
        database.execute("select key, count(distinct run_uuid) from metrics where key like '%jitter_jitter' group by key")
    )
    database.close()
    assert counts == {"jitter_jitter": 4, "vs_baseline_jitter_jitter": 2}


def test_key_and_provenance_name_the_plugin_and_its_code(store: Path) -> None:
    found = manifests(store)
    assert len(found) == 4 and all(manifest["settings"] == {"jitter": {"frames": 8}} for manifest in found)
    for manifest in found:
        assert manifest["plugin"] == manifest["provenance"]["plugin"]
        assert manifest["plugin"]["distribution"] == "slot-jitter" and manifest["plugin"]["version"] == "1.0"
        assert len(manifest["plugin"]["code"]) == 16


def test_an_artifact_is_shown_with_its_plugin(store: Path) -> None:
    key = next(
        path.parent.name for path in store.glob("artifacts/*/*/manifest.json") if json.loads(path.read_text())["kind"] == "jitter"
    )
    assert "plugin slot-jitter 1.0 (code " in ctt(store, "show", key).stdout


def test_edited_code_is_built_anew_and_an_old_job_fails_with_the_plugins_name(store: Path, installed: Path, plugin: None) -> None:
    job = sorted(store.glob("sweeps/demo/0001/jobs/[0-9]*[0-9].json"))[-1]
    code = (installed / "slot_jitter.py").read_text()
    keys = {stage["key"] for stage in of_plan(store)}
    try:
        (installed / "slot_jitter.py").write_text(code.replace("mean()", "max()"))
        assert not keys & {stage["key"] for stage in of_plan(store)}
        assert "was slot-jitter 1.0 when this job was submitted and is now the same version with other code" in thawed(job)
        rows = json.loads(ctt(store, "report", "demo", "--format", "json").stdout)["rows"]
        assert [row["auxiliary"] for row in rows] == [{"jitter": {}}] * 2, "numbers of other code are not shown as its own"
    finally:
        (installed / "slot_jitter.py").write_text(code)
    assert {stage["key"] for stage in of_plan(store)} == keys


def test_without_the_plugin_the_frozen_job_and_the_sweep_name_it(store: Path) -> None:
    job = sorted(store.glob("sweeps/demo/0001/jobs/[0-9]*[0-9].json"))[-1]
    assert "the auxiliary stage jitter of slot-jitter 1.0 is not installed here" in thawed(job)
    report = ctt(store, "report", "demo", check=False)
    assert report.returncode == 2 and "slot-jitter 1.0 is not installed here" in " ".join(report.stderr.split())
    done = ctt(store, "plan", *SWEEP, "auxiliary=[jitter]", check=False)
    assert done.returncode == 2 and "no auxiliary stage named jitter" in done.stderr


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('["jitter {frames: 1}"]', "auxiliary: jitter: frames must be at least 3, got 1"),
        ('["jitter {frame: 4}"]', "auxiliary: jitter has no setting frame; it has frames"),
        ("[jitter,jitter]", "auxiliary: jitter stands there twice"),
        ("[reader]", "auxiliary: reader has settings of its own; write reader.enabled=true"),
        ("[jiter]", "no auxiliary stage named jiter; did you mean jitter"),
        ("[],[jitter]", "auxiliary: every run of a sweep has the same auxiliary stages"),
    ],
)
def test_mistakes_are_found_before_any_work(store: Path, plugin: None, value: str, words: str) -> None:
    done = ctt(store, "plan", *SWEEP, f"auxiliary={value}", check=False)
    assert done.returncode == 2 and words in " ".join(done.stderr.split())


def of_plan(store: Path) -> list[dict]:
    plan = json.loads(ctt(store, "plan", *SWEEP, 'auxiliary=["jitter {frames: 8}"]', "--json").stdout)
    return [stage for stage in plan["stages"] if stage["kind"] == "jitter"]


def thawed(job: Path) -> str:
    """The message with which a frozen job fails."""
    code = "import json, sys; from ctt.execution.jobs.spec import thaw; thaw(json.load(open(sys.argv[1])))"
    return subprocess.run([sys.executable, "-c", code, str(job)], capture_output=True, text=True).stderr
