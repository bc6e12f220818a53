"""Who may work in a store: jobs run its code. And who may share one: files have the modes of the umask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctt.app.run import run_single
from ctt.app.sweep import run_compiled
from ctt.config import compose
from ctt.core.build_context import BuildContext
from ctt.core.errors import UsageError
from ctt.core.terminal_console import terminal
from ctt.execution.jobs import event_log
from ctt.execution.launchers import of_plan
from ctt.store import Store
from ctt.store.ownership import check_owner
from ctt.sweep import compile_sweep
from tests.tiny import TINY

KEY = "cd" * 32


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of somebody else."""
    root = tmp_path / "s"
    root.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: root.stat().st_uid + 1)
    monkeypatch.delenv("CTT_TRUST_STORE", raising=False)
    return root


def test_a_store_of_another_user_is_refused_before_any_work(foreign: Path) -> None:
    with pytest.raises(UsageError, match=r"belongs to \S+.*CTT_TRUST_STORE=1"):
        run_single(compose([*TINY, f"store={foreign}"]))
    sweep = compile_sweep("demo", [*TINY, f"store={foreign}"])
    with pytest.raises(UsageError, match="belongs to"):
        run_compiled(sweep.baseline.config, sweep, of_plan, terminal())
    assert list(foreign.iterdir()) == []


def test_it_is_used_where_the_user_says_so(foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_owner(tmp_path / "not yet there")
    monkeypatch.setenv("CTT_TRUST_STORE", "1")
    check_owner(foreign)


def test_a_group_can_share_a_store(tmp_path: Path) -> None:
    """With a umask of 002 all files and folders can be written by the group: leases, events, work and artifacts."""
    before = os.umask(0o002)
    try:
        store = Store(tmp_path / "s")
        with store.lease(KEY) as lease:
            context = BuildContext(store.work_folder(KEY))
            context.log(1, loss=1.0)
            context.progress(1, 1, "step")
            event_log.append(store.sweeps_folder("a"), 0, "run", KEY, "started")
            claims = list((store.root / "leases").rglob("*"))
            closed = [path for path in (*store.root.rglob("*"), *claims) if not os.stat(path).st_mode & 0o020]
            assert closed == []
            store.publish(KEY, context.folder, lease, {"kind": "test"})
        closed = [path for path in store.root.rglob("*") if not os.stat(path).st_mode & 0o020]
    finally:
        os.umask(before)
    assert closed == []
