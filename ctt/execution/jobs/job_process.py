"""The process of a frozen job: it builds the target, then what is beside it, and writes down how that went.

    python -m ctt.execution.jobs.job_process JOB.json

Exit code 0 means that the target is in the store. The module imports little, so that a job with nothing to do costs little.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from ctt.core.atomic_files import write_json
from ctt.core.build_context import stop_on_signals
from ctt.core.errors import CttError, Interrupted, StageFailed, StoreError
from ctt.core.process_group import ProcessGroup, of_environment
from ctt.core.processes import this_host
from ctt.execution.jobs.failures import BEGINS
from ctt.execution.jobs.pid_files import write_pid_file
from ctt.execution.jobs.spec import stages_of, thaw
from ctt.store import Store

if TYPE_CHECKING:
    from ctt.stages.base import Stage

PARENT = "CTT_LAUNCHER_PID"
LEFT = "left"  # name of the file beside the jobs that holds the id of the launcher that has left its jobs to themselves
DEATH_SIGNAL = 1  # Linux's PR_SET_PDEATHSIG


def run(path: Path, on_event: Callable[[str], None] = lambda what: None) -> dict[str, Any]:
    """Builds the target of a frozen job, then what is beside it; never raises CttError. `told` hears what happens to each
    stage: "waiting" again and again while somebody else builds it.

    Returns {"target", "label", "failure": None | class, "message", "beside": {kind: message}}: a side that fails is told
    of there and leaves the job a success, unless a signal stopped it: then the job has to go on. The failure is in the
    store, in what is returned and in the job's outcome file; raising would make Hydra's launchers abandon the other jobs.
    """
    frozen = json.loads(path.read_text(encoding="utf-8"))
    outcome = {"target": frozen["target"], "label": frozen["label"], "failure": None, "message": "", "beside": {}}
    store = Store.open(frozen["store"])
    world = of_environment()
    world.connect()
    if not world.writer:
        return _assist(frozen, path, store, world, outcome)
    pid_file = path.with_suffix(".pid")
    path.with_suffix(".outcome.json").unlink(missing_ok=True)  # of an attempt before this one
    try:
        if not all(store.has(key) for key in frozen["wanted"]):
            outcome["beside"] = _build(frozen, path, store, pid_file, world, on_event)
        world.broadcast(None)
    except StageFailed as error:
        outcome |= {"failure": error.failure, "message": str(error)}
    except CttError as error:
        outcome |= {"failure": "code error", "message": str(error)}
    finally:
        pid_file.unlink(missing_ok=True)
        world.close()  # without a word if something failed: the others may wait for it in the middle of a step
    if outcome["failure"]:
        print(f"ctt: {outcome['label']}: {outcome['failure']}: {outcome['message']}", flush=True)
    for kind, message in outcome["beside"].items():
        print(f"ctt: {outcome['label']}: {kind} failed, the answers are complete: {message}", flush=True)
    write_json(path.with_suffix(".outcome.json"), {**outcome, "time": time.time(), "host": this_host()})
    return outcome


def _assist(
    frozen: dict[str, Any], path: Path, store: Store, world: ProcessGroup, outcome: dict[str, Any]
) -> dict[str, Any]:
    """The part of those processes of a job that are not its first: they help to train, and record nothing but why they
    could not: the first one sees no more than that they are gone."""
    from ctt.stages.base import assist, class_of

    file = path.with_suffix(f".outcome.{world.rank}.json")
    file.unlink(missing_ok=True)
    target, auxiliaries = thaw(frozen)
    try:
        assist(stages_of(target, *auxiliaries), store, world, device=frozen["config"]["device"])
    except Exception as error:
        if (failure := class_of(error)) == "killed":
            print(f"ctt: the first process of the job has ended: {error}", flush=True)
        else:
            traceback.print_exc()
            message = f"process {world.rank} of {world.size}: {type(error).__name__}: {error}"
            outcome |= {"failure": failure, "message": message, "rank": world.rank}
            write_json(file, {**outcome, "time": time.time(), "host": this_host()})
    world.close()
    return outcome


def _build(
    frozen: dict[str, Any],
    path: Path,
    store: Store,
    pid_file: Path,
    world: ProcessGroup,
    on_event: Callable[[str], None],
) -> dict[str, str]:
    from ctt.plan import costs
    from ctt.stages.base import build

    write_pid_file(pid_file, "-")
    target, auxiliaries = thaw(frozen)
    if target.key != frozen["target"]:
        raise StoreError(f"{path}: the code of ctt changed since this job was submitted; start the sweep again")

    def tell(what: str, stage: Stage, detail: str) -> None:
        if what == "building":
            write_pid_file(pid_file, stage.key)
        _say(what, stage, detail)
        on_event(what)

    device = frozen["config"]["device"]
    more: Any = dict(device=device, world=world, on_event=tell, on_built=lambda *built: costs.record(store, *built))
    build(target, store, **more)
    return build_auxiliaries(auxiliaries, store, **more)


def build_auxiliaries(auxiliaries: Sequence[Stage], store: Store, **more: Any) -> dict[str, str]:
    """Builds stages beside a target; {kind: message} of those that failed. Raises Interrupted if a signal stopped one."""
    from ctt.stages.base import build

    failed = {}
    for auxiliary in auxiliaries:
        try:
            build(auxiliary, store, **more)
        except Interrupted:
            raise
        except CttError as error:
            failed[auxiliary.kind] = str(error)
    return failed


_said: set[tuple[str, str]] = set()


def _say(what: str, stage: Stage, detail: str) -> None:
    if what != "cached" and (what, stage.key) not in _said:
        _said.add((what, stage.key))
        print(f"ctt: {what} {stage.kind} {stage.key[:12]} {detail}".rstrip(), flush=True)


def end_with_launcher() -> None:
    """Asks the kernel to send SIGTERM to this process when the one that launched it is gone (Linux; elsewhere nothing)."""
    launcher = os.environ.get(PARENT)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    _at_death_of_launcher(signal.SIGTERM)
    if os.getppid() != int(launcher):
        raise Interrupted("the launcher ended before the job began")


def _at_death_of_launcher(number: int) -> None:
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(DEATH_SIGNAL, int(number))


def _unless_left(ask: Callable[..., Any], jobs: Path, number: int, frame: FrameType | None) -> None:
    """SIGTERM; but the one that says that the launcher is gone, which left its jobs to themselves, is the last of that kind."""
    launcher = os.environ.get(PARENT)
    if launcher and launcher != str(os.getppid()) and _left_by(jobs) == launcher:
        signal.signal(number, ask)
        _at_death_of_launcher(0)
    else:
        ask(number, frame)


def _left_by(jobs: Path) -> str | None:
    try:
        return (jobs / LEFT).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def begin() -> None:
    """Marks in the log of a job's process where this attempt begins: what stands above does not tell how it ended."""
    print(f"{BEGINS} on {this_host()}", flush=True)


def main(words: list[str]) -> int:
    """The job's process: 0 if its target is in the store, else 1."""
    begin()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the launcher, which asks what to do
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    stop_on_signals(signal.SIGTERM)
    ask = signal.getsignal(signal.SIGTERM)
    assert callable(ask)
    signal.signal(signal.SIGTERM, partial(_unless_left, ask, Path(words[0]).parent))
    for file in filter(None, os.environ.pop("CTT_LEASED_FILES", "").split(",")):
        os.set_inheritable(int(file), False)
    try:
        end_with_launcher()
        outcome = run(Path(words[0]))
    except Interrupted as error:
        print(f"ctt: {error}", flush=True)
        return 1
    return 1 if outcome["failure"] else 0


def leave(code: int) -> NoReturn:
    """Ends this process."""
    if of_environment().size > 1:  # gloo's threads may abort an interpreter that is torn down beneath them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
