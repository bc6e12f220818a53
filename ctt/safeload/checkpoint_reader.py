"""Checkpoints as trainers save them: their tensors are read, all else is skipped, and nothing is executed.

A checkpoint holds more than numbers: Lightning's hyper_parameters and callbacks, an optimizer's state, an OrderedDict's
_metadata, or a whole module. Here an object of any class and a call of any function become a `Skipped`, which names it, and holds
an object's attributes as data. Both formats of torch.save are read: a zip file, and the legacy one (pickles of a magic number,
a version, the system, the object and the keys of its storages, then the numbers).
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ctt.core.errors import DataError
from ctt.core.regular_files import check_regular
from ctt.safeload.opcodes import STEPS
from ctt.safeload.pickle_machine import PickleMachine
from ctt.safeload.pickle_reader import TORCH_MAGIC, PickleReader, explained, parts_of_zip
from ctt.safeload.rebuild import ATTRIBUTED, BFLOAT16, FUNCTIONS, STORAGES, Name, Storage, brief, finished, shown, storage_of


@dataclass
class Skipped:
    """What the file describes and was not made; `what` names it. attributes: of an object, as the file lists them."""

    what: str
    attributes: dict[Any, Any] = field(default_factory=dict)

    def tensors(self, prefix: str = "", depth: int = 0) -> dict[str, Any]:
        """Of a pickled torch module its parameters and buffers by their names in a state dict; {} for anything else."""
        if depth > MOST_NESTED:
            raise DataError("modules are nested too deeply")
        found: dict[str, Any] = {}
        for group in ("_parameters", "_buffers"):
            own = self.attributes.get(group)
            found |= {f"{prefix}{name}": value for name, value in own.items() if value is not None} if isinstance(own, dict) else {}
        inner = self.attributes.get("_modules")
        for name, module in inner.items() if isinstance(inner, dict) else ():
            if isinstance(module, Skipped):
                found |= module.tensors(f"{prefix}{name}.", depth + 1)
        return found


MOST_NESTED = 50


def read_checkpoint(path: Path) -> Any:
    """The tree of dicts, lists, numbers, texts, Arrays and Skipped of a file of torch.save or pickle.

    Raises DataError naming the file and what is malformed; nothing was executed then.
    """
    path = Path(path)
    size = check_regular(path).st_size
    with explained(path), open(path, "rb") as file:
        if file.read(4) == b"PK\3\4":
            described, place = parts_of_zip(path, file)
            reader = CheckpointReader(file, described.offset, described.size, str(path), persistent=True)
            reader.place = place
            return reader.run()
        first = CheckpointReader(file, 0, size, str(path), within=True)
        if first.run() == TORCH_MAGIC:
            return _read_legacy(file, first.position, size, str(path))
        return CheckpointReader(file, 0, size, str(path)).run()


def _read_legacy(file: BinaryIO, offset: int, size: int, source: str) -> Any:
    """The object's pickle is read twice: for the sizes of its storages, and with the places of their numbers, which come last."""
    described = CheckpointReader(file, offset, size - offset, source, persistent=True, within=True)
    for _ in ("version", "system"):
        described.next_pickle()
    start = described.position
    described.next_pickle()
    keys = described.next_pickle()
    if not isinstance(keys, list) or any(key not in described.storages for key in keys):
        raise DataError(f"{source}: its list of storages does not belong to its tensors")
    place = {}
    for key in keys:
        storage = described.storages[key]
        if described.number("<q") != storage.count:
            raise DataError(f"{source}: a torch storage has another size than announced")
        place[key] = described.large(storage.count * np.dtype(storage.dtype).itemsize, "bytes")
    if described.position != size:
        raise DataError(f"{source}: {size - described.position} bytes follow its end")
    reader = CheckpointReader(file, start, size - start, source, persistent=True, within=True)
    reader.place = place
    return reader.run()


class CheckpointReader(PickleReader):
    """Interprets a checkpoint's pickle; `storages`: those that it names, by key."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.storages: dict[str, Storage] = {}

    def step(self, code: bytes) -> Callable[[PickleMachine], None] | None:
        return _SKIPPING.get(code) or STEPS.get(code)

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise DataError("refused: a function's name must be text")
        self.stack.append(Name(module, name))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        known = ATTRIBUTED.get(str(function)) or FUNCTIONS.get(str(function)) if isinstance(function, Name) else None
        if known is None or not isinstance(arguments, tuple):
            self.stack.append(skipped(function))
            return
        try:
            self.stack.append(known(*map(finished, arguments)))
        except (DataError, TypeError) as error:
            self.stack.append(Skipped(brief(str(error))))

    def persistent_id(self, identifier: Any) -> None:
        try:
            storage = storage_of(identifier, self.place, {**STORAGES, **BFLOAT16})
        except DataError as error:
            self.stack.append(Skipped(brief(str(error))))
            return
        self.storages[storage.key] = storage
        self.stack.append(storage)

    def append(self, items: list[Any]) -> None:
        if isinstance(self.stack[-1], list):
            super().append(items)

    def set_items(self, items: list[Any]) -> None:
        """Items of dicts whose key is a text or a whole number; all others are left out."""
        if isinstance(self.stack[-1], dict):
            pairs = zip(items[::2], items[1::2], strict=True)
            super().set_items([part for key, value in pairs if type(key) in (str, int) for part in (key, value)])

    def build(self) -> None:
        target = self.stack[-2]
        if isinstance(target, (dict, list, Skipped, Name)):  # an OrderedDict's attributes, an object's state
            state = self.stack.pop()
            if isinstance(target, Skipped) and isinstance(state, dict):
                target.attributes = state
            return
        try:
            super().build()
        except DataError as error:
            self.stack[-1] = Skipped(brief(str(error)))


def skipped(function: Any) -> Skipped:
    """What stands for an object of a class, or a function's value."""
    if isinstance(function, Skipped):
        return function
    return Skipped(brief(str(function)) if isinstance(function, Name) else shown(function))


def _new_object(arguments: int) -> Callable[[PickleMachine], None]:
    def step(reader: PickleMachine) -> None:
        for _ in range(arguments):
            reader.stack.pop()
        reader.stack.append(skipped(reader.stack.pop()))

    return step


def _object_since_mark(reader: PickleMachine) -> None:
    items = reader.since_mark()
    reader.stack.append(skipped(items[0] if items else None))


def _named_instance(reader: PickleMachine) -> None:
    module, name = reader.line().decode("utf-8"), reader.line().decode("utf-8")
    reader.since_mark()
    reader.stack.append(Skipped(brief(f"{module}.{name}")))


def _set_since_mark(reader: PickleMachine) -> None:
    reader.since_mark()
    reader.stack.append(Skipped("a set"))


_SKIPPING: dict[bytes, Callable[[PickleMachine], None]] = {
    pickle.NEWOBJ: _new_object(1),
    pickle.NEWOBJ_EX: _new_object(2),
    pickle.OBJ: _object_since_mark,
    pickle.INST: _named_instance,
    pickle.EMPTY_SET: lambda reader: reader.push(Skipped("a set")),
    pickle.FROZENSET: _set_since_mark,
    pickle.ADDITEMS: lambda reader: reader.drop(),
}
