"""Which video each array of a tree is: splits, names, batches and wrapper keys, as people write them."""

from __future__ import annotations

import re
from typing import Any

from ctt.core.errors import DataError
from ctt.data.slot_files.slot_array import SlotArray, Tree
from ctt.safeload.checkpoint_reader import Skipped
from ctt.safeload.rebuild import shown

NAME = re.compile(r"(?:video_)?(\d{1,12})(?:_pixels|_slots)?(?:\.mp4)?")
MOST_SCENES = 1_000_000
SCENES = {"train": range(10_000), "validation": range(10_000, 15_000), "test": range(15_000, 20_000)}
"""CLEVRER's scenes."""
_SPLITS = {"train": "train", "val": "validation", "valid": "validation", "validation": "validation", "test": "test"}
_SPLIT = re.compile(r"(?:^|[^a-z])(train|validation|valid|val|test)(?=[^a-z]|$)", re.IGNORECASE)
WRAPPERS = ("slots", "slot", "features", "data", "embeddings", "state_dict")
"""Keys that stand around slots; others are accepted if they are the only ones."""
DEEPEST = 4


def splits_of(tree: Tree, source: str, notes: list[str]) -> dict[str, tuple[str, Tree]]:
    """{split: (its name in the source, its videos)}. Raises DataError, naming key and remedy; `notes` gets what was unwrapped."""
    for _ in range(DEEPEST):
        if not isinstance(tree, dict) or not tree:
            raise DataError(f"{source} must hold a dict of splits, not {kind_name(tree)}")
        if (flat := _unflattened(tree)) is not None:
            tree = flat
        if any(split_of(key) for key in tree):
            return _splits(tree, source, notes)
        if any(NAME.fullmatch(str(key)) for key in tree):
            notes.append("no splits: videos are assigned by CLEVRER's scene numbers")
            return {split: (split, videos) for split, videos in _by_number(tree, source).items()}
        inner = [key for key in tree if key in WRAPPERS and isinstance(tree[key], dict)]
        inner = inner or [key for key in tree if isinstance(tree[key], dict)]
        if len(inner) != 1:
            keys = ", ".join(shown(key) for key in list(tree)[:5])
            first = shown(next(iter(tree)))
            raise DataError(f"{source}: {first} is no split; the splits are train, val and test (it has the keys {keys})")
        notes.append(f"the key {shown(inner[0])} around the slots is left out")
        tree = tree[inner[0]]
    raise DataError(f"{source}: its slots are nested more than {DEEPEST} deep")


def split_of(key: Any) -> str:
    """The split that a key names, such as val, slots_train or clevrer-test; "" if it names none."""
    found = _SPLIT.findall(str(key)) if not NAME.fullmatch(str(key)) else []
    return _SPLITS[found[0].lower()] if len(set(map(str.lower, found))) == 1 and "/" not in str(key) else ""


def _splits(tree: dict[Any, Tree], source: str, notes: list[str]) -> dict[str, tuple[str, Tree]]:
    found: dict[str, tuple[str, Tree]] = {}
    for key in sorted(tree, key=str):
        split = split_of(key)
        if not split and isinstance(tree[key], (dict, list, SlotArray)):
            raise DataError(f"{source}: {shown(key)} is no split; the splits are train, val and test")
        if not split:
            notes.append(f"the key {shown(key)} is left out")
        elif split in found:
            one, other = found[split][0], str(key)
            raise DataError(f"{source}: split {split} occurs twice, as {shown(one)} and as {shown(other)}")
        else:
            found[split] = (str(key), tree[key])
    return found


def _unflattened(tree: dict[Any, Tree]) -> dict[Any, Tree] | None:
    """The tree of keys such as train/0_pixels.mp4 or train.0; None if the keys are not all so."""
    found: dict[Any, dict[str, Tree]] = {}
    for key, value in tree.items():
        split, slash, name = str(key).partition("/")
        if not slash:
            split, _, name = str(key).partition(".")
        name = name.rpartition("/")[2]
        if not name or not split_of(split) or not (slash or NAME.fullmatch(name)):
            return None
        found.setdefault(split, {})[name] = value
    return found


def _by_number(tree: dict[Any, Tree], source: str) -> dict[str, dict[str, Tree]]:
    found: dict[str, dict[str, Tree]] = {}
    for key, value in tree.items():
        match = NAME.fullmatch(str(key))
        split = next((s for s, scenes in SCENES.items() if match and int(match[1]) in scenes), None)
        if split is None:
            if not isinstance(value, (dict, list, SlotArray)):
                continue
            raise DataError(f"{source}: {shown(key)} is no scene of CLEVRER's (0 to 19,999), and no split is given")
        found.setdefault(split, {})[str(key)] = value
    return {split: found[split] for split in SCENES if split in found}


def videos_of(entries: Tree, where: str) -> dict[str, SlotArray]:
    """The videos of a split by name. A list, or an array of one more axis, holds them in the order of their scenes, and the
    names are then their numbers. Raises DataError if it is neither, or empty."""
    if isinstance(entries, SlotArray) and len(entries.shape) == 4:
        if not 0 < entries.shape[0] <= MOST_SCENES:
            raise DataError(f"{where}: must hold 1 to {MOST_SCENES:,} videos, not {entries.shape[0]}")
        return {str(number): entries.row(number) for number in range(entries.shape[0])}
    if isinstance(entries, list) and entries and all(isinstance(entry, SlotArray) for entry in entries):
        return {str(number): entry for number, entry in enumerate(entries)}
    if isinstance(entries, dict) and len(entries) == 1 and not NAME.fullmatch(str(next(iter(entries)))):
        (key,) = entries
        if isinstance(entries[key], dict) or (isinstance(entries[key], SlotArray) and len(entries[key].shape) == 4):
            return videos_of(entries[key], where)
    if not isinstance(entries, dict) or not entries:
        raise DataError(f"{where}: must hold a dict of videos, not {kind_name(entries)}")
    return {str(name): _one(value) for name, value in entries.items()}


def _one(value: Tree) -> Any:
    """A video's array, taken out of a dict and a batch of one."""
    if isinstance(value, dict):
        inner = [entry for key, entry in value.items() if key in WRAPPERS and isinstance(entry, SlotArray)]
        value = inner[0] if len(inner) == 1 else value
    if isinstance(value, SlotArray) and len(value.shape) == 4 and value.shape[0] == 1:
        return value.row(0)
    return value


def kind_name(value: Any) -> str:
    """The kind of a value, for error messages."""
    if isinstance(value, SlotArray):
        return "an array"
    if isinstance(value, Skipped):
        return f"{value.what}, which is refused; nothing was executed"
    return "nothing" if value in ({}, None, []) else type(value).__name__
