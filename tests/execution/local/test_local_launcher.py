"""Local jobs: at most one per device, started when their needs are met, independent of failures of other jobs.

The jobs here are small scripts, so that dozens run in a second; the end-to-end tests run real ones.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ctt.core.resources import LaunchSettings
from ctt.execution.jobs import event_log, retries
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.local import devices
from ctt.execution.local.local_launcher import LocalLauncher, Programs
from ctt.execution.recorded_jobs import RecordedJobs
from ctt.store import Store
from tests.waiting import until


class Fakes:
    """Jobs that run Python code with `me` (their number), `folder`, `log()`, and `make()`, which makes the target."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.made, self.jobs = folder, folder / "made", folder / "0001" / "jobs"
        self.made.mkdir(parents=True)
        self.jobs.mkdir(parents=True)
        self.store = Store.open(folder / "store")
        self.texts: dict[int, str] = {}
        (folder / "story").touch()

    def add(self, text: str, needs: Sequence[int] = ()) -> JobSpec:
        number = len(self.texts)
        self.texts[number] = text
        key = self.key(number)
        path = self.jobs / f"{number:04d}.json"
        return JobSpec(number, path, f"job {number}", key, frozenset(map(self.key, needs)), (key,), (key,))

    @staticmethod
    def key(number: int) -> str:
        return f"{number:064x}"

    def done(self, key: str) -> bool:
        return (self.made / str(int(key, 16))).exists()

    def command(self, job: JobSpec) -> list[str]:
        start = f"""
            import os, signal, sys, time
            me, folder = {job.number}, {str(self.folder)!r}
            def log(message):
                with open(folder + "/story", "a") as f: f.write(f"{{time.monotonic()}} {{me}} {{message}}\\n")
            def make(): open(folder + "/made/" + str(me), "w").close()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            log("begins " + os.environ["CUDA_VISIBLE_DEVICES"])
        """
        return [sys.executable, "-I", "-S", "-c", textwrap.dedent(start) + self.texts[job.number] + "\nlog('ends')"]

    def local(self, specs: Sequence[JobSpec], **settings: Any) -> LocalLauncher:
        chosen = LaunchSettings(kind="local", leases=str(self.folder / "leases"), **{"jobs": None, **settings})
        return LocalLauncher(specs, self.store, chosen, programs=Programs(self.command), done=self.done)

    def story(self) -> list[tuple[int, str]]:
        """(number, message) of all jobs, in order of time."""
        lines = (self.folder / "story").read_text().splitlines()
        return [(int(number), message) for _, number, message in (line.split(" ", 2) for line in lines)]

    def most_at_once(self) -> int:
        alive = most = 0
        for _, message in self.story():
            alive += 1 if message.startswith("begins") else -1
            most = max(most, alive)
        return most

    def classes(self) -> dict[int, str | None]:
        return {number: event["class"] for number, event in event_log.last(self.jobs).items()}


@pytest.fixture
def fakes(tmp_path: Path) -> Fakes:
    return Fakes(tmp_path)


WORK = "time.sleep(0.05); make()"


def together(count: int) -> str:
    """Code that waits until so many jobs have begun, so that as many are alive at once."""
    return f"while open(folder + '/story').read().count('begins') < {count}: time.sleep(0.01)\n" + WORK


def test_never_more_jobs_than_devices_and_each_has_its_own(fakes: Fakes) -> None:
    local = fakes.local([fakes.add(together(3)) for _ in range(12)], devices=["0", "GPU-1", "2"])
    local.run()
    assert fakes.most_at_once() == 3
    holding: dict[str, int] = {}
    for number, message in fakes.story():
        if message.startswith("begins"):
            device = message.removeprefix("begins ")
            assert device in ("0", "GPU-1", "2") and device not in holding
            holding[device] = number
        else:
            holding = {d: n for d, n in holding.items() if n != number}
    assert set(fakes.classes().values()) == {None}


def test_a_job_may_have_several_gpus(fakes: Fakes) -> None:
    fakes.local([fakes.add(together(2)) for _ in range(4)], devices=list("01234"), gpus_per_job=2).run()
    assert fakes.most_at_once() == 2
    holding: dict[int, set[str]] = {}
    for number, message in fakes.story():
        if message == "ends":
            del holding[number]
            continue
        own = set(message.removeprefix("begins ").split(","))
        assert len(own) == 2 and own <= set("01234") and not any(own & others for others in holding.values())
        holding[number] = own


def test_without_gpus_as_many_jobs_as_asked_and_no_gpu_is_seen(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    fakes.local([fakes.add(together(2)) for _ in range(6)], jobs=2).run()
    assert fakes.most_at_once() == 2
    assert {message for _, message in fakes.story()} == {"begins ", "ends"}


def test_two_sweeps_on_one_host_share_the_devices(fakes: Fakes) -> None:
    """A job of another launcher holds one of the two devices until it is killed."""
    hold = devices.take(fakes.folder / "leases", "gpu", ["0"], 1)
    assert hold is not None
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], pass_fds=hold.files)
    hold.close()
    try:
        assert devices.take(fakes.folder / "leases", "gpu", ["0"], 1) is None
        fakes.local([fakes.add(WORK) for _ in range(3)], devices=["0", "1"]).run()
        assert fakes.most_at_once() == 1
        assert {message for _, message in fakes.story() if message != "ends"} == {"begins 1"}
    finally:
        sleeper.kill()
        sleeper.wait()
    again = devices.take(fakes.folder / "leases", "gpu", ["0"], 1)
    assert again is not None, "the kernel frees the device of a killed job"
    again.close()


def test_a_gpu_is_the_same_by_its_number_and_by_its_uuid(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fakes.folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 0, GPU-aaaa-1\necho 1, GPU-bbbb-2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    every, job = ["0", "1"], [fakes.add(WORK)]
    assert devices.gpus(None) == every
    for theirs, ours, free in (("GPU-bbbb-2", every, ["0"]), ("0", ["GPU-aaaa"], None), ("GPU-aaaa", every, ["1"])):
        hold = fakes.local(job, devices=[theirs])._lease()
        lease = fakes.local(job, devices=ours)._lease()
        assert (lease and list(lease.names)) == free
        for taken in filter(None, (hold, lease)):
            taken.close()


def test_a_job_starts_when_its_own_needs_are_met_not_when_a_wave_ends(fakes: Fakes) -> None:
    fast, slow = fakes.add(WORK), fakes.add("while not os.path.exists(folder + '/made/2'): time.sleep(0.01)\nmake()")
    after_fast, after_slow = fakes.add(WORK, needs=[0]), fakes.add(WORK, needs=[1])
    fakes.local([fast, slow, after_fast, after_slow], devices=["0", "1"]).run()
    story = fakes.story()
    assert story.index((2, "ends")) < story.index((1, "ends")) < story.index((3, next(w for n, w in story if n == 3)))


def test_the_first_of_the_ready_jobs_starts_first(fakes: Fakes) -> None:
    fakes.local([fakes.add(WORK) for _ in range(4)], devices=["0"]).run()
    assert [number for number, message in fakes.story() if message == "ends"] == [0, 1, 2, 3]


ONCE = "import pathlib; first = not pathlib.Path(folder, f'tried{me}').exists(); open(folder + f'/tried{me}', 'w').close()\n"


def test_a_failed_job_does_not_end_the_others(fakes: Fakes) -> None:
    """An exception, one kill, repeated kills, an exit code: each has its class, and is retried where that may help."""
    fakes.local(
        [
            fakes.add("raise ValueError('broken')"),
            fakes.add(ONCE + "os.kill(os.getpid(), signal.SIGKILL) if first else make()"),
            fakes.add("os.kill(os.getpid(), signal.SIGKILL)"),
            fakes.add("sys.exit(3)"),
            fakes.add("raise MemoryError('too much')"),
            fakes.add(WORK, needs=[0]),
            *(fakes.add(WORK) for _ in range(3)),
        ],
        devices=["0", "1"],
    ).run()
    assert fakes.classes() == {
        **{0: "code error", 1: None, 2: "killed", 3: "code error", 4: "out of memory", 5: "blocked"},
        **dict.fromkeys((6, 7, 8)),
    }
    assert {key for key in range(9) if fakes.done(fakes.key(key))} == {1, 6, 7, 8}
    [failure] = fakes.store.failures(fakes.key(0))
    assert failure["failure"] == "code error" and "ValueError: broken" in failure["log"]
    assert sum(message.startswith("begins") for number, message in fakes.story() if number == 0) == 1
    retried = [event["number"] for event in event_log.read(fakes.jobs) if event["event"] == "retried"]
    assert set(retried) == {1, 2}, "code errors and lack of memory are not retried"


def test_a_job_over_its_time_limit_or_without_progress_is_ended(fakes: Fakes) -> None:
    jobs = [fakes.add("time.sleep(60)"), fakes.add(WORK)]
    fakes.local(jobs, devices=["0"], timeout_min=0.005).run()
    assert fakes.classes() == {0: "timeout", 1: None}
    again = Fakes(fakes.folder / "again")
    again.local([again.add("time.sleep(60)"), again.add(WORK)], devices=["0"], hang_min=0.005).run()
    assert again.classes() == {0: "hang", 1: None}


def test_waiting_for_another_sweeps_stage_takes_no_device(fakes: Fakes) -> None:
    theirs, ours = fakes.add("log('has a device')"), fakes.add(WORK)
    with fakes.store.lease(theirs.target):
        local = fakes.local([theirs, ours], devices=["0"])
        local._start_ready()
        assert [one.job.number for one in local.running] == [1]
        (fakes.made / "0").touch()
    local.run()
    assert "has a device" not in {message for _, message in fakes.story()}


def test_cancel_asks_the_jobs_to_end_and_waits(fakes: Fakes) -> None:
    text = "signal.signal(signal.SIGTERM, lambda *_: (log('checkpoint'), sys.exit(1)))\nlog('ready')\ntime.sleep(60)"
    local = fakes.local([fakes.add(text), fakes.add(text), fakes.add(WORK)], devices=["0", "1"])
    local._start_ready()
    until(lambda: sum(message == "ready" for _, message in fakes.story()) == 2)
    (fakes.jobs / event_log.CANCELLED).touch()
    local.run()
    assert sorted(n for n, message in fakes.story() if message == "checkpoint") == [0, 1]
    assert fakes.classes() == {0: "cancelled", 1: "cancelled"}


def test_a_job_ends_with_a_launcher_that_is_killed(tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(
        "import time; from ctt.execution.jobs.job_process import end_with_launcher\n"
        "end_with_launcher()\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    text = f"""
        import os, subprocess, sys, time
        environment = {{**os.environ, "CTT_LAUNCHER_PID": str(os.getpid())}}
        print(subprocess.Popen([sys.executable, {str(job)!r}], env=environment).pid, flush=True)
        time.sleep(60)
    """
    launcher = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)], stdout=subprocess.PIPE, text=True)
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    assert launcher.stdout.readline() == "ready\n" and alive(pid)
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_lock_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "leases").mkdir()
    os.symlink(tmp_path / "elsewhere", tmp_path / "leases" / "cpu-0")
    with pytest.raises(Exception, match=r"launch\.leases"):
        devices.take(tmp_path / "leases", "cpu", ["0"], 1)
    assert not (tmp_path / "elsewhere").exists()


def test_glibc_settings_are_passed_to_jobs_unless_the_user_has_set_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fakes = Fakes(tmp_path)
    monkeypatch.setenv("MALLOC_TOP_PAD_", "4096")
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    given = RecordedJobs(fakes.jobs, fakes.store).environment
    assert int(given["MALLOC_MMAP_THRESHOLD_"]) == 2**30 and "MALLOC_TOP_PAD_" not in given


def test_a_killed_job_waits_before_it_is_retried_and_the_others_go_on(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "LONGEST", 1.0)
    once = "if not os.path.exists(folder + '/once'): open(folder + '/once', 'w').close(); os.kill(os.getpid(), 9)\n"
    killed = fakes.add(once + WORK)
    others = [fakes.add(WORK, needs=[killed.number]), fakes.add(WORK)]
    fakes.local([killed, *others], devices=["0"]).run()
    assert fakes.classes() == dict.fromkeys(range(3))
    assert [number for number, message in fakes.story() if message.startswith("begins")] == [0, 2, 0, 1]
    times = {(event["number"], event["event"]): event["time"] for event in event_log.read(fakes.jobs)}
    assert times[0, "started"] - times[0, "retried"] >= 0.9
