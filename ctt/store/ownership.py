"""Ownership: jobs run code that a store holds, so that a store of somebody else is used for work only where that is allowed."""

from __future__ import annotations

import os
from pathlib import Path

from ctt.core.errors import UsageError

TRUST = "CTT_TRUST_STORE"
"""The variable of the environment that allows stores of others."""


def check_owner(root: Path) -> None:
    """Raises UsageError if the store at `root` belongs to another user, whose code jobs would run, and CTT_TRUST_STORE is not 1."""
    if not root.exists() or not hasattr(os, "geteuid") or os.environ.get(TRUST) == "1":
        return
    owner = root.stat().st_uid
    if owner != os.geteuid():
        raise UsageError(
            f"the store {root} belongs to {_name(owner)}: everyone who may write to it can run code as you (see SECURITY.md). "
            f"Choose a store of your own, or set {TRUST}=1 if you trust everybody who may write to it"
        )


def _name(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
