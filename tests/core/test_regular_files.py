"""What is no regular file is refused before it is read, wherever a file is named."""

import json
import os
from pathlib import Path

import pytest

from ctt.core.atomic_files import read_json
from ctt.core.errors import DataError
from ctt.core.regular_files import check_regular, read_regular
from ctt.data.clevrer.annotations import Annotations
from ctt.data.clevrer.checksums import checksums
from ctt.data.clevrer.imported_slots import ImportedSlots, sha256_of
from ctt.data.clevrer.question_file import check_file, scenes_of
from ctt.data.questions.question_table import read_scenes
from ctt.safeload import pickle_reader
from ctt.training.published_checkpoint import read as read_checkpoint

READERS = {
    "read_regular": lambda path: read_regular(path, 100),
    "read_scenes": read_scenes,
    "check_file": check_file,
    "scenes_of": lambda path: list(scenes_of(path)),
    "pickle": pickle_reader.read,
    "checkpoint": read_checkpoint,
    "sha256_of": sha256_of,
    "checksums": lambda path: checksums([path], "x.json", lambda _: 1),
}


@pytest.fixture(params=["a named pipe", "a device", "a folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "odd"
    if request.param == "a named pipe":
        os.mkfifo(path)
    elif request.param == "a device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    return path, request.param


@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_none_is_refused_unread(reader: str, odd: tuple[Path, str]) -> None:
    path, what = odd
    with pytest.raises(DataError, match=f"odd is {what}, not a file"):
        READERS[reader](path)


def test_json_of_the_store_is_absent_where_it_is_no_file(odd: tuple[Path, str]) -> None:
    assert read_json(odd[0]) is None


def test_annotations_and_imports_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "annotation_train.zip")
    with pytest.raises(DataError, match="annotation_train.zip is a named pipe"):
        Annotations(tmp_path)
    (tmp_path / "annotation_train.zip").unlink()
    os.mkfifo(tmp_path / "annotation_00001.json")
    with pytest.raises(DataError, match="annotation_00001.json is a named pipe"):
        Annotations(tmp_path).read(1)
    (tmp_path / "import.json").symlink_to("/dev/zero")
    with pytest.raises(DataError, match="import.json is a device"):
        ImportedSlots.open(tmp_path)


def test_sizes_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(101))
    with pytest.raises(DataError, match="a has 101 B, more than the 100 B that such a file can have"):
        read_regular(tmp_path / "a", 100)
    (tmp_path / "b").write_text(json.dumps([1]))
    assert read_regular(tmp_path / "b", 100) == b"[1]" and check_regular(tmp_path / "b").st_size == 3
    with pytest.raises(DataError, match="c is missing"):
        check_regular(tmp_path / "c")
