"""`make study`: what ALOE learns on synthetic scenes in about 45 minutes on two cores, and what was tried to lift it.

Trainings of one thread each, two at a time, over three world models' seeds: with the world model's predicted frames, with given
frames alone, and with the true future in their place; then, for one seed, what was tried. Every training is a folder of the
store's `study/`, continued from its last checkpoint when the command is run again; finished ones are only read.

--processes 1 and `nice` keep it in the background; while the file of --pause-file exists, trainings hold still. Overrides are
Hydra's, for all trials.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from ctt.config import Config, compose
from ctt.data.dataset import Dataset
from ctt.data.vocab import CATEGORIES
from ctt.job import Job
from ctt.models.aloe_settings import PREDICTED_FRAMES, AloeSettings
from ctt.plan import target_of
from ctt.settings import digest
from ctt.stages.base import build
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.training.vqa import METRICS_JSON, PREDICTIONS, train

SEEDS = (0, 1, 2)
COMMON = (
    "data=synthetic", "data.train=3000", "data.validation=400", "data.test=0", "data.density=4", "data.noise=0.05",
    "data.annotations=false", "world_model=mini", "aloe=mini", "aloe.epochs=3", "aloe.eval_videos=100", "device=cpu",
)  # fmt: skip
EVEN = [0.25, 1.0, 1.0, 1.0]


@dataclasses.dataclass(frozen=True)
class Trial:
    """One way to train ALOE: which frames stand for the future, what differs in its settings, and epochs of descriptive
    questions alone before it, whose weights it starts from."""

    name: str
    future: str = "predicted"
    changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    warm_epochs: int = 0
    seeds: tuple[int, ...] = (0,)


TRIALS = (
    Trial("predicted frames", seeds=SEEDS),
    Trial("given frames alone", future="none", seeds=SEEDS),
    Trial("true future", future="true", seeds=SEEDS),
    Trial("warm start from descriptive questions", warm_epochs=2, changes={"epochs": 2}),
    Trial("more multiple choice", changes={"shares": EVEN}),
    Trial("warm start, then more multiple choice", warm_epochs=2, changes={"shares": EVEN, "epochs": 2}),
    Trial("predicted frames for all categories", changes={"rollout_frames": "all"}),
    Trial("words as tokens", changes={"words": "tokens"}),
    Trial(
        "one token a slot and frame, words as tokens, as published",
        changes={"tokens": "frames", "words": "tokens", "epochs": 1},
    ),
    Trial("twice as long", changes={"epochs": 6}),
    Trial("twice as long, true future", future="true", changes={"epochs": 6}),
)


class PausingJob(Job):
    """A job that holds still while a file exists, and tells its progress meanwhile."""

    pause: Path | None = None

    def progress(self, done: int, total: int, unit: str, **more: Any) -> None:
        while self.pause is not None and self.pause.exists():
            time.sleep(1)
        super().progress(done, total, unit, **more)


def config_of(seed: int, overrides: tuple[str, ...]) -> Config:
    return compose([*COMMON, f"seed={seed}", *overrides])


def folder_of(store: Store, trial: Trial, target: Vqa, settings: AloeSettings, seed: int) -> Path:
    what = [target.rollout.key, dataclasses.asdict(settings), trial.future, trial.warm_epochs, seed, Vqa.version]
    return store.root / "study" / f"{trial.name.replace(' ', '-').replace(',', '')}-{seed}-{digest(what)[:12]}"


def settings_of(trial: Trial, config: Config) -> AloeSettings:
    return dataclasses.replace(config.aloe, **trial.changes)


def run(call: tuple[int, int, tuple[str, ...], Path | None]) -> str:
    """Trains TRIALS[number] for a seed, unless it is done."""
    number, seed, overrides, pause = call
    trial, config = TRIALS[number], config_of(seed, overrides)
    store = Store.open(config.store)
    target, settings = target_of(config), settings_of(trial, config)
    folder = folder_of(store, trial, target, settings, seed)
    if (folder / METRICS_JSON).is_file():
        return f"{folder.name}: done before"
    rolled = build(target.rollout, store, device="cpu")
    data = store.get(target.rollout.state.data.key)
    assert data is not None
    dataset = Dataset.open(data.path)
    frames = futures(trial.future, dataset, rolled.path)
    began = time.monotonic()
    start = None
    if trial.warm_epochs:
        start = folder / "warm"
        warm = dataclasses.replace(settings, shares=[1.0, 0.0, 0.0, 0.0], epochs=trial.warm_epochs)
        if not (start / METRICS_JSON).is_file():
            train(warm, seed, dataset, frames, job=_job(start, pause))
    train(settings, seed, dataset, frames, start=start, job=_job(folder, pause))
    return f"{folder.name}: {time.monotonic() - began:.0f} s"


def _job(folder: Path, pause: Path | None) -> PausingJob:
    folder.mkdir(parents=True, exist_ok=True)
    job = PausingJob(folder, threads=1)
    job.pause = pause
    return job


def futures(kind: str, dataset: Dataset, rolled: Path) -> dict[str, np.ndarray] | None:
    """{split: (V,32,S,D)}: as the world model predicts them, as they truly are, or None."""
    if kind == "none":
        return None
    if kind == "predicted":
        return {split: np.load(rolled / f"rollout_{split}.npy", mmap_mode="r") for split in dataset.splits}
    found = {split: dataset.split(split).future for split in dataset.splits}
    return {split: future[:, :PREDICTED_FRAMES] for split, future in found.items() if future is not None}


def finished(store: Store, overrides: tuple[str, ...]) -> Iterator[tuple[Trial, int, Path]]:
    for trial in TRIALS:
        for seed in trial.seeds:
            config = config_of(seed, overrides)
            folder = folder_of(store, trial, target_of(config), settings_of(trial, config), seed)
            if (folder / METRICS_JSON).is_file():
                yield trial, seed, folder


def report(store: Store, overrides: tuple[str, ...]) -> str:
    """Markdown: levels above the blind ones with intervals over videos and seeds, and differences to given frames alone."""
    found = list(finished(store, overrides))
    if not found:
        return "nothing finished yet\n"
    blind = json.loads((found[0][2] / METRICS_JSON).read_text(encoding="utf-8"))["blind"]
    measures = [("per_question", "descriptive"), *(("per_option", name) for name in CATEGORIES[1:])]
    lines = [
        "| trial | seeds | "
        + " | ".join(f"{n}{'' if kind == 'per_question' else ', per option'}" for kind, n in measures)
        + " |",
        "|---|---:|" + "---:|" * len(measures),
        "| blind, by question form | – | " + " | ".join(f"{blind[kind][name]:.1f}" for kind, name in measures) + " |",
    ]
    scores: dict[str, dict[int, list[np.ndarray]]] = {}
    for trial, seed, folder in found:
        table = pd.read_parquet(folder / PREDICTIONS, columns=["video", "category", "correct"])
        scores.setdefault(trial.name, {})[seed] = [_by_video(table, name) for _, name in measures]
    for name, by_seed in scores.items():
        cells = []
        for m, (kind, category) in enumerate(measures):
            level, half = estimate([by_seed[seed][m] for seed in sorted(by_seed)])
            cells.append(f"{level:.1f} ±{half:.1f} ({level - blind[kind][category]:+.1f})")
        lines.append(f"| {name} | {len(by_seed)} | " + " | ".join(cells) + " |")
    base = scores.get("given frames alone", {})
    for name, by_seed in scores.items():
        seeds = sorted(set(by_seed) & set(base))
        if name == "given frames alone" or not seeds:
            continue
        cells = []
        for m in range(len(measures)):
            level, half = difference([by_seed[s][m] for s in seeds], [base[s][m] for s in seeds])
            cells.append(f"{level:+.1f} ±{half:.1f}")
        lines.append(f"| *{name} − given frames alone* | {len(seeds)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _by_video(table: pd.DataFrame, category: str) -> np.ndarray:
    """(V,2): right and asked rows of a category in each video."""
    mine = table[table["category"] == category].groupby("video")["correct"].agg(["sum", "size"])
    return mine.reindex(range(int(table["video"].max()) + 1), fill_value=0).to_numpy(float)


def estimate(runs: list[np.ndarray]) -> tuple[float, float]:
    """Percent right and its 95 % half-width: videos as clusters (they are the same for all seeds), plus the seeds' own spread."""
    return _ratio(np.mean([run[:, 0] for run in runs], 0), runs[0][:, 1], [run[:, 0].sum() for run in runs])


def difference(runs: list[np.ndarray], base: list[np.ndarray]) -> tuple[float, float]:
    """The same of the difference of paired runs."""
    gaps = [one[:, 0] - other[:, 0] for one, other in zip(runs, base, strict=True)]
    return _ratio(np.mean(gaps, 0), runs[0][:, 1], [gap.sum() for gap in gaps])


def _ratio(right: np.ndarray, asked: np.ndarray, totals: list[float]) -> tuple[float, float]:
    level = right.sum() / asked.sum()
    videos = np.square(right - level * asked).sum()
    seeds = np.var(totals, ddof=1) / len(totals) if len(totals) > 1 else 0.0
    return 100 * level, 196 * float(np.sqrt(videos + seeds)) / float(asked.sum())


def main() -> int:
    parser = argparse.ArgumentParser(prog="make study", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--pause-file", type=Path)
    parser.add_argument("--report", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    overrides, console = tuple(arguments.overrides), Console()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    store = Store.open(config_of(0, overrides).store)
    if not arguments.report:
        calls = [(n, seed, overrides, arguments.pause_file) for n, trial in enumerate(TRIALS) for seed in trial.seeds]
        for seed in SEEDS:  # world models and rollouts first: trainings of one seed share them
            build(
                target_of(config_of(seed, overrides)).rollout, store, on_event=lambda *e: console.print(e[0], e[1].kind)
            )
        with multiprocessing.get_context("spawn").Pool(arguments.processes, maxtasksperchild=1) as pool:
            pending = pool.imap_unordered(run, calls)
            with console.status("starting") as status:
                for done in range(len(calls)):
                    while True:
                        try:
                            console.print(f"{done + 1}/{len(calls)} {pending.next(timeout=5)}", highlight=False)
                            break
                        except multiprocessing.TimeoutError:
                            status.update(f"{done}/{len(calls)} trainings done; {_under_way(store)}")
    text = report(store, overrides)
    (store.root / "study").mkdir(exist_ok=True)
    (store.root / "study" / "study.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def _under_way(store: Store) -> str:
    told = []
    for path in sorted((store.root / "study").glob("*/progress.json")):
        try:
            at = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if not (path.parent / METRICS_JSON).exists():
            told.append(f"{path.parent.name.rsplit('-', 1)[0]} {100 * at['done'] / at['total']:.0f} %")
    return ", ".join(told)


if __name__ == "__main__":
    sys.exit(main())
