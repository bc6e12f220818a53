"""Verbs that compile and run: sweep, plan, run, cancel, promote."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctt.cli.hydra_app import hydra
from ctt.cli.parsing import STORE, checked, open_store, parse, verb_parser
from ctt.core.errors import UsageError


def sweep(arguments: Sequence[str]) -> int:
    """Run a sweep: compile it, run what is missing, print the table.

    NAME is a file of sweeps/ or the path of one. launch=inproc|local|slurm|… chooses where jobs run.
    The same command again runs what is missing, and only that.
    """
    parser = verb_parser("sweep", sweep, named="a sweep of sweeps/ or a YAML file")
    parser.add_argument("--detach", action="store_true", help="return once it is submitted (slurm) or started (others)")
    parsed = parse(parser, arguments)
    from ctt.sweep import quoted, read

    read(parsed.name)
    detach = ["launch.detach=true"] if parsed.detach else []
    return hydra(["-m", f"sweep={quoted(parsed.name)}", *parsed.overrides, *detach])


def plan(arguments: Sequence[str]) -> int:
    """Show what a sweep would run, share, find in the store and could detect, before it costs anything."""
    parser = verb_parser("plan", plan, named="a sweep of sweeps/ or a YAML file")
    parser.add_argument("--json", action="store_true", help="points, runs, stages and epochs as one JSON object")
    parser.add_argument("--why", metavar="RUN", help="explain one run: its stages, keys, and the runs that share them")
    parser.add_argument("--devices", type=int, default=2, help="number of jobs at once, to estimate the time (default: 2)")
    detect = "how many seeds detect a difference of so many points (without it: what the sweep's seeds detect)"
    parser.add_argument("--detect", type=float, metavar="POINTS", help=detect)
    parsed = parse(parser, arguments)
    from ctt.app.plan import show_plan
    from ctt.config import compose

    overrides = checked(parsed.overrides)
    store = Path(compose([override for override in overrides if override.startswith("store=")]).store)
    return show_plan(
        parsed.name, overrides, store, run=parsed.why, as_json=parsed.json, devices=parsed.devices, detect=parsed.detect
    )


def run(arguments: Sequence[str]) -> int:
    """Run one point with one seed in this process.

    Hydra's flags work: --cfg job shows the settings instead of running, --hydra-help lists all flags.
    """
    if "-h" in arguments or "--help" in arguments:
        verb_parser("run", run, named=None).parse_args(["--help"])
    if "-m" in arguments or "--multirun" in arguments:
        raise UsageError("ctt run runs one point with one seed; a multirun is `ctt -m KEY=VALUES …`")
    return hydra(arguments)


def cancel(arguments: Sequence[str]) -> int:
    """End the jobs of a sweep; their checkpoints stay, and the same sweep command continues."""
    parsed = parse(verb_parser("cancel", cancel, named="a recorded sweep", settings=STORE), arguments)
    from ctt.app.cancel import cancel_sweep
    from ctt.core.terminal_console import terminal

    return cancel_sweep(open_store(parsed.overrides), parsed.name, terminal())


def promote(arguments: Sequence[str]) -> int:
    """Retrain ALOE for the best points of a screened sweep, and compare the rankings.

    NAME is a sweep that ran with aloe.protocol=shared; launch=… and other overrides apply to the new sweep NAME-promoted.
    """
    parser = verb_parser("promote", promote, named="a screened sweep")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="number of points (default: 3)")
    parser.add_argument("--metric", default="average", help="metric that ranks the points (default: average)")
    parsed = parse(parser, arguments)
    from ctt.app.promote import promote_points
    from ctt.core.terminal_console import terminal

    store = open_store([override for override in checked(parsed.overrides) if override.startswith("store=")])
    return promote_points(store, parsed.name, parsed.top, parsed.metric, lambda path: sweep([path, *parsed.overrides]), terminal())
