"""Lease: the right to build one key, held by one owner at a time on a file system that many machines share.

A key's leases are files of one folder, numbered upwards; the highest number is the lease that counts. One is taken by
hard-linking a complete file to the next number, which the file server grants to exactly one contender, and is never
given away or renamed, so nobody can remove or refresh a lease of another owner:

- the owner touches its file (by its descriptor) every `heartbeat` seconds, also while its interpreter is busy;
- it releases the lease by setting the file's time to zero;
- a contender may take the next number if the highest is released, if its process is dead (same kernel only), or if it
  has not been touched for the `expiry` written in it. Age is the difference of two file times, both set by the file
  server; local clocks are never compared. A lease seen unchanged for that long also counts, should that clock jump;
- an owner that was merely slow finds a higher number (`check`) and stops. `fence` is the number of the last lease that
  was taken without a release; the store names the work folder by it, so that the paths of the previous owner, and of its
  children, lead nowhere from then on. `doubt` is the last one taken from an owner who may be alive; work older than
  that is copied to fresh files, so that what that owner has open is not ours.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from ctt.core.atomic_files import explained
from ctt.core.errors import LeaseHeld, LeaseLost, StoreError
from ctt.store import heartbeat as heartbeat_process
from ctt.store.holder import CLAIM, Holder, holder, kernel, now, numbers, path_of

_LONGEST_WAIT = 1.0


class Lease:
    """A context manager: entering takes the lease in `folder` (waiting as `wait` allows), leaving releases it.

    wait: True waits as long as it takes, False not at all, a number so many seconds; then LeaseHeld is raised.
    on_wait(holder) is called at every look while waiting and may raise to give up.
    brief: for work that ends long before the lease expires; it has no heartbeat, which takes milliseconds to begin and to end.
    """

    def __init__(
        self,
        folder: Path,
        *,
        owner: str | None = None,
        wait: bool | float = True,
        on_wait: Callable[[Holder], None] | None = None,
        brief: bool = False,
        heartbeat: float = 5.0,
        expiry: float = 60.0,
    ) -> None:
        if not 0 < heartbeat * 2 <= expiry:
            raise StoreError(f"a lease's expiry must be at least two heartbeats; got {expiry} s and {heartbeat} s")
        self.folder, self.key = folder, folder.name
        self.owner = owner or f"{os.environ.get('USER', 'someone')}@{socket.gethostname()}"
        self.token = uuid.uuid4().hex
        self.number = 0
        self.fence = 0
        self.doubt = 0
        self._wait, self._on_wait, self._heartbeat, self._expiry = wait, on_wait, heartbeat, expiry
        self._brief = brief
        self._claim = folder / f"{CLAIM}{self.token}"
        self._fd = -1
        self._lost = False
        self._released = threading.Event()
        self._thread: threading.Thread | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Lease:
        with explained(f"take the lease of {self.key}", self.folder):
            self._acquire()
        if self._brief:
            return self
        self._thread = threading.Thread(target=self._beat, name=f"lease {self.key[:8]}", daemon=True)
        self._thread.start()
        self._start_second_heart()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._released.set()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._process.stdin is not None:
                self._process.stdin.close()
        if self._thread is not None:
            self._thread.join()
        with suppress(OSError):  # if the file server is away the lease expires by itself
            os.utime(self._fd, ns=(0, 0))
        os.close(self._fd)
        self._fd = -1

    def _start_second_heart(self) -> None:
        """Beats from another process: this one's threads stand still while a long call holds the interpreter.

        Signals for the whole job must not end it while work goes on, so it is born with them blocked.
        """
        command = [sys.executable, "-I", "-S", heartbeat_process.__file__]
        command += [str(self._fd), str(os.getpid()), str(self._heartbeat)]
        quiet = subprocess.DEVNULL
        before = signal.pthread_sigmask(signal.SIG_BLOCK, heartbeat_process.IGNORED)
        try:
            with suppress(OSError):
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, cwd="/", pass_fds=[self._fd]
                )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    @property
    def lost(self) -> bool:
        """True once a heartbeat or `check` has seen that another owner took over. Reads no file."""
        return self._lost

    def check(self) -> None:
        """Raises LeaseLost if another owner has taken the key over, or if this lease was released. Microseconds."""
        if self._fd < 0:
            raise LeaseLost(f"the lease of {self.key} was used after its release")
        with explained(f"check the lease of {self.key}", self.folder):
            found = numbers(self.folder)
        if found and found[-1] == self.number and not self._lost:
            return
        self._lost = True
        new_owner = ""
        with suppress(OSError, StoreError):
            new_owner = f" by {holder(self.folder)}"
        raise LeaseLost(
            f"{self.key} was taken over{new_owner}, because {self.owner} gave no heartbeat for {self._expiry:g} s. "
            f"Nothing was published; run again to use what the new owner makes."
        )

    def _beat(self) -> None:
        while not self._released.wait(self._heartbeat):
            with suppress(OSError):  # a file server that is away for a while is no reason to die
                os.utime(self._fd)
                found = numbers(self.folder)
                if found and found[-1] != self.number:
                    self._lost = True

    def _acquire(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        began, delay = time.monotonic(), 0.02
        seen: tuple[int, int] | None = None  # the number and heartbeat of the lease we wait for
        since = began  # when we saw that heartbeat first
        try:
            while True:
                if not self._claim.exists():
                    self._open_claim()
                look = time.monotonic()  # before the look: we may be stopped at any line
                found = holder(self.folder, now(self._fd), self._expiry)
                if found is not None and found.state == "held":
                    if (found.number, found.time) != seen:
                        seen, since = (found.number, found.time), time.monotonic()
                    if look - since <= found.expiry:
                        if self._on_wait is not None:
                            self._on_wait(found)
                        if self._wait is False or (self._wait is not True and look - began >= self._wait):
                            raise LeaseHeld(f"{self.key} is being built by {found}; wait for it, or stop it first.")
                        time.sleep(delay * random.uniform(0.7, 1.3))
                        delay = min(delay * 1.5, _LONGEST_WAIT)
                        continue
                if self._take(found):
                    return
        except BaseException:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
            raise
        finally:
            with suppress(OSError):
                os.unlink(self._claim)

    def _open_claim(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = os.open(self._claim, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)

    def _take(self, found: Holder | None) -> bool:
        """Tries for the number after `found`; False if another contender was faster."""
        number = found.number + 1 if found else 1
        self.fence, self.doubt = (found.fence, found.doubt) if found else (0, 0)
        if found is not None and found.state != "released":
            self.fence = number
            self.doubt = self.doubt if found.state == "dead" else number
        try:
            started = (heartbeat_process.process_state(os.getpid()) or ("", 0))[1]
        except (NotImplementedError, OSError):
            started = 0
        record = dict(
            owner=self.owner,
            token=self.token,
            host=socket.gethostname(),
            kernel=kernel(),
            pid=os.getpid(),
            started=started,
            heartbeat=self._heartbeat,
            expiry=self._expiry,
            fence=self.fence,
            doubt=self.doubt,
        )
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps(record).encode(), 0)
        os.fsync(self._fd)
        try:
            os.link(self._claim, path_of(self.folder, number))
        except FileExistsError:
            # A file server that repeats a request whose answer was lost reports that our own link exists already.
            if os.fstat(self._fd).st_nlink < 2:
                return False
        except FileNotFoundError:
            return False  # our claim was tidied away while we were stopped
        if numbers(self.folder)[-1] != number:  # we were stopped so long that the number had been used and tidied
            os.unlink(path_of(self.folder, number))
            return False
        self.number = number
        self._tidy()
        return True

    def _tidy(self) -> None:
        """Removes lower numbers (the highest alone counts) and the claims of contenders that died."""
        clock = now(self._fd)
        for name in os.listdir(self.folder):
            path = self.folder / name
            with suppress(OSError):
                if name.isdigit():
                    if int(name) < self.number:
                        os.unlink(path)
                elif path != self._claim and (clock - path.stat().st_mtime_ns) / 1e9 > max(10 * self._expiry, 60):
                    os.unlink(path)
