"""Identity: a name of a store that is the same by whatever path it is reached, and another one in a copy of it."""

from __future__ import annotations

import errno
import hashlib
import json
import uuid
from pathlib import Path

from ctt.core.atomic_files import write_json

FILE = "id.json"


def identity(root: Path) -> str:
    """8 hex digits, kept in the store's id.json with the number of its folder (st_ino), by which a copy is known and gets a
    name of its own. The folder is made if need be; where nothing can be written the digits are of its path."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _kept(root)
    except PermissionError:
        return of_path(root.resolve())
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
        return of_path(root.resolve())


def of_path(root: Path) -> str:
    """The digits of a store's path: up to ctt 0.1 they named the jobs of its sweeps, which may still be in a queue."""
    return hashlib.sha256(str(root).encode()).hexdigest()[:8]


def _kept(root: Path) -> str:
    folder, path, first = root.stat().st_ino, root / FILE, of_path(root) if (root / "sweeps").is_dir() else None
    for attempt in range(3):
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            if kept["folder"] == folder:
                return str(kept["id"])
            first = None
            path.unlink(missing_ok=True)  # of the store that this one is a copy of
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
        mine = root / f".{FILE}.{uuid.uuid4().hex}"
        write_json(mine, {"id": first or uuid.uuid4().hex[:8], "folder": folder})
        try:
            path.hardlink_to(mine)  # the first of several processes wins
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if attempt == 2:
                mine.replace(path)
        finally:
            mine.unlink(missing_ok=True)
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])
