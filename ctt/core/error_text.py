"""Errors of libraries as one line."""

from __future__ import annotations

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
    return "; ".join(parts)
