"""The commit and the uncommitted changes of the code that runs, as manifests and records hold them.

A snapshot (ctt.execution.jobs.snapshot) has an origin.json: it records the version of the checkout that was copied.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
from pathlib import Path

from ctt.core import atomic_files
from ctt.store import Store

CODE_VERSION_FILE = "origin.json"
ROOT = Path(__file__).resolve().parents[2]


def code_version(store: Store) -> dict[str, str | None]:
    """{"git": the commit, "diff": the file in the store's diffs/ with the changes since}, each None if there is none.
    Read once per process. Raises StoreError if the file cannot be written."""
    if recorded := _recorded():
        return dict(recorded)
    if (diff := _diff()) is None:
        return {"git": git_commit(), "diff": None}
    name = f"{hashlib.sha256(diff.encode()).hexdigest()[:16]}.patch"
    path = store.root / "diffs" / name
    if not path.exists():
        with atomic_files.explained("keep the changes of the code", path):
            atomic_files.make_folder(path.parent)
            atomic_files.write(path, (diff + "\n").encode())
    return {"git": git_commit(), "diff": name}


@functools.cache
def git_commit() -> str | None:
    """Commit of the code, followed by + if its checkout has changes; None outside a checkout."""
    if recorded := _recorded():
        return recorded["git"]
    commit = _git("rev-parse", "HEAD")
    return commit and commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


@functools.cache
def _recorded() -> dict[str, str | None]:
    try:
        recorded: dict[str, str | None] = json.loads((ROOT / CODE_VERSION_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return recorded


@functools.cache
def _diff() -> str | None:
    return _git("diff", "HEAD") or None


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout that the code runs from; None outside a checkout or without git."""
    if not (ROOT / ".git").exists():
        return None
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        command = ["git", "-C", str(ROOT), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, env=environment, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
