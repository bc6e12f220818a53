"""Learning curves: metrics over the epochs, for each point a line and the band of its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from ctt.core.units import count
from ctt.data.categories import AVERAGE, CLEVRER_CATEGORIES, Categories
from ctt.report.figures.style import GREY, STYLE, grid, legend, line_style, save
from ctt.report.tables.row_text import metric_name

MOST_COLOURED = 10
QUESTIONS = "% of questions"


@dataclass(frozen=True)
class Curve:
    """One run's metrics over training: name → [(epoch, value), …]."""

    label: str
    seed: int
    metrics: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Panel:
    """One axis: the metric drawn, its title, the unit of the y axis, and whether that axis is logarithmic."""

    metric: str
    title: str
    unit: str
    logarithmic: bool = False


TRAINING = (
    Panel("train_loss", "World model: training loss", "mean squared error", True),
    Panel("validation_error", "World model: validation error", "mean squared error", True),
    Panel("vqa_loss", "ALOE: training loss", "cross-entropy"),
)


def panels_of(categories: Categories) -> tuple[Panel, ...]:
    """The panels of training, and one for each category and the average."""
    metrics = [*categories.names, AVERAGE] if categories else []
    return (*TRAINING, *(Panel(metric, f"ALOE: {metric_name(metric)}", QUESTIONS) for metric in metrics))


def learning_curves(
    curves: Sequence[Curve],
    path: Path | None = None,
    *,
    categories: Categories = CLEVRER_CATEGORIES,
    references: Mapping[str, tuple[str, float]] | None = None,
    videos: tuple[int, int] | None = None,
) -> Figure:
    """Mean over seeds per point (line) and the range of its seeds (band), a panel for each metric that any run has.

    categories: of the data's questions.
    references: metric → (text, value) draws a reference line, e.g. validation_error → ("copy of the last frame", 0.031).
    videos: of how many validation videos accuracies during training are, and how many there are; None: of all.
    With more than ten points all but the first are thin and grey.
    """
    with matplotlib.rc_context(STYLE):
        used = [panel for panel in panels_of(categories) if any(curve.metrics.get(panel.metric) for curve in curves)]
        figure, axes = grid(max(1, len(used)), wide=3.6, high=2.6)
        labels = list(dict.fromkeys(curve.label for curve in curves))
        many = len(labels) > MOST_COLOURED
        for axis, panel in zip(axes, used, strict=False):
            for k, label in reversed(list(enumerate(labels))):
                found = [dict(curve.metrics.get(panel.metric, ())) for curve in curves if curve.label == label]
                found = [series for series in found if series]
                name = f"{len(labels) - 1} other points" if many and k == 1 else label
                if found:
                    band(axis, found, name if not many or k < 2 else None, k, plain=many and k > 0)
            axis.margins(x=0.02, y=0.08)
            if panel.logarithmic:
                axis.set_yscale("log")
            if references and panel.metric in references:
                _reference(axis, *references[panel.metric])
            ticks(axis, panel.logarithmic)
            unit = f"{QUESTIONS}, {videos[0]} of {videos[1]} videos" if videos and panel.unit == QUESTIONS else panel.unit
            axis.set(title=panel.title, xlabel="epoch", ylabel=unit)
        seeds = len({curve.seed for curve in curves})
        legend(figure, axes[0], title=f"mean and range of {count(seeds, 'seed')}", backwards=True)
        return save(figure, path)


def band(axis: Axes, runs: Sequence[Mapping[float, float]], label: str | None, k: int, plain: bool) -> None:
    """Mean and range at every epoch that a run has reached, over the runs that have reached it."""
    epochs = sorted({epoch for run in runs for epoch in run})
    values = [[run[epoch] for run in runs if epoch in run] for epoch in epochs]
    means = [np.mean(v) for v in values]
    if plain:
        axis.plot(epochs, means, color=GREY, alpha=0.5, linewidth=0.7, label=label)
        return
    style = line_style(k)
    if len(epochs) > 12:
        del style["marker"]
    axis.plot(epochs, means, **style, linewidth=1.6, markersize=3.5, label=label)
    low, high = [min(v) for v in values], [max(v) for v in values]
    axis.fill_between(epochs, low, high, color=style["color"], alpha=0.18, linewidth=0)


def _reference(axis: Axes, text: str, value: float) -> None:
    axis.axhline(value, color=GREY, linewidth=1, linestyle=":", zorder=1)
    axis.autoscale_view()
    above = axis.transData.transform((0, value))[1] > axis.transAxes.transform((0, 0.5))[1]
    place: Any = dict(xycoords=("axes fraction", "data"), xytext=(0, -2 if above else 1), textcoords="offset points")
    axis.annotate(text, (0.99, value), ha="right", va="top" if above else "bottom", fontsize=8, color=GREY, **place)


def ticks(axis: Axes, logarithmic: bool) -> None:
    """Whole epochs; linear axes span at least 2 and start at 0 or above; plain numbers on logarithmic axes.

    On less than two and a half decades 2 and 5 are numbered too.
    """
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    low, high = axis.get_ylim()
    if not logarithmic:
        middle = (low + high) / 2
        high = max(high, middle + 1)
        axis.set_ylim(max(min(low, middle - 1), -0.04 * high), high)
        return
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    near = high / low < 300
    axis.yaxis.set_major_formatter(plain)
    axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5) if near else "all"))
    axis.yaxis.set_minor_formatter(plain if near else NullFormatter())
