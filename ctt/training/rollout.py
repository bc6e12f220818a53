"""Rolling a trained world model out over a data set, and its error against the true future."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctt.core.build_context import BuildContext
from ctt.core.errors import StoreError
from ctt.data.dataset import Dataset, Split
from ctt.data.mapped_arrays import mapped_array
from ctt.models.model_settings import PredictorSettings, RolloutSettings
from ctt.models.predictor import Predictor
from ctt.models.rollout import rollout
from ctt.training.state import MODEL, load_weights
from ctt.training.threads import threads

METRICS = "metrics.json"
MEASURED = "validation"


def load(folder: Path, settings: PredictorSettings) -> Predictor:
    """The predictor of a state folder, in eval mode, on the CPU. Raises StoreError if it does not fit the settings."""
    weights = load_weights(folder / MODEL)
    try:
        predictor = Predictor(settings, weights["mask_token"].shape[-1])
        predictor.load_state_dict(weights)
    except (KeyError, RuntimeError, ValueError) as error:
        raise StoreError(f"{folder / MODEL} does not hold this world model: {error}") from error
    return predictor.eval()


def roll_out(
    settings: PredictorSettings,
    rollout_settings: RolloutSettings,
    state_folder: Path,
    dataset: Dataset,
    *,
    context: BuildContext,
) -> dict[str, Any]:
    """Writes rollout_{split}.npy (V,frames,S,D) for every split, and metrics.json, which it returns.

    Metrics of the validation split ({} if its true future is unknown): mean squared errors "error", "copy_last", "linear",
    each also "…_visible" (objects in view), and "per_frame": the same as lists, frame by frame. Copy-last repeats the last
    given frame; linear continues the mean change over the last `frameskip` frames.
    Raises Interrupted between batches when asked to stop; a later call starts again; DiskFull before any work.
    """
    metrics: dict[str, Any] = {}
    splits = {name: dataset.split(name) for name in dataset.splits}
    arrays = {name: _array(rollout_settings, split, context.folder / f"rollout_{name}.npy") for name, split in splits.items()}
    total = sum(len(split.slots) for split in splits.values())
    done = 0
    with threads(context.threads):
        predictor = load(state_folder, settings).to(context.device)
        for name, split in splits.items():
            out = arrays[name]
            for first in range(0, len(out), rollout_settings.batch):
                chunk = slice(first, first + rollout_settings.batch)
                slots = torch.from_numpy(np.array(split.slots[chunk], dtype=np.float32)).to(context.device)
                out[chunk] = rollout(predictor, slots, settings.frameskip, rollout_settings.frames).cpu().numpy()
                done += len(slots)
                context.progress(done, total, "video")
                if context.stopping:
                    context.stop()
            out.flush()
            if name == MEASURED and split.future is not None:
                metrics = rollout_errors(out, split, settings.frameskip)
    (context.folder / METRICS).write_text(json.dumps(metrics, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return metrics


def _array(settings: RolloutSettings, split: Split, path: Path) -> np.memmap:
    """The file of a split's predicted frames, on disk at its full size."""
    return mapped_array(path, settings.dtype, (len(split.slots), settings.frames, *split.slots.shape[2:]))


def rollout_errors(predicted: np.ndarray, split: Split, frameskip: int, chunk: int = 32) -> dict[str, Any]:
    """Errors of predicted frames (V,N,S,D), copy-last and linear extrapolation against the true frames."""
    assert split.future is not None
    frames = min(predicted.shape[1], split.future.shape[1])
    given = split.slots.shape[1]
    sums: dict[str, np.ndarray] = {}
    counts = np.zeros((2, frames))
    for first in range(0, len(predicted), chunk):
        videos = slice(first, first + chunk)
        truth = split.future[videos, :frames]
        seen = np.ones(truth.shape[:3], bool) if split.visible is None else split.visible[videos, given : given + frames]
        last = split.slots[videos, -1:]
        change = (last - split.slots[videos, -1 - frameskip : -frameskip]) / frameskip
        steps = np.arange(1, frames + 1, dtype=np.float32)[:, None, None]
        predictions = {"error": predicted[videos, :frames], "copy_last": last, "linear": last + change * steps}
        counts += np.stack([np.full(frames, seen[:, 0].size), seen.sum((0, 2))])
        for name, prediction in predictions.items():
            error = np.square(np.asarray(prediction, dtype=np.float32) - truth).mean(-1, dtype=np.float64)
            both = np.stack([error.sum((0, 2)), (error * seen).sum((0, 2))])
            sums[name] = sums.get(name, 0) + both
    metrics: dict[str, Any] = {"per_frame": {}}
    for name, both in sums.items():
        for suffix, total, count in (("", both[0], counts[0]), ("_visible", both[1], counts[1])):
            metrics[name + suffix] = float(total.sum() / max(count.sum(), 1))
            metrics["per_frame"][name + suffix] = (total / np.maximum(count, 1)).tolist()
    return metrics
