"""Figures of a table: differences with intervals, accuracy against a swept setting, one table against another."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ctt.report.figures.curves import Curve, learning_curves
from ctt.report.figures.heat_map import heat_map, heat_maps
from ctt.report.figures.style import BELOW, GREY, OKABE_ITO, PALE, STYLE, grid, legend, line_style, save, seed_dots, seed_handle
from ctt.report.tables import row_text
from ctt.report.tables.estimates import MetricEstimate
from ctt.report.tables.pivot import ordered, swept_setting
from ctt.report.tables.ranking import Ranking
from ctt.report.tables.row import Row
from ctt.report.tables.table import Table

__all__ = [
    "Curve",
    "accuracy_against",
    "heat_map",
    "heat_maps",
    "learning_curves",
    "ranking_picture",
    "save",
    "table_picture",
]


def table_picture(table: Table, path: Path | None = None, *, metrics: Sequence[str] | None = None) -> Figure:
    """Differences to the baseline with their 95 % intervals, a panel a metric (None: those of `table.shown`), a line a point.

    A filled dot: significant after Holm; small dots: the seeds. The grey bar: below the minimum detectable difference (80 % power).
    """
    with matplotlib.rc_context(STYLE):
        rows = [row for row in table.rows if not row.baseline]
        metrics = metrics or table.shown
        high = 1.5 + 0.32 * max(1, len(rows))
        figure = Figure(figsize=(1.9 + 1.75 * len(metrics), high), layout="constrained")
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for axis, metric in zip(axes, metrics, strict=True):
            axis.axvline(0, color=GREY, linewidth=1, zorder=1)
            for k, row in enumerate(rows):
                _dot(axis, row.estimate(metric) or MetricEstimate(), k)
                seed_dots(axis, row.deltas(metric, table.baseline), [k + BELOW] * len(row.seeds))
            base = None if table.baseline is None else table.baseline.estimate(metric)
            level = "" if base is None else f"\nbaseline {row_text.level_text(metric, base.mean)}"
            axis.set_title(f"{row_text.metric_name(metric)}{level}", fontsize=9)
            axis.tick_params(axis="y", length=0)
            axis.spines["left"].set_visible(False)
            axis.grid(axis="x", color=PALE, linewidth=0.6, zorder=0)
            reach = max(1.0 if table.categories else 1e-5, *(1.06 * abs(bound) for bound in axis.get_xlim()))
            axis.set_xlim(-reach, reach)
            axis.xaxis.set_major_locator(MaxNLocator(4, symmetric=True, steps=[1, 2, 5, 10]))
        axes[0].set_yticks(range(len(rows)), [_label(row) for row in rows])
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        of = "points" if table.categories else "mean squared error"
        figure.suptitle(f"{table.sweep}: difference to the baseline ({of}, with 95 % interval)", fontsize=11, x=0.01, ha="left")
        figure.legend(handles=_dot_legend(), loc="outside lower center", ncols=2)
        return save(figure, path)


def _dot_legend() -> list[Any]:
    dot: Any = dict(color=OKABE_ITO[0], marker="o", linewidth=1.8)
    return [
        Line2D([], [], label="significant (Holm p < 0.05)", **dot),
        Line2D([], [], markerfacecolor="white", label="not significant", **dot),
        seed_handle(),
        Patch(color=PALE, label="below the min. detectable difference (80 % power)"),
    ]


def _dot(axis: Axes, estimate: MetricEstimate, k: int) -> None:
    if not estimate.reached:
        axis.annotate(row_text.UNREACHED, (0, k), ha="center", va="center", fontsize=7.5, color=GREY, backgroundcolor="w")
        return
    if estimate.delta is None:
        axis.annotate(row_text.DASH, (0, k), ha="center", va="center", fontsize=8, color=GREY, backgroundcolor="white")
        return
    if estimate.smallest is not None:
        axis.barh(k, 2 * estimate.smallest, left=-estimate.smallest, height=0.62, color=PALE, zorder=0.5)
    if estimate.delta_low is not None and estimate.delta_high is not None:
        axis.plot([estimate.delta_low, estimate.delta_high], [k, k], color=OKABE_ITO[0], linewidth=1.8, zorder=2)
    found = estimate.p_holm is not None and estimate.p_holm < row_text.LEAST_P
    axis.plot(
        estimate.delta,
        k,
        "o",
        color=OKABE_ITO[0],
        markerfacecolor=OKABE_ITO[0] if found else "white",
        markersize=6,
        zorder=3,
    )


def accuracy_against(table: Table, name: str, path: Path | None = None, *, metrics: Sequence[str] | None = None) -> Figure:
    """Accuracy with its 95 % interval and its seeds (dots) against one swept setting; a line for each combination of the others.

    metrics: None for each category, or without questions each error. Values are at equal distances, in order: sweeps are rarely
    linear. The baseline is the grey line and band. Raises UsageError if the setting was not swept.
    """
    name, metrics = swept_setting(table, name), metrics or table.categories.names or table.shown
    rows = [row for row in table.rows if name in row.values]
    places = ordered({row.values[name] for row in rows})
    lines: dict[tuple[tuple[str, Any], ...], list[Row]] = {}
    for row in rows:
        rest = tuple((n, v) for n, v in row.values.items() if n != name)
        lines.setdefault(rest, []).append(row)
    for rest in [rest for rest, members in lines.items() if all(row.baseline for row in members)]:
        del lines[rest]  # the baseline alone is no line: it is drawn as a level
    lines = {rest: lines[rest] for rest in sorted(lines, key=lambda rest: [_by_size(v) for _, v in rest])}
    swept = {n for rest in lines for n, _ in rest if len({dict(r).get(n) for r in lines}) > 1}
    with matplotlib.rc_context(STYLE):
        figure, axes = grid(len(metrics), wide=3.4, high=2.7)
        for axis, metric in zip(axes, metrics, strict=False):
            if table.baseline is not None:
                _level(axis, table.baseline.estimate(metric) or MetricEstimate())
            for k, (rest, members) in enumerate(lines.items()):
                label = ", ".join(f"{n}={v}" for n, v in rest if n in swept) or "points"
                _intervals(axis, members, name, metric, places, label, k, len(lines))
            axis.set_xticks(range(len(places)), [str(v) for v in places])
            axis.set(title=row_text.metric_name(metric), xlabel=name, ylabel=row_text.unit(metric))
            axis.margins(x=0.12)
        legend(figure, axes[0])
        figure.suptitle(
            f"{table.sweep}: {'accuracy' if table.categories else 'error'} against {name}", fontsize=11, x=0.01, ha="left"
        )
        return save(figure, path)


def _by_size(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, (int, float))
    return (0, float(value), "") if number else (1, 0.0, str(value))


def _level(axis: Axes, estimate: MetricEstimate) -> None:
    if estimate.mean is None:
        return
    axis.axhline(estimate.mean, color=GREY, linewidth=1.2, zorder=1, label="baseline")
    if estimate.low is not None and estimate.high is not None:
        axis.axhspan(estimate.low, estimate.high, color=PALE, zorder=0, linewidth=0)


def _intervals(axis: Axes, rows: Sequence[Row], name: str, metric: str, places: Sequence[Any], label: str, k: int, of: int) -> None:
    found = [(row, estimate) for row in rows if (estimate := row.estimate(metric)) is not None and estimate.mean is not None]
    found.sort(key=lambda pair: places.index(pair[0].values[name]))
    if not found:
        return
    shift = 0.0 if of == 1 else 0.24 * (k / (of - 1) - 0.5)
    estimates = [estimate for _, estimate in found]
    x = [places.index(row.values[name]) + shift for row, _ in found]
    means = [c.mean for c in estimates if c.mean is not None]
    below = [0.0 if c.mean is None or c.low is None else c.mean - c.low for c in estimates]
    above = [0.0 if c.mean is None or c.high is None else c.high - c.mean for c in estimates]
    for place, (row, _) in zip(x, found, strict=True):
        values = list(row.by_seed.get(metric, {}).values())
        seed_dots(axis, [place] * len(values), values)
    axis.errorbar(x, means, yerr=[below, above], **line_style(k), markersize=4.5, linewidth=1.4, elinewidth=1.1, label=label)


def _label(row: Row) -> str:
    return textwrap.fill(row_text.named(row), 28, max_lines=3, placeholder=" …")


def ranking_picture(found: Ranking, first: str, second: str, path: Path | None = None) -> Figure:
    """Differences of one table against another's, a dot for each point, on equal axes; `first`, `second`: their names."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 4.2), layout="constrained")
        axis = figure.subplots()
        reach = max(map(abs, (*found.first, *found.second)), default=0.0) * 1.15 or 1.0
        axis.plot([-reach, reach], [-reach, reach], color=PALE, linewidth=1, zorder=0)
        axis.axhline(0, color=GREY, linewidth=0.8, zorder=0)
        axis.axvline(0, color=GREY, linewidth=0.8, zorder=0)
        axis.plot(found.first, found.second, "o", color=OKABE_ITO[0], markersize=6, markeredgecolor="white")
        rank = "" if found.spearman is None else f"\nrank correlation {row_text.number(found.spearman, 2)}"
        kept = f"{found.kept} of the best {found.top} in common"
        axis.set_title(f"{row_text.metric_name(found.metric)}{rank}, {kept}", fontsize=9.5)
        axis.set(xlabel=f"{first}: difference (points)", ylabel=f"{second}: difference (points)")
        axis.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
        return save(figure, path)
