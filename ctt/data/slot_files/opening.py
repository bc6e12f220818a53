"""Opening slots of any form: what a file or folder holds, as a tree of arrays."""

from __future__ import annotations

from pathlib import Path

from ctt.core.errors import DataError
from ctt.data.slot_files.file_kinds import COMPRESSED, READ, kind_of
from ctt.data.slot_files.hdf5_file import read_hdf5
from ctt.data.slot_files.numpy_files import compressed, read_npy, read_npz
from ctt.data.slot_files.safetensors_header import read_safetensors
from ctt.data.slot_files.slot_array import SlotFiles, Tree, in_file
from ctt.data.slot_files.unpacking import Progress, unpacked, unpacked_npz
from ctt.safeload import pickle_reader
from ctt.safeload.checkpoint_reader import read_checkpoint
from ctt.safeload.rebuild import Array

MOST_FILES = 100_000
DEEPEST = 4


def open_slots(source: Path, scratch: Path, progress: Progress = lambda done, total: None) -> SlotFiles:
    """The arrays of a file or a folder; compressed files are unpacked into the folder `scratch`.

    Raises DataError if it is missing, of another kind (which is named), malformed or refused."""
    if not source.is_dir():
        kind = kind_of(source)
        if kind not in READ + COMPRESSED:
            raise DataError(f"{source} is {kind}; slots come as {', '.join(READ)}, or compressed by {', '.join(COMPRESSED)}")
        found = SlotFiles([source], None)
        found.tree = _read(source, kind, scratch, progress, found.notes, 0)
        return found
    paths = files_of(source)
    found = SlotFiles(paths, {})
    before = 0
    for path in paths:
        branch = found.tree
        for part in path.relative_to(source).parent.parts:
            branch = branch.setdefault(part, {})
        if path.stem in branch:
            raise DataError(f"{source} holds {path.relative_to(source).with_suffix('')} twice, with different suffixes")
        branch[path.stem] = _read(path, kind_of(path), scratch, progress, found.notes, before)
        before += path.stat().st_size
    found.notes = list(dict.fromkeys(found.notes))
    return found


def files_of(folder: Path) -> list[Path]:
    """The files of arrays in a folder, in order. Raises DataError if there are none, or too many."""
    seen: list[Path] = []
    others: list[Path] = []
    for path in sorted(folder.rglob("*")):
        if len(seen) > MOST_FILES or len(path.relative_to(folder).parts) > DEEPEST:
            raise DataError(f"{folder} has more than {MOST_FILES:,} files, or folders nested more than {DEEPEST} deep")
        if path.is_dir() or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        (seen if kind_of(path) in READ + COMPRESSED else others).append(path)
    if not seen:
        what = f"; {others[0].name} is {kind_of(others[0])}" if others else ""
        raise DataError(f"{folder} holds no file of slots ({', '.join(READ)}){what}")
    return seen


def _read(path: Path, kind: str, scratch: Path, progress: Progress, notes: list[str], before: int, streamed: bool = True) -> Tree:
    """The tree of one file. `streamed`: its bytes are those that are hashed."""
    if kind in COMPRESSED:
        inner = unpacked(path, kind, scratch, progress)
        if (found := kind_of(inner)) not in READ:
            raise DataError(f"{path}: inside of {kind} is {found}; slots are {', '.join(READ)}")
        notes.append(f"{kind}: unpacked")
        try:
            return _read(inner, found, scratch, progress, notes, 0, streamed=False)
        except DataError as error:
            raise DataError(str(error).replace(str(inner), str(path))) from None
    if kind == "npy":
        return read_npy(path, before, streamed)
    if kind == "npz":
        if not compressed(path):
            return read_npz(path, before, streamed)
        folder = unpacked_npz(path, scratch, progress)
        notes.append("compressed npz: unpacked")
        members = {part.relative_to(folder).with_suffix("").as_posix(): part for part in sorted(folder.rglob("*.npy"))}
        return {name: read_npy(part, streamed=False) for name, part in members.items()}
    if kind == "safetensors":
        return read_safetensors(path, before, streamed)
    if kind == "HDF5":
        return read_hdf5(path)
    tree = read_checkpoint(path) if kind == "a torch file" else pickle_reader.read(path)
    return _described(tree, path, before, streamed, 0)


def _described(tree: object, path: Path, before: int, streamed: bool, depth: int) -> Tree:
    """The tree with SlotArrays in place of Arrays; what is nested deeper than slots ever are is left out."""
    if isinstance(tree, Array):
        return in_file(path, tree, before, streamed)
    if depth > DEEPEST:
        return None
    if isinstance(tree, dict):
        return {key: _described(value, path, before, streamed, depth + 1) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_described(value, path, before, streamed, depth + 1) for value in tree]
    return tree
