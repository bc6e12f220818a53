"""Work: the unfinished work of one key, in a folder named by the fence of the lease it belongs to (see leases)."""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

from ctt.core import atomic_files
from ctt.store.leases import Lease


class Work:
    """`folder` holds <fence>/ and, while a takeover is under way or was cut short, <fence>.from and <fence>.copy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def current(self) -> Path | None:
        """Where the work is, or None if there is none."""
        numbers = [number for number, complete in self._generations() if complete]
        return self.folder / str(numbers[-1]) if numbers else None

    def adopt(self, lease: Lease) -> None:
        """Makes the newest work the lease's own: under its fence's number and, if it had another, in fresh files.

        The rename cuts off the paths of the previous owner, the copy their open files; see ctt.store.leases.
        """
        self._take(lease)
        self.clear(lease.fence, keep=str(lease.fence))

    def _take(self, lease: Lease) -> None:
        generations = self._generations()
        mine = self.folder / str(lease.fence)
        if not generations or mine.is_dir():
            return
        number, complete = generations[-1]
        if complete and number >= lease.doubt:  # its owner is surely gone
            with suppress(FileNotFoundError):  # the owner before us, who was alive after all, has just published it
                os.rename(self.folder / str(number), mine)
            return
        source, copy = self.folder / f"{lease.fence}.from", self.folder / f"{lease.fence}.copy"
        atomic_files.remove_tree(copy)
        try:
            os.rename(self.folder / (str(number) if complete else f"{number}.from"), source)
            shutil.copytree(source, copy)
            lease.check()
            os.rename(copy, mine)
        except (FileNotFoundError, shutil.Error):
            lease.check()  # somebody took over from us, too: that is the reason, then
            if mine.is_dir() or not source.exists():  # the owner before us has just published or removed it
                return
            raise
        atomic_files.sync(self.folder)

    def clear(self, fence: int, keep: str = "") -> None:
        """Removes what this and earlier leases left of the work, but `keep`; a later lease's is not ours to touch."""
        with suppress(OSError):
            for name in os.listdir(self.folder):
                number = name.partition(".")[0]
                if name != keep and (not number.isdigit() or int(number) <= fence):
                    atomic_files.remove_tree(self.folder / name)
            os.rmdir(self.folder)

    def _generations(self) -> list[tuple[int, bool]]:
        """Work by number, the newest last, and whether it is complete or the source of a copy that was cut short."""
        try:
            names = os.listdir(self.folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = [(int(name), True) for name in names if name.isdigit()]
        return sorted(found + [(int(name[:-5]), False) for name in names if re.fullmatch(r"\d+\.from", name)])
