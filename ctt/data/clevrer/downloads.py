"""Fetching the official files: downloads that resume after an interruption and are checked before use.

`PATH.part` grows until it is complete; then it is checked and renamed. A broken connection is retried from the last
byte; so does the next `ctt data fetch`. Slots are checked by the sha256 that the hub states, other files by their
announced size, questions also by their counts.
huggingface_hub finds the slots (`ctt.data.clevrer.hub`), but does not download them: its partial files have a different
name in each process (as of 2.4), so it would start an interrupted download of 9 GB from zero.
"""

from __future__ import annotations

import http.client
import os
import socket
import urllib.error
from collections.abc import Callable
from pathlib import Path

from ctt.core.errors import DataError
from ctt.core.interruptible import interruptible, pause
from ctt.core.plain_text import plain
from ctt.data.clevrer.imported_slots import sha256_of
from ctt.data.clevrer.transfer import NETWORK, Download, Limits, Progress, Reported, Transfer, stopped
from ctt.data.data_format import SPLITS
from ctt.data.data_settings import FetchSettings

KINDS = ("slots", "questions", "annotations", "checkpoints")
MASKED = range(5)
"""The numbers of masked slots that world models were published for."""
ENCODERS = ("videosaur", "savi")


DEFAULT = Limits()


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
    if kind == "checkpoints":
        if "{encoder}" not in url or "{masked}" not in url:
            raise DataError(f"data.fetch.{key} must contain {{encoder}} and {{masked}}, got {url}")
        names = [url.replace("{encoder}", one).replace("{masked}", str(masked)) for one in ENCODERS for masked in MASKED]
        hub = None if "://" in url else settings.hub
        return [Download(name, folder / "checkpoints" / name.partition("@")[0].rpartition("/")[2], hub=hub) for name in names]
    if "{split}" not in url:
        raise DataError(f"data.fetch.{key} must contain {{split}} in place of the split's name, got {url}")
    splits = SPLITS if kind == "questions" else SPLITS[:2]
    ends = {"questions": "questions/{split}.json", "annotations": "annotations/annotation_{split}.zip"}[kind]
    return [Download(url.replace("{split}", s), folder / ends.replace("{split}", s)) for s in splits]


def limits(settings: FetchSettings) -> Limits:
    """What the settings allow a download."""
    return Limits(settings.timeout, settings.minimum_rate, settings.most, tuple(settings.hosts))


def fetch(
    wanted: Download,
    *,
    limits: Limits = DEFAULT,
    attempts: int = 5,
    wait: Callable[[int], float] = lambda failed: min(2.0**failed, 30.0),
    progress: Progress = lambda done, total: None,
) -> str:
    """Downloads one file unless it exists; returns "fetched" or "there".

    Raises Interrupted within a second of a signal, whatever the server does, and DataError with address, path and remedy: no
    network, no such file, more bytes than allowed, a redirect that is refused, `attempts` interruptions in a row without a new
    byte or below the minimum rate, or a size or checksum that differs from the stated one (the file is deleted then).
    """
    if wanted.path.exists():
        return "there"
    try:
        wanted.path.parent.mkdir(parents=True, exist_ok=True)
        found, source = _transferred(wanted, limits, attempts, wait, progress)
        _check(found, source)
        wanted.report.unlink(missing_ok=True)
        os.replace(wanted.part, wanted.path)
    except OSError as error:
        where = error.filename or wanted.part
        raise DataError(f"{where} cannot be written ({error.strerror or error}); the next fetch continues") from None
    return "fetched"


def _transferred(
    wanted: Download, limits: Limits, attempts: int, wait: Callable[[int], float], progress: Progress
) -> tuple[Download, Reported]:
    """Transfers until the part is complete, in as many attempts as that takes while it makes progress."""
    failed = 0
    while True:
        before, transfer = wanted.have, Transfer(wanted, limits, progress)
        try:
            return transfer.run()
        except NETWORK as error:
            failed = 1 if wanted.have > before and transfer.progressed else failed + 1
            if _final(error) or failed >= attempts:
                raise DataError(_explained(wanted, error)) from None
        pause(wait(failed), lambda: stopped(wanted))


def _check(wanted: Download, source: Reported) -> None:
    expected = wanted.sha256 or source.sha256
    sha256 = interruptible(lambda: sha256_of(wanted.part), lambda: stopped(wanted)) if expected else ""
    if source.total and wanted.have != source.total:
        wrong = f"has {wanted.have} bytes instead of {source.total}"
    elif expected and sha256 != expected:
        wrong = f"has the sha256 {sha256[:16]}… instead of {expected[:16]}…"
    else:
        return
    wanted.drop()
    raise DataError(f"{plain(wanted.url)} arrived damaged: it {wrong}. It was deleted; fetch it again")


def _final(error: Exception) -> bool:
    """Whether a retry is useless: a permanent HTTP error, an unknown host or a refused connection."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code < 500 and error.code not in (408, 429)
    reason = getattr(error, "reason", error)
    return isinstance(reason, (socket.gaierror, ConnectionRefusedError)) or not isinstance(
        reason, (OSError, http.client.HTTPException)
    )


def _explained(wanted: Download, error: Exception) -> str:
    """The error and its remedy on one line, whatever text the server sent."""
    url, have, by_hand = plain(wanted.url, 300), wanted.have, f"Or download it elsewhere and put it at {wanted.path}"
    if isinstance(error, urllib.error.HTTPError):
        answers = f"answers {error.code} {plain(str(error.reason), 200)}"
        if error.code in (401, 403) and wanted.hub:
            return f"{url}: {wanted.hub} {answers}; log in with `hf auth login`, or set HF_TOKEN. {by_hand}"
        moved = "; it may have moved: set its address in conf/data/clevrer.yaml (data.fetch)"
        return f"{url}: the server {answers}{moved if error.code == 404 else ''}. {by_hand}"
    reason = plain(str(getattr(error, "reason", error)), 200) or type(error).__name__
    if have:
        return f"{url}: {reason}. {have} bytes are kept; the same command continues there. {by_hand}"
    return f"{url} cannot be reached ({reason}); check the network. {by_hand}"
