"""What can be completed: commands, their options, sweeps, settings and the values of those that have a list of them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Callable, Mapping, Sequence

Verbs = Mapping[str, Callable[[Sequence[str]], int]]

SECOND = {"data": ("setup", "import", "fetch", "check", "show"), "completion": ("bash", "zsh", "fish")}
"""Commands whose first argument is one of a few words."""
FILES = ("sweep", "plan")
"""Commands whose NAME is a sweep that comes with ctt, or a file."""
RECORDED = ("status", "logs", "cancel", "report", "promote", "show")
"""Commands whose NAME is a sweep of the store, or begins with one."""
READERS = {"ls": "store=", "status": "store=", "logs": "store=", "cancel": "store=", "report": "store=", "show": "store=",
           "gc": "store=", "ui": "store= tracking.uri=", "sync": "store= tracking.uri="}  # fmt: skip
"""The settings of commands that take only a few."""


@dataclasses.dataclass(frozen=True)
class CompletionWords:
    """verbs: with their first lines; options: of each verb; keys: of settings; values: of keys with a list of them."""

    verbs: Mapping[str, str]
    options: Mapping[str, Sequence[str]]
    sweeps: Sequence[str]
    keys: Sequence[str]
    values: Mapping[str, Sequence[str]]


def completion_words(verbs: Verbs) -> CompletionWords:
    """The words of this installation, its plugins included."""
    from ctt.app.list_settings import all_settings
    from ctt.config import GROUPS, OPEN, config_root
    from ctt.core.resources import LAUNCHERS
    from ctt.sweep import shipped

    values: dict[str, Sequence[str]] = {}
    for group in GROUPS[:-1]:
        values[group] = sorted(path.stem for path in (config_root() / "conf" / group).glob("*.yaml"))
    values["launch"] = LAUNCHERS.names()
    keys = []
    for one in all_settings():
        if one.key in ("spec", OPEN):  # not for people to set; of launchers that a shell does not know
            continue
        keys.append(one.key)
        if " | " in one.allowed:
            values[one.key] = one.allowed.split(" | ")
        elif "true or false" in one.type:
            values[one.key] = ("true", "false")
    about = {name: (verb.__doc__ or "").split("\n")[0] for name, verb in verbs.items()}
    options = {name: _options(verb) for name, verb in verbs.items() if name != "data"}
    options |= {f"data {name}": _options(verbs["data"], name) for name in SECOND["data"]}
    return CompletionWords(about, options, shipped(), [*GROUPS, *keys], values)


def _options(verb: Callable[[Sequence[str]], int], *first: str) -> list[str]:
    """The options that a verb's help lists, `first` being its first arguments."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        verb([*first, "--help"])
    return list(dict.fromkeys(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", out.getvalue(), re.MULTILINE)))
