"""Graph diagnostics: which slots look at which, and how much of that passes the threshold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctt.report import words
from ctt.report.drawing import GREY, OKABE_ITO, STYLE, save

MOST_DRAWN = 6


def graph_picture(graphs: Mapping[str, np.ndarray], threshold: float, path: Path | None = None) -> Figure:
    """Above, the mean slot graph of each model; below, its single scenes' entries and the share over `threshold`.

    graphs: label → slot graphs (N,S,S) of N scenes, [n, s, j] = how much slot s looks at slot j; the diagonal, which
    no loss reads, is left out. At most six models are drawn, the first ones.
    """
    drawn = list(graphs.items())[:MOST_DRAWN]
    with matplotlib.rc_context(STYLE):
        if not drawn:
            return save(Figure(figsize=(2.0, 1.0)), path)
        columns = len(drawn)
        figure = Figure(figsize=(2.9 * columns + 0.7, 5.2), layout="constrained")
        axes = figure.subplots(2, columns, squeeze=False, height_ratios=(1.25, 1))
        means = [_off_diagonal(graph.mean(0)) for _, graph in drawn]
        top = max((float(np.nanmax(mean)) for mean in means), default=1.0) or 1.0
        high = 1.05 * max((float(_off_diagonal_entries(graph).max()) for _, graph in drawn), default=1.0)
        for k, ((label, graph), mean) in enumerate(zip(drawn, means, strict=True)):
            image = _mean_graph(axes[0][k], mean, top, label)
            _entries(axes[1][k], graph, threshold, high)
        bar = figure.colorbar(image, ax=axes[0].tolist(), shrink=0.85)
        bar.set_label("attention, mean over scenes")
        bar.outline.set_visible(False)
        axes[0][0].set_ylabel("looking slot")
        axes[1][0].set_ylabel("% of pairs")
        axes[1][0].legend(loc="upper right", fontsize=8)
        return save(figure, path)


def _mean_graph(axis: Axes, mean: np.ndarray, top: float, label: str) -> matplotlib.image.AxesImage:
    image = axis.imshow(mean, cmap="cividis", vmin=0, vmax=top)
    for s, j in np.ndindex(mean.shape):
        if s != j:
            colour = "black" if mean[s, j] > 0.6 * top else "white"
            text = words.number(float(mean[s, j]), 2).removeprefix("0")
            axis.annotate(text, (j, s), ha="center", va="center", fontsize=6.5, color=colour)
    axis.set_xticks(range(len(mean)))
    axis.set_yticks(range(len(mean)))
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(label)
    axis.set_xlabel("slot looked at")
    return image


def _entries(axis: Axes, graph: np.ndarray, threshold: float, high: float) -> None:
    slots = graph.shape[-1]
    entries = _off_diagonal_entries(graph)
    high = max(high, 1.05 * threshold)
    share = 100 * float((entries >= threshold).mean())
    weights = np.full(entries.size, 100 / entries.size)
    axis.hist(entries, bins=np.linspace(0, high, 41).tolist(), weights=weights, color=OKABE_ITO[0])
    axis.axvline(threshold, color=OKABE_ITO[1], linestyle="--", linewidth=1.4, label="threshold")
    axis.axvline(1 / slots, color=GREY, linestyle=":", linewidth=1.2, label="uniform")
    axis.set(xlabel="attention in one scene", xlim=(0, high))
    axis.set_title(f"{words.number(share)} % are neighbours (≥ {threshold:g})", fontsize=8.5)


def _off_diagonal(mean: np.ndarray) -> np.ndarray:
    return np.where(np.eye(len(mean), dtype=bool), np.nan, mean)


def _off_diagonal_entries(graph: np.ndarray) -> np.ndarray:
    return graph[:, ~np.eye(graph.shape[-1], dtype=bool)].ravel()
