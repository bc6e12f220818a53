"""FrameSampling: the frames of a video that ALOE sees, from its settings and the data's format."""

from __future__ import annotations

from dataclasses import dataclass

from ctt.core.errors import SettingError
from ctt.data.data_format import CLEVRER, DataFormat
from ctt.models.aloe.aloe_settings import AloeSettings

PREDICTED_FRAMES = 32
"""How many frames later the published window of questions about the future starts."""
IMAGINED = "counterfactual"
"""The category whose questions remove an object; also the value of aloe.rollout_frames that has them see a video without it."""


@dataclass(frozen=True, eq=False)
class FrameSampling:
    """Sampled frames under `settings` of videos of `format`. Raises SettingError naming the setting that does not fit."""

    settings: AloeSettings
    format: DataFormat = CLEVRER

    def __post_init__(self) -> None:
        aloe = self.settings
        if aloe.frames > self.given:
            raise SettingError(f"aloe.frames must be at most {self.given}, the given frames of a video; got {aloe.frames}")
        if aloe.eval_start is not None and aloe.eval_start >= self.starts:
            raise SettingError(
                f"aloe.eval_start must be less than {self.starts} with aloe.frames={aloe.frames}; got {aloe.eval_start}"
            )
        if aloe.rollout_frames == "all" and aloe.predicted_frames is None and self.stride > PREDICTED_FRAMES:
            raise SettingError(
                f"aloe.rollout_frames=all adds predicted frames, but at stride {self.stride} (aloe.frames={aloe.frames}) "
                f"none fits; set aloe.frames to at least {self.given // PREDICTED_FRAMES}"
            )
        if aloe.predicted_frames is not None and aloe.predicted_frames > PREDICTED_FRAMES // self.stride:
            most = PREDICTED_FRAMES // self.stride
            limit = f"at most {most}" if most else "only null"
            raise SettingError(
                f"aloe.predicted_frames can be {limit} at stride {self.stride} (aloe.frames={aloe.frames}); "
                f"got {aloe.predicted_frames}"
            )
        names = self.format.categories.names
        if len(aloe.shares) != len(names) and set(aloe.shares) != {1.0}:
            raise SettingError(
                f"aloe.shares must have a number for each category ({', '.join(names)}), or only ones; got {list(aloe.shares)}"
            )

    @property
    def given(self) -> int:
        """Given frames of a video."""
        return self.format.frames

    @property
    def stride(self) -> int:
        """Distance between sampled frames, in video frames."""
        return self.given // self.settings.frames

    @property
    def starts(self) -> int:
        """Number of possible first frames of a window of given frames: 0 … starts − 1."""
        return self.given - self.stride * (self.settings.frames - 1)

    @property
    def added_frames(self) -> int:
        """Predicted frames appended to a sequence that reads them; 0 under the published rule, which moves the window."""
        if self.settings.predicted_frames is not None:
            return self.settings.predicted_frames
        return PREDICTED_FRAMES // self.stride if self.settings.rollout_frames == "all" else 0

    @property
    def shares(self) -> list[float]:
        """The share of the training questions of each category in an epoch."""
        categories = self.format.categories
        return self.settings.shares if len(self.settings.shares) == len(categories) else [1.0] * len(categories)

    @property
    def reading(self) -> tuple[str, ...]:
        """Names of the categories that see predicted frames."""
        every = self.settings.rollout_frames == "all"
        return tuple(category.name for category in self.format.categories if every or category.future)

    @property
    def imagining(self) -> tuple[str, ...]:
        """Names of the categories that see, instead of the given frames, those of a video without the removed object."""
        names = (IMAGINED,) if self.settings.rollout_frames == IMAGINED else ()
        return tuple(name for name in names if name in self.format.categories.names)

    @property
    def reached(self) -> tuple[str, ...]:
        """Names of the categories that a world model reaches directly: by predicted frames or by imagined videos."""
        return tuple(name for name in self.format.categories.names if name in (*self.reading, *self.imagining))

    @property
    def trained_on_predicted(self) -> bool:
        """Whether training questions read what a world model predicts; otherwise ALOE's weights do not depend on one."""
        return self._trained_on(self.reached)

    def _trained_on(self, categories: tuple[str, ...]) -> bool:
        """Whether there are training questions of one of them."""
        if self.settings.rollout_frames == "all":
            return True
        return any(share > 0 for name, share in zip(self.format.categories.names, self.shares, strict=True) if name in categories)

    @property
    def frames_ahead(self) -> int:
        """Number of frames to roll out: the last one that any question reads in training or evaluation, counted from 1."""
        aloe = self.settings
        if not self.reading:
            return 0
        if self._trained_on(self.reading) or aloe.eval_start is None:  # from any first frame
            return self.stride * self.added_frames or PREDICTED_FRAMES
        if self.added_frames:
            return (aloe.eval_start - self.given) % self.stride + self.stride * (self.added_frames - 1) + 1
        return max(aloe.eval_start + self.stride * (aloe.frames - 1) + 1 + PREDICTED_FRAMES - self.given, 0)
