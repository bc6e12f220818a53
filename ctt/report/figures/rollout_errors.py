"""Rollout errors: how far predicted frames are from the true ones, frame by frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ctt.core.units import count
from ctt.report.figures.curves import MOST_COLOURED, Curve, band, ticks
from ctt.report.figures.style import GREY, STYLE, grid, legend, save

ERROR = "error"


def rollout_errors(curves: Sequence[Curve], references: Mapping[str, Sequence[float]], path: Path | None = None) -> Figure:
    """Mean over seeds per point and the range of its seeds, over the predicted frames; `references` are drawn in grey.

    A curve's metric "error" holds (frame, mean squared error), frame 1 being the first predicted one. With more than ten
    points all but the first are thin and grey.
    """
    with matplotlib.rc_context(STYLE):
        figure, (axis,) = grid(1, wide=5.4, high=3.4)
        labels = list(dict.fromkeys(curve.label for curve in curves))
        many = len(labels) > MOST_COLOURED
        for text, values, style in zip(references, references.values(), ("--", ":", "-."), strict=False):
            axis.plot(range(1, len(values) + 1), values, color=GREY, linestyle=style, linewidth=1.3, label=text)
        for k, label in reversed(list(enumerate(labels))):
            found = [dict(curve.metrics[ERROR]) for curve in curves if curve.label == label and curve.metrics.get(ERROR)]
            name = f"{len(labels) - 1} other points" if many and k == 1 else label
            if found:
                band(axis, found, name if not many or k < 2 else None, k, plain=many and k > 0)
        axis.set_yscale("log")
        axis.margins(x=0.02, y=0.08)
        ticks(axis, logarithmic=True)
        axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        axis.set(title="Rollouts against the true future", xlabel="predicted frame", ylabel="mean squared error")
        seeds = len({curve.seed for curve in curves})
        legend(figure, axis, title=f"mean and range of {count(seeds, 'seed')}", backwards=True)
        return save(figure, path)
