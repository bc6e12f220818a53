"""Annotations of the given frames of a scene, in the schema of CLEVRER's annotation_%05d.json."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctt.data.scene import FPS, GIVEN, Scene
from ctt.data.synthetic.physics import RADIUS


def annotation(scene: Scene) -> dict[str, Any]:
    """The scene's annotation; heights equal the objects' radius, angles are about the vertical axis."""
    spin = _short(np.gradient(np.unwrap(scene.orientation.astype(np.float64), axis=0), 1 / FPS, axis=0)[:GIVEN])
    place, velocity = _short(scene.position[:GIVEN]), _short(scene.velocity[:GIVEN])
    angle, inside = _short(scene.orientation[:GIVEN]), scene.inside[:GIVEN].tolist()
    trajectory = [
        {
            "frame_id": f,
            "objects": [
                {
                    "object_id": k,
                    "location": [*place[f][k], RADIUS],
                    "orientation": [0.0, 0.0, angle[f][k]],
                    "velocity": [*velocity[f][k], 0.0],
                    "angular_velocity": [0.0, 0.0, spin[f][k]],
                    "inside_camera_view": inside[f][k],
                }
                for k in range(len(scene.things))
            ],
        }
        for f in range(GIVEN)
    ]
    return {
        "scene_index": scene.index,
        "video_filename": f"video_{scene.index:05d}.mp4",
        "object_property": [
            {"object_id": k, "color": thing.color, "material": thing.material, "shape": thing.shape}
            for k, thing in enumerate(scene.things)
        ],
        "motion_trajectory": trajectory,
        "collision": [
            {
                "object_ids": [a, b],
                "frame_id": frame,
                "location": [*_short((scene.position[frame, a] + scene.position[frame, b]) / 2), RADIUS],
            }
            for frame, a, b in scene.collisions
            if frame < GIVEN
        ],
    }


def _short(values: np.ndarray) -> Any:
    """Nested lists of the values, rounded to five decimals."""
    rounded = [round(value, 5) for value in values.astype(np.float64).ravel().tolist()]
    return np.array(rounded, dtype=object).reshape(values.shape).tolist()
