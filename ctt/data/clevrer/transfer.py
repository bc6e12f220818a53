"""Transfer: one attempt to download the missing bytes of a file, watched for signals, its rate and its size."""

from __future__ import annotations

import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ctt.core.atomic_files import write_json
from ctt.core.errors import DataError
from ctt.core.interruptible import interruptible
from ctt.core.plain_text import plain
from ctt.core.secrets import masked
from ctt.core.units import size
from ctt.data.clevrer.hub import file_metadata
from ctt.data.clevrer.redirects import check_address, open_address

BLOCK = 1 << 20
NETWORK = (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException)
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

    @property
    def part(self) -> Path:
        """The file that grows until it is complete."""
        return self.path.with_name(f"{self.path.name}.part")

    @property
    def report(self) -> Path:
        """What the server reported of the part."""
        return self.path.with_name(f"{self.path.name}.part.json")

    @property
    def have(self) -> int:
        """Bytes of the part."""
        try:
            return self.part.stat().st_size
        except FileNotFoundError:
            return 0

    def drop(self) -> None:
        """Deletes the part."""
        self.part.unlink(missing_ok=True)
        self.report.unlink(missing_ok=True)


@dataclass(frozen=True)
class Limits:
    """What a download may take: see FetchSettings."""

    timeout: float = 30.0
    minimum_rate: float = 1000.0
    most: float = 20e9
    hosts: tuple[str, ...] = ()


@dataclass
class Reported:
    """What the server reports of the file; `total` is 0 if it is not reported."""

    total: int = 0
    etag: str = ""
    sha256: str | None = None


class _GivenUp(Exception):
    """The attempt was abandoned; its thread ends without touching a file."""


class Transfer:
    """An attempt; `run` once. `progress` is called from the thread that calls `run`."""

    def __init__(self, wanted: Download, limits: Limits, progress: Progress) -> None:
        self.wanted, self.limits, self.progress = wanted, limits, progress
        self.received = self.done = self.total = 0
        self._start = self._began = time.monotonic()
        self._before = 0
        self._lock = threading.Lock()
        self._abandoned = False

    def run(self) -> tuple[Download, Reported]:
        """Downloads until the part is complete; returns the download as its hub describes it, and the server's report.

        Raises an error of NETWORK if the connection fails, ends too early or is too slow, Interrupted at a signal, and DataError
        for what another attempt does not mend."""
        try:
            found = interruptible(self._work, lambda: stopped(self.wanted), self._watch)
        finally:
            with self._lock:
                self._abandoned = True
        if self.done:
            self.progress(self.done, self.total)
        return found

    @property
    def progressed(self) -> bool:
        """Whether bytes have arrived, at the minimum rate or faster."""
        return self.received > 0 and self.received >= self.limits.minimum_rate * (time.monotonic() - self._start)

    def _watch(self) -> None:
        if self.done:
            self.progress(self.done, self.total)
        now = time.monotonic()
        seconds, new = now - self._began, self.received - self._before
        if seconds < self.limits.timeout:
            return
        if new < max(self.limits.minimum_rate * seconds, 1):
            what = f"only {size(new)}" if new else "no data"
            raise TimeoutError(f"{what} in {seconds:.0f} s; data.fetch.minimum_rate is {size(self.limits.minimum_rate)}/s")
        self._began, self._before = now, self.received

    @contextmanager
    def _own(self) -> Iterator[None]:
        """A block that changes files: only while this attempt is the current one."""
        with self._lock:
            if self._abandoned:
                raise _GivenUp
            yield

    def _work(self) -> tuple[Download, Reported]:
        wanted = self.wanted
        if wanted.hub is not None:
            check_address(wanted.hub)
            file = file_metadata(wanted.url, wanted.hub, self.limits.timeout)
            wanted = replace(wanted, url=file.url, sha256=file.sha256, token=file.token, hub=None)
        return wanted, self._continue(wanted)

    def _continue(self, wanted: Download) -> Reported:
        known = _known(wanted)
        have = wanted.have if known.total or known.etag else 0
        if known.total and have == known.total:
            return known
        source = Reported(sha256=wanted.sha256 or known.sha256)
        try:
            answer = open_address(_request(wanted, have, known.etag), self.limits.hosts, self.limits.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416 and have:  # the file is shorter than the part: it has changed
                with self._own():
                    wanted.drop()
                return self._continue(wanted)
            raise
        with answer:
            have = _begins(answer, have, source)
            self._check_size(wanted, source.total or have, "announces")
            if known.total and source.total and known.total != source.total:
                with self._own():
                    if have:
                        wanted.drop()
                        raise ConnectionError("the file has changed on the server")
            self._receive(wanted, answer, have, source)
        return source

    def _receive(self, wanted: Download, answer: Any, have: int, source: Reported) -> None:
        """Writes the answer to the part, from byte `have`."""
        self.done, self.total = have, source.total
        with self._own():
            write_json(wanted.report, dict(url=masked(wanted.url), total=source.total, etag=source.etag, sha256=source.sha256))
            with open(wanted.part, "r+b" if have else "wb") as part:
                part.truncate(have)
        with open(wanted.part, "ab", buffering=0) as part:
            while block := _read(answer):
                self.received += len(block)
                self._check_size(wanted, self.done + len(block), "has sent")
                with self._own():
                    left = memoryview(block)
                    while left:
                        left = left[part.write(left) :]
                    self.done += len(block)
        if source.total and self.done != source.total:
            raise ConnectionError(f"the connection broke off after {self.done} of {source.total} bytes")

    def _check_size(self, wanted: Download, bytes_: int, does: str) -> None:
        if bytes_ > self.limits.most:
            with self._own():
                wanted.drop()
            limit = f"data.fetch.most is {size(self.limits.most)}"
            raise DataError(f"{plain(wanted.url, 300)}: the server {does} {size(bytes_)}; {limit}. Nothing is kept")


def stopped(wanted: Download) -> str:
    """The text of Interrupted."""
    return f"stopped at {wanted.have} bytes of {wanted.part}; the same command continues there"


def _request(wanted: Download, have: int, etag: str) -> urllib.request.Request:
    check_address(wanted.url)
    request = urllib.request.Request(wanted.url, headers={"User-Agent": "ctt", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if etag and not etag.startswith("W/"):
            request.add_header("If-Range", etag)
    if wanted.token:  # unredirected: not sent to other hosts
        request.add_unredirected_header("Authorization", f"Bearer {wanted.token}")
    return request


def _read(answer: Any) -> bytes:
    """The bytes that have arrived, b"" at the end."""
    try:
        return bytes(answer.read1(BLOCK))
    except OSError as error:
        raise error if isinstance(error, NETWORK) else ConnectionError(str(error)) from None


def _begins(answer: Any, have: int, source: Reported) -> int:
    """The byte at which the answer starts: `have` as requested, or 0 if the server sends the whole file."""
    source.etag = answer.headers.get("ETag") or ""
    stated = answer.headers.get("Content-Length") or "0"
    length = int(stated) if re.fullmatch(r"[0-9]{1,18}", stated) else 0
    if answer.status == 206:
        match = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", answer.headers.get("Content-Range") or "")
        if match is None or int(match[1]) != have:
            raise ConnectionError("the server sent another part of the file than requested")
        source.total = int(match[2]) if match[2] != "*" else (have + length if length else 0)
        return have
    source.total = length
    return 0


def _known(wanted: Download) -> Reported:
    """The server's report to an earlier attempt at the same address; empty if the checksum differs."""
    try:
        found = json.loads(wanted.report.read_text(encoding="utf-8"))
        if found["url"] == masked(wanted.url) and (None in (found["sha256"], wanted.sha256) or found["sha256"] == wanted.sha256):
            return Reported(int(found["total"]), str(found["etag"]), found["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return Reported()
