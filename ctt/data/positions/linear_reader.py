"""LinearPositionReader: a linear map from slots to positions, and the distance below which two objects collide.

It is fitted by least squares on given frames only, not on the frames it is applied to. The collision distance depends on
the two shapes: it is the threshold that best separates the closest approaches of pairs that collided from the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ctt.core.errors import DataError
from ctt.data.positions.objects import ObjectTracks
from ctt.data.scene import SHAPES

FILE = "probe.npz"


@dataclass(frozen=True)
class LinearPositionReader:
    """weights (D+1, 2) float64, last row the offset; reach (3, 3) by shapes; empty (D,) float32, the mean empty slot."""

    weights: np.ndarray
    reach: np.ndarray
    empty: np.ndarray

    def read(self, slots: np.ndarray) -> np.ndarray:
        """Positions (..., 2) float32 of slots (..., D)."""
        return read(self.weights, slots)

    def read_all(self, slots: np.ndarray, chunk: int = 64) -> np.ndarray:
        """Positions (V, F, S, 2) of slots (V, F, S, D), `chunk` videos at a time; slots may be memory-mapped."""
        return np.concatenate([self.read(slots[i : i + chunk]) for i in range(0, len(slots), chunk)])

    def gaps(self, position: np.ndarray, shape: np.ndarray) -> np.ndarray:
        """(V, N, N): closest approach of each pair minus its reach, from positions (V, F, N, 2) and shapes (V, N).

        inf for pairs with a missing object."""
        reach = self.reach[shape[:, :, None], shape[:, None, :]]
        present = (shape >= 0)[:, :, None] & (shape >= 0)[:, None, :]
        return np.where(present, nearest(position) - reach, np.inf)

    def save(self, folder: Path) -> None:
        np.savez(folder / FILE, weights=self.weights, reach=self.reach, empty=self.empty)

    @classmethod
    def load(cls, folder: Path) -> LinearPositionReader:
        """Raises DataError if the file is missing or malformed."""
        try:
            with np.load(folder / FILE, allow_pickle=False) as stored:
                return cls(stored["weights"], stored["reach"], stored["empty"])
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{folder / FILE} is not a position reader ({error})") from None


def fit(slots: np.ndarray, tracks: ObjectTracks, stride: int) -> LinearPositionReader:
    """The reader fitted on slots (V, 128, S, D) that are matched to objects. Raises DataError if no object is in view."""
    held = tracks.slots
    frames = slice(None, None, stride)
    video, frame, k = np.nonzero(tracks.inside[:, frames] & (held[:, frames] >= 0))
    if not len(video):
        raise DataError("no object is in view in the videos that the position reader is fitted on")
    seen, at = slots[:, frames], (video, frame, held[:, frames][video, frame, k])
    weights = regress(seen[at], tracks.position[:, frames][video, frame, k])
    nothing = np.ones(seen.shape[:3], bool)
    video, frame, k = np.nonzero(held[:, frames] >= 0)
    nothing[video, frame, held[:, frames][video, frame, k]] = False
    empty = np.asarray(seen[nothing] if nothing.any() else seen.reshape(-1, seen.shape[-1]), np.float32).mean(0)
    reader = LinearPositionReader(weights, np.zeros((len(SHAPES), len(SHAPES))), empty)
    where = follow(reader.read(slots), held)
    where[~tracks.inside] = np.nan
    return LinearPositionReader(weights, reaches(where, tracks), empty)


def regress(slots: np.ndarray, position: np.ndarray) -> np.ndarray:
    """(D+1, 2): least squares of positions (n, 2) on slots (n, D) and a constant, with a negligible ridge for stability."""
    seen = np.column_stack([np.asarray(slots, np.float64), np.ones(len(slots))])
    # einsum, not matmul: its bits do not depend on the threads of a linear algebra library
    gram = np.einsum("ni,nj->ij", seen, seen)
    ridge = 1e-9 * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(np.linalg.solve(gram + ridge, np.einsum("ni,nc->ic", seen, position.astype(np.float64))))


def read(weights: np.ndarray, slots: np.ndarray) -> np.ndarray:
    """Positions (..., 2) float32 of slots (..., D) by a map (D+1, 2)."""
    slots = np.asarray(slots, np.float32)
    weights = weights.astype(np.float32)
    return np.asarray(np.einsum("...d,dc->...c", slots, weights[:-1]) + weights[-1])


def follow(position: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Objects' positions (V, F, N, 2) from slots' (V, F, S, 2); held (V, F, N) or (V, 1, N): their slots, -1 gives NaN."""
    held = np.broadcast_to(held, (*position.shape[:2], held.shape[2]))
    out = np.take_along_axis(position, np.maximum(held, 0)[..., None].astype(np.int64), axis=2)
    out[held < 0] = np.nan
    return out


def nearest(position: np.ndarray) -> np.ndarray:
    """Each pair's closest approach (V, N, N) over the frames of positions (V, F, N, 2); inf where unknown.

    Motion between two frames is linear."""
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
            alone = np.linalg.norm(apart, axis=-1)  # for frames whose neighbours lack one of the pair
            distance = np.minimum(*(np.where(np.isnan(d), np.inf, d).min(1) for d in (distance, alone)))
            out[:, a, b] = out[:, b, a] = distance
    return out


def reaches(position: np.ndarray, tracks: ObjectTracks) -> np.ndarray:
    """(3, 3): for each pair of shapes the distance that best separates pairs that collided in the given frames."""
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
    """The threshold, midway between two distances, with the fewest errors; NaN if `met` has only one value."""
    if not met.any() or met.all():
        return float("nan")
    order = np.argsort(distance, kind="stable")
    distance, met = distance[order], met[order]
    wrong = np.r_[0, np.cumsum(~met)] + met.sum() - np.r_[0, np.cumsum(met)]
    place = int(np.clip(np.argmin(wrong), 1, len(distance) - 1))
    return float((distance[place - 1] + distance[place]) / 2)
