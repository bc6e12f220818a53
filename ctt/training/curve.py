"""The validation curve of a training, computed from the lines of metrics.jsonl."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctt.data.categories import CLEVRER_CATEGORIES


def curve(
    lines: Sequence[dict[str, Any]], *, names: Sequence[str] = CLEVRER_CATEGORIES.metrics, videos: int, of: int, planned: int
) -> dict[str, Any]:
    """The last and the best epoch, both measured on the first `videos` of `of` videos, and the epoch at which training ended.

    names: of the accuracies.
    "best" is chosen on validation: it shows how much selecting an epoch would have gained, and is not a result. planned:
    the epoch at which training ends unless it stops early. Both epochs are None where these videos have no questions.
    """
    measured = [line for line in lines if "average" in line]
    best = max(measured, key=lambda line: line["average"], default=None)

    def epoch(line: dict[str, Any]) -> dict[str, Any]:
        return {"epoch": line["step"], **{name: line[name] for name in names if name in line}}

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
