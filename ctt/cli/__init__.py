"""The command line: ctt's verbs, and Hydra for everything else. A verb is a function of this package and a line of VERBS."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Sequence

from ctt import __version__
from ctt.cli.data_commands import data
from ctt.cli.hydra_app import hydra
from ctt.cli.import_command import import_checkpoint
from ctt.cli.parsing import OVERRIDES, report_errors
from ctt.cli.report_command import report
from ctt.cli.store_commands import completion, gc, logs, ls, settings, show, status, sync, ui
from ctt.cli.sweep_commands import cancel, plan, promote, run, sweep
from ctt.core.exit_codes import EXIT_CODES, ExitCode
from ctt.core.terminal_console import print_anything, print_error

__all__ = ["main", "report_errors"]


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "sweep": sweep,
    "plan": plan,
    "run": run,
    "ls": ls,
    "status": status,
    "logs": logs,
    "cancel": cancel,
    "report": report,
    "show": show,
    "promote": promote,
    "data": data,
    "import-checkpoint": import_checkpoint,
    "gc": gc,
    "ui": ui,
    "sync": sync,
    "settings": settings,
    "completion": completion,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `ctt` and `python -m ctt`. Ends the process with an `ExitCode`."""
    print_anything()
    _hide_current_folder()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in VERBS:
        sys.exit(report_errors(lambda: VERBS[arguments[0]](arguments[1:])))
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_parser().format_help(), end="")
        sys.exit(0)
    if arguments[0] == "--version":
        print(f"ctt {__version__}")
        sys.exit(0)
    if not arguments[0].startswith("-") and "=" not in arguments[0]:
        import difflib

        near = difflib.get_close_matches(arguments[0], VERBS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(VERBS)}"
        print_error(f"ctt: {arguments[0]} is not a command; {hint}")
        sys.exit(ExitCode.WRONG_INPUT)
    sys.exit(report_errors(lambda: hydra(arguments)))


def _hide_current_folder() -> None:
    """Processes that this one starts import nothing from the current folder, where a user's random.py or data/ may lie; unless this
    process does so itself, as `python -m` does."""
    with contextlib.suppress(FileNotFoundError):
        if not {"", os.getcwd()} & set(sys.path):
            os.environ.setdefault("PYTHONSAFEPATH", "1")


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {(verb.__doc__ or '').split(chr(10))[0]}\n" for name, verb in VERBS.items()]
    codes = "".join(f"  {code:3}  {meaning}\n" for code, meaning in EXIT_CODES.items())
    return argparse.ArgumentParser(
        prog="ctt",
        description="Sweeps of CTT-JEPA on CLEVRER, compiled so that shared work runs once.",
        epilog=f"""commands:
{"".join(lines)}
`ctt COMMAND --help` describes a command. Without a command the arguments go to Hydra:
  ctt -m ctt_inv_weight=0,0.2 seed=0,1

{OVERRIDES}
exit codes:
{codes}""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="ctt COMMAND [NAME] [OVERRIDES]",
    )
