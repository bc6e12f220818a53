"""What the verbs share: their parsers, overrides that are checked, the store they read, errors as exit codes."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ctt.core.errors import CttError, UsageError

OVERRIDES = """\
overrides are Hydra's: ctt_inv_weight=0.2  aloe.epochs=20  world_model=reference  seed=0,1,2  ctt_adj_threshold='range(0.1,0.4,0.1)'
  comma lists, range() and choice() sweep; the command line wins over the sweep file; store=PATH or CTT_STORE names the store
"""


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


def verb_parser(
    name: str, verb: Callable[..., Any], *, named: str | None, overrides: bool = True
) -> argparse.ArgumentParser:
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


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """Like parse_args, but a NAME that is left out is not taken from the overrides."""
    parsed = parser.parse_intermixed_args(list(arguments))
    name = getattr(parsed, "name", None)
    if name is not None and "=" in name:
        parsed.overrides = [name, *parsed.overrides]
        parsed.name = None
        if any(a.dest == "name" and a.nargs is None for a in parser._actions):
            parser.error("NAME is missing")
    return parsed


def with_run(arguments: Sequence[str]) -> list[str]:
    """The words with a run's name (demo/baseline seed=0, quoted or not) as one word that holds no "="; undo it by
    replace("\\0", "=")."""
    name = [w for w in arguments if not w.startswith(("-", "store=", "tracking."))]
    rest = [w for w in arguments if w not in name]
    return [" ".join(name).replace("=", "\0"), *rest] if name else rest


def checked(overrides: Sequence[str]) -> list[str]:
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


def split(overrides: Sequence[str], *allowed: str) -> dict[str, str]:
    """The few overrides a reading verb knows, as {key: text}. Raises UsageError for others."""
    out = {}
    for word in overrides:
        key, sign, value = word.partition("=")
        if not sign or key not in allowed:
            raise UsageError(f"{word}: this command takes {' '.join(f'{a}=VALUE' for a in allowed)} (command line)")
        out[key] = value
    return out


def tracking_of(overrides: Sequence[str]) -> tuple[Any, list[str]]:
    """The tracking settings that `tracking=…` and `tracking.KEY=…` mean, and the other overrides.

    An address alone means a server: tracking.uri=http://HOST:PORT.
    """
    from ctt.config import compose

    ours = [word for word in overrides if word.split("=")[0].split(".")[0] == "tracking"]
    if any(w.startswith("tracking.uri=") for w in ours) and not any(w.startswith("tracking=") for w in ours):
        ours.insert(0, "tracking=server")
    return compose(checked(ours)).tracking, [word for word in overrides if word not in ours]


def open_store(overrides: Sequence[str], *also: str) -> Any:
    from ctt.config import Config
    from ctt.store import Store

    root = Path(split(overrides, "store", *also).get("store", Config().store))
    if not root.is_dir():
        raise UsageError(f"no store at {root.resolve()}; name it with store=PATH or CTT_STORE, or run a sweep first")
    return Store.open(root)
