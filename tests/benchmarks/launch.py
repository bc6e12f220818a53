"""Launching runs that do nothing: `ctt sweep` and plain Hydra with submitit's launcher, each a command of its own.

Ours compiles, records and follows the sweep in an empty store, and its jobs publish an artifact each; no table is made of
these. Plain Hydra runs a task function that returns None. On SLURM both have the same cluster, the one SLURM_CONF names or
a private one; there `sbatch --wait` of an array of `true` shows what SLURM itself takes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.harness import Comparison, Ratio, benchmark
from tests.execution.cluster.conftest import load_devcluster

PLAIN = """
import hydra
from hydra.core.config_store import ConfigStore
ConfigStore.instance().store(name="config", node={"n": 0})
hydra.main(version_base="1.3", config_path=None, config_name="config")(lambda config: None)()
"""
SWEEP = "name: nothing\ndata: mini\nworld_model: mini\naloe: mini\nbaseline: {}\nseeds: [%s]\n"
QUIET = ["reader.enabled=false", "diagnostics.enabled=false"]  # an artifact a run
NOTHING = str(Path(__file__).with_name("nothing.py"))


def timed(*words: str, **environment: str) -> None:
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env={**os.environ, **environment})
    assert done.returncode == 0, done.stdout + done.stderr


def ours(root: Path, kind: str, count: int) -> Callable[[], None]:
    """`ctt sweep` of `count` runs in an empty store; fails if one is missing at its end."""
    file = root / "nothing.yaml"
    file.write_text(SWEEP % ", ".join(map(str, range(count))))

    def call() -> None:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            own = {"CTT_STORE": f"{folder}/store", "CTT_LEASES": f"{root}/leases", "XDG_CONFIG_HOME": f"{root}/config"}
            words = [f"launch={kind}", "device=cpu", "tracking=off", *QUIET]
            timed(NOTHING, "sweep", str(file), *words, **own)

    return call


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


def folder() -> Path:
    """A folder that lasts as long as this process."""
    temporary = tempfile.TemporaryDirectory(prefix="ctt-bench-")
    FOLDERS.append(temporary)
    return Path(temporary.name)


FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


@benchmark
def launch_local(toy: bool) -> Comparison:
    count, root = 2 if toy else 64, folder()
    return Comparison(
        ways={"ours": ours(root, "local", count), "plain Hydra, submitit_local": plain(root, "submitit_local", count)},
        ratios=[Ratio("launch_overhead_local", "ours", "plain Hydra, submitit_local", at_most=1.0)],
        check=lambda: None,
        sizes={"runs": count},
    )


def launch_slurm(toy: bool) -> Comparison:
    count, root = 2 if toy else 64, folder()
    words = ["sbatch", "--wait", "-Q", "-o", "/dev/null", f"--array=0-{count - 1}", "--wrap", "srun true"]

    def array() -> None:
        subprocess.run(words, check=True)

    return Comparison(
        ways={
            "ours": on_cluster(ours(root, "slurm", count)),
            "plain Hydra, submitit_slurm": on_cluster(plain(root, "submitit_slurm", count)),
            "sbatch --wait": on_cluster(array),
        },
        ratios=[
            Ratio("launch_overhead_slurm", "ours", "plain Hydra, submitit_slurm", at_most=1.0),
            Ratio("launch_over_sbatch", "ours", "sbatch --wait"),
        ],
        check=lambda: None,
        sizes={"runs": count},
    )


def on_cluster(call: Callable[[], None]) -> Callable[[], None]:
    """`call` where there is a cluster: a private one is started if SLURM_CONF names none; it ends with this process."""

    def there() -> None:
        if "SLURM_CONF" not in os.environ:
            devcluster = load_devcluster()
            cluster = devcluster.Cluster(tempfile.mkdtemp(prefix="ctt-bench-"))
            cluster.end_with_caller()
            cluster.up()
            os.environ |= {"SLURM_CONF": str(cluster.conf), "PATH": devcluster.SEARCH}
        call()

    return there


if not load_devcluster().missing_programs():
    benchmark(launch_slurm)
