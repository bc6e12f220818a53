"""Pictures: drawn for any scene, and showing what they say they show."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ctt.data.dataset import Dataset
from ctt.data.draw import PAINT, draw, draw_scene
from ctt.errors import DataError
from tests.data.scenes import some_scenes
from tests.data.test_dataset import a_dataset


def colors_of(path):
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3).astype(np.uint32)
    found = np.unique(pixels @ np.array([1 << 16, 1 << 8, 1], np.uint32))
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in found}


def test_every_object_is_drawn_in_its_color(tmp_path):
    for scene in some_scenes(3):
        draw(scene, tmp_path / "scene.png")
        assert Image.open(tmp_path / "scene.png").size[0] > 1000
        seen = colors_of(tmp_path / "scene.png")
        present = {thing.color for thing in scene.things}
        for color, paint in PAINT.items():
            rgb = tuple(int(paint[i : i + 2], 16) for i in (1, 3, 5))
            assert (rgb in seen) == (color in present)


def test_without_truth_there_is_nothing_to_draw(tmp_path):
    split = Dataset.open(a_dataset(tmp_path / "d")).split("train")
    with pytest.raises(DataError, match="only synthetic"):
        draw_scene(split, 0, tmp_path / "scene.png")
