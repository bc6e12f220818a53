"""The process of a job: it builds the target, then its auxiliary stages, and records the outcome.

    python -m ctt.execution.jobs.job_process JOB.json

Exit code 0 means that the target is in the store. Imports are few, so that a job with nothing to do costs little.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ctt.core import compute_device, disk_space
from ctt.core.atomic_files import write_json
from ctt.core.build_context import stop_on_signals, stopping
from ctt.core.errors import CttError, DiskFull, Interrupted, LeaseLost, StoreError
from ctt.core.process_group import ProcessGroup, of_environment
from ctt.core.processes import this_host
from ctt.execution.jobs.failures import BEGINS
from ctt.execution.jobs.lack_of_space import LackOfSpace
from ctt.execution.jobs.pid_files import write_pid_file
from ctt.execution.jobs.spec import stages_of, thaw
from ctt.store import Store
from ctt.store.shared_files import SUCCEEDED, fs_delay

if TYPE_CHECKING:
    from ctt.stages.base import Stage

PARENT = "CTT_LAUNCHER_PID"
LEFT = "left"  # file in the jobs' folder: id of a launcher that ended and left its jobs running
DEATH_SIGNAL = 1  # Linux's PR_SET_PDEATHSIG


def run(path: Path, on_event: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Builds the target of the job spec `path`, then its auxiliary stages; never raises CttError.

    on_event: called with what happens to a stage (ctt.stages.base.Event), "waiting" repeatedly while another process
    builds it.
    Returns {"target", "label", "failure": None | class, "message", "beside": {kind of auxiliary stage: why it failed}}.
    An auxiliary stage that fails does not fail the job; a signal that stops it does. Failures are recorded in the store,
    the return value and the job's outcome file; raising would make Hydra's launchers abandon the other jobs.
    """
    frozen = json.loads(path.read_text(encoding="utf-8"))
    outcome = {"target": frozen["target"], "label": frozen["label"], "failure": None, "message": "", "beside": {}}
    store = Store.open(frozen["store"])
    if SUCCEEDED in os.environ:
        store.wait_for(frozen["needs"], fs_delay(), stopping)
    group = of_environment()
    if not group.connect(stopping):
        outcome |= {"failure": "interrupted", "message": "stopped while it waited for the other processes of the job"}
        return outcome
    if not group.writer:
        return _assist(frozen, path, store, group, outcome)
    pid_file = path.with_suffix(".pid")
    path.with_suffix(".outcome.json").unlink(missing_ok=True)  # of an earlier attempt
    before = _recorded(frozen, store)
    try:
        if not all(store.has(key) for key in frozen["wanted"]):
            if (lack := LackOfSpace(path.parent, store.root).lacking()) is not None:
                raise DiskFull(lack)
            outcome["beside"] = _build(frozen, path, store, pid_file, group, on_event)
        group.broadcast(None)
    except CttError as error:
        outcome |= {"failure": error.failure, "message": str(error)}
        unrecorded = _recorded(frozen, store) == before  # it came before or after a stage's own work
        if unrecorded and not isinstance(error, (Interrupted, LeaseLost)):
            store.record_failure(frozen["target"], error.failure, str(error))
    except OSError as error:
        if not disk_space.is_full(error):
            raise
        outcome |= {"failure": DiskFull.failure, "message": str(disk_space.full(error, path))}
    finally:
        pid_file.unlink(missing_ok=True)
        group.close()  # no broadcast after a failure: the other processes may be waiting in the middle of a step
    with _despite_a_full_disk():
        if outcome["failure"]:
            print(f"ctt: {outcome['label']}: {outcome['failure']}: {outcome['message']}", flush=True)
        for kind, message in outcome["beside"].items():
            print(f"ctt: {outcome['label']}: auxiliary stage {kind} failed, the run is complete: {message}", flush=True)
    with _despite_a_full_disk():
        write_json(path.with_suffix(".outcome.json"), {**outcome, "time": time.time(), "host": this_host()})
    return outcome


def _recorded(frozen: dict[str, Any], store: Store) -> int:
    """How many failures the store has of a job's stages."""
    return sum(len(store.failures(key)) for key in {*frozen.get("stages", ()), frozen["target"]})


@contextlib.contextmanager
def _despite_a_full_disk() -> Iterator[None]:
    """Leaves out what there is no space to write; `main` then reports by its exit code."""
    try:
        yield
    except OSError as error:
        if not disk_space.is_full(error):
            raise


def _assist(frozen: dict[str, Any], path: Path, store: Store, group: ProcessGroup, outcome: dict[str, Any]) -> dict[str, Any]:
    """What every process of a job but its first does: it takes part in training, and records only its own failure, which
    the first one can not see."""
    from ctt.stages.base import assist, failure_class

    file = path.with_suffix(f".outcome.{group.rank}.json")
    file.unlink(missing_ok=True)
    target, auxiliaries = thaw(frozen)
    try:
        assist(stages_of(target, *auxiliaries), store, group, device=frozen["config"]["device"])
    except Exception as error:
        if (failure := failure_class(error)) == "killed":
            print(f"ctt: the first process of the job has ended: {error}", flush=True)
        else:
            traceback.print_exc()
            message = f"process {group.rank} of {group.size}: {type(error).__name__}: {error}"
            outcome |= {"failure": failure, "message": message, "rank": group.rank}
            write_json(file, {**outcome, "time": time.time(), "host": this_host()})
    group.close()
    return outcome


def _build(
    frozen: dict[str, Any],
    path: Path,
    store: Store,
    pid_file: Path,
    group: ProcessGroup,
    on_event: Callable[[str], None],
) -> dict[str, str]:
    from ctt.planning import costs
    from ctt.stages.base import build

    write_pid_file(pid_file, "-")
    device = frozen["config"]["device"]
    here = compute_device.resolve(device, group)
    target, auxiliaries = thaw(frozen)
    if target.key != frozen["target"]:
        raise StoreError(f"{path}: the code of ctt changed since this job was submitted; start the sweep again")

    def report(what: str, stage: Stage, detail: str) -> None:
        if what == "building":
            write_pid_file(pid_file, stage.key, here)
        _print_once(what, stage, detail)
        on_event(what)

    more: Any = dict(device=device, group=group, on_event=report, on_built=lambda *built: costs.record(store, *built))

    def full(error: CttError) -> None:
        if isinstance(error, DiskFull):
            left = [stage for key, stage in stages_of(target, *auxiliaries).items() if not store.has(key)]
            LackOfSpace(path.parent, store.root).record(sum(stage.size() for stage in left))

    try:
        build(target, store, **more)
    except DiskFull as error:
        full(error)
        raise
    return build_auxiliaries(auxiliaries, store, on_failure=full, **more)


def build_auxiliaries(
    auxiliaries: Sequence[Stage], store: Store, on_failure: Callable[[CttError], None] = lambda error: None, **more: Any
) -> dict[str, str]:
    """Builds auxiliary stages; {kind: message} of those that failed. Raises Interrupted if a signal stopped one."""
    from ctt.stages.base import build

    failed = {}
    for auxiliary in auxiliaries:
        try:
            build(auxiliary, store, **more)
        except Interrupted:
            raise
        except CttError as error:
            failed[auxiliary.kind] = str(error)
            on_failure(error)
    return failed


_printed: set[tuple[str, str]] = set()


def _print_once(what: str, stage: Stage, detail: str) -> None:
    if what != "cached" and (what, stage.key) not in _printed:
        _printed.add((what, stage.key))
        print(f"ctt: {what} {stage.kind} {stage.key[:12]} {detail}".rstrip(), flush=True)


def end_with_launcher() -> None:
    """Asks the kernel to send SIGTERM to this process when its launcher ends (on Linux; elsewhere it does nothing)."""
    launcher = os.environ.get(PARENT)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    signal_at_parents_end(signal.SIGTERM)
    if os.getppid() != int(launcher):
        raise Interrupted("the launcher ended before the job started")


def signal_at_parents_end(number: int) -> None:
    """Asks Linux to send this process a signal when its parent ends; 0: none."""
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(DEATH_SIGNAL, int(number))


def _unless_left_running(stop: Callable[..., Any], jobs: Path, number: int, frame: FrameType | None) -> None:
    """Handler of SIGTERM: calls `stop`, except for the one signal the kernel sends when a launcher ends that left its jobs
    running."""
    launcher = os.environ.get(PARENT)
    if launcher and launcher != str(os.getppid()) and _left_by(jobs) == launcher:
        signal.signal(number, stop)
        signal_at_parents_end(0)
    else:
        stop(number, frame)


def _left_by(jobs: Path) -> str | None:
    try:
        return (jobs / LEFT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def begin() -> None:
    """Prints the line with which an attempt begins: failures are classified by what follows it in the log."""
    print(f"{BEGINS} on {this_host()}", flush=True)


def main(arguments: list[str]) -> int:
    """Runs the job; its exit code: 0 if the target is in the store, EX_IOERR (74) if the disk is full, else 1."""
    begin()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's to handle
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    stop_on_signals(signal.SIGTERM)
    stop = signal.getsignal(signal.SIGTERM)
    assert callable(stop)
    signal.signal(signal.SIGTERM, partial(_unless_left_running, stop, Path(arguments[0]).parent))
    for file in filter(None, os.environ.pop("CTT_LEASED_FILES", "").split(",")):
        os.set_inheritable(int(file), False)
    try:
        end_with_launcher()
        outcome = run(Path(arguments[0]))
    except Interrupted as error:
        print(f"ctt: {error}", flush=True)
        return 1
    if outcome["failure"] == DiskFull.failure:
        return os.EX_IOERR
    return 1 if outcome["failure"] else 0


def exit_process(code: int) -> NoReturn:
    """Ends this process."""
    if of_environment().size > 1:  # gloo's threads may abort when the interpreter shuts down
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    exit_process(main(sys.argv[1:]))
