"""Frozen jobs: what a process is asked for, written down when the sweep is submitted, and that process.

jobs/0007.json          the job: nothing edited later can change it
jobs/0007.log           what it printed
jobs/0007.pid           "PID STARTED HOST STAGE" while it runs
jobs/0007.outcome.json  how its last attempt ended

    python -m ctt.launch.frozen JOB.json

Exit code 0 means that the target is in the store. The module imports little, so that a job with nothing to do costs little.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from ctt.errors import CttError, Interrupted, StageFailed, StoreError
from ctt.job import PROGRESS, stop_on_signals
from ctt.store import Store
from ctt.store.disk import write_json
from ctt.world import World, of_environment

if TYPE_CHECKING:
    from ctt.plan import Job
    from ctt.stages.base import Stage


@dataclasses.dataclass(frozen=True)
class Frozen:
    """A frozen job as launchers see it. `path` is its specification; `stages` the keys it may have to build, in order;
    `wanted` those of them it is for: its target and what is beside it."""

    number: int
    path: Path
    label: str
    target: str
    needs: frozenset[str]
    stages: tuple[str, ...]
    wanted: tuple[str, ...]
    trunk: bool = False

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def mark(self) -> Path:
        return self.path.with_suffix(".pid")

    @property
    def outcome_file(self) -> Path:
        return self.path.with_suffix(".outcome.json")

    def outcome(self) -> dict[str, Any] | None:
        """What the last attempt said of itself at its end: {failure, message, time, host}; None if it could not."""
        try:
            value: dict[str, Any] = json.loads(self.outcome_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return value

    def forget_outcome(self) -> None:
        self.outcome_file.unlink(missing_ok=True)


def freeze(job: Job, store: Store, folder: Path, number: int) -> Frozen:
    """Writes the job as number `number` of the folder."""
    path = folder / f"{number:04d}.json"
    stages, wanted = list(_stages_of(job.target, *job.sides)), [stage.key for stage in (job.target, *job.sides)]
    content = {
        "store": str(Path(store.root).resolve()),
        "label": job.label,
        "target": job.target.key,
        "kind": job.target.kind,
        "epoch": getattr(job.target, "epoch", None),
        "fork_epochs": list(job.fork_epochs),
        "config": dataclasses.asdict(job.config),
        "teacher": job.teacher and {"config": dataclasses.asdict(job.teacher[0]), "fork_epochs": list(job.teacher[1])},
        "needs": sorted(job.needs),
        "stages": stages,
        "wanted": wanted,
    }
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(temporary, path)
    return Frozen(number, path, job.label, job.target.key, job.needs, tuple(stages), tuple(wanted), job.trunk)


def _stages_of(*targets: Stage) -> dict[str, Stage]:
    """The targets and all they are made of, by key, in the order they are built."""
    found: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        for other in (*stage.forks(), *stage.inputs().values()):
            visit(other)
        found[stage.key] = stage

    for target in targets:
        visit(target)
    return found


def read(folder: Path) -> list[Frozen]:
    """The jobs of a record, by number."""
    jobs = []
    for path in sorted(folder.glob("[0-9]*.json")):
        if path.stem.isdigit():
            content = json.loads(path.read_text(encoding="utf-8"))
            keys = (frozenset(content["needs"]), tuple(content["stages"]), tuple(content["wanted"]))
            trunk = content["kind"] == "world_model"
            jobs.append(Frozen(int(path.stem), path, content["label"], content["target"], *keys, trunk))
    return jobs


def run(path: Path) -> dict[str, Any]:
    """Builds the target of a frozen job, then what is beside it; never raises CttError.

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
        return _assist(frozen, store, world, outcome)
    mark = path.with_suffix(".pid")
    try:
        if not all(store.has(key) for key in frozen["wanted"]):
            outcome["beside"] = _build(frozen, path, store, mark, world)
        world.told(None)
    except StageFailed as error:
        outcome |= {"failure": error.failure, "message": str(error)}
    except CttError as error:
        outcome |= {"failure": "code error", "message": str(error)}
    finally:
        mark.unlink(missing_ok=True)
        world.close()  # without a word if something failed: the others may wait for it in the middle of a step
    if outcome["failure"]:
        print(f"ctt: {outcome['label']}: {outcome['failure']}: {outcome['message']}", flush=True)
    for kind, message in outcome["beside"].items():
        print(f"ctt: {outcome['label']}: {kind} failed, the answers are complete: {message}", flush=True)
    write_json(path.with_suffix(".outcome.json"), {**outcome, "time": time.time(), "host": this_host()})
    return outcome


def _assist(frozen: dict[str, Any], store: Store, world: World, outcome: dict[str, Any]) -> dict[str, Any]:
    """The part of those processes of a job that are not its first: they help to train, and record nothing."""
    from ctt.stages.base import assist

    target, sides = thaw(frozen)
    try:
        assist(_stages_of(target, *sides), store, world, device=frozen["config"]["device"])
    except RuntimeError as error:  # torch's: the connection was closed by the first process, which tells why
        print(f"ctt: the first process of the job has ended: {error}", flush=True)
    world.close()
    return outcome


def _build(frozen: dict[str, Any], path: Path, store: Store, mark: Path, world: World) -> dict[str, str]:
    from ctt import costs
    from ctt.stages.base import build

    write_mark(mark, "-")
    target, sides = thaw(frozen)
    if target.key != frozen["target"]:
        raise StoreError(f"{path}: the code of ctt changed since this job was submitted; start the sweep again")

    def tell(what: str, stage: Stage, detail: str) -> None:
        if what == "building":
            write_mark(mark, stage.key)
        _say(what, stage, detail)

    device = frozen["config"]["device"]
    more: Any = dict(device=device, world=world, on_event=tell, on_built=lambda *built: costs.record(store, *built))
    build(target, store, **more)
    return build_sides(sides, store, **more)


def build_sides(sides: Sequence[Stage], store: Store, **more: Any) -> dict[str, str]:
    """Builds stages beside a target; {kind: message} of those that failed. Raises Interrupted if a signal stopped one."""
    from ctt.stages.base import build

    failed = {}
    for side in sides:
        try:
            build(side, store, **more)
        except Interrupted:
            raise
        except CttError as error:
            failed[side.kind] = str(error)
    return failed


def thaw(frozen: dict[str, Any]) -> tuple[Stage, tuple[Stage, ...]]:
    """The target a frozen job describes, and its sides."""
    from ctt.config import from_dict
    from ctt.plan import sides_of, target_of

    teacher = frozen["teacher"] and target_of(
        from_dict(frozen["teacher"]["config"]), tuple(frozen["teacher"]["fork_epochs"])
    )
    config = from_dict(frozen["config"])
    target = target_of(config, tuple(frozen["fork_epochs"]), teacher)
    if frozen["kind"] == "world_model":
        return target.rollout.state.at(frozen["epoch"]), ()
    return target, sides_of(config, target)


_said: set[tuple[str, str]] = set()


def _say(what: str, stage: Stage, detail: str) -> None:
    if what != "cached" and (what, stage.key) not in _said:
        _said.add((what, stage.key))
        print(f"ctt: {what} {stage.kind} {stage.key[:12]} {detail}".rstrip(), flush=True)


def write_mark(mark: Path, stage: str) -> None:
    """Marks this process as the one at work on what `mark` is named after."""
    temporary = mark.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(f"{os.getpid()} {started(os.getpid())} {this_host()} {stage}", encoding="utf-8")
    os.replace(temporary, mark)


def this_host() -> str:
    return platform.node() or "localhost"


def host_of(mark: Path) -> str | None:
    """Where the process of `mark` runs, or ran if it could not take its mark away."""
    try:
        return mark.read_text(encoding="utf-8").split()[2]
    except (FileNotFoundError, IndexError):
        return None


def running(mark: Path) -> int | None:
    """Process id of the job that wrote `mark`, if it runs on this host still (a recycled id does not count)."""
    try:
        pid, began, host = mark.read_text(encoding="utf-8").split()[:3]
    except (FileNotFoundError, ValueError):
        return None
    return int(pid) if host == this_host() and began == started(int(pid)) else None


def stage_of(mark: Path) -> str | None:
    """Key of the stage that the job of `mark` builds."""
    try:
        key = mark.read_text(encoding="utf-8").split()[3]
    except (FileNotFoundError, IndexError):
        return None
    return None if key == "-" else key


def started(pid: int) -> str:
    """When a process started, in the kernel's ticks; "gone" if there is none of that id, or only a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return "gone"
    return "gone" if fields[0] == "Z" else fields[19]


def progress(folder: Path) -> dict[str, Any]:
    """The last progress report of the work in `folder`. Raises OSError or ValueError where there is none."""
    value: dict[str, Any] = json.loads((folder / PROGRESS).read_text(encoding="utf-8"))
    return value


PARENT = "CTT_LAUNCHER_PID"
LEFT = "left"  # name of the file beside the jobs whose launcher has left them to themselves


def end_with_launcher() -> None:
    """Asks the kernel to send SIGTERM to this process when the one that launched it is gone (Linux; elsewhere nothing)."""
    launcher = os.environ.get(PARENT)
    if launcher is None or not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # 1: PR_SET_PDEATHSIG
    if os.getppid() != int(launcher):
        raise Interrupted("the launcher ended before the job began")


def _unless_left(ask: Callable[..., Any], jobs: Path, number: int, frame: FrameType | None) -> None:
    """SIGTERM, but not the one that says that the launcher is gone if it left its jobs to themselves."""
    gone = str(os.getppid()) != os.environ.get(PARENT, str(os.getppid()))
    if not (gone and (jobs / LEFT).exists()):
        ask(number, frame)


def main(words: list[str]) -> int:
    """The job's process: 0 if its target is in the store, else 1."""
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


if __name__ == "__main__":
    code = main(sys.argv[1:])
    if of_environment().size > 1:  # gloo's threads may abort an interpreter that is torn down beneath them
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
