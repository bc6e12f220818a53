"""Checksums of files, cached across processes by path, size and time in the user's cache folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ctt.core.atomic_files import write_json
from ctt.core.errors import DataError
from ctt.core.regular_files import check_regular

Checksum = str | int


def checksums(paths: Iterable[Path], cache: str, of: Callable[[Path], Checksum]) -> dict[Path, Checksum]:
    """Checksum `of(path)` of each file; reads only new or changed files. `cache` is the name of the cache file.

    Raises DataError if a file cannot be read. A cache that cannot be read or written only costs time.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ctt" / cache
    known: Any = {}
    with suppress(OSError, ValueError):
        known = json.loads(place.read_text(encoding="utf-8"))
    known = known if isinstance(known, dict) else {}
    found: dict[Path, Checksum] = {}
    new: dict[str, list[Checksum]] = {}
    for path in paths:
        try:
            stat = check_regular(path)
            name, state = os.path.realpath(path), [stat.st_size, stat.st_mtime_ns]
            entry = known.get(name)
            if not (isinstance(entry, list) and len(entry) == 3 and entry[:2] == state):
                entry = new[name] = [*state, of(path)]
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
        found[path] = entry[2]
    if new:
        with suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            write_json(place, {**known, **new})
    return found
