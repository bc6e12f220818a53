"""Writes the pages of docs/reference that come from the code: cli.md, settings.md, python.md.

python docs/make_reference.py            write them
python docs/make_reference.py --check    exit code 1, with their names, if the files are not what the code gives
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any
from unittest.mock import patch

import ctt
from ctt.app.list_settings import SettingInfo, _text, all_settings
from ctt.cli import VERBS, main

FOLDER = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Made by `make reference` from the code; do not edit. -->\n"
DATA_VERBS = ("import", "fetch", "check", "show")
HYDRAS_HELP = ("run",)  # verbs whose --help prints Hydra's text
WIDTH = "100"
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def help_of(*words: str) -> str:
    """What `ctt WORDS --help` prints, `WIDTH` columns wide."""
    out = io.StringIO()
    environment = {"COLUMNS": WIDTH, "NO_COLOR": "1"}
    with patch.dict(os.environ, environment), contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip()


def cli() -> str:
    """The page on the command line: the help of every command."""
    page = [NOTE, "# Command line\n", f"```text\n{help_of()}\n```\n"]
    for verb, function in VERBS.items():
        if verb in HYDRAS_HELP:
            text = f"{inspect.getdoc(function)}"
        else:
            text = help_of(verb)
        page.append(f"## ctt {verb}\n\n```text\n{text}\n```\n")
        if verb == "data":
            page += [f"### ctt data {name}\n\n```text\n{help_of('data', name)}\n```\n" for name in DATA_VERBS]
    page.append("What exit codes mean: [exit codes](exit-codes.md).\n")
    return "\n".join(page)


def settings() -> str:
    """The page on settings: a table for each group, in the order of the Config."""
    page = [NOTE, "# Settings\n"]
    page.append(
        "`ctt settings KEY` prints one of these in full; `ctt settings --json` all of them for a program. A setting is given as\n"
        "`KEY=VALUE` on the command line or as `KEY: VALUE` in a [sweep file](../how-to/write-a-sweep.md). The defaults here are those\n"
        "of a group without a recipe; a recipe (`world_model=paper`) sets several at once, and `ctt run --cfg job` shows what a run\n"
        "gets. The last column names what of a run is built anew when the setting changes.\n"
    )
    for group, found in groupby(all_settings(), key=_group):
        page.append(f"## {group}\n" if group else "## Flags of the method, and of a run\n")
        page.append("| setting | values | default | meaning | a change builds anew |\n|---|---|---|---|---|")
        page += [_row(one) for one in found]
        page.append("")
    return "\n".join(page)


def _group(info: SettingInfo) -> str:
    return info.key.partition(".")[0] if "." in info.key else ""


def _row(info: SettingInfo) -> str:
    values = f"{info.type}: {info.allowed}" if info.allowed else info.type
    meaning = info.help + "".join(f"; no effect where {reason}" for reason in info.inactive)
    rebuilds = "nothing" if info.rebuilds.startswith("nothing") else info.rebuilds
    cells = (f"`{info.key}`", values, f"`{_text(info.default)}`", meaning, rebuilds)
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").replace("<", "&lt;").split()) for cell in cells) + " |"


def python() -> str:
    """The page on the library: what `ctt.__all__` names, with signatures and docstrings."""
    names = [name for name in getattr(ctt, "__all__", ()) if not name.startswith("__")]
    page = [NOTE, "# Python\n"]
    page.append("`import ctt` is a library: what follows is what it exports. It is typed (`py.typed`); other modules may change.\n")
    for name in names:
        page += _described(f"ctt.{name}", getattr(ctt, name), "##")
    page.append("## Errors\n")
    page.append(f"```text\n{inspect.getdoc(sys.modules['ctt.core.errors'])}\n```\n")
    return "\n".join(page)


def _described(name: str, thing: Any, heading: str) -> Iterator[str]:
    """Heading, signature and docstring of an exported thing; of a class also its public methods and properties."""
    yield f"{heading} {name}\n"
    if callable(thing):
        yield f"```python\n{_signature(name, thing)}\n```\n"
    text = inspect.getdoc(thing) if callable(thing) or inspect.ismodule(thing) else None
    yield f"{text}\n" if text else (f"`{thing!r}`\n" if not callable(thing) else "")
    if inspect.isclass(thing):
        for own, member in vars(thing).items():
            if own.startswith("_"):
                continue
            function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
            if inspect.isfunction(function):
                yield f"`{_signature(f'{name}.{own}', getattr(thing, own))}`: {_sentence(function)}\n"
            elif getattr(member, "func", getattr(member, "fget", None)) is not None:
                yield f"`{name}.{own}`: {_sentence(member)}\n"


def _signature(name: str, thing: Callable[..., Any]) -> str:
    try:
        text = str(inspect.signature(thing))
    except (TypeError, ValueError):
        text = "(…)"
    return name + ADDRESS.sub("", text).replace("'", "")


def _sentence(thing: Any) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli, "settings.md": settings, "python.md": python}


def stale() -> list[str]:
    """Names of the pages whose files are not what the code gives."""
    return [name for name, page in PAGES.items() if not (FOLDER / name).is_file() or (FOLDER / name).read_text() != page()]


def run(arguments: list[str]) -> int:
    """Writes or checks; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a page is stale")
    if parser.parse_args(arguments).check:
        if found := stale():
            print(f"stale: {', '.join(found)}; run `make reference`", file=sys.stderr)
        return 1 if found else 0
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
