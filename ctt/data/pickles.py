"""A pickle reader that executes nothing: it walks the file's instructions and admits arrays of numbers alone.

`read(path)` gives the tree of dicts, lists and Arrays that a pickle (protocol 0 to 5) or a torch file describes. It is
an interpreter of its own, of the few instructions that data needs; functions and classes are names that are looked up in a
short table (rebuild.py), never imported. Large byte strings are stepped over, so neither the reader nor a file that
declares an enormous size can fill the memory.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from ctt.data.rebuild import ADMITTED, FUNCTIONS, LOAD_STORAGE, Array, Blank, Name, Span, Storage, set_state, storage_of
from ctt.errors import DataError

LARGE = 4096
"""Byte strings and texts from this size on stay in the file."""
MOST_STEPS = 5_000_000
MOST_KEPT = 256 << 20
"""Bytes of names, texts and small byte strings; 20,000 videos have about six million."""
LONGEST_LINE = 64 << 20
LONGEST_NUMBER = 512

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
            return _Reader(file, 0, size, str(path)).run()
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None


def _read_torch_file(path: Path, file: BinaryIO) -> Any:
    """torch.save's zip: NAME/data.pkl describes, NAME/data/KEY hold the numbers, uncompressed."""
    place: dict[str, Span] = {}
    described: Span | None = None
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
                raise DataError(f"{path}: its part {entry.filename} is compressed or damaged; torch.save writes it plain")
            names, extra = struct.unpack("<HH", header[26:30])
            span = Span(entry.header_offset + 30 + names + extra, entry.file_size)
            if inner == "data.pkl":
                described = span
            else:
                place[inner.removeprefix("data/")] = span
    except (zipfile.BadZipFile, struct.error, ValueError) as error:
        raise DataError(f"{path} is a zip file that is cut off or damaged ({error})") from None
    if described is None:
        raise DataError(f"{path} is a zip file without a data.pkl, so it was not written by torch.save")
    if described.offset + described.size > os.path.getsize(path):
        raise DataError(f"{path} is cut off")
    reader = _Reader(file, described.offset, described.size, str(path), persistent=True)
    reader.place = place
    return reader.run()


class _Reader:
    """Runs the instructions in `size` bytes of the file from `offset` on."""

    def __init__(self, file: BinaryIO, offset: int, size: int, source: str, persistent: bool = False) -> None:
        self.file, self.source, self.persistent = file, source, persistent
        self.position, self.end = offset, offset + size
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.place: dict[str, Span] = {}
        self.whole = True
        self.kept = 0

    def run(self) -> Any:
        """The object of one pickle. Raises DataError; with `whole`, also if anything follows it."""
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
                    if self.whole and self.position != self.end:
                        raise DataError(f"{self.end - self.position} bytes follow its end")
                    return finished(result)
                step = _STEPS.get(code)
                if step is None:
                    raise DataError(_REFUSED.get(code, f"{code!r} is no instruction of a pickle"))
                step(self)
        except (IndexError, KeyError):
            raise DataError(
                f"{self.source}, byte {start}: not a pickle that makes sense (it uses a value that is not there)"
            ) from None
        except (ValueError, OverflowError, UnicodeError, struct.error) as error:
            raise DataError(f"{self.source}, byte {start}: not a pickle that makes sense ({error})") from None
        except TypeError as error:
            raise DataError(f"{self.source}, byte {start}: refused: {error}") from None
        except DataError as error:
            if str(error).startswith(self.source):
                raise
            raise DataError(f"{self.source}, byte {start}: {error}") from None
        raise DataError(f"{self.source}: more than {MOST_STEPS:,} instructions; a file of arrays has a few for each array")

    # Bytes

    def take(self, size: int) -> bytes:
        self.room(size)
        data = self.file.read(size)
        if len(data) != size:
            raise DataError("the file is cut off")
        self.position += size
        self.kept += size
        if self.kept > MOST_KEPT:
            raise DataError(f"more than {MOST_KEPT >> 20} MiB of texts; a file of arrays has few")
        return data

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
        if f"{module}.{name}" not in ADMITTED:
            raise DataError(
                f"refused: the file asks for {module}.{name}, and only numpy and torch arrays are admitted; "
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
        back = self.position
        inner = _Reader(self.file, data.offset, data.size, self.source, persistent=True)
        inner.whole = False
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
                raise DataError(f"the key {key!r} is there twice in one dict")
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


def finished(value: Any) -> Any:
    """An array that was made and then filled is the array."""
    if isinstance(value, Blank):
        if value.array is None:
            raise DataError("an array was made and never filled")
        return value.array
    return value


def _integer(reader: _Reader) -> None:
    line = reader.line()
    reader.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))


def _long(reader: _Reader, size: int) -> None:
    if not 0 <= size <= LONGEST_NUMBER:
        raise DataError(f"a number of {size} bytes")
    reader.stack.append(int.from_bytes(reader.take(size), "little", signed=True))


def _text_line(reader: _Reader) -> None:
    start = reader.position
    line = reader.line(LONGEST_LINE)
    large = Span(start, len(line), "raw-unicode-escape")
    reader.stack.append(large if len(line) >= LARGE else line.decode("raw-unicode-escape"))


def _quoted(reader: _Reader) -> None:
    line = reader.line(LONGEST_LINE)
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise DataError("a text without quotation marks")
    reader.stack.append(line[1:-1].decode("unicode-escape").encode("latin1").decode("latin1"))


def _old_text(reader: _Reader, size: int) -> None:
    """Python 2's str: a name, or the numbers of an array."""
    reader.stack.append(reader.large(size, "bytes") if size >= LARGE else reader.take(size).decode("latin1"))


def _protocol(reader: _Reader) -> None:
    version = reader.number("<B")
    if version > 5:
        raise DataError(f"protocol {version} is not known (0 to 5 are)")


def _global(reader: _Reader) -> None:
    reader.name(reader.line().decode("utf-8"), reader.line().decode("utf-8"))


def _stack_global(reader: _Reader) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.name(module, name)


def _duplicate(reader: _Reader) -> None:
    reader.stack.append(reader.stack[-1])


def _pop(reader: _Reader) -> None:
    if reader.stack:
        reader.stack.pop()
    else:
        reader.since_mark()


def _make_dict(reader: _Reader) -> None:
    items = reader.since_mark()
    reader.stack.append({})
    reader.set_items(items)


def _set_item(reader: _Reader) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.set_items([key, value])


def _push(value: Callable[[], Any]) -> Callable[[_Reader], None]:
    return lambda reader: reader.push(value())


_STEPS: dict[bytes, Callable[[_Reader], None]] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: lambda r: r.room(r.number("<Q")),
    pickle.NONE: _push(lambda: None),
    pickle.NEWTRUE: _push(lambda: True),
    pickle.NEWFALSE: _push(lambda: False),
    pickle.INT: _integer,
    pickle.BININT: lambda r: r.push(r.number("<i")),
    pickle.BININT1: lambda r: r.push(r.number("<B")),
    pickle.BININT2: lambda r: r.push(r.number("<H")),
    pickle.LONG: lambda r: r.push(int(r.line().removesuffix(b"L"))),
    pickle.LONG1: lambda r: _long(r, r.number("<B")),
    pickle.LONG4: lambda r: _long(r, r.number("<i")),
    pickle.FLOAT: lambda r: r.push(float(r.line())),
    pickle.BINFLOAT: lambda r: r.push(struct.unpack(">d", r.take(8))[0]),
    pickle.UNICODE: _text_line,
    pickle.SHORT_BINUNICODE: lambda r: r.text(r.number("<B")),
    pickle.BINUNICODE: lambda r: r.text(r.number("<I")),
    pickle.BINUNICODE8: lambda r: r.text(r.number("<Q")),
    pickle.STRING: _quoted,
    pickle.SHORT_BINSTRING: lambda r: _old_text(r, r.number("<B")),
    pickle.BINSTRING: lambda r: _old_text(r, r.number("<i")),
    pickle.SHORT_BINBYTES: lambda r: r.bytes(r.number("<B")),
    pickle.BINBYTES: lambda r: r.bytes(r.number("<I")),
    pickle.BINBYTES8: lambda r: r.bytes(r.number("<Q")),
    pickle.BYTEARRAY8: lambda r: r.bytes(r.number("<Q")),
    pickle.GLOBAL: _global,
    pickle.STACK_GLOBAL: _stack_global,
    pickle.REDUCE: lambda r: r.call(),
    pickle.BUILD: lambda r: r.build(),
    pickle.BINPERSID: lambda r: r.persistent_id(r.stack.pop()),
    pickle.MARK: lambda r: r.mark(),
    pickle.POP: _pop,
    pickle.POP_MARK: lambda r: r.drop(),
    pickle.DUP: _duplicate,
    pickle.EMPTY_TUPLE: _push(tuple),
    pickle.TUPLE1: lambda r: r.tuple_of(1),
    pickle.TUPLE2: lambda r: r.tuple_of(2),
    pickle.TUPLE3: lambda r: r.tuple_of(3),
    pickle.TUPLE: lambda r: r.push(tuple(r.since_mark())),
    pickle.EMPTY_LIST: _push(list),
    pickle.LIST: lambda r: r.push(r.since_mark()),
    pickle.APPEND: lambda r: r.append([r.stack.pop()]),
    pickle.APPENDS: lambda r: r.append(r.since_mark()),
    pickle.EMPTY_DICT: _push(dict),
    pickle.DICT: _make_dict,
    pickle.SETITEM: _set_item,
    pickle.SETITEMS: lambda r: r.set_items(r.since_mark()),
    pickle.MEMOIZE: lambda r: r.put(len(r.memo)),
    pickle.PUT: lambda r: r.put(int(r.line())),
    pickle.BINPUT: lambda r: r.put(r.number("<B")),
    pickle.LONG_BINPUT: lambda r: r.put(r.number("<I")),
    pickle.GET: lambda r: r.push(r.memo[int(r.line())]),
    pickle.BINGET: lambda r: r.push(r.memo[r.number("<B")]),
    pickle.LONG_BINGET: lambda r: r.push(r.memo[r.number("<I")]),
}
_OBJECT = "refused: an object of a class is made, and only numpy and torch arrays are admitted; nothing was executed"
_REFUSED = {
    pickle.INST: _OBJECT,
    pickle.OBJ: _OBJECT,
    pickle.NEWOBJ: _OBJECT,
    pickle.NEWOBJ_EX: _OBJECT,
    **dict.fromkeys((pickle.EXT1, pickle.EXT2, pickle.EXT4), "refused: a code of the extension registry"),
    pickle.PERSID: "refused: a persistent id, which only a file of torch.save may hold",
    **dict.fromkeys((pickle.NEXT_BUFFER, pickle.READONLY_BUFFER), "refused: numbers that lie outside of the file"),
    **dict.fromkeys((pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET), "refused: a set; files of arrays have none"),
}
