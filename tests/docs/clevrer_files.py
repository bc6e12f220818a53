"""CLEVRER's files as a user has downloaded them, tiny: the names, layout and formats of the real ones, of simulated scenes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np

from ctt.core.build_context import BuildContext
from ctt.data.data_settings import DataSettings
from ctt.data.synthetic.writing import generate

COUNTS = {"train": 24, "validation": 8, "test": 4}
FIRST = {"train": 0, "validation": 10_000, "test": 15_000}


def download(folder: Path) -> None:
    """Writes slots, questions and annotations into `folder`, as if `ctt data fetch` had been there."""
    made = folder / "made"
    made.mkdir(parents=True)
    settings = DataSettings(kind="synthetic", noise=0.05, annotations=True, **COUNTS)
    generate(settings, BuildContext(made, workers=1))
    slots = {}
    for split, count in COUNTS.items():
        array = np.load(made / f"slots_{split}.npy")
        names = [
            f"{FIRST[split] + i}_pixels.mp4" if split == "train" else f"video_{FIRST[split] + i:05d}.mp4" for i in range(count)
        ]
        slots[{"validation": "val"}.get(split, split)] = dict(zip(names, array, strict=True))
        scenes = json.loads((made / f"questions_{split}.json").read_text(encoding="utf-8"))
        for number, scene in enumerate(scenes):
            index = FIRST[split] + number
            scene |= {"scene_index": index, "video_filename": f"video_{index:05d}.mp4"}
        (folder / f"{split}.json").write_text(json.dumps(scenes), encoding="utf-8")
    (folder / "clevrer_videosaur_slots.pkl").write_bytes(pickle.dumps(slots, protocol=4))
    for split in ("train", "validation"):
        (made / f"annotations_{split}.zip").rename(folder / f"annotation_{split}.zip")
    for left in made.iterdir():
        left.unlink()
    made.rmdir()
