"""Session: this command again, in a session of its own that no terminal ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def start_again(log: Path) -> subprocess.Popen[bytes]:
    """Starts this very command in a session of its own, without a terminal; it prints to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "ctt", *sys.argv[1:], "launch.detach=false"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
