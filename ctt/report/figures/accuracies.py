"""Points × categories: the accuracy of every point of any sweep, with its interval and its seeds."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ctt.report.figures.style import BELOW, GREY, OKABE_ITO, PALE, STYLE, save, seed_dots, seed_handle
from ctt.report.tables import row_text
from ctt.report.tables.row import Row
from ctt.report.tables.table import Table

BLIND: tuple[Any, ...] = ("--", ":", "-.")
"""The lines of the levels without the video."""


def accuracies_picture(table: Table, path: Path | None = None) -> Figure:
    """A panel for each of `table.shown`, a line for each point: mean, 95 % interval, and a dot for each seed.

    Vertical lines are the levels without the video, under the names that the table has them by.
    """
    with matplotlib.rc_context(STYLE):
        high = 1.6 + 0.34 * max(1, len(table.rows)) + 0.15 * len(table.blind)
        figure = Figure(figsize=(1.9 + 1.75 * max(1, len(table.shown)), high), layout="constrained")
        axes = figure.subplots(1, max(1, len(table.shown)), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, table.shown, strict=False):
            for k, blind in enumerate(table.blind):
                if (level := blind.means.get(metric)) is not None:
                    axis.axvline(level, color=GREY, linewidth=1, linestyle=BLIND[k % len(BLIND)], zorder=1)
            for k, row in enumerate(table.rows):
                _point(axis, row, metric, k)
            axis.set_title(row_text.metric_name(metric), fontsize=9)
            axis.set_xlabel(row_text.unit(metric))
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
            axis.grid(axis="both", color=PALE, linewidth=0.6, zorder=0)
            axis.margins(x=0.12)
            axis.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        labels = [textwrap.fill(row_text.named(row), 28, max_lines=3, placeholder=" …") for row in table.rows]
        axes[0].set_yticks(range(len(table.rows)), labels)
        axes[0].set_ylim(len(table.rows) - 0.4, -0.6)
        what = "accuracy" if table.categories else "error"
        figure.suptitle(f"{table.sweep}: {what} of every point, with 95 % interval", fontsize=11, x=0.01, ha="left")
        handles = [Line2D([], [], color=OKABE_ITO[0], marker="o", linewidth=1.8, label="mean"), seed_handle()]
        handles += [Line2D([], [], color=GREY, linestyle=BLIND[k % len(BLIND)], label=b.label) for k, b in enumerate(table.blind)]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
        return save(figure, path)


def _point(axis: Axes, row: Row, metric: str, k: int) -> None:
    estimate = row.estimate(metric)
    if estimate is None or estimate.mean is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axis.plot([estimate.low, estimate.high], [k, k], color=OKABE_ITO[0], linewidth=1.8, zorder=2)
    axis.plot(estimate.mean, k, "o", color=OKABE_ITO[0], markersize=5.5, zorder=3)
    values = list(row.by_seed.get(metric, {}).values())
    seed_dots(axis, values, [k + BELOW] * len(values))
