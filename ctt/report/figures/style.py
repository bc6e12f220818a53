"""Style: colours, line styles, legends and file formats of all figures.

Okabe–Ito colours; markers and line styles differ too, so that lines differ in print and for colour-blind readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
GREY = "#666666"
PALE = "#E6E6E6"
BELOW = 0.2
"""How far below its mean's line the dots of a point's seeds stand, of the distance of two lines."""
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "xtick.color": "#333333",
    "ytick.color": "#333333",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.hashsalt": "ctt",
    "svg.fonttype": "path",
}


def line_style(k: int) -> dict[str, Any]:
    """Colour, dashes and marker of the k-th line; 64 lines differ in at least one."""
    colours = len(OKABE_ITO)
    turn = (k + k // colours) % len(DASHES)
    return {"color": OKABE_ITO[k % colours], "linestyle": DASHES[turn], "marker": MARKERS[turn]}


def save(figure: Figure, path: Path | None) -> Figure:
    """Writes a PNG (200 dpi), PDF or SVG, by the suffix, without dates: equal figures give equal bytes.

    Without a path nothing is written. Returns the figure.
    """
    if path is None:
        return figure
    FigureCanvasAgg(figure)
    suffix = Path(path).suffix.lower()
    without = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=200, metadata=without.get(suffix), bbox_inches="tight", facecolor="white")
    return figure


def seed_dots(axis: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """A small dot for each seed; of the shorter of both as many as there are."""
    count = min(len(x), len(y))
    axis.plot(x[:count], y[:count], "o", color=GREY, markersize=2.6, alpha=0.7, markeredgewidth=0, linestyle="none", zorder=2.5)


def seed_handle() -> Line2D:
    """The entry of a legend for these dots."""
    return Line2D([], [], color=GREY, marker="o", markersize=2.6, alpha=0.7, markeredgewidth=0, linestyle="none", label="a seed")


def grid(count: int, wide: float, high: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes, at most three in a row; unused axes are hidden."""
    columns = count if count < 3 else 2 if count == 4 else 3
    lines = -(-count // columns)
    figure = Figure(figsize=(wide * columns, high * lines + 0.5), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def legend(figure: Figure, axis: Axes, title: str | None = None, backwards: bool = False) -> None:
    """One legend below all axes, from the lines of `axis`; `backwards`: in the reverse order of drawing."""
    handles, labels = axis.get_legend_handles_labels()
    if backwards:
        handles, labels = handles[::-1], labels[::-1]
    longest = max(map(len, labels), default=0)
    columns = max(1, min(len(labels), int(figure.get_figwidth() * 12) // (longest + 8)))
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, title=title, title_fontsize=8.5)
