"""The command line: verbs of ctt, and Hydra's own for everything else."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ctt import __version__
from ctt.errors import CttError, UsageError

OVERRIDES = """\
overrides are Hydra's: ctt_inv_weight=0.2  aloe.epochs=20  world_model=reference  seed=0,1,2  ctt_adj_threshold='range(0.1,0.4,0.1)'
  comma lists, range() and choice() sweep; the command line wins over the sweep file; store=PATH or CTT_STORE names the store
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `ctt` and `python -m ctt`. Exit codes: 0 done, 1 something is missing or failed, 2 bad input."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in VERBS:
        sys.exit(report_errors(lambda: VERBS[words[0]](words[1:])))
    if not words or words[0] in ("-h", "--help"):
        print(_parser().format_help(), end="")
        sys.exit(0)
    if words[0] == "--version":
        print(f"ctt {__version__}")
        sys.exit(0)
    if not words[0].startswith("-") and "=" not in words[0]:
        import difflib

        near = difflib.get_close_matches(words[0], VERBS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(VERBS)}"
        print(f"ctt: {words[0]} is not a command; {hint}", file=sys.stderr)
        sys.exit(2)
    sys.exit(report_errors(lambda: hydra(words)))


def report_errors(action: Callable[[], int | None]) -> int:
    """Runs `action`; an error of ctt's becomes one line on stderr and an exit code."""
    try:
        code = action() or 0
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not after the exit code is set
        return code
    except UsageError as error:
        print(f"ctt: {error}", file=sys.stderr)
        return 2
    except CttError as error:
        print(f"ctt: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nctt: interrupted; finished stages are kept, the same command continues", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is buffered has no reader any more
        return 0
    except OSError as error:
        print(f"ctt: {error}", file=sys.stderr)
        if error.errno == errno.ENOSPC:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ctt",
        description="Sweeps of CTT-JEPA on CLEVRER, compiled to the least work that answers them.",
        epilog="commands:\n"
        + "".join(f"  {name:8} {(verb.__doc__ or '').splitlines()[0]}\n" for name, verb in VERBS.items())
        + "\n`ctt COMMAND --help` says more. Without a command the words go to Hydra: `ctt -m ctt_inv_weight=0,0.2 seed=0,1`.\n"
        + "\n"
        + OVERRIDES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="ctt COMMAND [NAME] [OVERRIDES]",
    )
    return parser


def _verb(name: str, verb: Callable[..., Any], *, named: str | None, overrides: bool = True) -> argparse.ArgumentParser:
    """The parser of one verb: NAME where `named` says what it is ("?": optional), then Hydra overrides."""
    parser = argparse.ArgumentParser(
        prog=f"ctt {name}",
        description=verb.__doc__,
        epilog=OVERRIDES if overrides else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if named is not None:
        parser.add_argument(
            "name", nargs="?" if named.startswith("?") else None, metavar="NAME", help=named.lstrip("?")
        )
    if overrides:
        parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="Hydra overrides")
    return parser


def _parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Like parse_args, but a NAME that is left out is not taken from the overrides."""
    parsed = parser.parse_intermixed_args(list(words))
    name = getattr(parsed, "name", None)
    if name is not None and "=" in name:
        parsed.overrides = [name, *parsed.overrides]
        parsed.name = None
        if any(a.dest == "name" and a.nargs is None for a in parser._actions):
            parser.error("NAME is missing")
    return parsed


def _checked(overrides: Sequence[str]) -> list[str]:
    """Overrides whose keys exist; a typo stops here, before Hydra starts."""
    from ctt.config import check_key

    for word in overrides:
        if word.startswith("-"):
            continue
        if "=" not in word and not word.startswith("~"):
            raise UsageError(f"{word} is neither a command's option nor KEY=VALUE (command line)")
        key = word.split("=", 1)[0].lstrip("+~").split("@")[0]
        if key != "hydra" and not key.startswith(("hydra.", "hydra/")):
            check_key(key)
    return list(overrides)


def _split(overrides: Sequence[str], *allowed: str) -> dict[str, str]:
    """The few overrides a reading verb knows, as {key: text}. Raises UsageError for others."""
    out = {}
    for word in overrides:
        key, sign, value = word.partition("=")
        if not sign or key not in allowed:
            raise UsageError(f"{word}: this command takes {' '.join(f'{a}=VALUE' for a in allowed)} (command line)")
        out[key] = value
    return out


def _store(overrides: Sequence[str], *also: str) -> Any:
    from ctt.config import Config
    from ctt.store import Store

    root = Path(_split(overrides, "store", *also).get("store", Config().store))
    if not root.is_dir():
        raise UsageError(f"no store at {root.resolve()}; name it with store=PATH or CTT_STORE, or run a sweep first")
    return Store.open(root)


def hydra(words: Sequence[str]) -> int:
    """Hands the words to Hydra: one run, or with -m a multirun by ctt's sweeper."""
    import hydra as hydra_core

    from ctt.config import config_root, register

    flags_with_value = (
        "--package",
        "-p",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
        "--cfg",
        "-c",
        "--info",
        "-i",
    )
    checked, skip = [], False
    for word in words:
        if not skip and not word.startswith("-"):
            checked.append(word)
        skip = word in flags_with_value
    _checked(checked)
    if "-m" in words or "--multirun" in words:
        from ctt.sweep import read_overrides

        read_overrides(checked)
    register()
    before = sys.argv
    sys.argv = ["ctt", *words]
    outcome: list[int] = []

    def job(config: Any) -> Any:
        return _job(config, outcome)

    try:
        hydra_core.main(version_base="1.3", config_path=str(config_root() / "conf"), config_name="config")(job)()
    finally:
        sys.argv = before
    return outcome[0] if outcome else 0


def _job(config: Any, outcome: list[int]) -> Any:
    """Hydra's task function: a frozen job, or one run from its settings."""
    from ctt.config import to_config
    from ctt.job import stop_on_signals
    from ctt.launch import record
    from ctt.launch.single import run_single

    if config.spec:
        stop_on_signals()
        return record.run_frozen(Path(config.spec))
    outcome.append(report_errors(lambda: run_single(to_config(config))))
    return None


def sweep(words: Sequence[str]) -> int:
    """run a sweep: compile it, run what is missing, print the table

    NAME is a file of sweeps/ or the path of one. launch=inproc|local|slurm says where jobs run.
    Running it again runs what is missing, and only that.
    """
    flags = [w for w in words if w in ("--help", "-h")]
    if flags or not words:
        _verb("sweep", sweep, named="a sweep of sweeps/ or a YAML file").parse_args(["--help"])
    if "=" in words[0] or words[0].startswith("-"):
        raise UsageError("ctt sweep needs the sweep's NAME first; a plain multirun is `ctt -m KEY=VALUES …`")
    from ctt.sweep import read

    read(words[0])
    return hydra(["-m", f"sweep='{words[0]}'", *words[1:]])


def plan(words: Sequence[str]) -> int:
    """say what a sweep would run, share and find in the store, before it costs anything

    --json prints points, runs, stages with their status, and epochs beside the naive sum.
    """
    parser = _verb("plan", plan, named="a sweep of sweeps/ or a YAML file")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--why", metavar="RUN", help="explain one run: its stages, keys, and with whom it shares them")
    parser.add_argument("--devices", type=int, default=2, help="how many jobs run at once, for the time to the end")
    parsed = _parse(parser, words)
    from ctt.config import compose
    from ctt.costs import Costs
    from ctt.launch.tree import print_plan, print_why
    from ctt.plan import compile_plan
    from ctt.store import Store
    from ctt.sweep import compile_sweep

    compiled = compile_plan(compile_sweep(parsed.name, _checked(parsed.overrides)))
    plain = [w for w in parsed.overrides if w.split("=")[0] == "store"]
    store = Store.open(compose(plain).store)
    cached = [key for key in compiled.stages if store.has(key)]
    costs = Costs(store.root)
    summary = compiled.summary(cached, costs)
    if parsed.why:
        print_why(compiled, parsed.why, set(cached))
    elif parsed.json:
        print(json.dumps(summary, indent=1))
    else:
        print_plan(compiled, summary, store, costs, max(1, parsed.devices))
    return 0


def run(words: Sequence[str]) -> int:
    """run one point with one seed in this process: `ctt run data=mini world_model=mini aloe=mini seed=3`

    Hydra's flags work: --cfg job shows the settings, --help lists the groups.
    """
    return hydra(words)


def status(words: Sequence[str]) -> int:
    """show how far the stages of a sweep are, from the store

    Without NAME: every sweep of the store in a line.
    """
    parser = _verb("status", status, named="?a recorded sweep")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parsed = _parse(parser, words)
    from ctt.launch.status import print_status

    return print_status(_store(parsed.overrides), parsed.name, parsed.json)


def report(words: Sequence[str]) -> int:
    """print a sweep's comparison table from the artifacts in the store

    The same artifacts give the same bytes.
    """
    from ctt.report.render import FORMATS

    parser = _verb("report", report, named="a recorded sweep")
    parser.add_argument("--format", default="terminal", choices=FORMATS, help="how to print it (default: terminal)")
    parser.add_argument("--cost", action="store_true", help="with device-hours and it/s")
    parser.add_argument("--by-form", action="store_true", help="with a table of question forms for each category")
    parser.add_argument("--files", action="store_true", help="write every form and the plots to sweeps/NAME/report too")
    parsed = _parse(parser, words)
    from rich.console import Console

    from ctt.launch import record, show
    from ctt.report.render import render
    from ctt.report.table import build

    store = _store(parsed.overrides)
    compiled = record.load(record.newest(store, parsed.name))
    if parsed.files:
        show.write_report(compiled, store)
    table = build(show.results(compiled, store))
    console = Console()
    if parsed.format == "terminal" and not (parsed.cost or parsed.by_form):
        print(show.render_terminal(table, console), end="")
    else:
        print(render(table, parsed.format, cost=parsed.cost, by_form=parsed.by_form), end="")
    return 0


def ui(words: Sequence[str]) -> int:
    """serve the store's runs with MLflow's web interface, kept up to date"""
    parser = _verb("ui", ui, named=None)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=5000, help="port (default 5000; 0: a free one)")
    parsed = _parse(parser, words)
    from ctt.launch.track import store_syncer
    from ctt.tracking import TrackingSettings, serve

    store = _store(parsed.overrides)
    serve(store.root, parsed.host, parsed.port, syncer=store_syncer(TrackingSettings(), store))
    return 0


def sync(words: Sequence[str]) -> int:
    """bring MLflow up to date with the store; --follow keeps on

    tracking.uri=http://HOST:PORT mirrors to a server instead of the store's SQLite file.
    """
    parser = _verb("sync", sync, named=None)
    parser.add_argument("--follow", action="store_true", help="until Ctrl-C")
    parser.add_argument("--rebuild", action="store_true", help="trust no cursor, ask MLflow about every run")
    parsed = _parse(parser, words)
    import threading

    from ctt.launch.track import store_syncer
    from ctt.tracking import TrackingSettings

    settings = _split(parsed.overrides, "store", "tracking.uri")
    uri = settings.get("tracking.uri")
    tracking = TrackingSettings(kind="server" if uri else "sqlite", uri=uri)
    syncer = store_syncer(tracking, _store(parsed.overrides, "tracking.uri"), rebuild=parsed.rebuild)
    if parsed.follow:
        syncer.follow(threading.Event())
    else:
        print(f"{syncer.sync_once(patient=False)} points sent to {tracking.kind}")
    return 0


def show(words: Sequence[str]) -> int:
    """print what an artifact is and where it came from: its settings, inputs, code, host and numbers

    NAME is a key, its first letters, or a run like "demo/baseline seed=0".
    """
    parser = _verb("show", show, named="a key or a run")
    if len(words) and "=" in words[0] and not words[0].startswith("store="):
        words = [words[0].replace("=", "\0"), *words[1:]]
    parsed = _parse(parser, words)
    from rich.console import Console

    from ctt.launch.keep import show as show_artifact

    return show_artifact(_store(parsed.overrides), parsed.name.replace("\0", "="), Console())


def promote(words: Sequence[str]) -> int:
    """retrain ALOE for the best points of a screened sweep, and say how screening had ranked them

    NAME is a sweep that ran with aloe.protocol=shared; launch=… and other overrides go to the new sweep NAME-promoted.
    """
    parser = _verb("promote", promote, named="a screened sweep")
    parser.add_argument("--top", type=int, default=3, metavar="K", help="how many points (default 3)")
    parser.add_argument("--metric", default="average", help="what ranks them (default: average)")
    parsed = _parse(parser, words)
    from rich.console import Console

    from ctt.launch.promote import best, compare, screened, write_sweep
    from ctt.report.results import METRICS
    from ctt.store import Store

    if parsed.metric not in METRICS:
        raise UsageError(f"--metric must be one of {', '.join(METRICS)}; got {parsed.metric}")
    if parsed.top < 1:
        raise UsageError(f"--top must be at least 1, got {parsed.top}")
    store: Store = _store([w for w in _checked(parsed.overrides) if w.startswith("store=")])
    recorded, table = screened(store, parsed.name)
    labels = best(recorded, table, parsed.top, parsed.metric)
    console = Console()
    console.print(f"promoting {len(labels)} points by screened {parsed.metric}: {', '.join(labels)}", soft_wrap=True)
    code = sweep([write_sweep(store, recorded, labels), *parsed.overrides])
    compare(store, parsed.name, parsed.metric, console)
    return code


def gc(words: Sequence[str]) -> int:
    """remove artifacts that no recorded sweep reaches; shows sizes and asks first

    --rollouts also removes the rollouts of finished runs: they are rebuilt in seconds when needed.
    """
    parser = _verb("gc", gc, named=None)
    parser.add_argument("--rollouts", action="store_true", help="also the rollouts of finished runs")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parsed = _parse(parser, words)
    from rich.console import Console

    from ctt.launch.keep import collect

    return collect(_store(parsed.overrides), rollouts=parsed.rollouts, yes=parsed.yes, console=Console())


def data(words: Sequence[str]) -> int:
    """bring CLEVRER's files in and look at data sets: ctt data import|fetch|check|show

    import FILE    slots of the reference (a pickle or torch file) to memory-mapped files; nothing in it is executed
    fetch          download slots, questions, annotations; continues where it broke off
    check          a data set beside CLEVRER's own figures; --questions FILE: one official question file alone
    show SCENE     picture, animation and questions of a scene
    """
    verbs = {"import": _data_import, "fetch": _data_fetch, "check": _data_check, "show": _data_show}
    if not words or words[0] in ("-h", "--help"):
        _verb("data", data, named="import, fetch, check or show", overrides=False).parse_args(["--help"])
    if words[0] not in verbs:
        raise UsageError(f"ctt data {words[0]} is not a command; there are {', '.join(verbs)}")
    return verbs[words[0]](words[1:])


def _data_import(words: Sequence[str]) -> int:
    """import a slots file to memory-mapped files: a folder beside it, of its name

    Arrays alone are admitted; anything else is refused by name and nothing is executed. An interrupted import continues:
    finished videos are not written again, the file is read again for its checksum.
    """
    parser = _verb("data import", _data_import, named="a pickle or torch file", overrides=False)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: the file without its ending)")
    parsed = parser.parse_args(list(words))
    from ctt.launch.data_verbs import import_file

    return import_file(Path(parsed.name), parsed.to)


def _data_fetch(words: Sequence[str]) -> int:
    """download CLEVRER's files: slots, questions, annotations (default: slots and questions)

    Addresses and the folder are settings: data.fetch.folder, data.fetch.questions …
    """
    from ctt.data.fetch import ENCODERS, KINDS

    parser = _verb("data fetch", _data_fetch, named=None, overrides=False)
    parser.add_argument("words", nargs="*", metavar="KIND|KEY=VALUE", help=f"{', '.join(KINDS)}; Hydra overrides")
    parser.add_argument("--encoder", choices=ENCODERS, default=ENCODERS[0], help="whose slots (default: videosaur)")
    parsed = parser.parse_intermixed_args(list(words))
    kinds = [w for w in parsed.words if "=" not in w]
    if unknown := [k for k in kinds if k not in KINDS]:
        raise UsageError(f"{unknown[0]} is nothing that can be fetched; there are {', '.join(KINDS)}")
    from ctt.config import compose
    from ctt.launch.data_verbs import fetch_files

    config = compose(_checked([w for w in parsed.words if "=" in w]))
    return fetch_files(config.data.fetch, list(dict.fromkeys(kinds)) or ["slots", "questions"], parsed.encoder)


def _data_check(words: Sequence[str]) -> int:
    """say what is in a data set beside CLEVRER's own figures, and what is missing or damaged

    NAME is the key of a data set in the store; without it, the one that the settings (data=…) mean, made if need be.
    """
    parser = _verb("data check", _data_check, named="?a data set's key, or its first letters")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="check this official question file alone")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parsed = _parse(parser, words)
    from ctt.launch import data_verbs

    if parsed.questions is not None:
        return data_verbs.check_questions(parsed.questions, parsed.json)
    from ctt.config import compose

    return data_verbs.check_data(compose(_checked(parsed.overrides)), parsed.name, parsed.json)


def _data_show(words: Sequence[str]) -> int:
    """write a picture and an animation (GIF) of a scene and print its questions

    NAME is the scene's number (scene_index). data=clevrer needs data.questions, and data.annotation_files for pictures.
    """
    parser = _verb("data show", _data_show, named="a scene's number")
    parser.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    parsed = _parse(parser, words)
    if not parsed.name.isdecimal():
        raise UsageError(f"{parsed.name} is not a scene's number")
    from ctt.config import compose
    from ctt.launch.data_verbs import show_scene

    return show_scene(compose(_checked(parsed.overrides)), int(parsed.name), parsed.to)


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "sweep": sweep,
    "plan": plan,
    "run": run,
    "status": status,
    "report": report,
    "show": show,
    "promote": promote,
    "data": data,
    "gc": gc,
    "ui": ui,
    "sync": sync,
}
