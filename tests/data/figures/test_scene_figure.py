"""Figures of scenes show their objects, collisions and events."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ctt.core.errors import DataError
from ctt.data.dataset import Dataset
from ctt.data.figures.event_figure import PAINT, graph, height, time_line
from ctt.data.figures.scene_figure import draw, draw_scene
from ctt.data.scene import crossings
from tests.data.synthetic.scenes import some_scenes
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


def test_graph_and_time_line_show_every_collision():
    scene = next(scene for scene in some_scenes() if any(frame >= 128 for frame, _, _ in scene.collisions))
    figure = Figure(figsize=(8.4, height(scene.things)))
    lines, dots = figure.subplots(1, 2)
    graph(dots, scene.things, scene.collisions)
    place = [line.get_xydata()[0] for line in dots.lines if len(line.get_xdata()) == 1]
    assert len(place) == len(scene.things)
    joined = {tuple(line.get_xydata().ravel()): line.get_linestyle() for line in dots.lines if len(line.get_xdata()) == 2}
    wanted = {(*place[a], *place[b]): "-" if frame < 128 else "--" for frame, a, b in scene.collisions}
    assert joined == wanted and {"-", "--"} <= set(joined.values())
    assert {str(frame) for frame, _, _ in scene.collisions} <= {text.get_text() for text in dots.texts}
    time_line(lines, scene.things, scene.inside, scene.collisions)
    joints = [tuple(line.get_xydata().ravel().astype(int)) for line in lines.lines if line.get_marker() == "o"]
    assert sorted(joints) == sorted((frame, a, frame, b) for frame, a, b in scene.collisions)
    crossed = [(*line.get_xydata()[0].astype(int), line.get_marker()) for line in lines.lines if line.get_marker() in (8, 9)]
    assert sorted(crossed) == sorted((f, k, 9 if kind == "in" else 8) for f, k, kind in crossings(scene.inside))


def test_a_split_without_truth_cannot_be_drawn(tmp_path):
    split = Dataset.open(a_dataset(tmp_path / "d")).split("train")
    with pytest.raises(DataError, match="only synthetic"):
        draw_scene(split, 0, tmp_path / "scene.png")
