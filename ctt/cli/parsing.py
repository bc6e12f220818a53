"""What the verbs share: their parsers, checked overrides, the store they read, errors as exit codes."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ctt.cli.examples import examples_of
from ctt.core import disk_space
from ctt.core.errors import CttError, UsageError
from ctt.core.exit_codes import ExitCode
from ctt.core.terminal_console import print_error

if TYPE_CHECKING:
    from ctt.store import Store
    from ctt.tracking.tracking_settings import TrackingSettings

STORE = """\
settings:
  store=PATH                      the folder of the store (environment: CTT_STORE)
"""
TRACKING = f"""{STORE}\
  tracking.uri=http://HOST:PORT   a server (implies tracking=server) instead of the store's SQLite file
"""
OVERRIDES = """\
overrides are Hydra's, KEY=VALUE, and win over the sweep file:
  ctt_inv_weight=0.2                     a value
  world_model=reference                  a group of settings
  seed=0,1,2                             several values are swept; so are range() and choice()
  ctt_adj_threshold='range(0.1,0.4,0.1)'
  store=PATH                             the store (environment: CTT_STORE)
"""


def report_errors(action: Callable[[], int | None]) -> int:
    """Runs `action`; an error of ctt becomes one line on stderr and an exit code."""
    try:
        code = action() or 0
        sys.stdout.flush()  # raises here, not after the exit code is set, if the disk is full or the pipe closed
        return code
    except UsageError as error:
        print_error(f"ctt: {error}")
        return ExitCode.WRONG_INPUT
    except CttError as error:
        print_error(f"ctt: {error}")
        return ExitCode.FAILED
    except KeyboardInterrupt:
        print_error("\nctt: interrupted; finished stages are kept, the same command continues")
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the rest of the buffer has no reader
        return 0
    except OSError as error:
        full = disk_space.is_full(error)
        what: object = f"{error.filename}: {error.strerror}; check that path" if error.filename and error.strerror else error
        if _folder_is_gone():
            what = "the current folder has been removed; change to another one"
        if full:
            what = disk_space.full(error, Path(error.filename)) if error.filename else f"standard output: {error.strerror or error}"
        print_error(f"ctt: {what}")
        if full:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _folder_is_gone() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


class VerbParser(argparse.ArgumentParser):
    """The parser of a command, whose errors are ctt's: one line, UsageError."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("the following arguments are required: NAME"):
            message = "NAME is missing"
        raise UsageError(f"{message} (`{self.prog} --help` describes the command)")


def verb_parser(
    name: str, verb: Callable[..., int], *, named: str | None, optional: bool = False, settings: str = OVERRIDES
) -> argparse.ArgumentParser:
    """The parser of one verb: a NAME if `named` describes it, then overrides if `settings` describes these."""
    parser = VerbParser(
        prog=f"ctt {name}",
        description=inspect.getdoc(verb),
        epilog="\n".join(filter(None, (examples_of(name), settings))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if named is not None:
        parser.add_argument("name", nargs="?" if optional else None, metavar="NAME", help=named)
    if settings:
        parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings, see below")
    return parser


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Parses a verb's arguments; NAME is the first that is no KEY=VALUE (an existing file is none)."""
    parsed = parser.parse_intermixed_args(list(arguments))
    for action in parser._actions:  # an option whose value may be left out takes no setting for it
        if action.option_strings and action.nargs == "?" and "=" in str(getattr(parsed, action.dest)):
            parsed.overrides = [getattr(parsed, action.dest), *parsed.overrides]
            setattr(parsed, action.dest, action.const)
    _no_options(parser, getattr(parsed, "overrides", ()))
    if getattr(parsed, "name", None) is not None:
        positional = [parsed.name, *getattr(parsed, "overrides", ())]
        parsed.name = next((a for a in positional if "=" not in a or Path(a).is_file()), None)
        if parsed.name is None and any(a.dest == "name" and a.nargs is None for a in parser._actions):
            parser.error("NAME is missing")
        if parsed.name is not None:
            positional.remove(parsed.name)
        parsed.overrides = positional
    return parsed


def _no_options(parser: argparse.ArgumentParser, overrides: Iterable[str]) -> None:
    """Raises UsageError if one of the overrides is an option, as in port=5001."""
    options = {name: action.nargs != 0 for action in parser._actions for name in action.option_strings}
    for override in overrides:
        key, sign, value = override.partition("=")
        option = f"--{key.replace('_', '-')}"
        if sign and option in options:
            written = f"{option} {value}" if options[option] else option
            raise UsageError(f"{override}: {option} is an option of the command, not a setting; write {written}")


def parse_run(parser: argparse.ArgumentParser, arguments: Sequence[str], *settings: str) -> argparse.Namespace:
    """Parses the arguments of a verb whose NAME is a run, a shared prefix or a key; `settings` are its overrides' keys.

    The name of a run need not be quoted: `demo/ctt_inv_weight=0.2 seed=0` and "demo/ctt_inv_weight=0.2 seed=0" are the same.
    """
    parsed = parser.parse_intermixed_args(list(arguments))
    _no_options(parser, [parsed.name, *parsed.overrides])
    parsed.name, parsed.overrides = split_run([parsed.name, *parsed.overrides], settings)
    if not parsed.name:
        parser.error("NAME is missing")
    return parsed


def split_run(positional: Sequence[str], settings: Collection[str]) -> tuple[str, list[str]]:
    """The name of a run, shared prefix or key among positional arguments, and the overrides.

    Names consist of settings themselves and end with seed=N (or, as in MLflow, begin with it); a key is a single argument. So an
    argument is an override if its key is one of `settings`, or if it follows a complete name.
    """
    parts: list[str] = []
    overrides = []
    complete = False
    for argument in positional:
        if complete or argument.startswith(tuple(f"{key}=" for key in settings)):
            overrides.append(argument)
            continue
        is_key = not parts and re.fullmatch("[0-9a-f]{4,64}", argument) is not None
        complete = is_key or (argument.split(" ")[-1].startswith("seed=") and bool(parts or " " in argument))
        parts.append(argument)
    return " ".join(parts), overrides


_ADDRESS = re.compile(r"([+\w./@-]+)=([A-Za-z][A-Za-z0-9+.-]*://.*)", re.DOTALL)


def at_home(overrides: Sequence[str]) -> list[str]:
    """The overrides with a `~` at the beginning of store=PATH replaced, which a shell may have left and Hydra cannot read."""
    from ctt.sweep import quoted

    return [
        f"store={quoted(os.path.expanduser(one.removeprefix('store=')))}" if one.startswith("store=~") else one for one in overrides
    ]


def quoted_address(override: str) -> str:
    """An override whose value is an address, in quotation marks, so that {split}, ?, & and commas in it are not Hydra's grammar."""
    if match := _ADDRESS.fullmatch(override):
        escaped = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", match[2])
        return f"{match[1]}='{escaped}'"
    return override


def _swept(value: str) -> bool:
    """Whether an override's value is several: separated by commas outside of brackets, or a range."""
    return "," in re.sub(r"[\[{(].*[\]})]", "", value) or value.startswith(("range(", "choice("))


def checked(overrides: Sequence[str]) -> list[str]:
    """The overrides, addresses quoted. Of a key's single values the last one counts, as in Hydra. Raises UsageError, before Hydra
    starts, if one is no KEY=VALUE, its key is unknown, or another one of the key would take points or seeds away."""
    from ctt.setting_names import check_key
    from ctt.sweep.overrides import check_length

    check_length(overrides)
    values: dict[str, str] = {}
    for override in overrides:
        if override.startswith("-"):
            continue
        if "=" not in override and not override.startswith("~"):
            raise UsageError(f"{override} is neither an option of the command nor KEY=VALUE (command line)")
        key, _, value = override.lstrip("+~").partition("=")
        key = key.split("@")[0]
        before = values.get(key, value)
        if before != value and (key == "seed" or _swept(before) or _swept(value)):
            raise UsageError(f"{key} stands twice, with {before} and with {value}; give it once (command line)")
        values[key] = value
        if key != "hydra" and not key.startswith(("hydra.", "hydra/")):
            check_key(key)
    return [quoted_address(override) for override in at_home(overrides)]


def tracking_of(overrides: Sequence[str]) -> tuple[TrackingSettings, list[str]]:
    """The tracking settings of `tracking=…` and `tracking.KEY=…`, and the other overrides.

    An address alone (tracking.uri=http://HOST:PORT) implies tracking=server.
    """
    from ctt.config import compose

    ours = [override for override in overrides if re.match(r"tracking[.=]", override)]
    if any(o.startswith("tracking.uri=") for o in ours) and not any(o.startswith("tracking=") for o in ours):
        ours.insert(0, "tracking=server")
    return compose(checked(ours)).tracking, [override for override in overrides if override not in ours]


def open_store(overrides: Sequence[str]) -> Store:
    """The store of store=PATH or of the default. Raises UsageError if it does not exist, or for other overrides."""
    from ctt.config import Config
    from ctt.store import Store

    root = Config().store
    for override in overrides:
        key, sign, value = override.partition("=")
        if not sign or key != "store":
            raise UsageError(f"{override}: this command takes store=VALUE (command line)")
        root = value
    if not root.strip():
        raise UsageError("store must be the path of a folder, got an empty text (command line)")
    store = Store.open(root)
    if not store.root.is_dir():
        raise UsageError(f"no store at {store.root}; name it with store=PATH or CTT_STORE, or run a sweep first")
    return store
