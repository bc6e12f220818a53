"""Errors of libraries as one line."""

from __future__ import annotations

import difflib
import re

_LEFT_OUT = re.compile(r"\s+(full_key|object_type|reference_type)[:=]|Set the environment variable HYDRA|See https://hydra")


def one_line(error: BaseException) -> str:
    """The text of an error and of its cause, without the lines in which Hydra and OmegaConf name places in their own types."""
    parts: list[str] = []
    for each in (error, error.__cause__):
        listed = False  # Hydra lists what there is after a colon, each on an indented line
        for line in str(each or "").partition("Config search path:")[0].splitlines():
            if not line.strip() or _LEFT_OUT.match(line):
                continue
            if line.startswith("\t") and parts:
                parts[-1] += f"{',' if listed else ''} {line.strip()}"
                listed = True
            elif line.strip() not in parts:
                parts.append(line.strip())
    return _in_words("; ".join(parts))


def _in_words(text: str) -> str:
    """Hydra's message of a choice that a group does not have, as it is typed; any other message as it is."""
    found = re.fullmatch(r"(?:.*; )?(?:In '\w+': )?Could not find '(\w+)/(.+?)'; Available options in '\w+': (.+)", text)
    if found is None:
        return text
    group, name, there = found[1], found[2], found[3].split(", ")
    near = difflib.get_close_matches(name, there, 1)
    hint = f"did you mean {near[0]}? there" if near else "there"
    return f"there is no {group}={name}; {hint} are {', '.join(there)}"
