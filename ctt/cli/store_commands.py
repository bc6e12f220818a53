"""Verbs that read the store: status, show, gc, ui, sync."""

from __future__ import annotations

from collections.abc import Sequence

from ctt.cli.parsing import open_store, parse, tracking_of, verb_parser, with_run


def status(arguments: Sequence[str]) -> int:
    """show how far the stages of a sweep are, from the store

    Without NAME: every sweep of the store in a line.
    """
    parser = verb_parser("status", status, named="?a recorded sweep")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parsed = parse(parser, arguments)
    from ctt.app.status import print_status

    return print_status(open_store(parsed.overrides), parsed.name, parsed.json)


def show(arguments: Sequence[str]) -> int:
    """print what an artifact is and where it came from: its settings, inputs, code, host and numbers

    NAME is a key, its first letters, or a run like "demo/baseline seed=0".
    """
    parser = verb_parser("show", show, named="a key or a run")
    arguments = with_run(arguments)
    parsed = parse(parser, arguments)
    from rich.console import Console

    from ctt.app.gc import show as show_artifact

    return show_artifact(open_store(parsed.overrides), parsed.name.replace("\0", "="), Console())


def logs(arguments: Sequence[str]) -> int:
    """print the log of a run's job; -f goes on until the job ends

    NAME is a run like "demo/baseline seed=0", a shared prefix like "demo/shared prefix 10 epochs seed=0", or the first
    letters of a key.
    """
    parser = verb_parser("logs", logs, named="a run, a shared prefix or a key")
    parser.add_argument("-f", "--follow", action="store_true", help="until the job ends, through its retries")
    parsed = parse(parser, with_run(arguments))
    from ctt.app.logs import print_log

    return print_log(open_store(parsed.overrides), parsed.name.replace("\0", "="), follow=parsed.follow)


def gc(arguments: Sequence[str]) -> int:
    """remove artifacts that no recorded sweep reaches; shows sizes and asks first

    --rollouts also removes the rollouts of finished runs: they are rebuilt in seconds when needed.
    """
    parser = verb_parser("gc", gc, named=None)
    parser.add_argument("--rollouts", action="store_true", help="also the rollouts of finished runs")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parsed = parse(parser, arguments)
    from rich.console import Console

    from ctt.app.gc import collect

    return collect(open_store(parsed.overrides), rollouts=parsed.rollouts, yes=parsed.yes, console=Console())


def ui(arguments: Sequence[str]) -> int:
    """serve the store's runs with MLflow's web interface, kept up to date"""
    parser = verb_parser("ui", ui, named=None)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=5000, help="port (default 5000; 0: a free one)")
    parsed = parse(parser, arguments)
    from ctt.study.tracked_sweep import store_syncer
    from ctt.tracking import serve

    tracking, others = tracking_of(parsed.overrides)
    store = open_store(others)
    serve(store.root, parsed.host, parsed.port, syncer=store_syncer(tracking, store))
    return 0


def sync(arguments: Sequence[str]) -> int:
    """bring MLflow up to date with the store; --follow keeps on

    tracking=server (or tracking.uri=http://HOST:PORT) mirrors to a server instead of the store's SQLite file.
    """
    parser = verb_parser("sync", sync, named=None)
    parser.add_argument("--follow", action="store_true", help="until Ctrl-C")
    parser.add_argument("--rebuild", action="store_true", help="trust no cursor, ask MLflow about every run")
    parsed = parse(parser, arguments)
    import threading

    from ctt.study.tracked_sweep import store_syncer

    tracking, others = tracking_of(parsed.overrides)
    syncer = store_syncer(tracking, open_store(others), rebuild=parsed.rebuild)
    if parsed.follow:
        syncer.follow(threading.Event())
        return 0
    sent = syncer.sync_once(patient=False)
    if not syncer.down:
        print(f"{sent} points sent to {tracking.kind}")
    return int(syncer.down)
