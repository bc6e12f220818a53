"""Verbs that compile and run: sweep, plan, run, promote."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ctt.cli.hydra_app import hydra
from ctt.cli.parsing import checked, open_store, parse, verb_parser
from ctt.core.errors import UsageError


def sweep(arguments: Sequence[str]) -> int:
    """run a sweep: compile it, run what is missing, print the table

    NAME is a file of sweeps/ or the path of one. launch=inproc|local|slurm says where jobs run.
    Running it again runs what is missing, and only that. --detach: submit it (slurm), or start it in a session of its
    own (local), and return.
    """
    flags = [w for w in arguments if w in ("--help", "-h")]
    if flags or not arguments:
        verb_parser("sweep", sweep, named="a sweep of sweeps/ or a YAML file").parse_args(["--help"])
    if "=" in arguments[0] or arguments[0].startswith("-"):
        raise UsageError("ctt sweep needs the sweep's NAME first; a plain multirun is `ctt -m KEY=VALUES …`")
    from ctt.sweep import read

    read(arguments[0])
    more = ["launch.detach=true" if word == "--detach" else word for word in arguments[1:]]
    return hydra(["-m", f"sweep='{arguments[0]}'", *more])


def cancel(arguments: Sequence[str]) -> int:
    """end the jobs of a sweep, wherever they run; their checkpoints stay and the same sweep continues"""
    parser = verb_parser("cancel", cancel, named="a recorded sweep")
    parsed = parse(parser, arguments)
    from rich.console import Console

    from ctt.app.cancel import cancel_sweep

    return cancel_sweep(open_store(parsed.overrides), parsed.name, Console())


def plan(arguments: Sequence[str]) -> int:
    """say what a sweep would run, share and find in the store, before it costs anything

    --json prints points, runs, stages with their status, and epochs beside the naive sum.
    """
    parser = verb_parser("plan", plan, named="a sweep of sweeps/ or a YAML file")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--why", metavar="RUN", help="explain one run: its stages, keys, and with whom it shares them")
    parser.add_argument("--devices", type=int, default=2, help="how many jobs run at once, for the time to the end")
    parsed = parse(parser, arguments)
    from ctt.config import compose
    from ctt.plan import Budget, compile_plan
    from ctt.plan.costs import Costs
    from ctt.plan.tree import print_plan
    from ctt.plan.why import print_why
    from ctt.store import Store
    from ctt.sweep import compile_sweep

    compiled = compile_plan(compile_sweep(parsed.name, checked(parsed.overrides)))
    plain = [w for w in parsed.overrides if w.split("=")[0] == "store"]
    store = Store.open(compose(plain).store)
    cached = [key for key in compiled.stages if store.has(key)]
    budget = Budget(compiled, cached, Costs(store.root))
    if parsed.why:
        print_why(compiled, parsed.why, set(cached))
    elif parsed.json:
        print(json.dumps(budget.numbers(), indent=1))
    else:
        print_plan(budget, store, max(1, parsed.devices))
    return 0


def run(arguments: Sequence[str]) -> int:
    """run one point with one seed in this process: `ctt run data=mini world_model=mini aloe=mini seed=3`

    Hydra's flags work: --cfg job shows the settings, --help lists the groups.
    """
    return hydra(arguments)


def promote(arguments: Sequence[str]) -> int:
    """retrain ALOE for the best points of a screened sweep, and say how screening had ranked them

    NAME is a sweep that ran with aloe.protocol=shared; launch=… and other overrides go to the new sweep NAME-promoted.
    """
    parser = verb_parser("promote", promote, named="a screened sweep")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many points (default 3)")
    parser.add_argument("--metric", default="average", help="what ranks them (default: average)")
    parsed = parse(parser, arguments)
    from rich.console import Console

    from ctt.report.results import METRICS
    from ctt.report.tables.row_text import count
    from ctt.store import Store
    from ctt.study.promotion import best, compare, screened, write_sweep

    if parsed.metric not in METRICS:
        raise UsageError(f"--metric must be one of {', '.join(METRICS)}; got {parsed.metric}")
    if parsed.top < 1:
        raise UsageError(f"--top must be at least 1, got {parsed.top}")
    store: Store = open_store([w for w in checked(parsed.overrides) if w.startswith("store=")])
    recorded, table = screened(store, parsed.name)
    labels = best(recorded, table, parsed.top, parsed.metric)
    console = Console()
    what = f"{count(len(labels), 'point')} by screened {parsed.metric}: {', '.join(labels)}"
    console.print(f"promoting {what}", soft_wrap=True, highlight=False)
    code = sweep([write_sweep(store, recorded, labels), *parsed.overrides])
    try:
        compare(store, parsed.name, parsed.metric, console)
    except UsageError as error:
        console.print(f"nothing to compare yet: {error}", soft_wrap=True, highlight=False)
    return code
