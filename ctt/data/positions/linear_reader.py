"""Probe: a linear map from slots to positions, and from what distance on two objects count as touching.

Fitted by least squares on given frames; it sees nothing of the frames it is later asked to read. An object's shape is
known, and with it how near the centres of two objects come when they touch: the cut between the closest approaches of
pairs that met and of pairs that did not, for each pair of shapes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import ClassVar
from zipfile import BadZipFile

import numpy as np

from ctt.core.errors import DataError
from ctt.core.settings import Rule, Settings, setting
from ctt.data.data_settings import PROVISIONAL, DataSettings
from ctt.data.positions.objects import ObjectTracks, digest_of
from ctt.data.scene import SHAPES

FILE = "probe.npz"


@dataclass
class PositionReaderSettings(Settings):
    """The position reader: what it is fitted on and what it answers."""

    enabled: bool = setting(
        True,
        "read positions from every run's rollout, where they are known of the given frames: synthetic data, or "
        "CLEVRER with data.annotation_files",
    )
    videos: int = setting(400, "training videos that the probe is fitted on", minimum=2)
    stride: int = setting(8, "of which it takes every so many-th frame", minimum=1, maximum=64)
    interventions: bool = setting(
        True, "also answer counterfactual questions, by rolling out without the object that they remove"
    )
    annotations: str | None = setting(
        None, "CLEVRER: digest of the annotations, found from the files; what they are known by", old=None
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("videos", "stride", "interventions", "annotations"),
            "the reader is switched off",
            lambda reader: not reader.enabled,
        ),
    )


def positions_known(settings: PositionReaderSettings, data: DataSettings) -> bool:
    """Whether the data tell where objects are in the given frames."""
    return data.kind == "synthetic" or settings.annotations is not None


def resolved(settings: PositionReaderSettings, data: DataSettings) -> PositionReaderSettings:
    """The settings with the digest of the annotations that `data` names; a provisional one while they are not there."""
    if data.kind != "clevrer" or not data.annotation_files:
        return dataclasses.replace(settings, annotations=None) if settings.annotations else settings
    return dataclasses.replace(settings, annotations=digest_of(data.annotation_files) or PROVISIONAL)


@dataclass(frozen=True)
class LinearPositionReader:
    """weights (D+1, 2) float64, the last row the offset; reach (3, 3) by shapes; empty (D,) float32, a slot of nothing."""

    weights: np.ndarray
    reach: np.ndarray
    empty: np.ndarray

    def read(self, slots: np.ndarray) -> np.ndarray:
        """Positions (..., 2) float32 that slots (..., D) show."""
        return read(self.weights, slots)

    def read_all(self, slots: np.ndarray, chunk: int = 64) -> np.ndarray:
        """The same of many videos (V, F, S, D), memory-mapped or not, some at a time."""
        return np.concatenate([self.read(slots[i : i + chunk]) for i in range(0, len(slots), chunk)])

    def gaps(self, position: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """How near pairs come, less their reach: (V, N, N) from objects' positions (V, F, N, 2) and shapes (V, N); inf for
        pairs that are not there."""
        reach = self.reach[shape[:, :, None], shape[:, None, :]]
        there = (shape >= 0)[:, :, None] & (shape >= 0)[:, None, :]
        return np.where(there, nearest(position) - reach, np.inf)

    def save(self, folder: Path) -> None:
        np.savez(folder / FILE, weights=self.weights, reach=self.reach, empty=self.empty)

    @classmethod
    def load(cls, folder: Path) -> LinearPositionReader:
        """Raises DataError if there is none."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as stored:
                return cls(stored["weights"], stored["reach"], stored["empty"])
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{folder / FILE} is not a probe ({error})") from None


def fit(slots: np.ndarray, tracks: ObjectTracks, stride: int) -> LinearPositionReader:
    """The probe of videos whose slots (V, 128, S, D) are matched to objects. Raises DataError where nothing is in view."""
    held = tracks.slots
    frames = slice(None, None, stride)
    video, frame, k = np.nonzero(tracks.inside[:, frames] & (held[:, frames] >= 0))
    if not len(video):
        raise DataError("no object of the videos that the reader is fitted on is in view")
    seen, at = slots[:, frames], (video, frame, held[:, frames][video, frame, k])
    weights = regress(seen[at], tracks.position[:, frames][video, frame, k])
    nothing = np.ones(seen.shape[:3], bool)
    video, frame, k = np.nonzero(held[:, frames] >= 0)
    nothing[video, frame, held[:, frames][video, frame, k]] = False
    empty = np.asarray(seen[nothing] if nothing.any() else seen.reshape(-1, seen.shape[-1]), np.float32).mean(0)
    probe = LinearPositionReader(weights, np.zeros((len(SHAPES), len(SHAPES))), empty)
    where = follow(probe.read(slots), held)
    where[~tracks.inside] = np.nan
    return LinearPositionReader(weights, reaches(where, tracks), empty)


def regress(slots: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(D+1, 2): least squares of positions (n, 2) on slots (n, D) and a constant; directions without noise are left alone."""
    seen = np.column_stack([np.asarray(slots, np.float64), np.ones(len(slots))])
    # einsum, not matmul: its bits do not depend on how many threads a linear algebra library takes
    gram = np.einsum("ni,nj->ij", seen, seen)
    ridge = 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(np.linalg.solve(gram + ridge, np.einsum("ni,nc->ic", seen, position.astype(np.float64))))


def read(weights: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Positions (..., 2) float32 of slots (..., D) by a map (D+1, 2)."""
    slots = np.asarray(slots, np.float32)
    return np.einsum("...d,dc->...c", slots, weights[:-1].astype(np.float32)) + weights[-1].astype(np.float32)


def follow(position: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Objects' positions (V, F, N, 2) from slots' (V, F, S, 2); held (V, F, N) or (V, 1, N): their slots, NaN where -1."""
    held = np.broadcast_to(held, (*position.shape[:2], held.shape[2]))
    out = np.take_along_axis(position, np.maximum(held, 0)[..., None].astype(np.int64), axis=2)
    out[held < 0] = np.nan
    return out


def nearest(position: np.ndarray) -> np.ndarray:
    """Each pair's closest approach (V, N, N) over the frames of positions (V, F, N, 2); inf where it is unknown.

    Between two frames objects move straight on.
    """
    if position.shape[1] == 1:
        position = position.repeat(2, 1)
    objects = position.shape[2]
    out = np.full((len(position), objects, objects), np.inf)
    for a in range(objects):
        for b in range(a):
            apart = position[:, :, a].astype(np.float64) - position[:, :, b]
            start, step = apart[:, :-1], np.diff(apart, axis=1)
            length = np.maximum((step**2).sum(-1), 1e-12)
            at = np.clip(-(start * step).sum(-1) / length, 0, 1)
            distance = np.linalg.norm(start + at[..., None] * step, axis=-1)
            alone = np.linalg.norm(apart, axis=-1)  # a frame between two in which one of the pair is out of sight
            distance = np.minimum(*(np.where(np.isnan(d), np.inf, d).min(1) for d in (distance, alone)))
            out[:, a, b] = out[:, b, a] = distance
    return out


def reaches(position: np.ndarray, tracks: ObjectTracks) -> np.ndarray:
    """(3, 3): for each pair of shapes the distance that tells best which pairs met in the given frames."""
    near, shape = nearest(position), tracks.shape
    out = np.full((len(SHAPES), len(SHAPES)), np.nan)
    below = np.tril(np.ones(near.shape[1:], bool), -1) & np.isfinite(near)
    for a, b in combinations_with_replacement(range(len(SHAPES)), 2):
        one, two = shape[:, :, None], shape[:, None, :]
        chosen = below & (((one == a) & (two == b)) | ((one == b) & (two == a)))
        out[a, b] = out[b, a] = cut(near[chosen], tracks.met[chosen])
    known = out[np.isfinite(out)]
    return np.where(np.isfinite(out), out, known.mean() if known.size else 0.0)


def cut(distance: np.ndarray, met: np.ndarray) -> float:
    """Midway between the two distances where counting nearer pairs as met errs least; NaN without both kinds."""
    if not met.any() or met.all():
        return float("nan")
    order = np.argsort(distance, kind="stable")
    distance, met = distance[order], met[order]
    wrong = np.r_[0, np.cumsum(~met)] + met.sum() - np.r_[0, np.cumsum(met)]
    place = int(np.clip(np.argmin(wrong), 1, len(distance) - 1))
    return float((distance[place - 1] + distance[place]) / 2)
