"""What the commands cost on large stores: seconds, processor seconds and peak memory of each in a process of its own, by runs.

    python -m tests.benchmarks.cost_at_scale [RUNS …] [--artifacts N]

Stores of 250, 500 and 1,000 runs, unless given, and N further artifacts a run that no sweep reaches (92: 100,000 artifacts at
1,000 runs). The artifacts are made up. `growth` is the exponent by which a command's processor seconds, less those of a command
that does nothing, grow with the runs, from the first size to the last: 1 is linear.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from ctt.store import Store
from ctt.store.artifact import MANIFEST, seal
from tests.benchmarks.report_scale import grid_of, store_of
from tests.made_store import MINI

SWEEP = "weights"
ROWS = 600  # of predictions a run; those of the whole validation split: report_scale
COMMANDS = {
    "(nothing)": "--version",
    "plan": f"plan {SWEEP} {{settings}}",
    "status": "status",
    "status of a sweep": f"status {SWEEP}",
    "ls": "ls",
    "report": f"report {SWEEP} --format json",
    "sync, first": "sync",
    "sync, again": "sync",
    "gc --yes": "gc --yes",
}


@dataclass(frozen=True)
class Cost:
    """Seconds of wall time, of processor time, and bytes of peak memory of a command."""

    seconds: float
    processor: float
    memory: float


def add_artifacts(store: Store, count: int) -> None:
    """Further artifacts, of one small file each, that no sweep reaches."""
    content = b"x" * 100
    for number in range(count):
        key = hashlib.sha256(f"unreached {number}".encode()).hexdigest()
        folder = store.path(key)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_bytes(content)
        file = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "mtime_ns": time.time_ns()}
        manifest = {"key": key, "kind": "rollout", "files": {"metrics.json": file}, "owner": "made up", "published": time.time()}
        (folder / MANIFEST).write_text(json.dumps({**manifest, "seal": seal(manifest)}), encoding="utf-8")


def cost(store: Store, command: str) -> Cost:
    """Runs `ctt COMMAND` on the store; raises CalledProcessError with what it printed."""
    program = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode;"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss); sys.exit(code)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", program, sys.executable, "-m", "ctt", *command.split()],
        env={**os.environ, "CTT_STORE": str(store.root)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    processor, kibibytes = done.stdout.split()[-2:]
    return Cost(time.perf_counter() - began, float(processor), int(kibibytes) * 1024)


def measure(runs: int, artifacts: int) -> dict[str, Cost]:
    """The cost of every command on a store of so many runs and so many unreached artifacts a run."""
    with tempfile.TemporaryDirectory(prefix="ctt-scale-") as folder:
        store, _ = store_of(Path(folder), runs, ROWS)
        add_artifacts(store, artifacts * runs)
        settings = " ".join([*MINI, *grid_of(runs)])
        return {name: cost(store, command.format(settings=settings)) for name, command in COMMANDS.items()}


def growth(costs: dict[int, dict[str, Cost]], command: str) -> float:
    """The exponent of a command's processor seconds in the number of runs, from the smallest store to the largest."""
    small, large = min(costs), max(costs)
    idle = {runs: costs[runs]["(nothing)"].processor for runs in (small, large)}
    less, more = (max(costs[runs][command].processor - idle[runs], 1e-3) for runs in (small, large))
    return math.log(more / less) / math.log(large / small)


def table(costs: dict[int, dict[str, Cost]]) -> Table:
    found = Table("command", *(f"{runs:,} runs" for runs in costs), "growth")
    for name in COMMANDS:
        cells = [
            f"{one.seconds:.1f} s, {one.processor:.1f} s, {one.memory / 1e6:,.0f} MB"
            for one in (costs[runs][name] for runs in costs)
        ]
        found.add_row(name, *cells, f"{growth(costs, name):.2f}" if len(costs) > 1 and name != "(nothing)" else "")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=int, default=[250, 500, 1000])
    parser.add_argument("--artifacts", type=int, default=92, metavar="N")
    given = parser.parse_args()
    costs = {}
    for runs in sorted(given.runs):
        costs[runs] = measure(runs, given.artifacts)
        print(f"{runs} runs measured", file=sys.stderr)
    Console(width=120).print(table(costs))


if __name__ == "__main__":
    main()
