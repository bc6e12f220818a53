"""Plots of tables and training, in Okabe–Ito colours; markers and line styles differ too, so that print keeps them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator

from ctt.report import words
from ctt.report.pivot import ordered, pivot
from ctt.report.results import CATEGORIES
from ctt.report.table import Cell, Row, Table

OKABE_ITO = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
GREY = "#666666"
PALE = "#E6E6E6"
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


@dataclass(frozen=True)
class Curve:
    """One run's metrics over training: name → [(epoch, value), …]. Names without values are left out."""

    label: str
    seed: int
    metrics: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Panel:
    """One picture of `learning_curves`: the metric, its title, the y axis' unit, and whether that is logarithmic."""

    metric: str
    title: str
    unit: str
    logarithmic: bool = False


PANELS = (
    Panel("train_loss", "World model: training loss", "mean squared error", True),
    Panel("validation_error", "World model: validation error", "mean squared error", True),
    Panel("vqa_loss", "ALOE: training loss", "cross-entropy"),
    *(Panel(c, f"ALOE: {c}", "% of questions") for c in CATEGORIES),
    Panel("average", "ALOE: average", "% of questions"),
)


def save(figure: Figure, path: Path) -> None:
    """Writes a PNG (200 dpi), PDF or SVG by the suffix, without dates: the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    suffix = Path(path).suffix.lower()
    without = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with matplotlib.rc_context(STYLE):
        figure.savefig(path, dpi=200, metadata=without.get(suffix), bbox_inches="tight", facecolor="white")


def learning_curves(
    curves: Sequence[Curve],
    panels: Sequence[Panel] = PANELS,
    levels: Mapping[str, tuple[str, float]] | None = None,
) -> Figure:
    """Mean over seeds per point (line) and the range of its seeds (band), a panel a metric that any run has.

    levels: metric → (name, value) draws a reference line, e.g. validation_error → ("copying the last frame", 0.031).
    """
    with matplotlib.rc_context(STYLE):
        used = [panel for panel in panels if any(curve.metrics.get(panel.metric) for curve in curves)]
        figure, axes = _grid(max(1, len(used)), wide=3.6, high=2.6)
        labels = list(dict.fromkeys(curve.label for curve in curves))
        for axis, panel in zip(axes, used, strict=False):
            for k, label in enumerate(labels):
                runs = [dict(c.metrics.get(panel.metric, ())) for c in curves if c.label == label]
                runs = [run for run in runs if run]
                if runs:
                    _band(axis, runs, label, k)
            if levels and panel.metric in levels:
                name, value = levels[panel.metric]
                axis.axhline(value, color=GREY, linewidth=1, linestyle=":")
                axis.annotate(name, (0.99, value), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                              fontsize=8, color=GREY, xytext=(0, 1), textcoords="offset points")  # fmt: skip
            if panel.logarithmic:
                _logarithmic(axis)
            axis.set(title=panel.title, xlabel="epoch", ylabel=panel.unit)
            axis.margins(x=0.02)
        seeds = len({curve.seed for curve in curves})
        _legend(figure, axes[0], len(labels), title=f"mean and range of {words.count(seeds, 'seed')}")
        return figure


def _band(axis: Axes, runs: Sequence[Mapping[float, float]], label: str, k: int) -> None:
    """Mean and range at the epochs that any of the runs has reached; runs that ended earlier drop out of both."""
    epochs = sorted({epoch for run in runs for epoch in run})
    values = [[run[epoch] for run in runs if epoch in run] for epoch in epochs]
    colour = OKABE_ITO[k % len(OKABE_ITO)]
    style: Any = DASHES[k % len(DASHES)]
    few = len(epochs) <= 12
    axis.plot(epochs, [np.mean(v) for v in values], color=colour, linestyle=style, linewidth=1.6, label=label,
              marker=MARKERS[k % len(MARKERS)] if few else None, markersize=3.5)  # fmt: skip
    axis.fill_between(epochs, [min(v) for v in values], [max(v) for v in values], color=colour, alpha=0.18, linewidth=0)


def table_picture(table: Table, metrics: Sequence[str] = (*CATEGORIES, "average")) -> Figure:
    """Differences to the baseline with their 95 % intervals, a panel a metric, a line a point.

    A filled dot survives Holm; the grey bar behind spans the differences that such an experiment misses too often.
    """
    with matplotlib.rc_context(STYLE):
        rows = [row for row in table.rows if not row.baseline]
        high = 1.5 + 0.32 * max(1, len(rows))
        figure = Figure(figsize=(1.9 + 1.75 * len(metrics), high), layout="constrained")
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            axis.axvline(0, color=GREY, linewidth=1, zorder=1)
            for k, row in enumerate(rows):
                _dot(axis, row.cells[metric], k)
            base = table.baseline
            level = "" if base is None else f"\nbaseline {words.number(base.cells[metric].mean)} %"
            axis.set_title(f"{words.METRIC_NAMES[metric]}{level}", fontsize=9)
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
            axis.grid(axis="x", color=PALE, linewidth=0.6, zorder=0)
            reach = max(abs(bound) for bound in axis.get_xlim())
            axis.set_xlim(-reach, reach)
            axis.locator_params(axis="x", nbins=5)
        axes[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        figure.suptitle(
            f"{table.sweep}: difference to the baseline (points, with 95 % interval)", fontsize=11, x=0.01, ha="left"
        )
        figure.legend(handles=_dot_legend(), loc="outside lower center", ncols=3)
        return figure


def _dot_legend() -> list[Any]:
    dot: Any = dict(color=OKABE_ITO[0], marker="o", linewidth=1.8)
    return [
        Line2D([], [], label="survives Holm, p < 0.05", **dot),
        Line2D([], [], markerfacecolor="white", label="does not", **dot),
        Patch(color=PALE, label="too small for these seeds to show"),
    ]


def _dot(axis: Axes, cell: Cell, k: int) -> None:
    if not cell.reached:
        axis.annotate(words.UNREACHED, (0, k), ha="center", va="center", fontsize=7.5, color=GREY, backgroundcolor="w")
        return
    if cell.delta is None:
        axis.annotate(words.DASH, (0, k), ha="center", va="center", fontsize=8, color=GREY, backgroundcolor="white")
        return
    if cell.smallest is not None:
        axis.barh(k, 2 * cell.smallest, left=-cell.smallest, height=0.62, color=PALE, zorder=0.5)
    if cell.delta_low is not None and cell.delta_high is not None:
        axis.plot([cell.delta_low, cell.delta_high], [k, k], color=OKABE_ITO[0], linewidth=1.8, zorder=2)
    found = cell.p_holm is not None and cell.p_holm < words.LEAST_P
    axis.plot(
        cell.delta,
        k,
        "o",
        color=OKABE_ITO[0],
        markerfacecolor=OKABE_ITO[0] if found else "white",
        markersize=6,
        zorder=3,
    )


def heat_map(table: Table, x: str, y: str, metric: str, at: Mapping[str, Any] | None = None) -> Figure:
    """Differences to the baseline over two swept settings, each number written in its field.

    Raises UsageError as `pivot` does. Fields without a row are hatched; a star marks Holm p < 0.05.
    """
    grid = pivot(table, x, y, metric, at)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.0 + 1.15 * len(grid.xs), 1.5 + 0.72 * len(grid.ys)), layout="constrained")
        axis = figure.subplots()
        shape = (len(grid.ys), len(grid.xs))
        delta = np.full(shape, np.nan)
        for j, i in np.ndindex(shape):
            cell, row = grid.cell(j, i), grid.rows[j][i]
            if row is not None and row.baseline:
                delta[j, i] = 0.0
            elif cell is not None and cell.delta is not None:
                delta[j, i] = cell.delta
        reach = float(np.nanmax(np.abs(delta), initial=0.0)) or 1.0
        axis.set_facecolor("white")
        image = axis.imshow(delta, cmap="PuOr", vmin=-1.25 * reach, vmax=1.25 * reach, origin="lower", aspect="auto")
        for j, i in np.ndindex(shape):
            _field(axis, grid.rows[j][i], grid.cell(j, i), i, j, bool(abs(delta[j, i]) > 0.8 * reach))
        axis.set_xticks(range(len(grid.xs)), [str(v) for v in grid.xs])
        axis.set_yticks(range(len(grid.ys)), [str(v) for v in grid.ys])
        axis.set_xticks(np.arange(-0.5, len(grid.xs)), minor=True)
        axis.set_yticks(np.arange(-0.5, len(grid.ys)), minor=True)
        axis.grid(which="minor", color="white", linewidth=2)
        axis.tick_params(which="both", length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
        axis.set_xlabel(x, labelpad=6)
        axis.set_ylabel(y, labelpad=8)
        axis.set_title(f"{table.sweep}: {words.METRIC_NAMES.get(metric, metric)}", loc="left")
        bar = figure.colorbar(image, ax=axis, shrink=0.9)
        bar.set_label("difference to the baseline (points)")
        bar.outline.set_visible(False)
        return figure


def _field(axis: Axes, row: Row | None, cell: Cell | None, i: int, j: int, dark: bool) -> None:
    colour = "white" if dark else "black"
    if row is None or cell is None:
        axis.add_patch(Rectangle((i - 0.5, j - 0.5), 1, 1, hatch="///", fill=False, edgecolor=PALE, linewidth=0))
        return
    if row.baseline:
        text, small = f"{words.number(cell.mean)} %", "baseline"
    elif not cell.reached:
        text, small = words.DASH, words.UNREACHED
    else:
        star = "*" if cell.p_holm is not None and cell.p_holm < words.LEAST_P else ""
        text = words.signed(cell.delta) + star
        half = None if cell.delta is None or cell.delta_low is None else cell.delta - cell.delta_low
        small = "" if half is None else f"±{words.number(half)}"
    axis.annotate(text, (i, j), ha="center", va="center", color=colour, fontsize=10, xytext=(0, 5 if small else 0),
                  textcoords="offset points")  # fmt: skip
    axis.annotate(small, (i, j), ha="center", va="center", color=colour, fontsize=7.5, xytext=(0, -7),
                  textcoords="offset points")  # fmt: skip


def accuracy_against(table: Table, name: str, metrics: Sequence[str] = CATEGORIES) -> Figure:
    """Accuracy with its 95 % interval against one swept setting; a line for each combination of the other settings.

    Values stand at equal distances, in order: sweeps are rarely linear. The baseline is the grey line and band.
    """
    rows = [row for row in table.rows if name in row.values]
    places = ordered({row.values[name] for row in rows})
    lines: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in rows:
        rest = tuple((n, v) for n, v in row.values.items() if n != name)
        lines.setdefault(rest, []).append(row)
    for rest in [rest for rest, members in lines.items() if all(row.baseline for row in members)]:
        del lines[rest]  # the baseline is drawn anyway, and joins a line only where there is one
    lines = {rest: lines[rest] for rest in sorted(lines, key=lambda rest: [_by_size(v) for _, v in rest])}
    swept = {n for rest in lines for n, _ in rest if len({dict(r).get(n) for r in lines}) > 1}
    with matplotlib.rc_context(STYLE):
        figure, axes = _grid(len(metrics), wide=3.4, high=2.7)
        for axis, metric in zip(axes, metrics, strict=False):
            if table.baseline is not None:
                _level(axis, table.baseline.cells[metric])
            for k, (rest, members) in enumerate(lines.items()):
                label = ", ".join(f"{n}={v}" for n, v in rest if n in swept) or "points"
                _intervals(axis, members, name, metric, places, label, k, len(lines))
            axis.set_xticks(range(len(places)), [str(v) for v in places])
            axis.set(title=words.METRIC_NAMES[metric], xlabel=name, ylabel="% of questions")
            axis.margins(x=0.12)
        _legend(figure, axes[0], len(lines) + 1)
        figure.suptitle(f"{table.sweep}: accuracy against {name}", fontsize=11, x=0.01, ha="left")
        return figure


def _by_size(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, (int, float))
    return (0, float(value), "") if number else (1, 0.0, str(value))


def _level(axis: Axes, cell: Cell) -> None:
    if cell.mean is None:
        return
    axis.axhline(cell.mean, color=GREY, linewidth=1.2, zorder=1, label="baseline")
    if cell.low is not None and cell.high is not None:
        axis.axhspan(cell.low, cell.high, color=PALE, zorder=0, linewidth=0)


def _intervals(
    axis: Axes, rows: Sequence[Row], name: str, metric: str, places: Sequence[Any], label: str, k: int, of: int
) -> None:
    rows = sorted(
        (row for row in rows if row.cells[metric].mean is not None), key=lambda r: places.index(r.values[name])
    )
    if not rows:
        return
    shift = 0.0 if of == 1 else 0.24 * (k / (of - 1) - 0.5)
    cells = [row.cells[metric] for row in rows]
    x = [places.index(row.values[name]) + shift for row in rows]
    means = [c.mean for c in cells if c.mean is not None]
    half = [0.0 if c.mean is None or c.low is None else c.mean - c.low for c in cells]
    style: Any = DASHES[k % len(DASHES)]
    axis.errorbar(x, means, yerr=half, color=OKABE_ITO[k % len(OKABE_ITO)],
                  marker=MARKERS[k % len(MARKERS)], markersize=4.5, linestyle=style, linewidth=1.4,
                  elinewidth=1.1, label=label)  # fmt: skip


def _grid(count: int, wide: float, high: float) -> tuple[Figure, list[Axes]]:
    """A figure with `count` axes, at most three in a line; spare places are empty."""
    columns = count if count < 3 else 2 if count == 4 else 3
    lines = -(-count // columns)
    figure = Figure(figsize=(wide * columns, high * lines + 0.5), layout="constrained")
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def _legend(figure: Figure, axis: Axes, count: int, title: str | None = None) -> None:
    handles, labels = axis.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=min(count, 4), title=title, title_fontsize=8.5)


def _logarithmic(axis: Axes) -> None:
    """A logarithmic axis with plain numbers; within one decade its minor ticks are numbered too."""
    axis.set_yscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axis.yaxis.set_major_formatter(plain)
    low, high = axis.get_ylim()
    if high / low < 30:
        axis.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axis.yaxis.set_minor_formatter(plain)


def _label(row: Row) -> str:
    return row.label if len(row.label) <= 28 else row.label[:27] + "…"
