"""`make gpu-check`: runs every check on a GPU, prints a line for each and writes gpu.json.

Exit code 0: nothing failed (aims that were not reached are in the output); 1: a check failed; 2: no GPU can be used.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA starts; torch's deterministic algorithms need it

from tests.gpu import equality, literal, speed, states, waits
from tests.gpu.checks import Check, run_checks
from tests.gpu.machine import provenance, unusable
from tests.gpu.material import RECIPES, Material

OUT = Path(__file__).resolve().parents[2] / "gpu.json"
CHECKS = (
    Check("step equals that of the CPU", 45, equality.world_model_steps),
    Check("step in float64 equals that of the CPU", 5, equality.world_model_float64),
    Check("reduced precision", 5, equality.reduced_precision),
    Check("dropout masks", 2, equality.dropout_masks),
    Check("rollout equals that of the CPU", 5, equality.rollouts),
    Check("ALOE equals that of the CPU", 15, equality.aloe),
    Check("states of the world model", 30, states.world_models),
    Check("speed, published", 20, functools.partial(speed.world_model_speed, recipe="published")),
    Check("speed, fast", 15, functools.partial(speed.world_model_speed, recipe="fast")),
    Check("ALOE speed, published", 15, functools.partial(speed.aloe_training, recipe="published")),
    Check("ALOE speed, fast", 15, functools.partial(speed.aloe_training, recipe="fast")),
    Check("ALOE's answers", 10, speed.aloe_answers),
    Check("rollout of 1,000 videos", 15, speed.rollout_of_videos),
    Check("literal world model", 15, literal.world_model),
    Check("literal ALOE", 15, literal.aloe),
    Check("host waits", 25, waits.waits_of_steps),
    Check("CUDA graphs of the world model", 45, equality.compiled_world_model),
    Check("speed, CUDA graphs", 70, functools.partial(speed.world_model_speed, recipe="compiled")),
    Check("CUDA graphs of ALOE", 30, equality.compiled_aloe),
    Check("ALOE speed, CUDA graphs", 40, functools.partial(speed.aloe_training, recipe="compiled")),
    Check("states of ALOE", 20, states.aloes),
    Check("speed, TF32", 10, functools.partial(speed.world_model_speed, recipe="tf32")),
    Check("speed of slot graphs", 10, speed.source_speed),
)
PUBLISHED = {"plain": (16.2, 2.5), "both losses": (4.63, 5), "ALOE": (14, 4)}
"""Iterations a second that are published of one H100, and how many times as many are aimed at."""


def aims(material: Material) -> dict[str, Any]:
    """What is aimed at on an H100, and the best of the recipes that were measured."""
    found = {}
    for name, (published, times) in PUBLISHED.items():
        rates = {recipe: material.figures.get(f"{name}, {recipe}") for recipe in RECIPES}
        known = {recipe: rate for recipe, rate in rates.items() if rate is not None and not material.small}
        best = max(known, key=lambda recipe: known[recipe], default=None)
        reached = known.get(best) if best else None
        found[name] = {
            "published_on_h100": published,
            "aim_on_h100": f">= {times} x {published} = {times * published:g} it/s",
            "reached": reached,
            "by": best,
            "held": None if reached is None else reached >= times * published,
        }
    return found


def line(name: str, record: dict[str, Any]) -> str:
    what = record.get("error") or "; ".join(record.get("failures", ())) or record.get("reason", "")
    seconds = f"{record['seconds']:.1f} s" if "seconds" in record else ""
    return f"{record['status']:8}{name:40}{seconds:>8}  {what}".rstrip()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --small")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see that everything runs: measures nothing")
    parser.add_argument("--minutes", type=float, default=8, help="what no longer fits is skipped (default: 8)")
    parser.add_argument("--only", nargs="+", metavar="WORD", help="checks whose names contain one of these")
    parser.add_argument("--out", type=Path, default=OUT, help="the file to write (default: gpu.json)")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cpu" and not arguments.small:
        parser.error("--device cpu needs --small: the sizes are those of a GPU")
    if reason := unusable("cpu" if device == "cpu" else "cuda"):
        print(f"make gpu-check needs a GPU: {reason}", file=sys.stderr)
        return 2
    checks = [check for check in CHECKS if not arguments.only or any(word in check.name for word in arguments.only)]
    if not checks:
        parser.error(f"no check's name contains {' or '.join(arguments.only)}; there are: {', '.join(c.name for c in CHECKS)}")
    began, records = time.monotonic(), dict[str, Any]()
    where = provenance(device)
    print(f"{where['card'] or 'CPU'}, torch {where['torch']}, commit {where['commit']}", flush=True)
    with tempfile.TemporaryDirectory(prefix="ctt-gpu-check-") as folder:
        material = Material(device, arguments.small, Path(folder))

        def report(name: str, record: dict[str, Any]) -> None:
            print(line(name, record), flush=True)
            records[name] = record
            found = where | {"small": material.small, "minutes": arguments.minutes, "seconds": round(time.monotonic() - began, 1)}
            found |= {"aims": aims(material), "tolerances": equality.TOLERANCES, "figures": material.figures}
            found |= {"literal": material.literal, "ours_over_literal": literal.ours_over(material), "checks": records}
            arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")

        run_checks(checks, material, arguments.minutes, report)
    for name, aim in aims(material).items():
        print(f"{name}: {aim['reached'] or 'not measured'} it/s ({aim['by'] or '-'}); on an H100 {aim['aim_on_h100']}")
    print(f"written: {arguments.out}")
    return 1 if any(record["status"] == "failed" for record in records.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
