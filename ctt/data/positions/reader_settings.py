"""The position reader's settings: the data it is fitted on, the questions it answers, and the annotations they rest on.

Every command imports them, so what is large is imported where it is used.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from ctt.core.errors import DataError
from ctt.core.settings import Rule, Settings, setting
from ctt.data.data_settings import PROVISIONAL, DataSettings


@dataclass
class PositionReaderSettings(Settings):
    """The position reader: the data it is fitted on and the questions it answers."""

    enabled: bool = setting(
        True,
        "read positions from every run's rollout; needs positions in the given frames: synthetic data, or CLEVRER with "
        "data.annotation_files",
    )
    videos: int = setting(400, "training videos that it is fitted on", minimum=2)
    stride: int = setting(8, "uses every stride-th frame of these videos", minimum=1, maximum=64)
    interventions: bool = setting(True, "also answer counterfactual questions, by a video imagined without the removed object")
    reach: str = setting(
        "touch",
        "which objects a counterfactual question's removal reaches, and so are imagined, the others being kept as seen: touch: who "
        "touches a reached one; graph: whose slot depends on a reached one's in the run's slot graph; oracle: whose true path "
        "changes (synthetic data); all: every object, from the first frames on",
        choices=("touch", "graph", "oracle", "all"),
        old="all",
    )
    annotations: str | None = setting(None, "CLEVRER: digest of the annotations, computed from the files", old=None)

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("videos", "stride", "interventions", "reach", "annotations"),
            "the position reader is switched off",
            lambda reader: not reader.enabled,
        ),
        Rule(("reach",), "counterfactual questions are not answered", lambda reader: not reader.interventions),
    )


def positions_known(settings: PositionReaderSettings, data: DataSettings) -> bool:
    """Whether the objects' positions in the given frames are known, and the questions are those that positions answer."""
    return (data.source.has_truth or settings.annotations is not None) and data.format.like_clevrer


def resolved(settings: PositionReaderSettings, data: DataSettings) -> PositionReaderSettings:
    """The settings with the digest of the annotations that `data` names; a provisional one while they are missing."""
    if not data.source.annotated or not data.annotation_files:
        return dataclasses.replace(settings, annotations=None) if settings.annotations else settings
    return dataclasses.replace(settings, annotations=digest_of(data.annotation_files) or PROVISIONAL)


def digest_of(folder: str) -> str | None:
    """Digest of the annotations below `folder`; None if it is missing or contains a damaged archive."""
    path = Path(folder).expanduser()
    return _digest(str(path), path.stat().st_mtime_ns) if path.is_dir() else None


@lru_cache(maxsize=16)
def _digest(folder: str, changed: int) -> str | None:
    from ctt.data.clevrer.annotations import Annotations

    try:
        return Annotations(Path(folder)).digest
    except DataError:
        return None
