"""Graph diagnostics: how full each source's slot graph is, and how well it finds the true interactions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import matplotlib.image
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ctt.core.units import count
from ctt.report.figures.style import GREY, OKABE_ITO, PALE, STYLE, legend, line_style, save
from ctt.report.tables import row_text
from ctt.report.tables.graph_tables import Diagnosis, chance_of, is_truth

MOST_DRAWN = 6
STEPS = np.linspace(0, 1, 101)


def diagnosis_picture(found: Mapping[str, Sequence[Diagnosis]], path: Path | None = None) -> Figure:
    """One point's graphs by source, over its seeds: density against threshold, neighbours a slot, entries, recovery.

    found: the diagnoses of each point, of which `chosen_point` is drawn.
    """
    point = chosen_point(found)
    with matplotlib.rc_context(STYLE):
        if point is None:
            return save(Figure(figsize=(2.0, 1.0)), path)
        runs = found[point]
        names = list(runs[0]["readings"])
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        (density, neighbours), (entries, recovery) = figure.subplots(2, 2)
        figure.suptitle(f"Slot graphs of {point}, {count(len(runs), 'seed')}")
        _density(density, runs, names)
        _neighbours(neighbours, runs, names)
        _entries_of(entries, runs, names)
        _recovery(recovery, runs, names)
        legend(figure, density)
        return save(figure, path)


def chosen_point(found: Mapping[str, Sequence[Diagnosis]]) -> str | None:
    """Of the points whose losses act, the last one with the most graphs (a learned graph exists only in runs that train it).

    The first point if no losses act; None without diagnoses.
    """
    acting = [point for point, runs in found.items() if any(run["acting"] for run in runs)]
    known = {point: max(len(run["readings"]) for run in found[point]) for point in acting}
    return max(reversed(acting), key=known.__getitem__) if acting else next(iter(found), None)


def _density(axis: Axes, runs: Sequence[Diagnosis], names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        style = {**line_style(k), "marker": None}
        for n, run in enumerate(run for run in runs if name in run["readings"]):
            entries = np.array(run["readings"][name]["quantiles"])
            axis.step(entries, 100 * (1 - STEPS), where="post", label=name if n == 0 else None, linewidth=1.3, **style)
    axis.axvline(runs[0]["threshold"], color=GREY, linestyle="--", linewidth=1, zorder=0)
    axis.set(xlabel="threshold (dashed: this sweep's)", ylabel="% of pairs that are neighbours", ylim=(0, 100))
    axis.set_xlim(0, max(0.3, 1.2 * runs[0]["threshold"]))


def _neighbours(axis: Axes, runs: Sequence[Diagnosis], names: Sequence[str]) -> None:
    counts = [np.mean([r["readings"][n]["neighbour_counts"] for r in runs if n in r["readings"]], axis=0) for n in names]
    left = np.zeros(len(names))
    for number, shares in enumerate(100 * np.array(counts).T):
        shade = matplotlib.colormaps["cividis"](number / max(len(counts[0]) - 1, 1))
        bars = axis.barh(range(len(names)), shares, left=left, color=shade)
        text = [str(number) if share > 6 else "" for share in shares]
        axis.bar_label(bars, text, label_type="center", fontsize=7.5, color="white" if number < 4 else "black")
        left += shares
    _by_name(axis, names)
    axis.set(xlabel=f"% of slots by their number of neighbours at {runs[0]['threshold']:g}", xlim=(0, 100))


def _entries_of(axis: Axes, runs: Sequence[Diagnosis], names: Sequence[str]) -> None:
    for k, name in enumerate(names):
        quantiles = np.mean([r["readings"][name]["quantiles"] for r in runs if name in r["readings"]], axis=0)
        axis.plot(quantiles[[1, 99]], [k, k], color=OKABE_ITO[k % len(OKABE_ITO)], linewidth=1)
        axis.plot(quantiles[[25, 75]], [k, k], color=OKABE_ITO[k % len(OKABE_ITO)], linewidth=5, alpha=0.6)
        axis.plot(quantiles[50], k, "o", color="black", markersize=4)
    axis.axvline(runs[0]["threshold"], color=GREY, linestyle="--", linewidth=1, zorder=0)
    _by_name(axis, names)
    axis.set(xlabel="entries: median, middle half, 1 to 99 %")


def _recovery(axis: Axes, runs: Sequence[Diagnosis], names: Sequence[str]) -> None:
    shown = [name for name in names if not is_truth(name)]
    for key, marker, filled in (("auroc", "o", True), ("average_precision", "s", False)):
        for k, name in enumerate(shown):
            values = [run["readings"][name][key] for run in runs if name in run["readings"]]
            known = [value for value in values if value is not None]
            colour = OKABE_ITO[names.index(name) % len(OKABE_ITO)]
            axis.plot(
                known,
                [k] * len(known),
                marker,
                color=colour,
                markerfacecolor=colour if filled else "none",
                linestyle="",
            )
    chance = chance_of(runs)
    axis.axvline(0.5, color=GREY, linestyle=":", linewidth=1, zorder=0)
    if chance is not None:
        axis.axvline(chance, color=PALE, linestyle="-", linewidth=3, zorder=0)
    _by_name(axis, shown)
    axis.set(xlabel="AUROC (●, chance dotted), average precision (□, chance grey)", xlim=(0, 1))


def _by_name(axis: Axes, names: Sequence[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - 0.5, -0.5)


def mean_picture(runs: Sequence[Diagnosis], path: Path | None = None) -> Figure:
    """Each source's graph, its mean over scenes and seeds, without the diagonal, which no loss reads.

    Slots have no fixed place in a scene: the mean shows how little one graph for a whole batch can distinguish.
    """
    with matplotlib.rc_context(STYLE):
        if not runs:
            return save(Figure(figsize=(2.0, 1.0)), path)
        names = list(runs[0]["readings"])[:MOST_DRAWN]
        means = [np.mean([r["readings"][name]["mean"] for r in runs if name in r["readings"]], axis=0) for name in names]
        means = [np.where(np.eye(len(mean), dtype=bool), np.nan, mean) for mean in means]
        top = max(float(np.nanmax(mean)) for mean in means) or 1.0
        figure = Figure(figsize=(2.1 * len(names) + 0.7, 2.7), layout="constrained")
        axes = figure.subplots(1, len(names), squeeze=False)[0]
        for axis, name, mean in zip(axes, names, means, strict=True):
            image = _mean_graph(axis, mean, top, name)
        bar = figure.colorbar(image, ax=axes.tolist(), shrink=0.85)
        bar.set_label("mean over scenes")
        bar.outline.set_visible(False)
        axes[0].set_ylabel("depending slot")
        return save(figure, path)


def _mean_graph(axis: Axes, mean: np.ndarray, top: float, label: str) -> matplotlib.image.AxesImage:
    image = axis.imshow(mean, cmap="cividis", vmin=0, vmax=top)
    for s, j in np.ndindex(mean.shape):
        if s != j:
            colour = "black" if mean[s, j] > 0.6 * top else "white"
            text = row_text.number(float(mean[s, j]), 2).removeprefix("0")
            axis.annotate(text, (j, s), ha="center", va="center", fontsize=6.5, color=colour)
    axis.set_xticks(range(len(mean)))
    axis.set_yticks(range(len(mean)))
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_title(label)
    axis.set_xlabel("on slot")
    return image
