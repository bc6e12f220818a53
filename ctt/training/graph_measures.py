"""Measures of slot graphs A (N,S,S): how dense they are at a threshold, and how well they recover true interactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ctt.models.losses.loss_term import LossTerm, diagnosed
from ctt.training.recovery import auroc, average_precision

NEARLY_EMPTY = 0.01
"""A graph with at most this share of neighbours counts as empty, one with at most this share of others as full."""
NEGLIGIBLE = 1e-4
"""Smaller entries are reported as 0: they are remains of a vanished influence, and no useful threshold is so low."""


def measures(
    name: str,
    graph: np.ndarray,
    threshold: float,
    masked: np.ndarray,
    contact: np.ndarray | None = None,
    seen: np.ndarray | None = None,
    terms: Sequence[LossTerm] | None = None,
) -> dict[str, Any]:
    """What the losses see of graphs (N,S,S) at a threshold; the diagonal, which no loss reads, is left out.

    masked bool (N,S): the step's masked slots; contact bool (N,S,S): true interactions; seen bool (N,S): slots whose
    object is in view. Returns density: share of pairs that are neighbours; neighbours: mean number per slot, and
    neighbour_counts: shares of slots with 0, 1, … of them; quantiles: of the entries, in percent steps (they give the
    density at any threshold); between: the thresholds between which some pairs are neighbours and some are not, equal if
    there are none; zero: share of samples and slots for which each loss of `terms` (None: those of
    every diagnosis) is 0 because there are no non-neighbours; auroc and
    average_precision against contact, over all pairs and (…_seen) those of slots in view; mean: the mean graph; warning.
    """
    slots = graph.shape[-1]
    off = ~np.eye(slots, dtype=bool)
    entries = graph[:, off]
    near = (graph >= threshold) & off
    ends = np.quantile(entries, [NEARLY_EMPTY, 1 - NEARLY_EMPTY])
    counts = np.bincount(near.sum(-1).ravel(), minlength=slots)
    out: dict[str, Any] = {
        "density": float(near[:, off].mean()),
        "neighbours": float(near.sum(-1).mean()),
        "neighbour_counts": (counts / counts.sum()).tolist(),
        "quantiles": np.quantile(entries, np.linspace(0, 1, 101)).tolist(),
        "between": [end if end >= NEGLIGIBLE else 0.0 for end in ends.tolist()],
        "zero": {
            term.name: share for term in (diagnosed() if terms is None else terms) if (share := term.zero(near, masked)) is not None
        },
        "mean": graph.mean(0).tolist(),
        "auroc": None,
        "average_precision": None,
        "auroc_seen": None,
        "average_precision_seen": None,
    }
    if contact is not None:
        for suffix, pairs in (
            ("", np.broadcast_to(off, graph.shape)),
            ("_seen", _pairs_in_view(seen, off, graph.shape)),
        ):
            out[f"auroc{suffix}"] = auroc(graph[pairs], contact[pairs])
            out[f"average_precision{suffix}"] = average_precision(graph[pairs], contact[pairs])
    out["warning"] = warning(name, threshold, out["density"], *out["between"])
    return out


def warning(name: str, threshold: float, density: float, low: float, high: float) -> str | None:
    """The warning about a graph that is (nearly) empty or full; None if it is neither."""
    if NEARLY_EMPTY < density < 1 - NEARLY_EMPTY:
        return None
    empty = density <= NEARLY_EMPTY
    word, effect = ("empty", "the losses make every slot ignore every other") if empty else ("full", "both losses are 0")
    if low == high:
        where = "at no threshold"
    else:
        where = f"at thresholds between {low:.3g} and {high:.3g}" if low else f"at thresholds above 0, up to {high:.3g}"
    return (
        f"the slot graph ({name}) is {word} at ctt_adj_threshold {threshold:g}: {100 * density:.1f} % of pairs are "
        f"neighbours, so {effect}; it separates slots {where}"
    )


def _pairs_in_view(seen: np.ndarray | None, off: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if seen is None:
        return np.broadcast_to(off, shape)
    pairs: np.ndarray = seen[:, :, None] & seen[:, None, :] & off
    return pairs
