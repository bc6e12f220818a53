"""The stack machine that executes the opcodes of a pickle: bytes, a stack, marks, a memo, and a few admitted names."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

from ctt.core.errors import DataError
from ctt.safeload.rebuild import (
    ADMITTED,
    FUNCTIONS,
    LOAD_STORAGE,
    Name,
    Span,
    brief,
    finished,
    set_state,
    shown,
    storage_of,
)

LARGE = 4096
"""Byte strings and texts of at least this size stay in the file."""
LONGEST_NUMBER = 512
MOST_KEPT = 256 << 20
"""Maximum bytes of names, texts and small byte strings in memory; 20,000 videos need about six million."""


class PickleMachine:
    """The state of reading `size` bytes of the file from `offset`: position, stack, marks and memo."""

    def __init__(self, file: BinaryIO, offset: int, size: int, source: str, persistent: bool = False, within: bool = False) -> None:
        self.file, self.source, self.persistent = file, source, persistent
        self.position, self.end = offset, offset + size
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.place: dict[str, Span] = {}
        self.loaded: set[int] = set()
        self.within = within
        self.kept = 0

    # Bytes

    def take(self, size: int) -> bytes:
        self.require(size)
        data = self.file.read(size)
        if len(data) != size:
            raise DataError("the file is cut off")
        self.position += size
        self.keep(size)
        return data

    def keep(self, size: int) -> None:
        self.kept += size
        if self.kept > MOST_KEPT:
            raise DataError(f"more than {MOST_KEPT >> 20} MiB of texts; a file of arrays has less")

    def require(self, size: int) -> None:
        if size < 0 or size > self.end - self.position:
            raise DataError(f"the file is cut off: {size} bytes are announced, {self.end - self.position} remain")

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def line(self, most: int = LONGEST_NUMBER) -> bytes:
        text = self.file.readline(min(most, self.end - self.position) + 1)
        self.position += len(text)
        if not text.endswith(b"\n") or self.position > self.end:
            raise DataError("the file is cut off, or a line is too long")
        if most <= LONGEST_NUMBER:
            self.keep(len(text))
        return text[:-1]

    def bytes(self, size: int) -> None:
        self.stack.append(self.large(size, "bytes") if size >= LARGE else self.take(size))

    def text(self, size: int) -> None:
        self.stack.append(self.large(size, "utf-8") if size >= LARGE else self.take(size).decode("utf-8"))

    def large(self, size: int, encoding: str) -> Span:
        self.require(size)
        span = Span(self.position, size, encoding)
        self.position += size
        self.file.seek(self.position)
        return span

    # Names and calls

    def name(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise DataError("refused: a function's name must be text")
        if "." in name or f"{module}.{name}" not in ADMITTED:
            raise DataError(
                f"refused: the file requests {brief(f'{module}.{name}')}; only numpy and torch arrays are admitted; "
                "nothing was executed"
            )
        self.stack.append(Name(module, name))

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise DataError("refused: only a named function can be called")
        if str(function) == LOAD_STORAGE:
            self.stack.append(self.storage(*arguments))
        elif str(function) in FUNCTIONS:
            self.stack.append(FUNCTIONS[str(function)](*map(finished, arguments)))
        else:
            raise DataError(f"refused: {function} must not be called")

    def storage(self, data: Any) -> Any:
        """The torch storage inside a byte string."""
        raise NotImplementedError

    def persistent_id(self, identifier: Any) -> None:
        if not self.persistent:
            raise DataError("refused: a persistent id, which only a file of torch.save may contain")
        self.stack.append(storage_of(identifier, self.place))

    # Containers

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def drop(self) -> None:
        self.since_mark()

    def append(self, items: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise DataError("refused: a value is appended to an object that is no list")
        self.stack[-1].extend(map(finished, items))

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise DataError("refused: a key is set in an object that is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise DataError(f"refused: a dict's key must be text or a whole number, not {type(key).__name__}")
            if key in target:
                raise DataError(f"the key {shown(key)} occurs twice in one dict")
            target[key] = finished(value)

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def build(self) -> None:
        state = self.stack.pop()
        items = tuple(map(finished, state)) if isinstance(state, tuple) else state
        set_state(self.stack[-1], items)
