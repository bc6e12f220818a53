"""Figures of a scene: its trajectories and events, including the future."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctt.data.figures import event_figure as events
from ctt.data.figures.event_figure import INK, PAINT, contrast
from ctt.data.scene import FPS, GIVEN, VIEW, Scene, Thing
from ctt.data.synthetic.physics import RADIUS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ctt.data.dataset import Split

SHOWN = (VIEW[0] + 1.05, VIEW[1] + 0.7)
"""Half width and half height of the drawn part of the table."""


def draw_scene(split: Split, video: int, path: Path) -> None:
    """Draws one video of a synthetic split to `path` (a PNG). Raises DataError if there is no ground truth."""
    draw(split.truth.scene(video), path)


def draw(scene: Scene, path: Path) -> None:
    """Draws the table from above with every trajectory, and below it a time line and the collision graph."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    below, top = events.height(scene.things), 0.55
    height = events.WIDTH * SHOWN[1] / SHOWN[0]
    total = top + height + below
    figure = Figure(figsize=(events.WIDTH, total), dpi=130)
    FigureCanvasAgg(figure)
    _table(figure.add_axes((0, below / total, 1, height / total)), scene)
    events.draw_events(figure, scene.things, scene.inside, scene.collisions)
    _heading(figure, scene, 1 - 0.36 / total)
    figure.savefig(path, facecolor="white")


def _heading(figure: Figure, scene: Scene, y: float) -> None:
    figure.text(0.025, y, f"Scene {scene.index}", color=INK, fontsize=13, fontweight="bold")
    figure.text(
        0.975,
        y,
        "pale: start    solid: frame 127    line: given, white dots: seconds    dots: the future    star: collision",
        color=INK,
        fontsize=7.5,
        ha="right",
    )


def _table(axes: Axes, scene: Scene) -> None:
    from matplotlib.patches import Rectangle

    width, height = VIEW
    box: dict[str, Any] = dict(xy=(-width, -height), width=2 * width, height=2 * height)
    axes.add_patch(Rectangle(**box, facecolor="#f4f2ec", edgecolor="none", zorder=0))
    axes.add_patch(Rectangle(**box, fill=False, edgecolor=INK, lw=1.2, zorder=6))
    axes.set(xlim=(-SHOWN[0], SHOWN[0]), ylim=(-SHOWN[1], SHOWN[1]))
    axes.axis("off")
    for k, thing in enumerate(scene.things):
        _trajectory(axes, scene.position[:, k], PAINT[thing.color])
        for frame, strength in ((0, 0.25), (GIVEN - 1, 1.0)):
            _object(axes, thing, scene.position[frame, k], float(scene.orientation[frame, k]), strength)
        _label(axes, scene.position[:GIVEN, k], str(k), thing)
    for number, (frame, a, b) in enumerate(scene.collisions):
        near = [c for c in scene.collisions[:number] if {a, b} & set(c[1:])]
        _star(axes, (scene.position[frame, a] + scene.position[frame, b]) / 2, frame, below=len(near) % 2 == 1)


def _trajectory(axes: Axes, position: np.ndarray, paint: str) -> None:
    axes.plot(*position[:GIVEN].T, color=paint, lw=2.4, solid_capstyle="round", alpha=0.8, zorder=2)
    axes.plot(*position[GIVEN - 1 :: 4].T, color=paint, lw=0, marker="o", ms=2.6, zorder=3)
    axes.plot(*position[0:GIVEN:FPS].T, color="white", lw=0, marker="o", ms=1.7, zorder=3)


def _object(axes: Axes, thing: Thing, place: np.ndarray, angle: float, strength: float) -> None:
    """Draws cubes as squares, cylinders with a rim, metal with a highlight."""
    from matplotlib.patches import Arc, Circle, Rectangle

    x, y = float(place[0]), float(place[1])
    solid = strength == 1
    style: dict[str, Any] = dict(alpha=strength, zorder=7 if solid else 1, edgecolor=INK, facecolor=PAINT[thing.color], lw=1.1)
    if thing.shape == "cube":
        corner = (x - RADIUS, y - RADIUS)
        turned: dict[str, Any] = dict(angle=float(np.degrees(angle)), rotation_point="center")
        axes.add_patch(Rectangle(corner, 2 * RADIUS, 2 * RADIUS, **turned, **style))
    else:
        axes.add_patch(Circle((x, y), RADIUS, **style))
    if thing.shape == "cylinder":
        axes.add_patch(Circle((x, y), 0.76 * RADIUS, fill=False, edgecolor=INK, lw=0.7, alpha=0.7 * strength, zorder=7.1))
    if thing.material == "metal" and solid:
        size = 1.22 * RADIUS if thing.shape != "cylinder" else 1.76 * RADIUS
        glint: dict[str, Any] = dict(theta1=105, theta2=165, color="white", lw=2.0, alpha=0.85, capstyle="round")
        axes.add_patch(Arc((x, y), size, size, zorder=7.2, **glint))


def _label(axes: Axes, position: np.ndarray, text: str, thing: Thing) -> None:
    """Draws the object's number on its position in frame 127, or where its trajectory leaves the picture."""
    inside = (np.abs(position) < np.array(SHOWN) - RADIUS).all(axis=1)
    style: dict[str, Any] = dict(ha="center", va="center", fontsize=9, fontweight="bold", zorder=11)
    if inside[-1]:
        axes.text(position[-1, 0], position[-1, 1], text, color=contrast(thing), **style)
    elif inside.any():
        last = position[np.nonzero(inside)[0][-1]]
        box: dict[str, Any] = dict(boxstyle="circle,pad=0.22", facecolor="white", edgecolor=PAINT[thing.color], lw=1.4)
        axes.text(last[0], last[1], text, color=INK, bbox=box, **style)


def _star(axes: Axes, place: np.ndarray, frame: int, below: bool) -> None:
    from matplotlib.patheffects import withStroke

    face = "#ffe98a" if frame < GIVEN else "white"
    axes.plot(*place, marker=(8, 1, 0), ms=11, mfc=face, mec=INK, mew=0.8, zorder=9)
    style: dict[str, Any] = dict(textcoords="offset points", ha="center", va="center", fontsize=7.5, color=INK, zorder=10)
    text = axes.annotate(str(frame), (place[0], place[1]), xytext=(0, -11 if below else 11), **style)
    text.set_path_effects([withStroke(linewidth=2.6, foreground="white")])
