"""ObjectTracks: the objects in the given frames of videos: their kind, position and slot.

Synthetic data provide all of these. CLEVRER's annotations contain kind and position, but not the slot: see matching.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ctt.core.errors import DataError
from ctt.data.clevrer.annotations import Annotations
from ctt.data.dataset import Split
from ctt.data.scene import COLORS, GIVEN, MATERIALS, MOST_OBJECTS, SHAPES, Thing

_N = MOST_OBJECTS
OBJECTS = "objects.npz"


@dataclass(frozen=True)
class ObjectTracks:
    """V videos of up to six objects, padded with NaN, False and -1."""

    things: list[list[Thing]]
    position: np.ndarray  # (V, 128, 6, 2) float32, in the units of the annotations
    inside: np.ndarray  # (V, 128, 6) bool, in the camera's view
    met: np.ndarray  # (V, 6, 6) bool: the pair collides in the given frames
    slot: np.ndarray | None  # (V, 128, 6) int8: the object's slot; None: unknown

    def __len__(self) -> int:
        return len(self.things)

    @property
    def shape(self) -> np.ndarray:
        """(V, 6): indices in SHAPES, -1 for no object."""
        return kinds_of(self.things)[..., 2]

    @property
    def slots(self) -> np.ndarray:
        """(V, 128, 6) int8. Raises DataError if slots are not matched to objects."""
        if self.slot is None:
            raise DataError("slots are not matched to objects")
        return self.slot


@dataclass(frozen=True)
class SlotObjects:
    """The objects of V videos for reading later frames.

    kinds (V, 6, 3) int8: indices in COLORS, MATERIALS and SHAPES; first, last (V, 6) int8: the objects' slots in the first
    and last given frame. -1: no object."""

    kinds: np.ndarray
    first: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, tracks: ObjectTracks) -> SlotObjects:
        return cls(kinds_of(tracks.things), tracks.slots[:, 0], tracks.slots[:, -1])

    @property
    def shape(self) -> np.ndarray:
        return np.asarray(self.kinds[..., 2])

    def things(self, video: int) -> list[Thing]:
        return [Thing(COLORS[c], MATERIALS[m], SHAPES[s]) for c, m, s in self.kinds[video] if c >= 0]

    def save(self, folder: Path) -> None:
        np.savez(folder / OBJECTS, kinds=self.kinds, first=self.first, last=self.last)

    @classmethod
    def load(cls, folder: Path) -> SlotObjects:
        """Raises DataError if the file is missing or malformed."""
        try:
            with np.load(folder / OBJECTS, allow_pickle=False) as stored:
                return cls(stored["kinds"], stored["first"], stored["last"])
        except (OSError, KeyError, ValueError, BadZipFile) as error:
            raise DataError(f"{folder / OBJECTS} does not hold objects ({error})") from None


def kinds_of(things: list[list[Thing]]) -> np.ndarray:
    """(V, 6, 3) int8: indices in COLORS, MATERIALS and SHAPES; -1 for no object."""
    out = np.full((len(things), _N, 3), -1, np.int8)
    for row, mine in zip(out, things, strict=True):
        for k, t in enumerate(mine):
            row[k] = COLORS.index(t.color), MATERIALS.index(t.material), SHAPES.index(t.shape)
    return out


def from_truth(split: Split, videos: int) -> ObjectTracks:
    """The first `videos` videos of a synthetic split. Raises DataError if the split has no truth."""
    truth, frames = split.truth, split.format.frames
    meets = truth.meets[:videos]
    count = np.asarray(truth.objects[:videos])
    kinds = zip(truth.color[:videos], truth.material[:videos], truth.shape[:videos], count, strict=True)
    return ObjectTracks(
        [[Thing(COLORS[c], MATERIALS[m], SHAPES[s]) for c, m, s in zip(*row[:3], strict=True) if c >= 0] for row in kinds],
        np.array(truth.position[:videos, :frames]),
        np.array(truth.inside[:videos, :frames]),
        np.asarray((meets >= 0) & (meets < frames)),
        np.array(truth.slot_of[:videos, :frames]),
    )


def from_annotations(annotations: Annotations, scenes: Sequence[int], step: Callable[[], None] = lambda: None) -> ObjectTracks:
    """The videos of `scenes`, from official annotations; `step` is called after each.

    Raises DataError if an annotation is missing, malformed, or has more than six objects."""
    videos = len(scenes)
    things: list[list[Thing]] = []
    position = np.full((videos, GIVEN, _N, 2), np.nan, np.float32)
    inside = np.zeros((videos, GIVEN, _N), bool)
    met = np.zeros((videos, _N, _N), bool)
    for v, scene in enumerate(scenes):
        found = annotations.read(int(scene))
        ids = [entry["object_id"] for entry in found["object_property"]]
        if len(ids) > _N:
            raise DataError(f"the annotation of scene {scene} has {len(ids)} objects, at most {_N} are supported")
        things.append([Thing(p["color"], p["material"], p["shape"]) for p in found["object_property"]])
        place = {identity: k for k, identity in enumerate(ids)}
        for f, frame in enumerate(found["motion_trajectory"]):
            for entry in frame["objects"]:
                k = place[entry["object_id"]]
                position[v, f, k] = entry["location"][:2]
                inside[v, f, k] = entry["inside_camera_view"]
        for hit in found["collision"]:
            a, b = (place[identity] for identity in hit["object_ids"])
            met[v, a, b] = met[v, b, a] = True
        step()
    return ObjectTracks(things, position, inside, met, None)
