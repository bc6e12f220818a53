"""Grids of graph diagnoses: how full each source's slot graph is, what it finds, what the losses measure.

A diagnosis holds what the stage `diagnostics` measured for one run (ctt/training/diagnostics.py); those of a point are a
list over its seeds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ctt.core.units import count
from ctt.models.graphs.graph_source import graph_sources
from ctt.models.losses.loss_term import in_order, loss_terms
from ctt.report import statistics
from ctt.report.tables import row_text
from ctt.report.tables.grid import Grid

Diagnosis = Mapping[str, Any]
RECOVERY = ("auroc", "average_precision", "auroc_seen", "average_precision_seen")
PREDICTION = ("masked", "future")
"""The parts of the prediction loss; their gradients are measured together, as "prediction"."""


def terms_of(runs: Iterable[Diagnosis]) -> list[str]:
    """Names of the loss terms that were measured of any of the runs."""
    return in_order({name for run in runs for name in run["losses"]["gradient_norms"]} - {"prediction"})


def is_truth(reading: str) -> bool:
    """Whether the graphs of that name are the true interactions."""
    return (source := graph_sources().get(reading)) is not None and source.is_truth


def density_grid(runs: Sequence[Diagnosis]) -> Grid:
    """By source: density at the threshold, neighbours, samples without a loss, and the thresholds that separate slots."""
    zeros = in_order({name for run in runs for reading in run["readings"].values() for name in reading["zero"]})
    lines = []
    for name in runs[0]["readings"]:
        readings = [run["readings"][name] for run in runs if name in run["readings"]]
        low, high = (np.mean([r["between"][k] for r in readings]) for k in (0, 1))
        lines.append(
            (
                _label(name, runs[0]),
                row_text.number(100 * _mean(readings, "density")),
                row_text.number(_mean(readings, "neighbours"), 2),
                *(row_text.number(100 * float(np.mean([r["zero"][term] for r in readings]))) for term in zeros),
                "none" if low == high else f"{row_text.number(float(low), 3)} to {row_text.number(float(high), 3)}",
            )
        )
    header = (
        "slot graph",
        "density, %",
        "neighbours",
        *(f"no {term}, %" for term in zeros),
        "separating thresholds",
    )
    at = runs[0]["threshold"]
    return Grid(f"Slot graphs at threshold {at:g}, {count(len(runs), 'seed')}", header, (tuple(lines),))


def recovery_grid(runs: Sequence[Diagnosis]) -> Grid:
    """By source: AUROC and average precision against the true interactions, with their spread over seeds."""
    lines = []
    for name in runs[0]["readings"]:
        if is_truth(name):
            continue
        estimates = [_spread([r["readings"].get(name, {}).get(key) for r in runs]) for key in RECOVERY]
        lines.append((_label(name, runs[0]), *estimates))
    chance = chance_of(runs)
    lines.append(("by chance", "0.500", row_text.number(chance, 3), "0.500", row_text.DASH))
    header = ("slot graph", "AUROC", "average precision", "AUROC, in view", "average precision, in view")
    return Grid(f"True interactions found, {count(len(runs), 'seed')}", header, (tuple(lines),))


def losses_grid(found: Mapping[str, Sequence[Diagnosis]]) -> Grid:
    """By point: the loss terms, and how much of the invariance loss is left with equal slot masks."""
    terms = terms_of(run for runs in found.values() for run in runs)
    digits = {name: term.digits for name, term in loss_terms().items()}
    lines = []
    for point, runs in found.items():
        for key, label in (("losses", "as trained"), ("published_losses", "as published")):
            measured = [run[key] for run in runs]
            left = _spread([None if one["remaining"] is None else 100 * one["remaining"] for one in measured], 1)
            lines.append(
                (
                    point,
                    label,
                    f"{measured[0]['dropout']:g}, {'shared' if measured[0]['share_dropout'] else 'drawn anew'}",
                    *(_spread([one["terms"].get(name) for one in measured], digits.get(name, 4)) for name in (*PREDICTION, *terms)),
                    left,
                    *(_spread([one["gradient_norms"].get(name) for one in measured], 3) for name in ("prediction", *terms)),
                )
            )
    header = (
        "point",
        "graph and masks",
        "dropout",
        *PREDICTION,
        *terms,
        "left with equal masks, %",
    )
    return Grid(
        "Loss terms, unweighted", (*header, *(f"|∇ {name}|" for name in ("prediction", *terms))), (tuple(lines),), text_columns=3
    )


def chance_of(runs: Sequence[Diagnosis]) -> float | None:
    """Share of pairs of slots that touch: the average precision of a random graph."""
    touching = [run["touching"] for run in runs if run["touching"] is not None]
    if not touching:
        return None
    slots = len(next(iter(runs[0]["readings"].values()))["mean"])
    return float(np.mean(touching)) / (slots * (slots - 1) / 2)


def _mean(readings: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(np.mean([reading[key] for reading in readings]))


def _spread(values: Sequence[float | None], digits: int = 3) -> str:
    """Mean, with its 95 % half-width from three seeds on; a dash if nothing is known."""
    known = np.array([value for value in values if value is not None], dtype=float)
    if not known.size:
        return row_text.DASH
    estimate = statistics.paired(known[None])
    half = float(np.ravel(estimate.value - estimate.low)[0])
    text = row_text.number(float(known.mean()), digits)
    return f"{text} ±{row_text.number(half, digits)}" if np.isfinite(half) else text


def _label(name: str, run: Diagnosis) -> str:
    return f"{name} (this run's)" if name == run["own"] and run["acting"] else name
