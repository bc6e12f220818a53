"""A data set whose questions can be learned from slots within seconds, and its rollouts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ctt.data.dataset import Dataset

COLORS = ["blue", "brown", "cyan", "red"]


def make(folder: Path, train: int = 60, validation: int = 30, seed: int = 0) -> tuple[Dataset, dict[str, np.ndarray]]:
    """Returns the data set and {split: rollouts (V,32,7,128)}. Every slot has one of four colours, and others when predicted.

    Descriptive questions and explanatory options are about the given frames, predictive options about predicted ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    code = random.standard_normal((len(COLORS), 128)).astype(np.float32)
    videos, rollouts = {"train": train, "validation": validation}, {}
    first = {"train": 0, "validation": 10_000}
    for split, count in videos.items():
        now, later = random.integers(0, len(COLORS), (2, count, 7))
        now[:, 4:], later[:, 4:] = now[:, :1], later[:, :1]
        slots = np.repeat(code[now][:, None], 128, 1) + 0.1 * random.standard_normal((count, 128, 7, 128))
        np.save(folder / f"slots_{split}.npy", slots.astype(np.float32))
        rollouts[split] = np.repeat(code[later][:, None], 32, 1).astype(np.float32)
        scenes = [scene(first[split] + v, now[v], later[v], random) for v in range(count)]
        (folder / f"questions_{split}.json").write_text(json.dumps(scenes))
    manifest = dict(name="toy", frames=128, slots=7, width=128, videos=videos, first_scene=first)
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return Dataset.open(folder), rollouts


def scene(index: int, now: np.ndarray, later: np.ndarray, random: np.random.Generator) -> dict:
    """The questions of one video, in CLEVRER's schema."""
    questions = []
    for k in random.permutation(len(COLORS))[:3]:
        text = f"Are there any {COLORS[k]} objects that enter the scene?"
        answer = "yes" if k in now else "no"
        questions.append(dict(question=text, question_type="descriptive", question_subtype="exist", program=[], answer=answer))
    text = "Which of the following is responsible for the red object's exit?"
    questions.append(dict(question=text, question_type="explanatory", program=[], choices=choices(now, random)))
    questions.append(
        dict(question="What will happen next?", question_type="predictive", program=[], choices=choices(later, random))
    )
    for number, question in enumerate(questions):
        question["question_id"] = number
    return dict(scene_index=index, video_filename=f"video_{index:05d}.mp4", questions=questions)


def choices(shown: np.ndarray, random: np.random.Generator) -> list[dict]:
    """Two or three options, correct if a slot has their colour."""
    count = int(random.integers(2, 4))
    return [
        dict(
            choice_id=i,
            choice=f"the presence of the {COLORS[k]} object",
            program=[],
            answer="correct" if k in shown else "wrong",
        )
        for i, k in enumerate(random.permutation(len(COLORS))[:count])
    ]
