"""Figures of a scene's events: a time line of entrances, exits and collisions, and the collision graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ctt.data.scene import GIVEN, TOTAL, Thing, crossings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAINT = {
    "gray": "#7f8790",
    "red": "#d1453b",
    "blue": "#3565c4",
    "green": "#3a9a4b",
    "brown": "#8a5a33",
    "cyan": "#2bb3bd",
    "purple": "#8a4fc0",
    "yellow": "#e0b32a",
}
INK = "#2b2f36"
WIDTH, FOOT, ROW = 8.4, 0.62, 0.3
"""Inches: width of a figure, space below the time line, height per object."""

Collisions = list[tuple[int, int, int]]


def height(things: list[Thing]) -> float:
    """Height in inches that `draw_events` needs at the bottom of a figure WIDTH wide."""
    return FOOT + ROW * len(things) + 0.1


def draw_events(figure: Figure, things: list[Thing], inside: np.ndarray, collisions: Collisions) -> None:
    """Draws time line and graph at the bottom of the figure, for the frames of `inside` (F, N) bool."""
    total = figure.get_figheight()
    rows = ROW * len(things)
    time_line(figure.add_axes((0.235, FOOT / total, 0.48, rows / total)), things, inside, collisions)
    graph(figure.add_axes((0.745, 0.12 / total, 0.245, (FOOT + rows - 0.12) / total)), things, collisions)


def name(thing: Thing) -> str:
    return f"{thing.color} {thing.material} {thing.shape}"


def contrast(thing: Thing) -> str:
    """The text colour on the object."""
    return INK if thing.color in ("yellow", "cyan") else "white"


def time_line(axes: Axes, things: list[Thing], inside: np.ndarray, collisions: Collisions) -> None:
    count, last = len(things), len(inside) - 1
    if last >= GIVEN:
        axes.axvspan(GIVEN - 0.5, last, color="#eeece6", zorder=0, lw=0)
        axes.text((GIVEN + last + 1) / 2, -0.42, "future", fontsize=7.5, color=INK, alpha=0.6, ha="center", va="center")
    for k, thing in enumerate(things):
        axes.plot((0, last), (k, k), color="#dcd9d0", lw=0.8, zorder=1)
        for start, end in _stretches(inside[:, k]):
            axes.plot((start, end), (k, k), color=PAINT[thing.color], lw=5.5, solid_capstyle="butt", zorder=2)
    for frame, k, kind in crossings(inside):
        axes.plot(frame, k, marker=9 if kind == "in" else 8, ms=7, color=INK, mew=0, zorder=3)
    for frame, a, b in collisions:
        axes.plot((frame, frame), (a, b), color=INK, lw=1.3, zorder=4)
        axes.plot((frame, frame), (a, b), color=INK, lw=0, marker="o", ms=5, mec="white", mew=0.7, zorder=5)
    axes.set(xlim=(-0.5, last), ylim=(count - 0.4, -0.7))
    axes.set_yticks(range(count), [f"{name(thing)}   {k}" for k, thing in enumerate(things)])
    axes.set_xticks([0, 50, 100, *([GIVEN, TOTAL - 1] if last >= GIVEN else [last])])
    axes.tick_params(length=0, labelsize=8, labelcolor=INK)
    axes.set_xlabel("frame     bar: in view     arrow: enters or leaves     joined dots: collision", fontsize=7, color=INK)
    for side in axes.spines.values():
        side.set_visible(False)


def graph(axes: Axes, things: list[Thing], collisions: Collisions) -> None:
    """Objects as dots on a circle, collisions as lines with their frames, dashed if in the future."""
    from matplotlib.patheffects import withStroke

    turn = np.pi / 2 - 2 * np.pi * np.arange(len(things)) / len(things)
    place = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    for frame, a, b in collisions:
        line = "-" if frame < GIVEN else "--"
        axes.plot(*place[[a, b]].T, color=INK, lw=1.3, ls=line, zorder=1)
        middle = place[a] + 0.42 * (place[b] - place[a])  # off the middle, where diagonals cross
        style: dict[str, Any] = dict(ha="center", va="center", fontsize=6.5, color=INK, zorder=2)
        axes.text(float(middle[0]), float(middle[1]), str(frame), **style).set_path_effects(
            [withStroke(linewidth=2.4, foreground="white")]
        )
    for k, thing in enumerate(things):
        marker = "s" if thing.shape == "cube" else "o"
        axes.plot(*place[k], marker=marker, ms=12, mfc=PAINT[thing.color], mec=INK, mew=0.8, zorder=3)
        axes.text(
            float(place[k, 0]),
            float(place[k, 1]),
            str(k),
            color=contrast(thing),
            fontsize=7.5,
            ha="center",
            va="center",
            zorder=4,
        )
    axes.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35), aspect="equal")
    axes.axis("off")


def _stretches(inside: np.ndarray) -> list[tuple[int, int]]:
    """(first, last) frame of every run of True."""
    edges = np.nonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))[0]
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]
