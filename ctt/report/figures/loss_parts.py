"""Figure of the losses: samples without a loss, invariance left with equal masks, terms and gradients."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from ctt.core.units import count
from ctt.report.figures.graph_figures import chosen_point
from ctt.report.figures.style import GREY, MARKERS, OKABE_ITO, PALE, STYLE, save
from ctt.report.tables import row_text
from ctt.report.tables.graph_tables import PREDICTION, Diagnosis, terms_of

MOST_POINTS = 8
PASSES = {"losses": "as trained", "published_losses": "as published"}
Runs = Sequence[Diagnosis]
Found = Mapping[str, Runs]
Values = Callable[[Diagnosis], float | None]


def loss_picture(found: Found, path: Path | None = None) -> Figure:
    """Four panels with a dot for each seed. By source: samples for which each loss is 0 (of `chosen_point`). By point: how
    much of the invariance loss is left with equal slot masks, the loss terms, and their gradient norms, all unweighted.

    Of more than eight points the first eight are drawn.
    """
    point = chosen_point(found)
    with matplotlib.rc_context(STYLE):
        if point is None:
            return save(Figure(figsize=(2.0, 1.0)), path)
        names = list(found[point][0]["readings"])
        measured = terms_of(run for runs in found.values() for run in runs)[: len(OKABE_ITO) - len(PREDICTION)]
        shown = dict(list(found.items())[:MOST_POINTS])
        line = 0.14 * max(2.5, *(1 + len(_wrapped(label).splitlines()) for label in shown))  # of a point, in inches
        high = [max(1.5, 0.3 * len(names), line * len(shown)), max(1.5, line * len(shown))]
        figure = Figure(figsize=(9.6, 2.8 + sum(high)), layout="constrained")
        (zero, left), (terms, norms) = figure.subplots(2, 2, height_ratios=high)
        figure.get_layout_engine().set(hspace=0.06, wspace=0.04)  # type: ignore[union-attr,call-arg]  # constrained
        few = f"; the first {len(shown)} of {len(found)} points" if len(shown) < len(found) else ""
        figure.suptitle(f"What the losses measure, {count(len(found[point]), 'seed')}{few}")
        by_source = {name: [r for r in found[point] if name in r["readings"]] for name in names}
        _dots(zero, by_source, {kind: _zero_of(kind) for kind in measured}, by_row=True)
        zero.set(xlabel=f"% of samples whose loss is 0\n{textwrap.fill(f'({point})', 48)}", xlim=(-4, 104))
        _dots(left, shown, {label: _left_of(name) for name, label in PASSES.items()})
        left.axvline(100, color=GREY, linestyle=":", linewidth=1, zorder=0)
        left.set(xlabel="% of the invariance loss left with equal slot masks\n(0: it measures slots; 100: noise alone)")
        left.set_xlim(-5, max(115, left.get_xlim()[1]))
        _dots(terms, shown, {term: _of("terms", term) for term in (*PREDICTION, *measured)})
        terms.set(xlabel="loss terms as trained, mean squared errors")
        _by_decades(terms)
        _dots(norms, shown, {name: _of("gradient_norms", name) for name in ("prediction", *measured)})
        norms.set(xlabel="norms of their gradients (prediction: masked + future)")
        _by_decades(norms)
        return save(figure, path)


def _zero_of(kind: str) -> Callable[[Diagnosis, str], float | None]:
    return lambda run, source: 100 * run["readings"][source]["zero"][kind] if kind in run["readings"][source]["zero"] else None


def _left_of(name: str) -> Values:
    return lambda run: None if run[name]["remaining"] is None else 100 * run[name]["remaining"]


def _of(group: str, name: str) -> Values:
    """None for 0, which a logarithmic axis cannot show."""
    return lambda run: value if (value := run["losses"][group].get(name)) else None


def _dots(axis: Axes, rows: Found, series: Mapping[str, Callable[..., float | None]], by_row: bool = False) -> None:
    """For each row and series a line of dots, so that equal values do not overlap; a dash where a series has no value.

    by_row: the functions in `series` take the row's name as a second argument.
    """
    step = 0.7 / len(series)
    for k, (label, value_of) in enumerate(series.items()):
        colour, marker = OKABE_ITO[k], MARKERS[k]
        for row, (name, runs) in enumerate(rows.items()):
            at = row + (k - (len(series) - 1) / 2) * step
            found = [value_of(run, name) if by_row else value_of(run) for run in runs]
            known = [value for value in found if value is not None]
            if known:
                axis.plot(known, [at] * len(known), marker, color=colour, markersize=5, alpha=0.8, clip_on=False)
            else:
                where = axis.get_yaxis_transform()
                axis.text(0.01, at, row_text.DASH, transform=where, color=colour, va="center", fontsize=8)
        axis.plot([], [], marker, color=colour, label=label)
    for row in range(1, len(rows)):
        axis.axhline(row - 0.5, color=PALE, linewidth=0.8, zorder=0)
    axis.set_yticks(range(len(rows)), [_wrapped(name) for name in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(series), handletextpad=0.1, columnspacing=0.8)


def _by_decades(axis: Axes) -> None:
    """A logarithmic axis of whole decades; only these are labelled."""
    axis.set_xscale("log")
    low, high = np.log10(axis.get_xlim())
    axis.set_xlim(10 ** np.floor(low), 10 ** np.ceil(high))
    axis.xaxis.set_minor_formatter(NullFormatter())


def _wrapped(label: str) -> str:
    return textwrap.fill(label, 24, break_long_words=False)
