"""The tables of `make study`: accuracies above the blind levels, and what the frames of the future are worth.

Intervals are 95 %, over videos (every seed answers the same ones) and, where there are several seeds, over these. What is above a
blind level or what the words alone give (`ctt.data.baselines.words_only`), or between two trials, is taken video by video.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ctt.core.build_context import METRICS, read_metrics
from ctt.data.baselines.blind import blind_predictions
from ctt.data.baselines.words_only import words_only_predictions
from ctt.data.dataset import Dataset
from ctt.data.questions.vocab import CATEGORIES
from ctt.training.vqa import PREDICTIONS

PAID = "paid.json"
ARMS = ("predicted frames", "given frames alone", "true future")
WORDS = "the words alone"
DEMANDS = {"descriptive": 20.0, "explanatory": 2.0}


@dataclass(frozen=True)
class Finished:
    """One training of a trial: its folder holds predictions.parquet and what it cost (PAID); dataset: what it learnt from."""

    trial: str
    seed: int
    folder: Path
    dataset: Dataset


Rights = dict[str, np.ndarray]
"""{category that is asked: (V,2), its right and its asked rows in each video}."""


def report(found: list[Finished]) -> str:
    """Markdown. The first table holds the trials that differ in the future's frames alone, the last what was tried."""
    by_trial: dict[str, dict[int, Rights]] = {}
    blind: dict[str, Rights] = {}
    words_alone: dict[str, Rights] = {}
    levels: dict[str, tuple[Rights, Rights]] = {}
    for one in found:
        table = pd.read_parquet(one.folder / PREDICTIONS, columns=["video", "category", "correct"])
        by_trial.setdefault(one.trial, {})[one.seed] = rights_of(table)
        data = str(one.dataset.folder)
        if data not in levels:
            train, validation = (one.dataset.split(name).questions for name in ("train", "validation"))
            answers = blind_predictions(train, validation), words_only_predictions(train, validation)
            without, words = (rights_of(answer.assign(video=table["video"])) for answer in answers)
            levels[data] = without, words
        blind[one.trial], words_alone[one.trial] = levels[data]
    seconds = {trial: np.mean([paid(one.folder) for one in found if one.trial == trial]) for trial in by_trial}
    arms = [name for name in ARMS if name in by_trial]
    lines = []
    if arms:
        level = blind[arms[0]]
        lines += _head("points above the blind level of the question's form", level)
        percent = " | ".join(f"{_percent(level[name]):.1f} %" for name in level)
        lines.append(f"| the blind levels themselves | – | – | {percent} |")
        lines.append(_line(f"{WORDS}, a linear model", None, {0: words_alone[arms[0]]}, {0: level}))
        lines += [_line(name, seconds[name], by_trial[name], dict.fromkeys(by_trial[name], level)) for name in arms]
        lines += ["", *(f"- {line}" for line in _demands(by_trial, blind)), ""]
        lines += _head("difference in points", level)
        for name in arms:
            base = dict.fromkeys(by_trial[name], words_alone[name])
            lines.append(_line(f"{name} − {WORDS}", None, by_trial[name], base))
    for one, other in ((0, 1), (2, 1), (0, 2)):
        if ARMS[one] in by_trial and ARMS[other] in by_trial:
            lines.append(_line(f"{ARMS[one]} − {ARMS[other]}", None, by_trial[ARMS[one]], by_trial[ARMS[other]]))
    tried = [name for name in by_trial if name not in ARMS]
    if tried:
        lines += ["", *_head("tried: points above the blind level", blind[tried[0]])]
        for name in tried:
            lines.append(_line(name, seconds[name], by_trial[name], dict.fromkeys(by_trial[name], blind[name])))
    return "\n".join([*lines, "", *_learning(found)]) + "\n"


def _learning(found: list[Finished]) -> Iterator[str]:
    """When each training learnt what: its curve after the first epoch, half-way and at the end."""
    yield "| while it is trained | after epochs | descriptive, % of the curve's videos | loss of the options | CPU s an epoch |"
    yield "|---|---:|---:|---:|---:|"
    for one in found:
        curve = read_metrics(one.folder / METRICS)
        shown = [curve[at] for at in sorted({0, len(curve) // 2, len(curve) - 1})]
        cells = (
            [f"{line['step']}" for line in shown],
            [f"{line['descriptive']:.0f}" for line in shown],
            [f"{line['train_option_loss']:.2f}" for line in shown],
        )
        yield f"| {one.trial} | {' | '.join(', '.join(cell) for cell in cells)} | {paid(one.folder) / len(curve):.0f} |"
    yield ""
    yield f"All {len(found)} trainings took {sum(paid(one.folder) for one in found):,.0f} CPU seconds."


def rights_of(table: pd.DataFrame) -> Rights:
    """table: the columns video, category and correct of all rows."""
    videos = int(table["video"].max()) + 1
    out = {}
    for name in (name for name in CATEGORIES if name in set(table["category"])):
        mine = table[table["category"] == name]
        columns = [np.bincount(mine["video"], weights, videos) for weights in (mine["correct"], None)]
        out[name] = np.stack(columns, 1).astype(float)
    return out


def difference(runs: list[np.ndarray], base: list[np.ndarray]) -> tuple[float, float]:
    """Percent of rows (V,2) right in `runs` less that in `base`, run by run, and the half-width of its interval."""
    gaps = [one[:, 0] - other[:, 0] for one, other in zip(runs, base, strict=True)]
    asked = runs[0][:, 1]
    gap = np.mean(gaps, 0)
    level = gap.sum() / asked.sum()
    totals = [one.sum() for one in gaps]
    videos = np.square(gap - level * asked).sum()
    seeds = np.var(totals, ddof=1) / len(totals) if len(totals) > 1 else 0.0
    return 100 * level, 196 * float(np.sqrt(videos + seeds)) / float(asked.sum())


def _percent(rights: np.ndarray) -> float:
    return float(100 * rights[:, 0].sum() / rights[:, 1].sum())


def paid(folder: Path) -> float:
    """CPU seconds that a training has taken so far, over all its attempts."""
    path = folder / PAID
    return float(json.loads(path.read_text(encoding="utf-8"))["cpu_seconds"]) if path.exists() else 0.0


def _head(title: str, names: Iterable[str]) -> list[str]:
    heads = [name if name == "descriptive" else f"{name} (options)" for name in names]
    return [f"| {title} | seeds | CPU s | " + " | ".join(heads) + " |", "|---|---:|---:|" + "---:|" * len(heads)]


def _line(name: str, seconds: float | None, runs: dict[int, Rights], base: dict[int, Rights]) -> str:
    seeds = sorted(set(runs) & set(base))
    estimates = []
    for category in base[seeds[0]]:
        level, half = difference([runs[seed][category] for seed in seeds], [base[seed][category] for seed in seeds])
        estimates.append(f"{level:+.1f} ±{half:.1f}".replace("-", "−"))
    return f"| {name} | {len(seeds)} | {'–' if seconds is None else f'{seconds:.0f}'} | " + " | ".join(estimates) + " |"


def _demands(by_trial: dict[str, dict[int, Rights]], blind: dict[str, Rights]) -> Iterator[str]:
    for category, points in DEMANDS.items():
        held = []
        for name, runs in by_trial.items():
            level, half = difference([run[category] for run in runs.values()], [blind[name][category]] * len(runs))
            held += [f"{name} ({level:+.1f} ±{half:.1f})"] if level >= points else []
        yield f"{category} at least {points:g} points above the blind level: {', '.join(held) or 'none'}"
