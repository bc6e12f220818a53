"""The opcodes of a pickle, protocol 0 to 5: what each admitted one does, and why the others are refused."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from typing import Any

from ctt.core.errors import DataError
from ctt.safeload.pickle_machine import LARGE, LONGEST_NUMBER, PickleMachine
from ctt.safeload.rebuild import Span

LONGEST_LINE = 64 << 20


def _integer(reader: PickleMachine) -> None:
    line = reader.line()
    reader.stack.append({b"00": False, b"01": True}[line] if line in (b"00", b"01") else int(line))


def _long(reader: PickleMachine, size: int) -> None:
    if not 0 <= size <= LONGEST_NUMBER:
        raise DataError(f"a number of {size} bytes")
    reader.stack.append(int.from_bytes(reader.take(size), "little", signed=True))


def _text_line(reader: PickleMachine) -> None:
    start = reader.position
    line = reader.line(LONGEST_LINE)
    if len(line) >= LARGE:
        reader.stack.append(Span(start, len(line), "raw-unicode-escape"))
    else:
        reader.keep(len(line))
        reader.stack.append(line.decode("raw-unicode-escape"))


def _quoted(reader: PickleMachine) -> None:
    line = reader.line(LONGEST_LINE)
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise DataError("a text without quotation marks")
    reader.keep(len(line))
    reader.stack.append(line[1:-1].decode("unicode-escape").encode("latin1").decode("latin1"))


def _old_text(reader: PickleMachine, size: int) -> None:
    """A str of Python 2: a name, or the bytes of an array."""
    reader.stack.append(reader.large(size, "bytes") if size >= LARGE else reader.take(size).decode("latin1"))


def _protocol(reader: PickleMachine) -> None:
    version = reader.number("<B")
    if version > 5:
        raise DataError(f"protocol {version} is not supported (0 to 5 are)")


def _global(reader: PickleMachine) -> None:
    reader.name(reader.line().decode("utf-8"), reader.line().decode("utf-8"))


def _stack_global(reader: PickleMachine) -> None:
    name, module = reader.stack.pop(), reader.stack.pop()
    reader.name(module, name)


def _duplicate(reader: PickleMachine) -> None:
    reader.stack.append(reader.stack[-1])


def _pop(reader: PickleMachine) -> None:
    if reader.stack:
        reader.stack.pop()
    else:
        reader.since_mark()


def _make_dict(reader: PickleMachine) -> None:
    items = reader.since_mark()
    reader.stack.append({})
    reader.set_items(items)


def _set_item(reader: PickleMachine) -> None:
    value, key = reader.stack.pop(), reader.stack.pop()
    reader.set_items([key, value])


def _push(value: Callable[[], Any]) -> Callable[[PickleMachine], None]:
    return lambda reader: reader.push(value())


STEPS: dict[bytes, Callable[[PickleMachine], None]] = {
    pickle.PROTO: _protocol,
    pickle.FRAME: lambda r: r.require(r.number("<Q")),
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
_OBJECT = "refused: an object of a class is created; only numpy and torch arrays are admitted; nothing was executed"
REFUSED = {
    pickle.INST: _OBJECT,
    pickle.OBJ: _OBJECT,
    pickle.NEWOBJ: _OBJECT,
    pickle.NEWOBJ_EX: _OBJECT,
    **dict.fromkeys((pickle.EXT1, pickle.EXT2, pickle.EXT4), "refused: a code of the extension registry"),
    pickle.PERSID: "refused: a persistent id, which only a file of torch.save may contain",
    **dict.fromkeys((pickle.NEXT_BUFFER, pickle.READONLY_BUFFER), "refused: a buffer that is outside of the file"),
    **dict.fromkeys((pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET), "refused: a set; files of arrays have none"),
}
