"""Fetching the official files: downloads that resume after an interruption and are checked before use.

`PATH.part` grows until it is complete; then it is checked and renamed. A broken connection is retried from the last
byte; so does the next `ctt data fetch`. Slots are checked by the sha256 that the hub states, other files by their
announced size, questions also by their counts.
huggingface_hub finds the slots (`ctt.data.clevrer.hub`), but does not download them: its partial files have a different
name in each process (as of 2.4), so it would start an interrupted download of 9 GB from zero.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctt.core.atomic_files import write_json
from ctt.core.build_context import stopping
from ctt.core.errors import DataError, Interrupted
from ctt.data.clevrer.hub import file_metadata
from ctt.data.clevrer.imported_slots import sha256_of
from ctt.data.data_format import SPLITS
from ctt.data.data_settings import FetchSettings

KINDS = ("slots", "questions", "annotations")
ENCODERS = ("videosaur", "savi")
BLOCK = 1 << 20
Progress = Callable[[int, int], None]
"""Called with the bytes downloaded so far and the total (0 if unknown)."""


@dataclass(frozen=True)
class Download:
    """One file to fetch; `sha256` if known in advance. With a `hub`, `url` is the file's name there."""

    url: str
    path: Path
    sha256: str | None = None
    hub: str | None = None
    token: str | None = None


def downloads(settings: FetchSettings, kind: str, encoder: str = "videosaur") -> list[Download]:
    """The downloads for one of KINDS. Raises DataError if no address is set for it."""
    key = f"slots_{encoder}" if kind == "slots" else kind
    url: str | None = getattr(settings, key)
    if not url:
        raise DataError(f"data.fetch.{key} has no address; choose data=clevrer for the official ones (conf/data/clevrer.yaml)")
    folder = Path(settings.folder).expanduser()
    if kind == "slots":
        hub = None if "://" in url else settings.hub
        return [Download(url, folder / f"clevrer_{encoder}_slots.pkl", hub=hub)]
    if "{split}" not in url:
        raise DataError(f"data.fetch.{key} must contain {{split}} in place of the split's name, got {url}")
    splits = SPLITS if kind == "questions" else SPLITS[:2]
    ends = {"questions": "questions/{split}.json", "annotations": "annotations/annotation_{split}.zip"}[kind]
    return [Download(url.replace("{split}", s), folder / ends.replace("{split}", s)) for s in splits]


@dataclass
class _Source:
    """What the server reports of the file; `total` is 0 if it is not reported."""

    total: int = 0
    etag: str = ""
    sha256: str | None = None


def fetch(
    wanted: Download,
    *,
    timeout: float = 30.0,
    attempts: int = 5,
    pause: Callable[[int], float] = lambda failed: min(2.0**failed, 30.0),
    progress: Progress = lambda done, total: None,
) -> str:
    """Downloads one file unless it exists; returns "fetched" or "there".

    Raises DataError with address, path and remedy: no network, no such file, `attempts` interruptions in a row without a
    new byte, or a size or checksum that differs from the stated one (the file is deleted then).
    """
    path, part = wanted.path, wanted.path.with_name(wanted.path.name + ".part")
    if path.exists():
        return "there"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        failed = 0
        while True:
            before = _size(part)
            try:
                found = _found(wanted, timeout)
                source = _continue(found, part, timeout, progress)
                break
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and not isinstance(error, _NETWORK):
                    raise
                failed = 1 if _size(part) > before else failed + 1
                final = _final(error)
                if final or failed >= attempts:
                    raise DataError(_explained(wanted, error, _size(part))) from None
                time.sleep(pause(failed))
        _check(found, part, source)
        _meta(part).unlink(missing_ok=True)
        os.replace(part, path)
    except OSError as error:
        where = error.filename or part
        raise DataError(f"{where} cannot be written ({error.strerror or error}); the next fetch continues") from None
    return "fetched"


_NETWORK = (urllib.error.URLError, TimeoutError, ConnectionError, socket.gaierror, ssl.SSLError)


def _meta(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _found(wanted: Download, timeout: float) -> Download:
    """The download with the address and checksum that its hub reports."""
    if wanted.hub is None:
        return wanted
    file = file_metadata(wanted.url, wanted.hub, timeout)
    return replace(wanted, url=file.url, sha256=file.sha256, token=file.token, hub=None)


def _continue(wanted: Download, part: Path, timeout: float, progress: Progress) -> _Source:
    """Downloads the missing bytes of `part`. Raises OSError or HTTPException if the connection ends too early."""
    url = wanted.url
    known = _known(wanted, part)
    have = _size(part) if known.total or known.etag else 0
    if known.total and have == known.total:
        return known
    source = _Source(sha256=wanted.sha256 or known.sha256)
    request = urllib.request.Request(url, headers={"User-Agent": "ctt", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if known.etag and not known.etag.startswith("W/"):
            request.add_header("If-Range", known.etag)
    if wanted.token:  # unredirected: not sent to other hosts
        request.add_unredirected_header("Authorization", f"Bearer {wanted.token}")
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # the file is shorter than the part: it has changed
            part.unlink()
            _meta(part).unlink(missing_ok=True)
            return _continue(wanted, part, timeout, progress)
        raise
    with answer:
        have = _begins(answer, have, source)
        if known.total and source.total and known.total != source.total:
            part.unlink(missing_ok=True)
            if have:
                _meta(part).unlink(missing_ok=True)
                raise ConnectionError("the file has changed on the server")
        write_json(_meta(part), dict(url=url, total=source.total, etag=source.etag, sha256=source.sha256))
        with open(part, "r+b" if have else "wb") as file:
            file.truncate(have)
            file.seek(have)
            while block := answer.read(BLOCK):
                file.write(block)
                have += len(block)
                progress(have, source.total)
                if stopping():
                    raise Interrupted(f"stopped at {have} bytes of {part}; the same command continues there")
    if source.total and have < source.total:
        raise ConnectionError(f"the connection broke off after {have} of {source.total} bytes")
    return source


def _begins(answer: Any, have: int, source: _Source) -> int:
    """The byte at which the answer starts: `have` as requested, or 0 if the server sends the whole file."""
    source.etag = answer.headers.get("ETag") or ""
    stated = answer.headers.get("Content-Length") or "0"
    length = int(stated) if stated.isdecimal() else 0
    if answer.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range") or "")
        if match is None or int(match[1]) != have:
            raise ConnectionError("the server sent another part of the file than requested")
        source.total = int(match[2]) if match[2] != "*" else (have + length if length else 0)
        return have
    source.total = length
    return 0


def _known(wanted: Download, part: Path) -> _Source:
    """The server's report to an earlier attempt at the same address; empty if the checksum differs."""
    try:
        found = json.loads(_meta(part).read_text(encoding="utf-8"))
        if found["url"] == wanted.url and (None in (found["sha256"], wanted.sha256) or found["sha256"] == wanted.sha256):
            return _Source(int(found["total"]), str(found["etag"]), found["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return _Source()


def _check(wanted: Download, part: Path, source: _Source) -> None:
    expected = wanted.sha256 or source.sha256
    if source.total and _size(part) != source.total:
        wrong = f"has {_size(part)} bytes instead of {source.total}"
    elif expected and sha256_of(part) != expected:
        wrong = f"has the sha256 {sha256_of(part)[:16]}… instead of {expected[:16]}…"
    else:
        return
    part.unlink()
    _meta(part).unlink(missing_ok=True)
    raise DataError(f"{wanted.url} arrived damaged: it {wrong}. It was deleted; fetch it again")


def _final(error: Exception) -> bool:
    """Whether a retry is useless: a permanent HTTP error, an unknown host or a refused connection."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500 and error.code not in (408, 429)
    reason = getattr(error, "reason", error)
    return isinstance(reason, (socket.gaierror, ConnectionRefusedError)) or not isinstance(
        reason, (OSError, http.client.HTTPException)
    )


def _explained(wanted: Download, error: Exception, have: int) -> str:
    """The error and its remedy on one line, whatever text the server sent."""
    return " ".join(_problem(wanted, error, have).split())


def _problem(wanted: Download, error: Exception, have: int) -> str:
    by_hand = f"Or download it elsewhere and put it at {wanted.path}"
    if isinstance(error, urllib.error.HTTPError):
        if error.code in (401, 403) and wanted.hub:
            return (
                f"{wanted.url}: {wanted.hub} answers {error.code} {error.reason}; log in with `hf auth login`, or set "
                f"HF_TOKEN. {by_hand}"
            )
        moved = "; it may have moved: set its address in conf/data/clevrer.yaml (data.fetch)"
        return f"{wanted.url}: the server answers {error.code} {error.reason}{moved if error.code == 404 else ''}. {by_hand}"
    reason = getattr(error, "reason", error)
    if have:
        return f"{wanted.url}: {reason}. {have} bytes are kept; the same command continues there. {by_hand}"
    return f"{wanted.url} cannot be reached ({reason}); check the network. {by_hand}"
