"""What a file is, by its first bytes, in words for an error message."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

from ctt.core.errors import DataError
from ctt.core.regular_files import check_regular
from ctt.safeload.pickle_reader import TORCH_MAGIC

COMPRESSED = ("gzip", "xz", "bzip2", "zstandard")
READ = ("a pickle", "a torch file", "npz", "npy", "safetensors", "HDF5")
"""Kinds that hold arrays."""

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"\x28\xb5\x2f\xfd", "zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x93NUMPY", "npy"),
    (b"\x80\x02\x8a\x0a" + TORCH_MAGIC.to_bytes(10, "little") + b".", "a torch file"),  # until torch 1.6
    (b"version https://git-lfs", "a Git LFS pointer, not the file; fetch it with `git lfs pull`"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"CDF", "a NetCDF file"),
    (b"MATLAB", "a MATLAB file"),
    (b"SQLite format 3", "an SQLite database"),
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x7fELF", "a program"),
    (b"<?xml", "an XML page"),
)
_HEAD = 4096


def kind_of(path: Path) -> str:
    """One of READ or COMPRESSED, or a description of what else the file is. Raises DataError if it cannot be read."""
    size = check_regular(path).st_size
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error})") from None
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(b"PK\3\4") or head.startswith(b"PK\5\6"):
        return _zip_kind(path)
    if not head:
        return "an empty file"
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it"
    if head[4:8] == b"ftyp":
        return "a video"
    if size > 10 and struct.unpack("<Q", head[:8].ljust(8, b"\xff"))[0] <= size - 8 and head[8:9] == b"{":
        return "safetensors"
    return _text_kind(head)


def _text_kind(head: bytes) -> str:
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "an HTML page, perhaps a server's error message"
    if text.startswith((b'{"', b"[{", b"[[", b"{}", b"[]", b"{\n")):
        return "a JSON file"
    if not head.strip(b"\0"):
        return "a file of zeros"
    protocol_0 = head[:1] in (b"(", b"c", b"}", b"]", b"l", b"d") and b"\n" in head
    if head[:1] != b"\x80" and not protocol_0 and all(31 < byte < 127 or byte in b"\t\r\n" for byte in head):
        return "a text file"
    return "a pickle"


def _zip_kind(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, OverflowError):
        return "a torch file"  # whose reader names what is wrong
    if any(name.endswith("/data.pkl") for name in names):
        return "a torch file"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "a zip archive; unpack it" if names else "an empty zip archive"
