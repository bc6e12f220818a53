"""`make bench`: measures all ratios, or those named, prints them with their targets and writes them to bench.json.

NAME is a ratio or a benchmark. A later call keeps what bench.json holds of ratios it does not measure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from ctt.core.atomic_files import write_json
from ctt.execution.recorded_jobs import KEPT_MEMORY
from tests.benchmarks.harness import CLOCKS, ROUNDS, Measured, find, measure

KEPT = {"aloe_data"}
"""What is all memory runs in a process of its own that keeps it as jobs do, for both ways."""
BENCH = Path(__file__).resolve().parents[2] / "bench.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("only", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=sorted(CLOCKS), default="wall", help="cpu: where other work runs; one thread")
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to see that everything runs; writes nothing")
    arguments = parser.parse_args()
    if arguments.rounds < 5 and not arguments.toy:
        parser.error(f"--rounds must be at least 5, got {arguments.rounds}")
    if arguments.clock == "cpu" and arguments.threads != 1:
        parser.error("--clock cpu adds up the seconds of all threads: it needs --threads 1")
    torch.set_num_threads(arguments.threads)
    console = Console()
    found: list[Measured] = []
    unknown = set(arguments.only)
    conditions = {"threads": arguments.threads, "clock": arguments.clock, "rounds": arguments.rounds}
    for name, make in find().items():
        if arguments.only and name not in arguments.only:
            comparison = make(True)
            only = {r.name for r in comparison.ratios} & set(arguments.only)
            if not only:
                continue
        else:
            only = None
        unknown -= {name, *(only or ())}
        if name in KEPT and not arguments.toy and not KEPT_MEMORY.items() <= os.environ.items():
            how = f"--rounds {arguments.rounds} --threads {arguments.threads} --clock {arguments.clock}"
            command = [sys.executable, "-m", "tests.benchmarks", *(only or [name]), *how.split()]
            subprocess.run(command, env={**os.environ, **KEPT_MEMORY}, check=True)
            continue
        with console.status(f"{name}: preparing") as status:
            for measured in measure(make(arguments.toy), only, arguments.rounds, CLOCKS[arguments.clock]):
                if isinstance(measured, Measured):
                    found.append(measured)
                    console.print(line(measured), highlight=False)
                    if not arguments.toy:
                        write(measured, conditions)
                else:
                    status.update(f"{name}, {measured}")
    if unknown:
        parser.error(f"there is no benchmark or ratio named {', '.join(sorted(unknown))}")
    if found:
        console.print(table(found, conditions))
    if not arguments.only:
        console.print("whether the cheaper ways train as well: make same-loss", highlight=False)
    return 0


def line(measured: Measured) -> str:
    return f"{measured.ratio.name:24} {measured.value:6.2f}   (target {measured.ratio.target()})"


def table(found: list[Measured], how: dict[str, Any]) -> Table:
    out = Table(title=f"Ratios: median over rounds (smallest to largest), {how['threads']} threads, {how['clock']} clock")
    for column in ("ratio", "reached", "spread", "target", "", "slow", "fast", "seconds"):
        out.add_column(column, justify="right" if column in ("reached", "target", "seconds") else "left")
    for m in found:
        verdict = "[green]held[/]" if m.ratio.held(m.value) else "[red]missed[/]"
        seconds = f"{m.seconds[m.ratio.slow]:.3g} / {m.seconds[m.ratio.fast]:.3g}"
        spread = f"{m.spread[0]:.2f} to {m.spread[1]:.2f}"
        out.add_row(m.ratio.name, f"{m.value:.2f}", spread, m.ratio.target(), verdict, m.ratio.slow, m.ratio.fast, seconds)
    return out


def write(m: Measured, how: dict[str, Any]) -> None:
    """Adds a ratio to bench.json, at once: measuring all of them takes long."""
    known = json.loads(BENCH.read_text(encoding="utf-8")) if BENCH.exists() else {}
    known[m.ratio.name] = {
        "ratio": round(m.value, 4),
        "spread": [round(value, 4) for value in m.spread],
        "sizes": m.sizes | how,
        "target": m.ratio.target(),
        "held": m.ratio.held(m.value),
        "seconds": {name: round(value, 6) for name, value in m.seconds.items()},
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}",
    }
    write_json(BENCH, dict(sorted(known.items())))


if __name__ == "__main__":
    sys.exit(main())
