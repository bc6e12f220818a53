"""`make study`: what ALOE learns on synthetic scenes in three quarters of an hour on two cores with AVX-512.

Trainings of one thread each, two at a time: with the world model's predicted frames, with given frames alone, and with the true
future in their place; then with a fifth of the videos, and with words and slots as tokens, as published. Every training is a folder
of the store's `study/`, continued from its last checkpoint when the command is run again; finished ones are only read.

--processes 1 and `nice` keep it in the background; while the file of --pause-file exists, trainings hold still. Overrides are
Hydra's, for all trials.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ctt.config import Config, compose
from ctt.core.build_context import BuildContext, stop_on_signals, stopping
from ctt.core.errors import Interrupted
from ctt.core.settings import digest
from ctt.data.dataset import Dataset
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import PREDICTED_FRAMES
from ctt.planning import target_of
from ctt.stages.base import build
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.training.vqa import METRICS_JSON, train
from tests.benchmarks.aloe_study_report import PAID, Finished, paid, report

COMMON = (
    "data=synthetic", "data.train=10000", "data.validation=400", "data.test=0", "data.density=2", "data.noise=0.05",
    "data.annotations=false", "world_model=mini", "world_model.epochs=2", "aloe=mini",
    "aloe.words=film", "aloe.epochs=8", "aloe.batch_size=128", "aloe.learning_rate=0.002", "aloe.muon_learning_rate=0.008",
    "aloe.shares=[0.5,1,0.2,0.1]", "aloe.eval_videos=100", "device=cpu",
)  # fmt: skip
FEWER = ("data.train=2000", "data.density=3", "aloe.epochs=4", "aloe.shares=[1,1,1,0.5]")
"""A fifth of the videos, each asked more often."""
A_FIFTH = {"words": "tokens", "epochs": 1, "shares": [0.2, 0.2, 0.2, 0.1]}
"""Words as tokens, as published, and a fifth of an epoch."""


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way to train ALOE: which frames stand for the future, and what differs in its settings."""

    name: str
    future: str = "predicted"
    overrides: tuple[str, ...] = ()
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)


TRIALS = (
    Trial("given frames alone", future="none"),
    Trial("predicted frames"),
    Trial("true future", future="true"),
    Trial("2,000 videos, given frames alone", "none", FEWER),
    Trial("2,000 videos, words as tokens, a fifth of an epoch", "none", FEWER, A_FIFTH),
    Trial(
        "2,000 videos, no trajectory tokens: one a slot and frame, words as tokens, as published, a fifth of an epoch",
        "none",
        FEWER,
        {"tokens": "frames", **A_FIFTH},
    ),
)
"""The first three differ in the future's frames alone, the last two in their tokens alone."""


class PausingJob(BuildContext):
    """A job that pauses while a file exists, and reports its progress meanwhile."""

    pause: Path | None = None

    def progress(self, done: float, total: float, unit: str, **extra: Any) -> None:
        while self.pause is not None and self.pause.exists():
            time.sleep(1)
        super().progress(done, total, unit, **extra)


def config_of(trial: Trial, seed: int, overrides: tuple[str, ...]) -> Config:
    return compose([*COMMON, *trial.overrides, f"seed={seed}", *overrides])


def folder_of(store: Store, trial: Trial, target: Vqa, settings: AloeSettings, seed: int) -> Path:
    name = "".join(letter if letter.isalnum() else "-" for letter in trial.name)
    return store.root / "study" / f"{name}-{seed}-{key_of(trial, target, settings, seed)}"


def key_of(trial: Trial, target: Vqa, settings: AloeSettings, seed: int) -> str:
    return digest([target.rollout.key, dataclasses.asdict(settings), trial.future, seed, Vqa.version])[:12]


def keys() -> Iterator[str]:
    """What determines each training, as a digest."""
    for number, seed in calls():
        trial = TRIALS[number]
        config = config_of(trial, seed, ())
        yield key_of(trial, target_of(config), settings_of(trial, config), seed)


def settings_of(trial: Trial, config: Config) -> AloeSettings:
    return dataclasses.replace(config.aloe, **trial.changes)


def run(call: tuple[int, int, tuple[str, ...], Path | None]) -> str:
    """Trains TRIALS[number] for a seed, unless it is done."""
    number, seed, overrides, pause = call
    trial = TRIALS[number]
    config = config_of(trial, seed, overrides)
    store = Store.open(config.store)
    target, settings = target_of(config), settings_of(trial, config)
    folder = folder_of(store, trial, target, settings, seed)
    if ended(folder):
        return f"{folder.name}: done before"
    dataset = dataset_of(target, store)
    frames = futures(trial.future, dataset, target.rollout, store)
    job = _job(folder, pause)
    before, began = paid(folder), time.process_time()
    try:
        train(settings, seed, dataset, frames, context=job)
    finally:
        seconds = before + time.process_time() - began
        (folder / PAID).write_text(json.dumps({"cpu_seconds": seconds}), encoding="utf-8")
    return f"{folder.name}: {seconds:.0f} s of CPU"


def ended(folder: Path) -> bool:
    return (folder / METRICS_JSON).is_file() and (folder / PAID).is_file()


def dataset_of(target: Vqa, store: Store) -> Dataset:
    return Dataset.open(build(target.rollout.state.data, store).path)


def _job(folder: Path, pause: Path | None) -> PausingJob:
    folder.mkdir(parents=True, exist_ok=True)
    job = PausingJob(folder, threads=1)
    job.pause = pause
    return job


def futures(kind: str, dataset: Dataset, rollout: Rollout, store: Store) -> dict[str, np.ndarray] | None:
    """{split: (V,32,S,D)}: as the world model predicts them (it is trained where it has to be), as they truly are, or None."""
    if kind == "none":
        return None
    if kind == "predicted":
        folder = build(rollout, store, device="cpu").path
        return {split: np.load(folder / f"rollout_{split}.npy", mmap_mode="r") for split in dataset.splits}
    found = {split: dataset.split(split).future for split in dataset.splits}
    return {split: future[:, :PREDICTED_FRAMES] for split, future in found.items() if future is not None}


def calls() -> list[tuple[int, int]]:
    """(number of a trial, seed), the first seed's first: a study that is ended early has tried everything once."""
    return sorted(((n, seed) for n, trial in enumerate(TRIALS) for seed in trial.seeds), key=lambda call: call[::-1])


def finished(store: Store, overrides: tuple[str, ...]) -> Iterator[Finished]:
    data: dict[str, Dataset] = {}
    for trial in TRIALS:
        for seed in trial.seeds:
            config = config_of(trial, seed, overrides)
            target = target_of(config)
            folder = folder_of(store, trial, target, settings_of(trial, config), seed)
            if ended(folder):
                key = target.rollout.state.data.key
                if key not in data:
                    data[key] = dataset_of(target, store)
                yield Finished(trial.name, seed, folder, data[key])


def main() -> int:
    parser = argparse.ArgumentParser(prog="make study", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pause-file", type=Path)
    parser.add_argument("--report", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    overrides, console = tuple(arguments.overrides), Console()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    store = Store.open(config_of(TRIALS[0], 0, overrides).store)
    if not arguments.report:
        stop_on_signals()
        try:
            _run_all(store, overrides, arguments.processes, arguments.pause_file, console)
        except Interrupted as stopped:
            print(f"{stopped}; the same command continues", file=sys.stderr)
            return 1
    if not (found := list(finished(store, overrides))):
        print("nothing finished yet")
        return 1
    text = report(found)
    (store.root / "study" / "study.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _run_all(store: Store, overrides: tuple[str, ...], processes: int, pause: Path | None, console: Console) -> None:
    """Makes the scenes, then runs all trainings that are not done. Raises Interrupted when a signal asks to stop."""
    for trial in (TRIALS[0], TRIALS[-1]):
        scenes = dataset_of(target_of(config_of(trial, 0, overrides)), store)
        console.print(f"{scenes.split('train').videos} scenes", scenes.folder, highlight=False)
    todo = [(*call, overrides, pause) for call in calls()]
    ours = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for this process, which ends its trainings
    with multiprocessing.get_context("spawn").Pool(processes, signal.signal, ours, maxtasksperchild=1) as pool:
        pending = pool.imap_unordered(run, todo)
        with console.status("starting") as status:
            for done in range(len(todo)):
                while True:
                    try:
                        console.print(f"{done + 1}/{len(todo)} {pending.next(timeout=1)}", highlight=False)
                        break
                    except multiprocessing.TimeoutError:
                        if stopping():
                            raise Interrupted("stopped by a signal") from None
                        status.update(f"{done}/{len(todo)} trainings done; {_under_way(store)}")


def _under_way(store: Store) -> str:
    progress = []
    for path in sorted((store.root / "study").glob("*/progress.json")):
        try:
            at = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not (path.parent / METRICS_JSON).exists():
            progress.append(f"{path.parent.name.rsplit('-', 1)[0]} {100 * at['done'] / at['total']:.0f} %")
    return ", ".join(progress)


if __name__ == "__main__":
    sys.exit(main())
