"""A file system that two clients share and that is late: the client of this process caches directories, as clients of NFS do.

What another client writes below `root` becomes visible here `delay` seconds after this client has last asked the server for the
directory's entries. Opening a directory asks anew (close-to-open consistency), unless `reopening` is false (the mount option
`nocto`). In the block of `other_client()` the process is another client, which has just written what it writes there.
"""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class LateFileSystem:
    """monkeypatch: replaces the calls by which Python looks for files, and those that change a directory, which show all of it."""

    def __init__(self, root: Path, delay: float, monkeypatch: pytest.MonkeyPatch, *, reopening: bool = True) -> None:
        self.root, self.delay, self.reopening = str(root), delay, reopening
        self._here = True
        self._cached: dict[str, tuple[float, frozenset[str]]] = {}
        self._listdir, self._scandir = os.listdir, os.scandir
        for module, name in ((os, "stat"), (os, "lstat"), (os, "open"), (builtins, "open"), (io, "open")):
            monkeypatch.setattr(module, name, self._looking(getattr(module, name)))
        for name in ("rename", "replace", "link", "symlink", "mkdir", "unlink", "remove", "rmdir"):
            monkeypatch.setattr(os, name, self._changing(getattr(os, name)))
        monkeypatch.setattr(os, "listdir", self._list)
        monkeypatch.setattr(os, "scandir", self._scan)

    @contextlib.contextmanager
    def other_client(self) -> Iterator[None]:
        """This process is the other client; what this one has looked at before stays in its cache."""
        self._look(self.root)
        self._here = False
        try:
            yield
        finally:
            self._here = True

    def _look(self, folder: str, opened: bool = False) -> frozenset[str]:
        """The entries of a directory as this client sees them."""
        when, names = self._cached.get(folder, (0.0, frozenset()))
        if folder not in self._cached or time.monotonic() - when >= self.delay or (opened and self.reopening):
            with contextlib.suppress(OSError):
                names = frozenset(self._listdir(folder))
                self._cached[folder] = (time.monotonic(), names)
        return names

    def _visible(self, path: Any) -> bool:
        """Whether each directory on the way to `path` has the next one, as far as this client knows."""
        folder = self.root
        for part in os.path.relpath(os.path.abspath(os.fsdecode(path)), self.root).split(os.sep):
            if part not in self._look(folder):
                return False
            folder = os.path.join(folder, part)
        return True

    def _covers(self, path: Any) -> bool:
        if not self._here or isinstance(path, int) or path is None:
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.root + os.sep)

    def _check(self, path: Any) -> None:
        if self._covers(path) and not self._visible(path):
            raise FileNotFoundError(2, "No such file or directory", os.fsdecode(path))

    def _looking(self, real: Any) -> Any:
        def call(path: Any, *more: Any, **options: Any) -> Any:
            if not self._covers(path):
                return real(path, *more, **options)
            writes = bool(more) and (("r" not in more[0]) if isinstance(more[0], str) else bool(more[0] & os.O_CREAT))
            self._check(os.path.dirname(os.path.abspath(os.fsdecode(path))) if writes else path)
            try:
                return real(path, *more, **options)
            finally:
                if writes:
                    self._forget(path)

        return call

    def _changing(self, real: Any) -> Any:
        def call(*paths: Any, **options: Any) -> Any:
            named = [path for path in paths if isinstance(path, (str, bytes, os.PathLike))]
            for path in named:
                self._check(os.path.dirname(os.path.abspath(os.fsdecode(path))))
            try:
                return real(*paths, **options)
            finally:
                for path in named:
                    self._forget(path)

        return call

    def _forget(self, path: Any) -> None:
        if self._covers(path):
            self._cached.pop(os.path.dirname(os.path.abspath(os.fsdecode(path))), None)

    def _list(self, path: Any = ".") -> list[str]:
        names = self._entries(path)
        return self._listdir(path) if names is None else sorted(names)

    def _scan(self, path: Any = ".") -> Any:
        names = self._entries(path)
        return self._scandir(path) if names is None else _Entries(self._scandir(path), names)

    def _entries(self, path: Any) -> frozenset[str] | None:
        """The entries of a directory that is opened; None: it is not on this file system."""
        if isinstance(path, int) or not self._here:
            return None
        folder = os.path.abspath(os.fsdecode(path))
        if folder != self.root and not self._covers(path):
            return None
        self._check(path)
        return self._look(folder, opened=True)


class _Entries:
    """The entries of `os.scandir` whose names are visible."""

    def __init__(self, real: Any, names: frozenset[str]) -> None:
        self.real, self.names = real, names

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(entry for entry in self.real if entry.name in self.names)

    def close(self) -> None:
        self.real.close()
