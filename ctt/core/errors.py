"""The exceptions of ctt; every message names the file, key or value and the remedy.

CttError
├── UsageError       bad input, found before any work (exit code 2)
│   ├── SettingError   a setting's name, type or value
│   ├── SweepError     a sweep file or its combination with the command line
│   └── DataError      a data file that is missing, malformed or unsafe
├── StoreError       an artifact that is missing, damaged or owned by another process
│   ├── DiskFull       no space for what is to be written: bytes, files or a quota
│   ├── LeaseHeld      another process is building the key, and the caller does not wait (any longer)
│   └── LeaseLost      another process took the key over during the work
└── StageFailed      a stage that could not be finished; holds its failure class
    ├── Interrupted    stopped by a signal; a checkpoint was written
    └── Diverged       a loss became NaN or infinite, or an error far too large
"""

from __future__ import annotations

from ctt.core.secrets import masked


class CttError(Exception):
    """Base of all errors that ctt raises on purpose. `failure` is the class of a stage that it ends, as recorded in the store."""

    failure = "code error"

    def __str__(self) -> str:
        """The message; passwords in its addresses are masked, as it goes to logs and records."""
        return masked(super().__str__())


class UsageError(CttError):
    """Bad input, found before any work was done."""


class SettingError(UsageError):
    """A setting's name, type or value is wrong."""


class SweepError(UsageError):
    """A sweep file, or its combination with the command line, is wrong."""


class DataError(UsageError):
    """A data file is missing, malformed or unsafe."""


class StoreError(CttError):
    """An artifact is missing, damaged or owned by another process."""


class DiskFull(StoreError):
    """There is no space for what is to be written: the disk, its inodes or a quota are used up."""

    failure = "disk full"


class LeaseHeld(StoreError):
    """Another process is building the key, and the caller does not wait for it (any longer)."""


class LeaseLost(StoreError):
    """Another process took the key over during the work; nothing was published."""


class StageFailed(CttError):
    """A stage could not be finished."""


class Interrupted(StageFailed):
    """A signal asked the stage to stop; its checkpoint is written and the next build continues there."""

    failure = "interrupted"


class Diverged(StageFailed):
    """A loss became NaN or infinite, or the world model's error is far larger than without a model."""

    failure = "diverged"
