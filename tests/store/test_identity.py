"""A store has one identity by whatever path it is reached, and a copy of it has another."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ctt.store import Store
from ctt.store import identity as module
from ctt.store.identity import identity, of_path


def test_links_and_dots_lead_to_one_identity(tmp_path: Path) -> None:
    store = tmp_path / "store"
    mine = identity(store)
    (tmp_path / "link").symlink_to(store)
    assert identity(tmp_path / "link") == identity(tmp_path / "x" / ".." / "store") == Store.open(store).identity == mine
    assert len(mine) == 8 and int(mine, 16) >= 0


def test_a_moved_store_keeps_it_and_a_copy_has_its_own(tmp_path: Path) -> None:
    mine = identity(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    (tmp_path / "store").rename(tmp_path / "moved")
    assert identity(tmp_path / "moved") == mine != identity(tmp_path / "copy")


def test_jobs_of_a_store_of_before_keep_their_name(tmp_path: Path) -> None:
    (tmp_path / "store" / "sweeps").mkdir(parents=True)
    assert identity(tmp_path / "store") == of_path(tmp_path / "store") == identity(tmp_path / "store")
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    assert identity(tmp_path / "copy") not in (of_path(tmp_path / "store"), of_path(tmp_path / "copy"))


def test_processes_that_come_first_together_agree(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: identity(tmp_path / "store"), range(64)))) == 1
    assert [path.name for path in (tmp_path / "store").iterdir()] == [module.FILE]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": 1'])
def test_a_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / module.FILE).write_text(content)
    assert identity(tmp_path) == identity(tmp_path)


def test_a_store_that_cannot_be_written_is_known_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(module, "write_json", refused)
    (tmp_path / "link").symlink_to(tmp_path)
    assert identity(tmp_path) == identity(tmp_path / "link") == of_path(Path(os.path.realpath(tmp_path)))
