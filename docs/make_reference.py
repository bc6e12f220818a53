"""Writes the pages of docs/reference that come from the code: cli.md, settings.md, python.md, exit-codes.md.

python docs/make_reference.py            write them
python docs/make_reference.py --check    exit code 1, with their names, if the files are not what the code gives
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import ctt
from ctt.app.list_settings import SettingInfo, _text, all_settings
from ctt.cli import VERBS, main
from ctt.cli.completion_words import SECOND
from ctt.config import Config
from ctt.core.exit_codes import EXIT_CODES
from ctt.core.registry import Registry

FOLDER = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Made by `make reference` from the code; do not edit. -->\n"
HYDRAS_HELP = ("run",)  # verbs whose --help prints Hydra's text
WIDTH = "100"
SETTINGS = """\
`ctt settings KEY` prints one of these in full; `ctt settings --json` prints all of them for a program. A setting is given as
`KEY=VALUE` on the command line or as `KEY: VALUE` in a [sweep file](../how-to/write-a-sweep.md). The defaults here are those of
a group without a recipe; a recipe (`world_model=paper`) sets several at once, and `ctt run --cfg job` shows what a run gets. The
last column names what of a run is built anew when the setting changes.
"""
EXIT_NOTES = """\
- An error is one line on the error stream that begins with `ctt:` and names the file, key or value and the remedy.
- With 1, what failed and the command that continues are printed; see [recover](../how-to/recover.md).
- `ctt status NAME` ends with 1 if a run has failed, so that a script can watch a sweep.
- `ctt gc` without `--yes` and without a terminal removes nothing and ends with 1.
- `ctt data fetch` ends with 1 if a question file has other counts than the official one.
- A job's process ends with 0 if its target is in the store; for SLURM a failed job is FAILED.
"""
FIRST = ("compile_sweep", "plan", "run", "Study", "Store", "StoredPlan", "Budget", "Sweep", "Point", "Run")


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
        text = str(inspect.getdoc(function)) if verb in HYDRAS_HELP else help_of(verb)
        page.append(f"## ctt {verb}\n\n```text\n{text}\n```\n")
        if verb == "data":
            page += [f"### ctt data {name}\n\n```text\n{help_of('data', name)}\n```\n" for name in SECOND["data"]]
    page.append("What exit codes mean: [exit codes](exit-codes.md).\n")
    return "\n".join(page)


def exit_codes() -> str:
    """The page on exit codes: the table of help, and what single commands add to it."""
    rows = "\n".join(f"| {code:d} | {meaning} |" for code, meaning in EXIT_CODES.items())
    return f"{NOTE}\n# Exit codes\n\n| code | meaning |\n|---:|---|\n{rows}\n\n{EXIT_NOTES}"


def settings() -> str:
    """The page on settings: a table for each group, in the order of the Config."""
    page = [NOTE, "# Settings\n"]
    page.append(SETTINGS)
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
    names = sorted(ctt.__all__, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), ctt.__all__.index(name)))
    page = [NOTE, "# Python\n"]
    page.append("`import ctt` is a library: what follows is what it exports. It is typed (`py.typed`); other modules may change.\n")
    for name in names:
        page += _described(f"ctt.{name}", getattr(ctt, name))
    page.append(f"## Errors\n\n```text\n{inspect.getdoc(sys.modules['ctt.core.errors'])}\n```\n")
    return "\n".join(page)


def _described(name: str, thing: Any) -> Iterator[str]:
    """Heading, signature and docstring of an exported thing; of a class also its public methods and properties."""
    yield f"## {name}\n"
    if isinstance(thing, Registry):
        yield f"The registry of each {thing.what}; others add to it by entry points of the group `{thing.group}`.\n"
        return
    if thing is Config:
        yield f"{_text_of(thing)}\n\nIts fields are the [settings](settings.md).\n"
        return
    if not (inspect.isclass(thing) and issubclass(thing, (Exception, Protocol))):
        yield f"```python\n{_signature(name, thing)}\n```\n"
    yield f"{_text_of(thing)}\n"
    for own, member in vars(thing).items() if inspect.isclass(thing) else ():
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if own.startswith("_"):
            continue
        if inspect.isfunction(function):
            yield f"`{_signature(f'.{own}', function, True, not isinstance(member, staticmethod))}`: {_sentence(function)}\n"
        elif getattr(member, "func", getattr(member, "fget", None)) is not None:
            yield f"`.{own}`: {_sentence(member)}\n"


def _signature(name: str, thing: Callable[..., Any], method: bool = False, bound: bool = False) -> str:
    """NAME(PARAMETERS) -> RESULT, wrapped where it is long and no method's; `bound`: without self."""
    found = inspect.signature(thing)
    parameters = list(found.parameters.values())[bound:]
    text = name + str(found.replace(parameters=parameters)).replace("'", "")
    if method or len(text) <= 100:
        return text.removesuffix(" -> None") if inspect.isclass(thing) else text
    texts = [str(one).replace("'", "") for one in parameters]
    kinds = [one.kind for one in parameters]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        texts.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    result = "" if inspect.isclass(thing) else f" -> {inspect.formatannotation(found.return_annotation)}".replace("'", "")
    return f"{name}(\n    " + ",\n    ".join(texts) + f",\n){result}"


def _text_of(thing: Any) -> str:
    """A docstring, its examples as code."""
    lines = (inspect.getdoc(thing) or "").splitlines()
    out: list[str] = []
    for line, before in zip(lines, ["", *lines], strict=False):
        example, earlier = line.startswith((">>>", "...")), before.startswith((">>>", "..."))
        out += ["```python"] if example and not earlier else ["```"] if earlier and not example else []
        out.append(line)
    return "\n".join([*out, "```"] if lines and lines[-1].startswith((">>>", "...")) else out)


def _sentence(thing: Any) -> str:
    """A docstring as one paragraph."""
    return " ".join((inspect.getdoc(thing) or "").split())


PAGES: dict[str, Callable[[], str]] = {"cli.md": cli, "settings.md": settings, "python.md": python, "exit-codes.md": exit_codes}


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
