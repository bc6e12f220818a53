"""What a pickle may contain: descriptions of number arrays. Every other function or class is refused by name.

An Array holds the position of its numbers in the file; `Array.read` reads them on demand, so the description of 20,000
videos takes a few megabytes for a file of any size. No unpickling code of numpy or torch is executed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ctt.core.errors import DataError

MOST_DIMENSIONS = 8
LONGEST_LETTER = 6
"""Maximum bytes in the file per character of a text: \\u0000."""


def brief(text: str, most: int = 100) -> str:
    """A text from a file for an error message: on one line, shortened to `most` characters."""
    line = repr(text[: most + 1])[1:-1]
    return line if len(line) <= most else f"{line[: most - 1]}…"


def shown(value: Any) -> str:
    """A value from a file for an error message: texts and numbers shortened, else only the type.

    Containers are not printed, since nested references can make their text exponentially long."""
    if type(value) is int:
        return brief(str(value), 20)
    if isinstance(value, str):
        return f"'{brief(value)}'"
    return str(value) if isinstance(value, Name) else type(value).__name__


@dataclass(frozen=True)
class Span:
    """A range of the file; `encoding`: bytes, or the encoding of a text whose characters are the bytes."""

    offset: int
    size: int
    encoding: str = "bytes"

    def read(self, file: BinaryIO) -> bytes:
        """The bytes. Raises DataError if the file is shorter or a character is above 255."""
        file.seek(self.offset)
        raw = file.read(self.size)
        if len(raw) != self.size:
            raise DataError(f"the file ends at byte {self.offset + len(raw)}, in the middle of an array")
        return as_bytes(raw.decode(self.encoding)) if self.encoding != "bytes" else raw


def as_bytes(text: str) -> bytes:
    """The bytes that old protocols write as text, one character per byte."""
    try:
        return text.encode("latin1")
    except UnicodeEncodeError as error:
        raise DataError(f"text that encodes bytes has a character above 255 ({error})") from None


@dataclass(frozen=True)
class Array:
    """An array in the file: numpy `dtype` with byte order, `shape`, bytes from `start` in `span`.

    bfloat16: the numbers of `dtype` are the upper halves of float32 ones, as which they are read.
    """

    dtype: str
    shape: tuple[int, ...]
    span: Span | bytes
    start: int = 0
    order: str = "C"
    bfloat16: bool = False

    @property
    def size(self) -> int:
        """Number of bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def read(self, file: BinaryIO) -> np.ndarray:
        """Reads the array. Raises DataError if numbers are missing."""
        if isinstance(self.span, bytes):
            raw = self.span[self.start : self.start + self.size]
        elif self.span.encoding == "bytes":
            raw = Span(self.span.offset + self.start, self.size).read(file)
        else:
            raw = self.span.read(file)[self.start :]
        if len(raw) != self.size:
            raise DataError(f"an array of {self.size} bytes has only {len(raw)} in the file")
        try:
            numbers = np.frombuffer(raw, np.dtype(self.dtype)).reshape(self.shape, order="F" if self.order == "F" else "C")
            return (numbers.astype(np.uint32) << 16).view(np.float32) if self.bfloat16 else numbers
        except ValueError as error:  # no element, but huge other axes
            raise DataError(f"an array of shape {self.shape} cannot be made ({error})") from None


@dataclass(frozen=True)
class Name:
    """A function or class that the file names; it is never imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass
class Kind:
    """A dtype under construction."""

    code: str
    order: str = "|"


@dataclass
class Blank:
    """An array under construction, before its shape and numbers are set."""

    array: Array | None = None


@dataclass(frozen=True)
class Storage:
    """The numbers of torch tensors: `dtype`, `count`, and in `place` their bytes, which torch's format gives last."""

    dtype: str
    count: int
    key: str
    place: dict[str, Span]
    bfloat16: bool = False


_NUMBERS = re.compile(r"([fiu][1248]|b1)")
STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}


def _numbers(value: Any, what: str) -> tuple[int, ...]:
    """Validates a tuple of sizes from the file. Raises DataError, naming `what`."""
    if not isinstance(value, tuple) or len(value) > MOST_DIMENSIONS:
        raise DataError(f"{what} must be a tuple of at most {MOST_DIMENSIONS} numbers")
    if any(type(n) is not int or not 0 <= n < 2**48 for n in value):
        parts = ", ".join(map(shown, value))
        raise DataError(f"{what} ({parts}) must be non-negative whole numbers")
    return value


def _described(dtype: Any, shape: Any, data: Any, order: str) -> Array:
    if not isinstance(dtype, Kind):
        raise DataError("an array's dtype must be a numpy dtype")
    sizes = _numbers(shape, "an array's shape")
    if isinstance(data, str):
        data = as_bytes(data)
    if not isinstance(data, (bytes, Span)):
        raise DataError(f"an array's numbers must be bytes, not {type(data).__name__}")
    array = Array(np.dtype(dtype.order + dtype.code).str, sizes, data, 0, order)
    encoded = isinstance(data, Span) and data.encoding != "bytes"
    given = data.size if isinstance(data, Span) else len(data)
    if not array.size <= given <= array.size * (LONGEST_LETTER if encoded else 1):
        raise DataError(f"an array of shape {sizes} has {array.size} bytes, but the file holds {given}")
    return array


def _reconstruct(cls: Any, shape: Any, code: Any) -> Blank:
    if cls != Name("numpy", "ndarray"):
        raise DataError(f"an array of the class {shown(cls)}: only numpy.ndarray is admitted")
    return Blank()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    if order not in ("C", "F"):
        raise DataError(f"an array's order must be C or F, got {shown(order)}")
    return _described(dtype, shape, data, order)


def _dtype(code: Any, align: Any = False, copy: Any = True) -> Kind:
    if not isinstance(code, str) or not _NUMBERS.fullmatch(code):
        raise DataError(f"the dtype {shown(code)} is refused: an array may contain numbers only")
    return Kind(code)


def _encode(text: Any, encoding: Any) -> bytes | Span:
    if encoding not in ("latin1", "latin-1") or not isinstance(text, (str, Span)):
        raise DataError("_codecs.encode is admitted for text in latin1 only")
    if isinstance(text, Span) and text.encoding == "bytes":
        raise DataError("_codecs.encode takes text, not bytes")
    return text if isinstance(text, Span) else as_bytes(text)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, grad: Any = False, *hooks: Any) -> Array:
    """A contiguous torch tensor."""
    if not isinstance(storage, Storage):
        raise DataError("a tensor's storage must be a torch storage")
    if any(hook not in ({}, None) for hook in hooks):
        raise DataError("a tensor with hooks or metadata is refused")
    sizes, steps = _numbers(shape, "a tensor's shape"), _numbers(strides, "a tensor's strides")
    wanted = tuple(math.prod(sizes[axis + 1 :]) for axis in range(len(sizes)))
    if len(steps) != len(sizes) or any(step != want for step, want, n in zip(steps, wanted, sizes, strict=True) if n > 1):
        raise DataError(f"a tensor of shape {sizes} with strides {steps} is not contiguous; save it as contiguous")
    (first,) = _numbers((offset,), "a tensor's offset")
    item = np.dtype(storage.dtype).itemsize
    if first + math.prod(sizes) > storage.count:
        raise DataError(f"a tensor of shape {sizes} extends past the end of its storage")
    if storage.key not in storage.place:
        raise DataError("a tensor's storage has no numbers")
    span = storage.place[storage.key]
    if span.size != storage.count * item:
        raise DataError("a torch storage has another size than announced")
    return Array(storage.dtype, sizes, span, first * item, bfloat16=storage.bfloat16)


def _parameter(tensor: Any, *_: Any) -> Array:
    """A parameter: its tensor; whether it has a gradient, and its hooks and state, do not change its numbers."""
    if not isinstance(tensor, Array):
        raise DataError("a parameter must be made of a tensor")
    return tensor


def _of_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Array:
    """A tensor with attributes of its own: the tensor."""
    if not isinstance(function, Name) or str(function) not in TENSORS or not isinstance(arguments, tuple):
        raise DataError("a tensor with attributes must be made by a function of torch")
    made: Array = TENSORS[str(function)](*map(finished, arguments))
    return made


def _default_dict(factory: Any = None) -> dict[Any, Any]:
    """A plain dict: what it would make of missing keys is never called."""
    return {}


FACTORIES = tuple(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("dict", "list"))
"""What a defaultdict makes of missing keys, where that is admitted."""
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "numpy.dtype": _dtype,
    "_codecs.encode": _encode,
    "collections.OrderedDict": lambda: {},
    "collections.defaultdict": _default_dict,
    "torch._utils._rebuild_tensor_v2": _tensor,
}
TENSORS: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
BFLOAT16 = {"BFloat16Storage": "<u2"}
ATTRIBUTED = {**TENSORS, "torch._tensor._rebuild_from_type_v2": _of_type}
"""What makes the tensors of a checkpoint; its storages may be of bfloat16 too."""
LOAD_STORAGE = "torch.storage._load_from_bytes"
ADMITTED = {*FUNCTIONS, *FACTORIES, LOAD_STORAGE, "numpy.ndarray", *(f"torch.{name}" for name in STORAGES)}


def set_state(target: Any, state: Any) -> None:
    """Completes a dtype (byte order) or an array (shape and numbers), as BUILD does."""
    if isinstance(target, Kind):
        if not isinstance(state, tuple) or len(state) != 8 or state[0] not in (3, 4) or state[1] not in ("<", ">", "|"):
            raise DataError("a dtype has an unknown description")
        if any(part is not None for part in state[2:5]):
            raise DataError("a dtype with fields or inner arrays is refused: an array may contain numbers only")
        target.order = state[1]
    elif isinstance(target, Blank):
        if target.array is not None:
            raise DataError("an array is set twice")
        if not isinstance(state, tuple) or len(state) != 5 or state[0] != 1 or not isinstance(state[3], bool):
            raise DataError("an array has an unknown description")
        target.array = _described(state[2], state[1], state[4], "F" if state[3] else "C")
    else:
        raise DataError(f"a state is given to a {type(target).__name__}, which takes none")


def storage_of(identifier: Any, place: dict[str, Span], kinds: Mapping[str, str] = STORAGES) -> Storage:
    """The storage of a persistent id in torch's format: ("storage", class, key, device, count, …)."""
    if not isinstance(identifier, tuple) or len(identifier) not in (5, 6) or identifier[0] != "storage":
        raise DataError("a persistent id is not a torch storage")
    kind, key, count = identifier[1], identifier[2], identifier[4]
    if not isinstance(kind, Name) or kind.module != "torch" or kind.name not in kinds or not isinstance(key, str):
        raise DataError(f"a storage of the class {shown(kind)} is refused")
    if len(identifier) == 6 and identifier[5] is not None:
        raise DataError("a view of a torch storage is refused")
    (size,) = _numbers((count,), "a storage's size")
    return Storage(kinds[kind.name], size, key, place, kind.name == "BFloat16Storage")


def finished(value: Any) -> Any:
    """Replaces a completed Blank by its array."""
    if isinstance(value, Blank):
        if value.array is None:
            raise DataError("an array was created and never set")
        return value.array
    return value
