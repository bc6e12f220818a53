"""Shared files: how late a file that another host has written may become visible here, as a job's launcher was given it."""

from __future__ import annotations

import os

FS_DELAY = "CTT_FS_DELAY_S"
"""Environment variable of jobs on other hosts: `launch.fs_delay_s`."""
SUCCEEDED = "CTT_NEEDS_SUCCEEDED"
"""Environment variable of jobs that were started because the jobs they need have succeeded, wherever those ran."""


def fs_delay() -> float:
    """Seconds to wait for a file that is known to have been written; 0 where all processes are on one host."""
    return float(os.environ.get(FS_DELAY) or 0.0)
