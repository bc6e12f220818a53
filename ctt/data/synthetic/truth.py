"""Truth: the ground truth of a synthetic split, one memory-mapped file per array (`truth_<split>.<name>.npy`).

First axis the video, objects padded to six with NaN, False or -1:
  objects (V,) their number; color, material, shape (V, 6) indices into scene.COLORS, MATERIALS, SHAPES
  position, velocity (V, 178, 6, 2), orientation (V, 178, 6), inside (V, 178, 6): as in Scene
  slot_of (V, 178, 6): the slot that holds the object in that frame
  contact (V, 178, 6, 6): the touching pairs, i.e. the true interactions; meets (V, 6, 6): frame of first contact, or -1
  without_position (V, 6, 178, 6, 2), without_meets (V, 6, 6, 6): the same with the object of the second axis removed
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ctt.core.errors import DataError
from ctt.data.scene import COLORS, MATERIALS, MOST_OBJECTS, SHAPES, TOTAL, Scene, Thing

_N = MOST_OBJECTS
ARRAYS: dict[str, tuple[tuple[int, ...], str]] = {
    "objects": ((), "int8"),
    "color": ((_N,), "int8"),
    "material": ((_N,), "int8"),
    "shape": ((_N,), "int8"),
    "position": ((TOTAL, _N, 2), "float32"),
    "velocity": ((TOTAL, _N, 2), "float32"),
    "orientation": ((TOTAL, _N), "float32"),
    "inside": ((TOTAL, _N), "bool"),
    "slot_of": ((TOTAL, _N), "int8"),
    "contact": ((TOTAL, _N, _N), "bool"),
    "meets": ((_N, _N), "int16"),
    "without_position": ((_N, TOTAL, _N, 2), "float32"),
    "without_meets": ((_N, _N, _N), "int16"),
}


class Truth:
    """One split's ground truth; every array of ARRAYS is an attribute. Raises DataError naming the defective file."""

    objects: np.ndarray
    color: np.ndarray
    material: np.ndarray
    shape: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    orientation: np.ndarray
    inside: np.ndarray
    slot_of: np.ndarray
    contact: np.ndarray
    meets: np.ndarray
    without_position: np.ndarray
    without_meets: np.ndarray

    def __init__(self, folder: Path, split: str, scene_index: np.ndarray) -> None:
        self._scene_index = scene_index
        for name, (shape, dtype) in ARRAYS.items():
            array = open_array(path_of(folder, split, name), (len(scene_index), *shape), dtype)
            setattr(self, name, array)

    def scene(self, video: int) -> Scene:
        """The simulated scene of one video."""
        n = int(self.objects[video])
        kinds = zip(self.color[video, :n], self.material[video, :n], self.shape[video, :n], strict=True)
        return Scene(
            index=int(self._scene_index[video]),
            things=[Thing(COLORS[c], MATERIALS[m], SHAPES[s]) for c, m, s in kinds],
            position=np.array(self.position[video, :, :n]),
            velocity=np.array(self.velocity[video, :, :n]),
            orientation=np.array(self.orientation[video, :, :n]),
            inside=np.array(self.inside[video, :, :n]),
            collisions=_collisions(self.meets[video]),
            without={k: _collisions(self.without_meets[video, k]) for k in range(n)},
            without_position={k: np.array(self.without_position[video, k, :, :n]) for k in range(n)},
            contact=np.array(self.contact[video, :, :n, :n]),
        )


def path_of(folder: Path, split: str, name: str) -> Path:
    return folder / f"truth_{split}.{name}.npy"


def open_array(path: Path, shape: tuple[int, ...], dtype: str, longer: int | None = None, remedy: str = "") -> np.ndarray:
    """The array in `path`, memory-mapped. Raises DataError if it is missing, truncated, or has another shape or type.

    longer: the axis along which it may be longer than in `shape`; remedy: ends the message about its shape."""
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} is missing") from None
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path} is not a complete npy file ({error})") from None
    wanted, found = list(shape), list(array.shape)
    if longer is not None and len(found) == len(wanted) and found[longer] > wanted[longer]:
        wanted[longer] = found[longer]
    if found != wanted or array.dtype != np.dtype(dtype):
        raise DataError(f"{path} must contain {dtype} {shape}, got {array.dtype} {array.shape}{remedy}")
    return array


def rows(scene: Scene, slot_of: np.ndarray) -> dict[str, np.ndarray]:
    """One video's row of every array in ARRAYS."""
    n = len(scene.things)
    out = {name: np.full(shape, _padding(dtype), dtype=dtype) for name, (shape, dtype) in ARRAYS.items()}
    out["objects"][...] = n
    out["color"][:n] = [COLORS.index(thing.color) for thing in scene.things]
    out["material"][:n] = [MATERIALS.index(thing.material) for thing in scene.things]
    out["shape"][:n] = [SHAPES.index(thing.shape) for thing in scene.things]
    for name in ("position", "velocity", "orientation", "inside"):
        out[name][:, :n] = getattr(scene, name)
    out["slot_of"][:, :n] = slot_of
    if scene.contact is not None:
        out["contact"][:, :n, :n] = scene.contact
    _fill(out["meets"], scene.collisions)
    for k in scene.without:
        out["without_position"][k, :, :n] = scene.without_position[k]
        _fill(out["without_meets"][k], scene.without[k])
    return out


def _padding(dtype: str) -> float | int | bool:
    return False if dtype == "bool" else float("nan") if dtype.startswith("float") else -1


def _fill(meets: np.ndarray, collisions: list[tuple[int, int, int]]) -> None:
    for frame, a, b in collisions:
        meets[a, b] = meets[b, a] = frame


def _collisions(meets: np.ndarray) -> list[tuple[int, int, int]]:
    pairs = zip(*np.nonzero(np.triu(meets >= 0)), strict=True)
    return sorted((int(meets[a, b]), int(a), int(b)) for a, b in pairs)
