"""Curve: what a training's validations came to, epoch by epoch; it needs no more than the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctt.data.questions.vocab import CATEGORIES

ACCURACIES = (*CATEGORIES, "multiple_choice", "average")


def curve(lines: Sequence[dict[str, Any]], *, videos: int, of: int, planned: int) -> dict[str, Any]:
    """The last and the best epoch of a training, both measured on the same `videos` of all `of`, and where training ended.

    "best" is chosen on validation: it says how much choosing would have gained, and is no result. planned: the epochs
    after which training ends if it is not stopped early. None instead of both epochs where nothing is asked of these videos.
    """
    measured = [line for line in lines if "average" in line]
    best = max(measured, key=lambda line: line["average"], default=None)

    def epoch(line: dict[str, Any]) -> dict[str, Any]:
        return {"epoch": line["step"], **{name: line[name] for name in ACCURACIES if name in line}}

    done = lines[-1]["step"]
    return {
        "last": epoch(measured[-1]) if measured else None,
        "best": epoch(best) if best else None,
        "videos": videos,
        "of": of,
        "epochs": done,
        "planned_epochs": planned,
        "stopped": done < planned,
    }
