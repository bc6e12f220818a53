"""Who is reached by a removal: ways to find it, each against the simulator, and the answers that it leads to.

    python -m tests.benchmarks.who_is_reached SWEEP [--graph-sweep NAME] [store=PATH]

SWEEP: a finished one on synthetic data, whose first baseline run imagines; NAME: one whose first run with
world_model.graph.source=learned gives that graph. Every way is a cost c(t, j, i) of being reached in frame t by j for each other
object i, of the video as it was; an object's score is the least bottleneck over chains of such steps that begin with the removed
one. AUROC: of scores against who truly leaves their path, over all objects of all videos, each removed once. Answers: the reader's,
per question, when everyone is taken as reached whose score is below the threshold at which the share of the reached is the true
one; `touch` as reader.reach=touch has it, in the imagined video as well.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import rankdata

from ctt.core.build_context import BuildContext
from ctt.data.dataset import Dataset
from ctt.data.positions.descendants import reach_of_pairs
from ctt.data.positions.linear_reader import LinearPositionReader, follow
from ctt.data.positions.objects import SlotObjects
from ctt.data.positions.position_answers import COUNTERFACTUAL, answers, read_questions, removed_object
from ctt.data.positions.reference_levels import SPLIT, counterfactual_answers
from ctt.models.model_settings import GraphSettings
from ctt.models.predictor import Predictor
from ctt.planning import target_of
from ctt.stages.auxiliary.reader import PositionReader
from ctt.store import Store
from ctt.study.study import Study
from ctt.training.positions.counterfactual import Factual, without
from ctt.training.positions.removal import DEPARTED, Oracle, Reach, Touch
from ctt.training.rollout import load
from ctt.training.slot_graphs import StateGraphs, side_of

SOON = 5
"""Frames ahead of which approaching objects are taken to be there already."""
BATCH = 50


@dataclass(frozen=True)
class Steps:
    """Costs (V,F,6,6) of being reached by j (third axis) for i (fourth), and the threshold below which i is."""

    cost: np.ndarray
    threshold: float

    def begin(self, slots: np.ndarray, position: np.ndarray, videos: np.ndarray, removed: np.ndarray) -> Steps:
        return Steps(self.cost[videos], self.threshold)

    def step(self, frame: int, imagined: np.ndarray, reached: np.ndarray) -> np.ndarray:
        return np.asarray(reached | ((self.cost[:, frame] < self.threshold) & reached[:, :, None]).any(1))


def bottleneck(cost: np.ndarray) -> np.ndarray:
    """Scores (V,6,6): [v, k, i] of object i if k is removed, from costs (V,F,6,6)."""
    videos, frames, count = cost.shape[:3]
    score = np.full((videos, count, count), np.inf)
    score[:, np.arange(count), np.arange(count)] = -np.inf
    for frame in range(frames):
        through = np.maximum(score[:, :, :, None], cost[:, frame][:, None])  # (V,k,j,i)
        score = np.minimum(score, through.min(2))
    return score


def auroc(score: np.ndarray, truth: np.ndarray) -> float:
    """The share of pairs of a reached and another object in which the reached one has the lower score."""
    ranks = rankdata(-score)
    positive = int(truth.sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * (len(truth) - positive)))


def costs_of_graph(
    graph: Callable[[torch.Tensor], torch.Tensor], slots: np.ndarray, held: np.ndarray, history: int, skip: int
) -> np.ndarray:
    """−A[i, j] of the window that ends in each frame: (V,F,6,6) with j before i; inf where a window is not whole."""
    videos, frames = slots.shape[:2]
    out = np.full((videos, frames, held.shape[1], held.shape[1]), np.inf, np.float32)
    rows, known = np.arange(BATCH)[:, None, None], held >= 0
    for first in range(0, videos, BATCH):
        part = slice(first, first + BATCH)
        which, there = held[part], known[part]
        for frame in range((history - 1) * skip, frames):
            window = torch.from_numpy(np.ascontiguousarray(slots[part, frame - (history - 1) * skip : frame + 1 : skip]))
            found = graph(window).cpu().numpy()
            among = found[rows[: len(which)], which[:, None, :], which[:, :, None]]  # [j, i] = A[i, j]
            out[part, frame] = np.where(there[:, :, None] & there[:, None, :], -among, np.inf)
    return out


def presence(predictor: Predictor, empty: np.ndarray) -> Callable[[torch.Tensor], torch.Tensor]:
    """How far a slot's predictions move when another's history is emptied: (B,S,S), [i, j] the mean square of i without j."""

    @torch.no_grad()
    def graph(window: torch.Tensor) -> torch.Tensor:
        whole = predictor.predict(window)
        moved = []
        for j in range(window.shape[2]):
            less = window.clone()
            less[:, :, j] = torch.from_numpy(empty)
            moved.append((predictor.predict(less) - whole).square().mean((1, 3)))
        return torch.stack(moved, -1)

    return graph


def ranks_together(*scores: np.ndarray) -> np.ndarray:
    """The sum of the ranks of scores."""
    return np.asarray(sum(rankdata(score) for score in scores))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("--graph-sweep", help="a sweep with a learned graph (default: SWEEP)")
    parser.add_argument("store", nargs="?", default=None, help="store=PATH")
    given = parser.parse_args()
    root = Path(given.store.removeprefix("store=")) if given.store else None
    study = Study(given.sweep, root)
    store: Store = study.store
    place = next(n for n, run in enumerate(study.runs) if run.point.baseline)
    stage = next(s for s in study.plan.auxiliaries[place] if isinstance(s, PositionReader))
    state = stage.rollout.state
    dataset = Dataset.open(store.get(state.data.key).path)
    split = dataset.split(SPLIT)
    fit = store.get(stage.probe.key).path
    reader, objects = LinearPositionReader.load(fit), SlotObjects.load(fit)
    rolled = store.get(stage.rollout.key).path / f"rollout_{SPLIT}.npy"
    factual = Factual(split.slots, np.load(rolled, mmap_mode="r"), objects)
    model, skip = state.world_model, state.world_model.frameskip
    folder = store.get(state.key).path
    predictor = load(folder, model)

    videos = np.arange(len(split.slots))
    slots, held = factual.slots(videos), objects.first.astype(np.int64)
    position = follow(reader.read(slots), held[:, None])
    far = reach_of_pairs(reader, objects.shape)
    gap = np.linalg.norm(position[:, :, :, None].astype(np.float64) - position[:, :, None], axis=-1) - far[:, None]
    gap = np.where(np.isfinite(gap), gap, np.inf)
    closing = np.zeros_like(gap)
    with np.errstate(invalid="ignore"):
        closing[:, SOON:] = np.nan_to_num(gap[:, SOON:] - gap[:, :-SOON], nan=0.0, posinf=0.0, neginf=0.0)
    costs = {"touch": gap, "distance with approach speed": gap + np.minimum(closing, 0.0)}
    for source in ("attention", "jacobian"):
        graphs = StateGraphs(predictor, GraphSettings(source=source), None)
        costs[source] = costs_of_graph(graphs.of, slots, held, predictor.history, skip)
    other = Study(given.graph_sweep or given.sweep, root)
    for run in other.runs:
        if run.config.world_model.graph.source == "learned" and not run.point.baseline:
            learned = target_of(run.config).rollout.state
            place_of_it = store.get(learned.key).path
            side = side_of(place_of_it, learned.world_model, learned.world_model.graph, slots.shape[-1], torch.device("cpu"))
            graphs = StateGraphs(load(place_of_it, learned.world_model), learned.world_model.graph, side)
            costs["learned graph"] = costs_of_graph(graphs.of, slots, held, predictor.history, skip)
            break
    costs["presence in the model's prediction"] = costs_of_graph(
        presence(predictor, reader.empty), slots, held, predictor.history, skip
    )

    frames, count = slots.shape[1], held.shape[1]
    truth = split.truth
    apart = np.linalg.norm(truth.without_position[:, :, :frames].astype(np.float64) - truth.position[:, None, :frames], axis=-1)
    departed = (np.nan_to_num(apart, nan=0.0) > DEPARTED).any(2)  # (V,k,i)
    exists = held >= 0
    asked = exists[:, :, None] & exists[:, None, :] & ~np.eye(count, dtype=bool)
    share = departed[asked].mean()

    questions = read_questions(split.questions_file, split.scene_index, (COUNTERFACTUAL,))
    pairs = sorted({(q.video, removed_object(q, objects.things(q.video))) for q in questions})

    def answered(reach: Reach) -> float:
        with tempfile.TemporaryDirectory() as work:
            gaps = without(predictor, skip, reader, factual, pairs, reach, BuildContext(Path(work)))
        table = answers(questions, {COUNTERFACTUAL: counterfactual_answers(objects, lambda video, k: gaps[video, k])}, {})
        return 100 * float(table.groupby(["scene", "question_id"]).correct.all().mean())

    scores = {name: bottleneck(cost)[asked] for name, cost in costs.items()}
    for first, second in (("touch", "learned graph"), ("touch", "presence in the model's prediction")):
        if second in scores:
            scores[f"{first} and {second}"] = ranks_together(scores[first], scores[second])
    page = Table(title=f"Who is reached: {share:.1%} truly are; {len(pairs)} removals asked about, {int(asked.sum())} pairs in all")
    for column in ("way", "AUROC", "taken as reached, %", "counterfactual questions, %"):
        page.add_column(column, justify="left" if column == "way" else "right")
    for name, score in scores.items():
        threshold = float(np.quantile(score[np.isfinite(score)], min(1.0, share * len(score) / np.isfinite(score).sum())))
        row = [name, f"{auroc(score, departed[asked]):.3f}", f"{100 * float((score < threshold).mean()):.1f}"]
        page.add_row(*row, f"{answered(Steps(costs[name], threshold)):.1f}" if name in costs else "–")
    own = 100 * float((scores["touch"] < 0).mean())
    page.add_row(
        "touch at the fitted reach, observed and imagined", "–", f"{own:.1f} observed", f"{answered(Touch(reader, objects)):.1f}"
    )
    page.add_row("oracle", "1", f"{100 * share:.1f}", f"{answered(Oracle(truth)):.1f}")
    Console(width=120).print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
