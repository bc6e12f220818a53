"""Verbs that list, read or tidy: ls, settings, status, show, logs, gc, ui, sync, completion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctt.cli.parsing import STORE, TRACKING, open_store, parse, parse_run, tracking_of, verb_parser
from ctt.core.errors import UsageError


def ls(arguments: Sequence[str]) -> int:
    """List the sweeps that come with ctt, those of this folder, and what the store holds of each."""
    parser = verb_parser("ls", ls, named=None, settings=STORE)
    parser.add_argument("--json", action="store_true", help="one JSON list")
    parsed = parse(parser, arguments)
    from ctt.app.ls import list_sweeps
    from ctt.config import Config
    from ctt.core.terminal_console import terminal
    from ctt.store import Store

    store = open_store(parsed.overrides) if parsed.overrides or Store.open(Config().store).root.is_dir() else None
    return list_sweeps(store, Path.cwd(), parsed.json, terminal())


def settings(arguments: Sequence[str]) -> int:
    """Explain the settings: type, bounds, default, meaning, and what a change builds anew.

    NAME is a key (ctt_adj_threshold), a group (world_model.graph) or a part of a key (threshold); without it, all.
    """
    parser = verb_parser("settings", settings, named="a setting, a group, or a part of a name", optional=True, settings="")
    parser.add_argument("--json", action="store_true", help="one JSON list")
    parsed = parser.parse_args(list(arguments))
    from ctt.app.list_settings import show_settings
    from ctt.core.terminal_console import terminal

    return show_settings(parsed.name, parsed.json, terminal())


def status(arguments: Sequence[str]) -> int:
    """Show how far a sweep and its jobs are; without NAME a line for every sweep.

    The lines of a large sweep are bounded, and jobs that failed alike are counted; --failed, --running and --all
    list all of them.
    """
    parser = verb_parser("status", status, named="a recorded sweep", optional=True, settings=STORE)
    parser.add_argument("--json", action="store_true", help="one JSON object, with all runs and jobs")
    only = parser.add_mutually_exclusive_group()
    for name, help in (("failed", "all failed runs and jobs"), ("running", "all running ones"), ("all", "all runs and jobs")):
        only.add_argument(f"--{name}", dest="only", action="store_const", const=name, help=f"{help}, by a pager on a terminal")
    parsed = parse(parser, arguments)
    from ctt.app.status import print_status

    return print_status(open_store(parsed.overrides), parsed.name, parsed.json, parsed.only)


def show(arguments: Sequence[str]) -> int:
    """Print the settings, inputs, provenance and numbers of an artifact.

    NAME is a key, its first letters, or a run such as demo/baseline seed=0 (quoted or not).
    """
    parser = verb_parser("show", show, named="a key or a run", settings=STORE)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parsed = parse_run(parser, arguments, "store")
    from ctt.app.show import show_artifact
    from ctt.core.terminal_console import terminal

    return show_artifact(open_store(parsed.overrides), parsed.name, parsed.json, terminal())


def logs(arguments: Sequence[str]) -> int:
    """Print the log of a run's job, or those of all jobs of a sweep; -f follows them until they end.

    NAME is a sweep, a run such as demo/baseline seed=0 (quoted or not), a shared prefix such as
    demo/shared prefix 10 epochs seed=0, or the first letters of a key.
    """
    parser = verb_parser("logs", logs, named="a sweep, a run, a shared prefix or a key", settings=STORE)
    parser.add_argument("-f", "--follow", action="store_true", help="until the jobs end, including their retries")
    parsed = parse_run(parser, arguments, "store")
    from ctt.app.logs import print_log, print_logs
    from ctt.study import record

    store = open_store(parsed.overrides)
    if parsed.name in record.names(store):
        return print_logs(store, parsed.name, follow=parsed.follow)
    return print_log(store, parsed.name, follow=parsed.follow)


def gc(arguments: Sequence[str]) -> int:
    """Remove artifacts that no recorded sweep reaches; shows their sizes and asks first."""
    parser = verb_parser("gc", gc, named=None, settings=STORE)
    parser.add_argument(
        "--rollouts", action="store_true", help="also rollouts and imagined videos of finished runs (rebuilt in minutes)"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parsed = parse(parser, arguments)
    from ctt.app.gc import collect
    from ctt.core.terminal_console import terminal

    return collect(open_store(parsed.overrides), rollouts=parsed.rollouts, yes=parsed.yes, console=terminal())


def ui(arguments: Sequence[str]) -> int:
    """Serve MLflow's web interface on the store's runs, kept up to date."""
    parser = verb_parser("ui", ui, named=None, settings=TRACKING)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=5000, help="port (default: 5000; 0: a free one)")
    parsed = parse(parser, arguments)
    from ctt.app.ui import serve_ui

    tracking, others = tracking_of(parsed.overrides)
    return serve_ui(open_store(others), tracking, parsed.host, parsed.port)


def sync(arguments: Sequence[str]) -> int:
    """Bring MLflow up to date with the store."""
    parser = verb_parser("sync", sync, named=None, settings=TRACKING)
    parser.add_argument("--follow", action="store_true", help="until Ctrl-C")
    parser.add_argument("--rebuild", action="store_true", help="ignore what was recorded as sent; ask MLflow about every run")
    parsed = parse(parser, arguments)
    from ctt.app.sync import sync_store

    tracking, others = tracking_of(parsed.overrides)
    return sync_store(open_store(others), tracking, follow=parsed.follow, rebuild=parsed.rebuild)


def completion(arguments: Sequence[str]) -> int:
    """Print a script that completes commands, sweeps, settings and values: ctt completion bash|zsh|fish"""
    from ctt.cli.completion_words import SECOND

    shells = SECOND["completion"]
    parser = verb_parser("completion", completion, named=", ".join(shells), settings="")
    parsed = parser.parse_args(list(arguments))
    if parsed.name not in shells:
        raise UsageError(f"no completion for {parsed.name}; choose one of {', '.join(shells)}")
    from ctt.cli import VERBS
    from ctt.cli.completion import script
    from ctt.cli.completion_words import completion_words

    print(script(parsed.name, completion_words(VERBS)), end="")
    return 0
