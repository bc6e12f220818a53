"""Jobs run the code of their submission, whatever is edited afterwards; gc keeps what records refer to."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app.gc import collect
from ctt.config import Config
from ctt.core.errors import StoreError
from ctt.core.processes import started
from ctt.core.resources import LaunchSettings
from ctt.execution import launchers
from ctt.execution.jobs import event_log, pid_files, snapshot, spec
from ctt.execution.jobs.session import LAUNCHER
from ctt.execution.slurm.slurm_launcher import SlurmLauncher
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep
from tests.faults.processes import fork, wait
from tests.tiny import TINY, environment
from tests.waiting import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
TAKE = (
    "import sys; from ctt.execution.jobs.snapshot import snapshot; from ctt.store import Store;"
    "print(snapshot(Store.open(sys.argv[1])))"
)


def run(code: Path, store: Path, *args: str, cwd: Path, check: bool = True, **more: str) -> str:
    """Python with `code` first on its path; its output."""
    variables = {**environment(store), "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1", **more}
    done = subprocess.run([sys.executable, *args], env=variables, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout, with a commit."""
    folder = tmp_path / "checkout"
    for name in ("ctt", "conf", "sweeps", "launch", "hydra_plugins"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "A commit.")
    return folder


def git(folder: Path, *args: str) -> str:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", *identity, *args], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_job_runs_the_code_and_records_the_commit_of_its_submission(checkout: Path, tmp_path: Path) -> None:
    store, commit = tmp_path / "store", git(checkout, "rev-parse", "HEAD")
    settings = checkout / "ctt/data/data_settings.py"
    settings.write_text(settings.read_text() + "\nCHANGED = 1\n")
    code = Path(run(checkout, store, "-c", TAKE, str(store), cwd=checkout))
    freeze = (
        "import sys; from pathlib import Path; from ctt.execution.jobs.spec import freeze;"
        "from ctt.planning import compile_plan; from ctt.store import Store; from ctt.sweep import compile_sweep;"
        "plan = compile_plan(compile_sweep('demo', sys.argv[2:]));"
        "[job] = [job for job in plan.jobs if job.target.kind == 'world_model'][:1];"
        "freeze(job, Store.open(sys.argv[1]), Path(sys.argv[1]), 7)"
    )
    settings_given = [*TINY, "ctt_start_epoch=1", "seed=0", "world_model.epochs=2", "data.train=6", "data.validation=4"]
    run(checkout, store, "-c", freeze, str(store), *settings_given, cwd=checkout)

    (checkout / "ctt/stages/world_model.py").write_text("raise SystemExit('this was edited after the submission')")
    shutil.rmtree(checkout / "conf")
    git(checkout, "commit", "-a", "-q", "-m", "Another commit.")
    job = ("-m", "ctt.execution.jobs.job_process", f"{store}/0007.json")
    output = run(checkout, store, *job, cwd=checkout, check=False)
    assert not list(store.glob("artifacts/*/*")), f"the edited code can't run it: {output}"
    run(code, store, *job, cwd=checkout, **snapshot.environment(code))

    manifests = [json.loads(path.read_text()) for path in store.glob("artifacts/*/*/manifest.json")]
    assert {m["kind"] for m in manifests} == {"data", "world_model"}
    for manifest in manifests:
        assert manifest["provenance"]["git"] == commit + "+"
        assert "+CHANGED = 1" in (store / "diffs" / manifest["provenance"]["diff"]).read_text()


JOB = """

def run(path, on_event=None):
    print("as it was submitted", flush=True)
    while not path.with_suffix(".go").exists():
        time.sleep(0.02)
    outcome = {"failure": "code error", "message": "asked to fail"}
    write_json(path.with_suffix(".outcome.json"), outcome)
    return outcome

"""


def test_a_local_sweep_runs_the_submitted_code_whatever_is_edited_meanwhile(checkout: Path, tmp_path: Path) -> None:
    """Three shared prefixes, one at a time: the code is edited during the first, the launcher leaves during the second, and
    the relauncher starts the third."""
    builder, store = checkout / "ctt/execution/jobs/job_process.py", tmp_path / "store"
    last = '\nif __name__ == "__main__":\n'
    assert last in builder.read_text()
    builder.write_text(builder.read_text().replace(last, JOB + last))
    args = ["sweep", "demo", *TINY, "ctt_start_epoch=1", "seed=0,1,2", "launch=local", "launch.jobs=1", "tracking=off"]
    ours, theirs = pty.openpty()
    with open(tmp_path / "shown", "wb") as shown:
        process = subprocess.Popen(
            [sys.executable, "-m", "ctt", *args],
            env={**environment(store), "PYTHONPATH": str(checkout), "PYTHONSAFEPATH": "1"},
            **dict(cwd=checkout, stdin=theirs, stdout=shown, stderr=shown, start_new_session=True),
        )
    jobs = store / "sweeps/demo/0001/jobs"
    begun: list[Path] = []

    def next_has_begun() -> None:
        def new_log() -> Path | None:
            new = (log for log in jobs.glob("*.log") if log not in begun)
            return next((log for log in new if "submitted" in log.read_text() or "edited" in log.read_text()), None)

        begun.append(until(new_log, seconds=60))
        assert "edited" not in begun[-1].read_text()

    try:
        next_has_begun()
        builder.write_text("raise SystemExit('edited since')")
        (checkout / "ctt/app/relauncher.py").write_text("raise SystemExit('edited since')")
        begun[0].with_suffix(".go").touch()
        next_has_begun()
        process.send_signal(signal.SIGINT)
        until(lambda: "[C/l]" in (tmp_path / "shown").read_text())
        os.write(ours, b"l\n")
        assert process.wait(60) == 130
        relauncher = until(lambda: pid_files.running(jobs / LAUNCHER), seconds=60)
        begun[1].with_suffix(".go").touch()
        next_has_begun()
    finally:
        if process.poll() is None:
            process.kill()
        for job in spec.read(jobs):
            job.path.with_suffix(".go").touch()
        os.close(ours)
        os.close(theirs)
    until(lambda: started(relauncher) is None)
    ended = [e for e in event_log.read(jobs) if e["event"] == "ended"]
    assert [(f"{e['number']:04d}", e["message"]) for e in ended[:3]] == [(log.stem, "asked to fail") for log in begun]
    assert {e["class"] for e in ended[3:]} == {"blocked"}
    assert "of 6 runs are missing" in (store / "sweeps/demo/detached.log").read_text()


def test_slurm_jobs_get_the_path_of_the_submitted_code(tmp_path: Path) -> None:
    store, config = Store.open(tmp_path), Config(launch=LaunchSettings(kind="slurm"))
    plan = compile_plan(compile_sweep("demo", ["seed=0"]))
    code = snapshot.snapshot(store)
    jobs = record.write(plan, store, code) / "jobs"
    job = spec.freeze(plan.jobs[0], store, jobs, 0)
    launcher = launchers.of_plan(config, plan, store, [job])
    assert isinstance(launcher, SlurmLauncher)
    variables = launcher.environment
    assert variables["PYTHONPATH"].split(os.pathsep)[0] == str(code) and variables["PYTHONSAFEPATH"] == "1"


def test_a_checkout_a_wheel_and_a_snapshot_give_the_same_snapshot(checkout: Path, tmp_path: Path) -> None:
    """A wheel has the YAML in the package, next to plugins of others; it has no commit, so the checkout may have none."""
    shutil.rmtree(checkout / ".git")
    wheel = tmp_path / "site-packages"
    shutil.copytree(checkout / "ctt", wheel / "ctt")
    shutil.copytree(checkout / "hydra_plugins", wheel / "hydra_plugins")
    (wheel / "hydra_plugins" / "another").mkdir()
    (wheel / "hydra_plugins" / "another" / "__init__.py").touch()
    for name in ("conf", "sweeps", "launch"):
        shutil.copytree(checkout / name, wheel / "ctt" / "_config" / name)
    first = Path(run(checkout, tmp_path, "-c", TAKE, str(tmp_path / "a"), cwd=tmp_path))
    from_wheel = Path(run(wheel, tmp_path, "-c", TAKE, str(tmp_path / "b"), cwd=tmp_path))
    again = Path(run(first, tmp_path, "-c", TAKE, str(tmp_path / "c"), cwd=checkout))
    assert first.name == from_wheel.name == again.name
    names = {path.relative_to(first).as_posix() for path in first.rglob("*") if path.is_file()}
    assert {"origin.json", "conf/config.yaml", "launch/local.yaml", "hydra_plugins/ctt_sweeper/__init__.py"} <= names
    assert not any("another" in name or "_config" in name or "devcluster" in name for name in names)
    shown = run(first, tmp_path, "-m", "ctt", "run", "--cfg", "job", cwd=tmp_path)
    assert "ctt_adj_threshold" in shown, "the settings come from the snapshot"


def test_equal_code_is_one_snapshot_whoever_makes_it_at_once(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    children = [fork(lambda: None if snapshot.snapshot(store).is_dir() else os._exit(1)) for _ in range(4)]
    assert [wait(pid) for pid in children] == [0] * 4
    [path] = (tmp_path / "code").iterdir()
    assert snapshot.snapshot(store) == path
    assert (path / "ctt/core/settings.py").read_bytes() == (ROOT / "ctt/core/settings.py").read_bytes()


def test_a_snapshot_that_was_edited_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    edited = snapshot.snapshot(store) / "ctt/core/settings.py"
    edited.chmod(0o644)
    edited.write_text("")
    with pytest.raises(StoreError, match="no longer the code that was submitted"):
        snapshot.snapshot(store)


def test_gc_keeps_the_code_of_newest_records_and_of_jobs_that_may_run(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    plan = compile_plan(compile_sweep("demo", ["seed=0"]))
    made = {}
    for name in ("fresh", "unreferred", "ended", "running", "newest"):
        made[name] = tmp_path / "code" / name
        (made[name] / "ctt").mkdir(parents=True)
        if name != "fresh":
            os.utime(made[name], (time.time() - 2 * snapshot.FRESH,) * 2)
    for name, events in {"ended": ("submitted", "started", "ended"), "running": ("started",), "newest": ()}.items():
        folder = record.write(plan, store, made[name])
        for event in events:
            event_log.append(folder / "jobs", 0, "seed=0", "0" * 64, event)
        with open(folder / "jobs" / event_log.NAME, "a", encoding="utf-8") as file:
            file.write('{"number":')
    assert collect(store, rollouts=False, yes=False, console=Console(quiet=True)) == 1
    assert all(path.is_dir() for path in made.values()), "nothing is removed without --yes"
    assert collect(store, rollouts=False, yes=True, console=Console(quiet=True)) == 0
    assert {path.name for path in (tmp_path / "code").iterdir()} == {"fresh", "running", "newest"}
