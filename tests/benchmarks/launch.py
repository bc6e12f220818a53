"""Launching runs that do nothing: ctt's launchers beside plain Hydra with submitit's, each a command of its own.

Ours starts the very process a frozen job has (its target is in the store, so it ends at once) and follows it; plain Hydra
runs a task function that returns None. On SLURM ours also publishes an artifact a job. That one is measured where
SLURM_CONF names a cluster: `make slurm-up` and the line it prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from ctt.store import Store
from tests.benchmarks.harness import Comparison, Ratio, benchmark

PLAIN = """
import sys, hydra
from omegaconf import OmegaConf
from hydra.core.config_store import ConfigStore
ConfigStore.instance().store(name="config", node={"n": 0})
hydra.main(version_base="1.3", config_path=None, config_name="config")(lambda config: None)()
"""
LOCAL = """
import sys
from pathlib import Path
from ctt.launch.frozen import read
from ctt.launch.local import Local
from ctt.resources import LaunchSettings
from ctt.store import Store
folder = Path(sys.argv[1])
jobs = read(folder)
ended = {job.target: job for job in jobs}
settings = LaunchSettings(kind="local", jobs=None, devices=[], leases=sys.argv[2])
local = Local(jobs, Store.open(sys.argv[3]), settings, done=lambda key: ended[key].outcome() is not None)
local.run()
assert not local.failed, local.failed
"""
SLURM = """
import sys
from pathlib import Path
from ctt.launch.frozen import read
from ctt.launch.slurm import Slurm
from ctt.resources import LaunchSettings
from ctt.store import Store
folder, store = Path(sys.argv[1]), Store.open(sys.argv[2])
settings = LaunchSettings(kind="slurm", jobs=None, poll_s=1.0, timeout_min=60)
slurm = Slurm(read(folder), store, settings, "ctt-bench-" + folder.parent.parent.name, {}, [sys.argv[3]])
slurm.run()
assert not slurm.failed, slurm.failed
"""


def freeze(folder: Path, store: Store, count: int) -> Path:
    """`count` frozen jobs of a record in `folder`, each with a target of its own."""
    jobs = folder / "0001" / "jobs"
    jobs.mkdir(parents=True)
    for number in range(count):
        key = f"{number:064x}"
        content = dict(store=str(store.root), label=f"nothing {number}", target=key, stages=[key], wanted=[key])
        content |= dict(kind="vqa", needs=[], steps=0, raises=False)
        (jobs / f"{number:04d}.json").write_text(json.dumps(content))
    return jobs


def publish(store: Store, count: int) -> None:
    for number in range(count):
        key = f"{number:064x}"
        with store.lease(key) as lease:
            store.publish(key, store.work_folder(key), lease, dict(kind="nothing", settings={}, inputs={}))


def timed(*words: str) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def plain(root: Path, launcher: str, count: int) -> Callable[[], None]:
    """Plain Hydra multirun of `count` runs."""
    app = root / "plain.py"
    app.write_text(PLAIN)

    def call() -> None:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            runs = "n=" + ",".join(map(str, range(count)))
            more = ["hydra.launcher.timeout_min=60", f"hydra.sweep.dir={folder}", "hydra.output_subdir=null"]
            timed(str(app), "-m", f"hydra/launcher={launcher}", *more, runs)

    return call


@benchmark
def launch_local(toy: bool) -> Comparison:
    count = 2 if toy else 64
    temporary = tempfile.TemporaryDirectory(prefix="ctt-bench-")
    root = Path(temporary.name)
    store = Store.open(root / "store")
    publish(store, count)

    def ours(keep=temporary) -> None:  # type: ignore[no-untyped-def]  # the folder lives as long as this does
        with tempfile.TemporaryDirectory(dir=root) as folder:
            timed("-c", LOCAL, str(freeze(Path(folder), store, count)), str(root / "leases"), str(store.root))

    return Comparison(
        ways={"ours": ours, "plain Hydra, submitit_local": plain(root, "submitit_local", count)},
        ratios=[Ratio("launch_overhead_local", "ours", "plain Hydra, submitit_local", at_most=1.0)],
        check=lambda: None,
        sizes={"runs": count},
    )


def launch_slurm(toy: bool) -> Comparison:
    count = 2 if toy else 64
    temporary = tempfile.TemporaryDirectory(prefix="ctt-bench-")
    root = Path(temporary.name)
    program = str(Path(__file__).resolve().parents[1] / "slurm" / "steps.py")

    def ours(keep=temporary) -> None:  # type: ignore[no-untyped-def]
        with tempfile.TemporaryDirectory(dir=root) as folder:
            store = Store.open(Path(folder) / "store")
            timed("-c", SLURM, str(freeze(Path(folder), store, count)), str(store.root), program)

    def array() -> None:
        subprocess.run(
            ["sbatch", "--wait", "-Q", "-o", "/dev/null", f"--array=0-{count - 1}", "--wrap", "srun true"], check=True
        )

    return Comparison(
        ways={
            "ours": ours,
            "plain Hydra, submitit_slurm": plain(root, "submitit_slurm", count),
            "sbatch --wait": array,
        },
        ratios=[
            Ratio("launch_overhead_slurm", "ours", "plain Hydra, submitit_slurm", at_most=1.0),
            Ratio("launch_over_sbatch", "ours", "sbatch --wait"),
        ],
        check=lambda: None,
        sizes={"runs": count},
    )


if os.environ.get("SLURM_CONF"):
    benchmark(launch_slurm)
