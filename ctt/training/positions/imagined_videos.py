"""Imagining what counterfactual questions ask about: the stage `imagined`. Its work continues where it was interrupted."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from ctt.core.atomic_files import read_json, write_json
from ctt.core.build_context import BuildContext
from ctt.data.dataset import Dataset
from ctt.data.mapped_arrays import mapped_array
from ctt.data.positions.linear_reader import LinearPositionReader
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.positions.removals import SPLITS, Removals
from ctt.training.imagined_frames import file_of
from ctt.training.positions.counterfactual import Factual, at_a_time, imagine
from ctt.training.positions.position_reader import reach_of
from ctt.training.rollout import load
from ctt.training.slot_graphs import SlotGraph
from ctt.training.threads import threads
from ctt.training.training_settings import WorldModelSettings

DONE = "imagined.json"
"""While it is built: {split: [videos that are on disk, the hash of their bytes]}."""
FLUSHED = 16
"""Chunks of videos after which what was imagined is written through to the disk."""


def imagine_videos(
    settings: PositionReaderSettings,
    world_model: WorldModelSettings,
    graph: SlotGraph | None,
    dtype: str,
    reader_folder: Path,
    removed_folder: Path,
    state_folder: Path,
    dataset: Dataset,
    *,
    context: BuildContext,
) -> None:
    """Writes imagined_SPLIT.npy (P,F,S,D), the given frames of the pairs of a video and an object in removed_SPLIT.npz.

    What is rolled out after the given frames has no part in them. graph: that which settings.reach=graph reads.
    Raises Interrupted between chunks when asked to stop; a later call continues.
    """
    reader = LinearPositionReader.load(reader_folder)
    asked = {name: Removals.load(removed_folder, name) for name in SPLITS}
    done: dict[str, Any] = read_json(context.folder / DONE) or {}
    total = sum(len(removals.pairs) for removals in asked.values())
    before, size = 0, at_a_time(context.device)
    with threads(context.threads):
        predictor = load(state_folder, world_model).to(context.device)
        for name, removals in asked.items():
            split, pairs = dataset.split(name), removals.pairs
            factual = Factual(split.slots, split.slots[:, :0], removals.objects)
            reach = reach_of(settings, world_model, graph, predictor, reader, removals.objects, split, state_folder)
            path = file_of(context.folder, name)
            shape = (len(pairs), *split.slots.shape[1:])
            kept, digest = _kept(path, done.get(name))
            out = open_memmap(path, "r+") if kept is not None else mapped_array(path, dtype, shape)

            def save(videos: int, name: str = name, out: np.memmap = out, digest: Any = digest) -> None:
                out.flush()
                done[name] = [videos, digest.hexdigest()]
                write_json(context.folder / DONE, done)

            for number, first in enumerate(range(kept or 0, len(pairs), size)):
                chunk = pairs[first : first + size]
                video, k = chunk.T
                out[first : first + len(chunk)] = imagine(
                    predictor, world_model.frameskip, reader, factual, video, k, reach, context.device
                ).slots
                digest.update(out[first : first + len(chunk)].tobytes())
                context.progress(before + first + len(chunk), total, "video")
                if context.stopping:
                    save(first + len(chunk))
                    context.stop()
                if number % FLUSHED == FLUSHED - 1:
                    save(first + len(chunk))
            save(len(pairs))
            before += len(pairs)
    (context.folder / DONE).unlink()


def _kept(path: Path, noted: Any) -> tuple[int | None, Any]:
    """The videos of a file that an earlier attempt has written, None if it has to be written anew, and the running hash of their
    bytes. noted: what DONE holds of the file."""
    digest = hashlib.sha256()
    if noted is None or not path.exists():
        return None, digest
    try:
        videos, expected = noted
        for video in open_memmap(path, "r")[:videos]:
            digest.update(video.tobytes())
        if digest.hexdigest() == expected:
            return int(videos), digest
    except (TypeError, ValueError):
        pass
    warnings.warn(f"{path} is damaged; its videos are imagined again", stacklevel=2)
    return None, hashlib.sha256()
