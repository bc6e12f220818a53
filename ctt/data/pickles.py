"""A pickle reader that executes nothing: it walks the file's instructions and admits arrays of numbers alone.

`read(path)` gives the tree of dicts, lists and Arrays that a pickle (protocol 0 to 5) or a torch file describes. It is
an interpreter of its own, of the few instructions that data needs; functions and classes are names that are looked up in a
short table (rebuild.py), never imported. Large byte strings are stepped over, so neither the reader nor a file that
declares an enormous size can fill the memory.
"""

from __future__ import annotations

import os
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from ctt.data.opcodes import LARGE, LONGEST_NUMBER, REFUSED, STEPS
from ctt.data.rebuild import (
    ADMITTED,
    FUNCTIONS,
    LOAD_STORAGE,
    Name,
    Span,
    Storage,
    brief,
    finished,
    set_state,
    shown,
    storage_of,
)
from ctt.errors import DataError

MOST_STEPS = 5_000_000
MOST_KEPT = 256 << 20
"""Bytes of names, texts and small byte strings; 20,000 videos have about six million."""

_TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def read(path: Path) -> Any:
    """The tree that the file describes: dict, list, tuple, str, bytes, numbers, Span (large bytes) and Array.

    Raises DataError naming the file, the byte and what was refused or is malformed; nothing has been executed then.
    """
    path = Path(path)
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            if file.read(4) == b"PK\3\4":
                return _read_torch_file(path, file)
            return Reader(file, 0, size, str(path)).run()
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply; a file of arrays is not") from None


def _read_torch_file(path: Path, file: BinaryIO) -> Any:
    """torch.save's zip: NAME/data.pkl describes, NAME/data/KEY hold the numbers, uncompressed."""
    place: dict[str, Span] = {}
    described: Span | None = None
    size = os.path.getsize(path)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
        for entry in entries:
            inner = entry.filename.partition("/")[2]
            if inner != "data.pkl" and not inner.startswith("data/"):
                continue
            file.seek(entry.header_offset)
            header = file.read(30)
            if entry.compress_type != zipfile.ZIP_STORED or len(header) != 30 or header[:4] != b"PK\3\4":
                raise DataError(
                    f"{path}: its part {brief(entry.filename)} is compressed or damaged; torch.save writes it plain"
                )
            names, extra = struct.unpack("<HH", header[26:30])
            span = Span(entry.header_offset + 30 + names + extra, entry.file_size)
            if span.offset + span.size > size:
                raise DataError(f"{path} is cut off")
            if inner == "data.pkl":
                described = span
            else:
                place[inner.removeprefix("data/")] = span
    except (zipfile.BadZipFile, struct.error, ValueError, OverflowError, NotImplementedError) as error:
        raise DataError(f"{path} is a zip file that is cut off or damaged ({brief(str(error))})") from None
    if described is None:
        raise DataError(f"{path} is a zip file without a data.pkl, so it was not written by torch.save")
    reader = Reader(file, described.offset, described.size, str(path), persistent=True)
    reader.place = place
    return reader.run()


class Reader:
    """Runs the instructions in `size` bytes of the file from `offset` on; `within` the bytes of a torch storage."""

    def __init__(
        self, file: BinaryIO, offset: int, size: int, source: str, persistent: bool = False, within: bool = False
    ) -> None:
        self.file, self.source, self.persistent = file, source, persistent
        self.position, self.end = offset, offset + size
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.place: dict[str, Span] = {}
        self.loaded: set[int] = set()
        self.within = within
        self.kept = 0

    def run(self) -> Any:
        """The object of one pickle. Raises DataError, also if anything follows it; within a storage, something does."""
        self.file.seek(self.position)
        start = self.position
        try:
            for _ in range(MOST_STEPS):
                start = self.position
                code = self.take(1)
                if code == b".":
                    result = self.stack.pop()
                    if self.stack or self.marks:
                        raise DataError("it ends with values left over")
                    if not self.within and self.position != self.end:
                        raise DataError(f"{self.end - self.position} bytes follow its end")
                    return finished(result)
                step = STEPS.get(code)
                if step is None:
                    raise DataError(REFUSED.get(code, f"{code!r} is no instruction of a pickle"))
                step(self)
        except (IndexError, KeyError):
            raise DataError(
                f"{self.source}, byte {start}: not a pickle that makes sense (it uses a value that is not there)"
            ) from None
        except (ValueError, OverflowError, UnicodeError, struct.error) as error:
            raise DataError(
                f"{self.source}, byte {start}: not a pickle that makes sense ({brief(str(error))})"
            ) from None
        except TypeError as error:
            raise DataError(f"{self.source}, byte {start}: refused: {brief(str(error))}") from None
        except DataError as error:
            if str(error).startswith(self.source):
                raise
            raise DataError(f"{self.source}, byte {start}: {error}") from None
        raise DataError(
            f"{self.source}: more than {MOST_STEPS:,} instructions; a file of arrays has a few for each array"
        )

    # Bytes

    def take(self, size: int) -> bytes:
        self.room(size)
        data = self.file.read(size)
        if len(data) != size:
            raise DataError("the file is cut off")
        self.position += size
        self.keep(size)
        return data

    def keep(self, size: int) -> None:
        self.kept += size
        if self.kept > MOST_KEPT:
            raise DataError(f"more than {MOST_KEPT >> 20} MiB of texts; a file of arrays has few")

    def room(self, size: int) -> None:
        if size < 0 or size > self.end - self.position:
            raise DataError(f"the file is cut off: {size} bytes are announced, {self.end - self.position} are left")

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
        self.room(size)
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
                f"refused: the file asks for {brief(f'{module}.{name}')}, and only numpy and torch arrays are admitted; "
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
        """torch's older format, inside a byte string: three pickles of facts, one of the storage, its keys, its numbers."""
        if isinstance(data, bytes):  # a small one: the bytes were just read, so they are looked up again
            raise DataError(f"refused: a torch storage of under {LARGE} bytes; such a tensor is no video")
        if not isinstance(data, Span) or data.encoding != "bytes":
            raise DataError("refused: a torch storage must be made of bytes")
        if self.within or data.offset in self.loaded:  # no reader in a reader in a reader, no byte read again and again
            raise DataError("refused: a torch storage within another one, or loaded twice")
        self.loaded.add(data.offset)
        back = self.position
        inner = Reader(self.file, data.offset, data.size, self.source, persistent=True, within=True)
        facts = [inner.again() for _ in range(5)]
        if facts[0] != _TORCH_MAGIC or not isinstance(facts[3], Storage):
            raise DataError("refused: the bytes of a torch storage are not torch's")
        size = inner.number("<q")
        found = facts[3]
        span = Span(inner.position, inner.end - inner.position)
        if facts[4] != [found.key] or size != found.count or span.size != size * int(found.dtype[-1]):
            raise DataError("a torch storage has other bytes than it announces")
        found.place[found.key] = span
        self.file.seek(back)
        return found

    def again(self) -> Any:
        """The next of several pickles in a row; the memo starts anew."""
        self.stack, self.marks, self.memo = [], [], {}
        return self.run()

    def persistent_id(self, mark: Any) -> None:
        if not self.persistent:
            raise DataError("refused: a persistent id, which only a file of torch.save may hold")
        self.stack.append(storage_of(mark, self.place))

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
            raise DataError("refused: something is appended to what is no list")
        self.stack[-1].extend(map(finished, items))

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise DataError("refused: a key is set in what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise DataError(f"refused: a dict's key must be text or a whole number, not {type(key).__name__}")
            if key in target:
                raise DataError(f"the key {shown(key)} is there twice in one dict")
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
