"""A pickle reader that executes nothing: it interprets the file's opcodes and admits only arrays of numbers.

`read(path)` returns the tree of dicts, lists and Arrays that a pickle (protocol 0 to 5) or a torch file describes. It is
a separate interpreter of the few opcodes that data need; functions and classes are names that are looked up in a short
table (rebuild.py), never imported. Large byte strings are skipped, so neither a large file nor one that declares an
enormous size fills the memory.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ctt.core.errors import DataError
from ctt.core.regular_files import check_regular
from ctt.safeload.opcodes import REFUSED, STEPS
from ctt.safeload.pickle_machine import LARGE, PickleMachine
from ctt.safeload.rebuild import Span, Storage, brief, finished

MOST_STEPS = 5_000_000

TORCH_MAGIC = 0x1950A86A20F9469CFC6C


def read(path: Path) -> Any:
    """The tree that the file describes: dict, list, tuple, str, bytes, numbers, Span (large bytes) and Array.

    Raises DataError naming the file, the byte and the refused or malformed part; nothing was executed then.
    """
    path = Path(path)
    size = check_regular(path).st_size
    with explained(path), open(path, "rb") as file:
        if file.read(4) == b"PK\3\4":
            described, place = parts_of_zip(path, file)
            reader = PickleReader(file, described.offset, described.size, str(path), persistent=True)
            reader.place = place
            return reader.run()
        return PickleReader(file, 0, size, str(path)).run()


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what can go wrong while a file is read into a DataError that names it."""
    try:
        yield
    except DataError as error:
        raise error if str(error).startswith(str(path)) else DataError(f"{path}: {error}") from None
    except (struct.error, IndexError, KeyError):
        raise DataError(f"{path} is cut off or damaged") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply; a file of arrays is not") from None


def parts_of_zip(path: Path, file: BinaryIO) -> tuple[Span, dict[str, Span]]:
    """Where a zip file of torch.save has its pickle (NAME/data.pkl) and the numbers (NAME/data/KEY), which are uncompressed."""
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
                raise DataError(f"{path}: its part {brief(entry.filename)} is compressed or damaged; torch.save does not compress")
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
    return described, place


class PickleReader(PickleMachine):
    """Interprets the opcodes in `size` bytes of the file from `offset`; `within`: these are the bytes of a torch storage."""

    def run(self) -> Any:
        """The object of one pickle. Raises DataError if it is malformed, or if bytes follow it (allowed within a storage)."""
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
                step = self.step(code)
                if step is None:
                    raise DataError(REFUSED.get(code, f"{code!r} is no opcode of a pickle"))
                step(self)
        except (IndexError, KeyError):
            raise DataError(f"{self.source}, byte {start}: malformed pickle (it uses a value that does not exist)") from None
        except (ValueError, OverflowError, UnicodeError, struct.error) as error:
            raise DataError(f"{self.source}, byte {start}: malformed pickle ({brief(str(error))})") from None
        except TypeError as error:
            raise DataError(f"{self.source}, byte {start}: refused: {brief(str(error))}") from None
        except DataError as error:
            if str(error).startswith(self.source):
                raise
            raise DataError(f"{self.source}, byte {start}: {error}") from None
        raise DataError(f"{self.source}: more than {MOST_STEPS:,} opcodes; a file of arrays has a few per array")

    def step(self, code: bytes) -> Callable[[PickleMachine], None] | None:
        """What an opcode does; None: it is refused."""
        return STEPS.get(code)

    def storage(self, data: Any) -> Any:
        """torch's older format, inside a byte string: pickles of metadata (3), storage and keys, then the numbers."""
        if isinstance(data, bytes):  # smaller than LARGE, so already in memory
            raise DataError(f"refused: a torch storage of under {LARGE} bytes; such a tensor is too small for a video")
        if not isinstance(data, Span) or data.encoding != "bytes":
            raise DataError("refused: a torch storage must be made of bytes")
        if self.within or data.offset in self.loaded:  # bounds the recursion and the bytes read
            raise DataError("refused: a torch storage within another one, or loaded twice")
        self.loaded.add(data.offset)
        resume = self.position
        inner = PickleReader(self.file, data.offset, data.size, self.source, persistent=True, within=True)
        parts = [inner.next_pickle() for _ in range(5)]
        if parts[0] != TORCH_MAGIC or not isinstance(parts[3], Storage):
            raise DataError("refused: the bytes are no torch storage")
        size = inner.number("<q")
        found = parts[3]
        span = Span(inner.position, inner.end - inner.position)
        if parts[4] != [found.key] or size != found.count or span.size != size * int(found.dtype[-1]):
            raise DataError("a torch storage has another size than announced")
        found.place[found.key] = span
        self.file.seek(resume)
        return found

    def next_pickle(self) -> Any:
        """The object of the next of several consecutive pickles; the memo is cleared."""
        self.stack, self.marks, self.memo = [], [], {}
        return self.run()
