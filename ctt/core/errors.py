"""What can go wrong, as a tree; every message names the file, key or value and the remedy.

CttError
├── UsageError       bad input, found before any work (exit code 2)
│   ├── SettingError   a setting's name, type or value
│   ├── SweepError     a sweep file or its combination with the command line
│   └── DataError      a data file that is missing, malformed or hostile
├── StoreError       an artifact that is missing, damaged or owned by someone else
│   ├── LeaseHeld      someone else is building the key, and we were asked not to wait (any longer)
│   └── LeaseLost      another owner took the key over while we worked
└── StageFailed      a stage that could not be finished; carries its failure class
    ├── Interrupted    asked to stop by a signal; a checkpoint was written
    └── Diverged       a loss became NaN or infinite, or an error absurdly large
"""

from __future__ import annotations


class CttError(Exception):
    """Every error ctt raises on purpose."""


class UsageError(CttError):
    """Bad input, found before any work was done."""


class SettingError(UsageError):
    """A setting's name, type or value is wrong."""


class SweepError(UsageError):
    """A sweep file, or what it becomes with the command line, is wrong."""


class DataError(UsageError):
    """A data file is missing, malformed or hostile."""


class StoreError(CttError):
    """An artifact is missing, damaged or owned by someone else."""


class LeaseHeld(StoreError):
    """Someone else is building the key, and the caller does not want to wait for it (any longer)."""


class LeaseLost(StoreError):
    """Another owner took the key over while we worked; nothing was published."""


class StageFailed(CttError):
    """A stage could not be finished. `failure` is its class, as recorded in the store."""

    failure = "code error"


class Interrupted(StageFailed):
    """A signal asked the stage to stop; its checkpoint is written and the next build continues there."""

    failure = "interrupted"


class Diverged(StageFailed):
    """A loss became NaN or infinite, or the world model's error far larger than that of no model."""

    failure = "diverged"
