"""Slots in the forms that people have give one and the same import; what is no file of slots is named by what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import shutil
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import zstandard
from safetensors.torch import save_file

from ctt.core.errors import DataError, Interrupted
from ctt.data.clevrer.slots_import import import_slots
from ctt.data.slot_files import unpacking
from ctt.data.slot_files.file_kinds import kind_of
from tests.data.clevrer.official_files import slots_tree, write_pickle

TREE = slots_tree({"train": 3, "val": 2})
DIGEST_OF = {"train": "train", "val": "validation"}


def tensors(tree):
    return {split: {name: torch.from_numpy(a) for name, a in videos.items()} for split, videos in tree.items()}


def flat(tree, sign="/"):
    return {f"{split}{sign}{name}": a for split, videos in tree.items() for name, a in videos.items()}


def batch(tree):
    """Each split as one array, in the order of its scenes."""
    number = {n: int("".join(c for c in n.split(".")[0] if c.isdigit())) for videos in tree.values() for n in videos}
    return {split: np.stack([videos[n] for n in sorted(videos, key=number.get)]) for split, videos in tree.items()}


def hdf5(path, tree, **more):
    with h5py.File(path, "w") as file:
        for name, array in tree.items():
            file.create_dataset(name, data=array, **more)


def npy_files(folder, tree):
    for name, array in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", array)


def compressed(path, opened):
    with opened(path, "wb") as file:
        file.write(pickle.dumps(TREE))


def default(tree):
    outer = defaultdict(dict)
    outer.update({split: OrderedDict(videos) for split, videos in tree.items()})
    return outer


NAMED = {  # forms with the videos' names: the import is the pickle's, byte for byte
    "new torch file": lambda path: torch.save(tensors(TREE), path),
    "old torch file": lambda path: torch.save(tensors(TREE), path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path: save_file({n: torch.from_numpy(a) for n, a in flat(TREE).items()}, path),
    "safetensors, dots": lambda path: save_file({n: torch.from_numpy(a) for n, a in flat(TREE, ".").items()}, path),
    "npz": lambda path: np.savez(path.open("wb"), **flat(TREE)),
    "compressed npz": lambda path: np.savez_compressed(path.open("wb"), **flat(TREE)),
    "HDF5": lambda path: hdf5(path, flat(TREE)),
    "compressed HDF5": lambda path: hdf5(path, flat(TREE), compression="gzip"),
    "a folder of npy files": lambda path: npy_files(path, flat(TREE)),
    "gzip": lambda path: compressed(path, gzip.open),
    "xz": lambda path: compressed(path, lzma.open),
    "bzip2": lambda path: compressed(path, bz2.open),
    "zstandard": lambda path: path.write_bytes(zstandard.compress(pickle.dumps(TREE))),
    "defaultdict": lambda path: write_pickle(path, default(TREE)),
    "defaultdict, protocol 2": lambda path: write_pickle(path, default(TREE), 2),
    "a wrapper key": lambda path: write_pickle(path, {"slots": TREE, "epoch": 3, "config": {"lr": 1.0}}),
    "any wrapper key, twice": lambda path: write_pickle(path, {"x": {"y": TREE}}),
    "other names of splits": lambda path: write_pickle(path, {"slots_train": TREE["train"], "clevrer-valid": TREE["val"]}),
    "more keys": lambda path: write_pickle(path, {**TREE, "epoch": 3}),
    "no splits": lambda path: write_pickle(path, {**TREE["train"], **TREE["val"]}),
    "a dict a video": lambda path: write_pickle(path, {s: {n: {"slots": a} for n, a in v.items()} for s, v in TREE.items()}),
    "a batch of one": lambda path: write_pickle(path, {s: {n: a[None] for n, a in v.items()} for s, v in TREE.items()}),
}
BATCHED = {  # forms without: videos are counted within each split
    "a batch in a pickle": lambda path: write_pickle(path, batch(TREE)),
    "a batch in a torch file": lambda path: torch.save({s: torch.from_numpy(a) for s, a in batch(TREE).items()}, path),
    "lists": lambda path: write_pickle(path, {s: list(a) for s, a in batch(TREE).items()}),
    "a batch in npz": lambda path: np.savez(path.open("wb"), **batch(TREE)),
    "a batch in HDF5": lambda path: hdf5(path, batch(TREE), chunks=(1, 128, 7, 128)),
    "a batch a file": lambda path: npy_files(path, {f"slots_{s}": a for s, a in batch(TREE).items()}),
    "a batch in a group": lambda path: hdf5(path, {f"{s}/slots": a for s, a in batch(TREE).items()}),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """{whether videos are named: the import of a pickle of the reference's form}."""
    folder = tmp_path_factory.mktemp("expected")
    counted = {s: {str(i): a for i, a in enumerate(arrays)} for s, arrays in batch(TREE).items()}
    return {
        named: import_slots(write_pickle(folder / f"{named}.pkl", tree), folder / str(named))
        for named, tree in ((True, TREE), (False, counted))
    }


@pytest.mark.parametrize("form", [*NAMED, *BATCHED])
def test_every_form_gives_the_same_import(form, expected, tmp_path):
    source, folder = tmp_path / "source", tmp_path / "slots"
    {**NAMED, **BATCHED}[form](source)
    imported = import_slots(source, folder)
    assert imported.digest == expected[form in NAMED].digest
    assert sorted(os.listdir(folder)) == ["import.json", "slots_train.npy", "slots_validation.npy"], "nothing is left behind"
    assert import_slots(source, folder).digest == imported.digest


def test_what_was_done_to_read_the_slots_is_recorded(tmp_path):
    write_pickle(tmp_path / "a", {"slots": TREE, "epoch": 3})
    assert import_slots(tmp_path / "a", tmp_path / "b").source["notes"] == ["the key 'slots' around the slots is left out"]
    NAMED["gzip"](tmp_path / "c")
    assert import_slots(tmp_path / "c", tmp_path / "d").source["notes"] == ["gzip: unpacked"]
    assert "notes" not in import_slots(write_pickle(tmp_path / "e", TREE), tmp_path / "f").source


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("form", ["torch", "old torch", "safetensors", "numpy", "HDF5"])
def test_other_precisions_become_float32(kind, form, tmp_path):
    tree = {s: {n: torch.from_numpy(a).double().mul(1 / 3).to(kind) for n, a in v.items()} for s, v in TREE.items()}
    source = tmp_path / "source"
    if form in ("numpy", "HDF5"):
        if kind == torch.bfloat16:
            pytest.skip("numpy has no bfloat16")
        arrays = {s: {n: t.numpy() for n, t in v.items()} for s, v in tree.items()}
        write_pickle(source, arrays) if form == "numpy" else hdf5(source, flat(arrays))
    elif form == "safetensors":
        save_file(flat(tree), source)
    else:
        torch.save(tree, source, _use_new_zipfile_serialization=form == "torch")
    imported = import_slots(source, tmp_path / "slots")
    name = str(kind).removeprefix("torch.")
    assert imported.source["notes"][-1] == f"{name}: {'rounded to' if name == 'float64' else 'written as'} float32"
    slots = np.load(imported.path(imported.parts["train"]))
    assert slots.dtype == np.float32
    assert (slots[1] == tree["train"]["1_pixels.mp4"].to(torch.float32).numpy()).all()


def test_float64_beyond_float32_is_not_finite(tmp_path):
    tree = {"train": {"0": np.full((128, 7, 128), 1e200)}}
    with pytest.raises(DataError, match="video 0: frame 0, slot 0 is not finite"):
        import_slots(write_pickle(tmp_path / "a", tree), tmp_path / "b")


@pytest.mark.parametrize(("slots", "width"), [(5, 32), (24, 512), (11, 64)])
def test_other_sizes_of_slots(slots, width, tmp_path):
    tree = {"train": {str(i): np.full((128, slots, width), i, np.float32) for i in range(2)}}
    imported = import_slots(write_pickle(tmp_path / "a", tree), tmp_path / "b")
    assert (imported.slots, imported.width) == (slots, width)
    assert np.load(imported.path(imported.parts["train"])).shape == (2, 128, slots, width)


@pytest.mark.parametrize("shape", [(128, 4, 128), (128, 25, 128), (128, 7, 31), (128, 7, 513), (127, 7, 128), (128, 896)])
def test_sizes_out_of_bounds_are_refused(shape, tmp_path):
    with pytest.raises(DataError, match=r"video 0: must have the shape .*not \("):
        import_slots(write_pickle(tmp_path / "a", {"train": {"0": np.zeros(shape, np.float32)}}), tmp_path / "b")


def tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("x"))
    return out.getvalue()


def zipped(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "x")
    return out.getvalue()


OTHERS = {
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "an HTML page": b"\n<!DOCTYPE html><html><title>404</title></html>",
    "an XML page": b"<?xml version='1.0'?><Error/>",
    "a JSON file": b'{"error": "no"}',
    "a text file": b"Hello, slots\n",
    "an empty file": b"",
    "a file of zeros": bytes(5000),
    "a tar archive": tar(),
    "a zip archive": zipped("slots.pkl"),
    "an empty zip archive": b"PK\x05\x06" + bytes(18),
    "a video": b"\0\0\0\x20ftypisom" + bytes(100),
    "a PNG picture": b"\x89PNG\r\n\x1a\n",
    "a 7z archive": b"7z\xbc\xaf\x27\x1c",
    "a Parquet file": b"PAR1" + bytes(20),
    "LZ4": b"\x04\x22\x4d\x18" + bytes(20),
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("wrapped", [False, True], ids=["", "in gzip"])
def test_other_kinds_are_named_by_what_they_are(name, wrapped, tmp_path):
    data = OTHERS[name]
    (tmp_path / "slots.pkl").write_bytes(gzip.compress(data) if wrapped else data)
    with pytest.raises(DataError, match=f"slots.pkl(: inside of gzip)? is {name}.*; slots (come as|are) a pickle, a torch file"):
        import_slots(tmp_path / "slots.pkl", tmp_path / "slots")
    assert os.listdir(tmp_path) == ["slots.pkl"]


@pytest.mark.parametrize("opened", [gzip.open, lzma.open, bz2.open])
def test_compressed_files_that_are_cut_off_or_damaged(opened, tmp_path):
    compressed(tmp_path / "a", opened)
    whole = (tmp_path / "a").read_bytes()
    for data in (whole[: len(whole) // 2], whole[:2000] + b"rubbish" * 9 + whole[2063:]):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(DataError, match="a is cut off or damaged"):
            import_slots(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").write_bytes(zstandard.compress(pickle.dumps(TREE))[:-9])
    with pytest.raises(DataError, match="cut off|malformed"):
        import_slots(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path) == ["a"]


def test_a_bomb_does_not_fill_the_disk(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(gzip.compress(bytes(60_000_000)))
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr(unpacking, "SPARE", free - 20_000_000)
    with pytest.raises(DataError, match="for which the disk of .* has no space"):
        import_slots(tmp_path / "a", tmp_path / "b")
    assert os.listdir(tmp_path) == ["a"]


def test_unpacking_is_stopped_by_a_signal_and_not_repeated_once_done(tmp_path, monkeypatch):
    compressed(tmp_path / "a", gzip.open)
    monkeypatch.setattr(unpacking, "stopping", lambda: True)
    with pytest.raises(Interrupted, match="stopped while .*a was unpacked"):
        import_slots(tmp_path / "a", tmp_path / "b")
    monkeypatch.undo()
    monkeypatch.setattr("ctt.data.clevrer.slots_import.stopping", lambda: True)
    with pytest.raises(Interrupted, match="video 1"):
        import_slots(tmp_path / "a", tmp_path / "b")
    monkeypatch.undo()
    monkeypatch.setattr(unpacking, "_opened", None)
    assert import_slots(tmp_path / "a", tmp_path / "b").parts["train"].videos == 3


DAMAGED = {
    "safetensors": (NAMED["safetensors"], lambda data: data[:-1], "damaged header"),
    "a header too long": (NAMED["safetensors"], lambda data: b"\xff" * 8 + data[8:], "."),
    "npz": (NAMED["npz"], lambda data: data[: len(data) // 2], "zip file that is cut off|npz file that is cut off"),
    "HDF5": (NAMED["HDF5"], lambda data: data[: len(data) // 2], "cut off or damaged"),
    "old torch": (NAMED["old torch file"], lambda data: data[:-5], "cut off"),
    "old torch, more": (NAMED["old torch file"], lambda data: data + b"more", "4 bytes follow its end"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_are_refused(case, tmp_path):
    write, damage, message = DAMAGED[case]
    write(tmp_path / "a")
    (tmp_path / "a").write_bytes(damage((tmp_path / "a").read_bytes()))
    with pytest.raises(DataError, match=message):
        import_slots(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_objects_in_npy_files_and_links_in_hdf5_files_are_refused(tmp_path):
    np.save(tmp_path / "train.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(DataError, match="an array of numbers is needed, not of object"):
        import_slots(tmp_path / "train.npy", tmp_path / "b")
    hdf5(tmp_path / "other.h5", {"x": np.zeros((2, 128, 7, 128), np.float32)})
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["train"] = h5py.ExternalLink("other.h5", "x")
    with pytest.raises(DataError, match="link.h5, train: a link to another place or file is not followed"):
        import_slots(tmp_path / "link.h5", tmp_path / "b")
    with h5py.File(tmp_path / "outside.h5", "w") as file:
        file.create_dataset("train", (2, 2), "f4", external=[(str(tmp_path / "other.h5"), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(DataError, match="train: its numbers are in another file"):
        import_slots(tmp_path / "outside.h5", tmp_path / "b")


def test_hdf5_and_zstandard_without_their_libraries(tmp_path, monkeypatch):
    NAMED["HDF5"](tmp_path / "a.h5")
    NAMED["zstandard"](tmp_path / "a.zst")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(DataError, match="a.h5 is HDF5: install h5py"):
        import_slots(tmp_path / "a.h5", tmp_path / "b")
    with pytest.raises(DataError, match="a.zst is a zstandard file: install zstandard"):
        import_slots(tmp_path / "a.zst", tmp_path / "b")


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.mark.parametrize("new", [True, False])
def test_objects_next_to_slots_in_torch_files_are_left_out_and_in_their_place_refused(new, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"slots": tensors(TREE), "settings": Evil()}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert import_slots(tmp_path / "a.pt", tmp_path / "a").parts["train"].videos == 3
    wrong = tensors(TREE)
    wrong["train"]["1_pixels.mp4"] = Evil()
    torch.save(wrong, tmp_path / "b.pt", _use_new_zipfile_serialization=new)
    with pytest.raises(DataError, match="video 1_pixels.mp4: must be an array, not posix.system, which is refused"):
        import_slots(tmp_path / "b.pt", tmp_path / "b")
    assert not (tmp_path / "executed").exists()


def test_a_folder_without_slots_and_with_one_name_twice(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "readme").write_text("hello")
    with pytest.raises(DataError, match="f holds no file of slots .*; readme is a text file"):
        import_slots(tmp_path / "f", tmp_path / "b")
    np.save(tmp_path / "f" / "train.npy", batch(TREE)["train"])
    hdf5(tmp_path / "f" / "train.h5", batch(TREE))
    with pytest.raises(DataError, match="holds train twice, with different suffixes"):
        import_slots(tmp_path / "f", tmp_path / "b")


def test_a_changed_folder_is_another_source(tmp_path):
    npy_files(tmp_path / "f", batch(TREE))
    import_slots(tmp_path / "f", tmp_path / "b")
    np.save(tmp_path / "f" / "val.npy", batch(TREE)["val"] + 1)
    with pytest.raises(DataError, match="holds the import of another file"):
        import_slots(tmp_path / "f", tmp_path / "b")


@pytest.mark.parametrize("what", ["a named pipe", "a device", "a socket"])
def test_what_is_no_regular_file_is_refused_unread(what, tmp_path):
    path = tmp_path / "slots.pkl"
    if what == "a named pipe":
        os.mkfifo(path)
    elif what == "a device":
        path.symlink_to("/dev/zero")
    else:
        import socket

        socket.socket(socket.AF_UNIX).bind(str(path))
    with pytest.raises(DataError, match=f"slots.pkl is {what}, not a file"):
        import_slots(path, tmp_path / "b")


def test_kinds_of_files_that_are_read(tmp_path: Path) -> None:
    for form, kind in (("npz", "npz"), ("HDF5", "HDF5"), ("new torch file", "a torch file"), ("old torch file", "a torch file")):
        NAMED[form](tmp_path / form)
        assert kind_of(tmp_path / form) == kind
    write_pickle(tmp_path / "p0", {"a": 1}, 0)
    assert kind_of(tmp_path / "p0") == "a pickle"
    (tmp_path / "j").write_text(json.dumps([[1]]))
    assert kind_of(tmp_path / "j") == "a JSON file"
