"""A file is replaced completely or not at all; a failed attempt leaves no files."""

from pathlib import Path

import pytest

from ctt.core.atomic_files import LEFTOVERS, read_json, replacing, write, write_json


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"b": 1, "a": 2})
    assert path.read_text() == '{\n "a": 2,\n "b": 1\n}\n'
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert read_json(path) == {"a": 2, "b": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_temporary_files_match_the_pattern(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as temporary:
        temporary.write_text("new")
        assert list(tmp_path.glob(LEFTOVERS)) == [temporary]
    write(tmp_path / "a", b"newer", durable=False)
    assert (tmp_path / "a").read_bytes() == b"newer" and not list(tmp_path.glob(LEFTOVERS))


def test_a_missing_and_a_truncated_file_are_none(tmp_path: Path) -> None:
    assert read_json(tmp_path / "absent.json") is None
    (tmp_path / "half.json").write_text('{"a":')
    assert read_json(tmp_path / "half.json") is None
