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

from ctt.core.errors import DataError
from ctt.safeload.opcodes import REFUSED, STEPS
from ctt.safeload.pickle_machine import LARGE, PickleMachine
from ctt.safeload.rebuild import Span, Storage, brief, finished

MOST_STEPS = 5_000_000

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
            return PickleReader(file, 0, size, str(path)).run()
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
    reader = PickleReader(file, described.offset, described.size, str(path), persistent=True)
    reader.place = place
    return reader.run()


class PickleReader(PickleMachine):
    """Runs the instructions in `size` bytes of the file from `offset` on; `within` the bytes of a torch storage."""

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
        inner = PickleReader(self.file, data.offset, data.size, self.source, persistent=True, within=True)
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
