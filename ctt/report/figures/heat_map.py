"""Heat maps: differences to the baseline over two swept settings, with the number in each field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from ctt.report.figures.style import PALE, STYLE, grid, save
from ctt.report.tables import row_text
from ctt.report.tables.pivot import Pivot, pivot
from ctt.report.tables.table import Table


def heat_map(table: Table, x: str, y: str, metric: str, path: Path | None = None, *, at: Mapping[str, Any] | None = None) -> Figure:
    """One metric over two swept settings. Raises UsageError as `pivot` does.

    Fields without a row are hatched; a star marks Holm p < 0.05.
    """
    return heat_maps(table, x, y, path, metrics=(metric,), at=at)


def heat_maps(
    table: Table,
    x: str,
    y: str,
    path: Path | None = None,
    *,
    metrics: Sequence[str] | None = None,
    at: Mapping[str, Any] | None = None,
) -> Figure:
    """A map for each metric (None: of the table's pictures), each with its own scale: categories differ in how much they can
    change."""
    fields = [pivot(table, x, y, metric, at) for metric in metrics or table.shown]
    with matplotlib.rc_context(STYLE):
        columns, lines = len(fields[0].xs), len(fields[0].ys)
        figure, axes = grid(len(fields), wide=1.9 + 0.95 * columns, high=1.2 + 0.68 * lines)
        for axis, field in zip(axes, fields, strict=True):
            bar = figure.colorbar(_map(axis, field), ax=axis, shrink=0.9)
            bar.outline.set_visible(False)
            axis.set_title(row_text.metric_name(field.metric), loc="left")
        fixed = "".join(f", {name}={value}" for name, value in (at or {}).items())
        title = f"{table.sweep}{fixed}: difference to the baseline ({'points' if table.categories else 'mean squared error'})"
        figure.suptitle(title, fontsize=11, x=0.01, ha="left")
        return save(figure, path)


def _map(axis: Axes, field: Pivot) -> AxesImage:
    shape = (len(field.ys), len(field.xs))
    delta = np.full(shape, np.nan)
    for j, i in np.ndindex(shape):
        estimate, row = field.estimate(j, i), field.rows[j][i]
        if row is not None and row.baseline:
            delta[j, i] = 0.0
        elif estimate is not None and estimate.delta is not None:
            delta[j, i] = estimate.delta
    reach = float(np.nanmax(np.abs(delta), initial=0.0)) or 1.0
    axis.set_facecolor("white")
    image = axis.imshow(delta, cmap="PuOr", vmin=-1.25 * reach, vmax=1.25 * reach, origin="lower", aspect="auto")
    for j, i in np.ndindex(shape):
        _field(axis, field, i, j, bool(abs(delta[j, i]) > 0.8 * reach))
    axis.set_xticks(range(len(field.xs)), [str(v) for v in field.xs])
    axis.set_yticks(range(len(field.ys)), [str(v) for v in field.ys])
    axis.set_xticks(np.arange(-0.5, len(field.xs)), minor=True)
    axis.set_yticks(np.arange(-0.5, len(field.ys)), minor=True)
    axis.grid(which="minor", color="white", linewidth=2)
    axis.tick_params(which="both", length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xlabel(field.x, labelpad=6)
    axis.set_ylabel(field.y, labelpad=8)
    return image


def _field(axis: Axes, field: Pivot, i: int, j: int, dark: bool) -> None:
    row, estimate, digits = field.rows[j][i], field.estimate(j, i), row_text.gap_digits(field.metric)
    colour = "white" if dark else "black"
    if row is None or estimate is None:
        axis.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, hatch="///", fill=False, edgecolor=PALE, linewidth=0))
        return
    if row.baseline:
        text, small = row_text.level_text(field.metric, estimate.mean), "baseline"
    elif not estimate.reached:
        text, small = row_text.DASH, row_text.UNREACHED
    else:
        star = "*" if estimate.p_holm is not None and estimate.p_holm < row_text.LEAST_P else ""
        text = row_text.signed(estimate.delta, digits) + star
        half = None if estimate.delta is None or estimate.delta_low is None else estimate.delta - estimate.delta_low
        small = "" if half is None else f"±{row_text.number(half, digits)}"
    axis.annotate(text, (i, j), ha="center", va="center", color=colour, fontsize=10, xytext=(0, 5 if small else 0),
                  textcoords="offset points")  # fmt: skip
    axis.annotate(small, (i, j), ha="center", va="center", color=colour, fontsize=7.5, xytext=(0, -7),
                  textcoords="offset points")  # fmt: skip
