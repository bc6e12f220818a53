"""Small files in the official formats: slots as the reference pickles them, and question files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np

FIRST = {"train": 0, "val": 10_000, "test": 15_000}
PROGRAM = ["events", "objects", "filter_collision", "count"]


def slots_tree(counts: dict[str, int], frames: int = 128, within: bool = False, seed: int = 0) -> dict[str, Any]:
    """{split: {file name: float32 (frames, 7, 128)}}, in random order, with both kinds of names."""
    rng = np.random.default_rng(seed)
    tree: dict[str, Any] = {}
    for split, videos in counts.items():
        first = 0 if within else FIRST[split]
        names = [f"{first + i}_pixels.mp4" if split == "train" else f"video_{first + i:05d}.mp4" for i in range(videos)]
        tree[split] = {names[i]: rng.standard_normal((frames, 7, 128), np.float32) for i in rng.permutation(videos)}
    return tree


def write_pickle(path: Path, tree: Any, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(tree, protocol=protocol))
    return path


def scene(index: int, answered: bool = True) -> dict[str, Any]:
    """A scene in the official format with a descriptive and a predictive question."""
    hit = ["all_events", "objects", "red", "filter_color", "unique", "filter_collision"]
    hit += ["objects", "blue", "filter_color", "unique", "filter_collision", "unique"]
    descriptive: dict[str, Any] = {
        "question_id": 0,
        "question": "How many collisions happen?",
        "question_type": "descriptive",
        "question_subtype": "count",
    }
    choices: list[dict[str, Any]] = [
        {"choice_id": i, "choice": f"The red object and the {other} collide"} for i, other in enumerate(["cube", "sphere"])
    ]
    predictive: dict[str, Any] = {
        "question_id": 1,
        "question": "What will happen next?",
        "question_type": "predictive",
        "choices": choices,
    }
    if answered:
        descriptive |= {"program": list(PROGRAM), "answer": str(index % 3)}
        predictive["program"] = ["unseen_events", "belong_to"]
        for i, choice in enumerate(choices):
            choice |= {"program": list(hit), "answer": ("correct", "wrong")[(i + index) % 2]}
    return {
        "scene_index": index,
        "video_filename": f"video_{index:05d}.mp4",
        "questions": [descriptive, predictive],
    }


def write_questions(folder: Path, counts: dict[str, int], names: dict[str, str] | None = None) -> Path:
    """Writes question files of the splits, with the official names or those in `names`; returns `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, videos in counts.items():
        name = (names or {}).get(split, {"val": "validation"}.get(split, split))
        scenes = [scene(FIRST[split] + i, answered=split != "test") for i in range(videos)]
        (folder / f"{name}.json").write_text(json.dumps(scenes))
    return folder
