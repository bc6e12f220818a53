"""Measures of slot graphs A (N,S,S): how full they are at a threshold, and how well they find what is true."""

from __future__ import annotations

from typing import Any

import numpy as np

from ctt.training.recovery import auroc, average_precision

SLIM = 0.01
"""A graph with a smaller share of neighbours than this is as good as empty; likewise full."""
FAINT = 1e-4
"""Entries under this are told as 0: nobody sets a threshold so low, and what an influence that has died out still gives
(denormal numbers, even) is none."""


def measures(
    name: str,
    graph: np.ndarray,
    threshold: float,
    masked: np.ndarray,
    contact: np.ndarray | None = None,
    seen: np.ndarray | None = None,
) -> dict[str, Any]:
    """What the losses find in graphs (N,S,S) at a threshold; the diagonal, which no loss reads, is left out.

    masked bool (N,S): the step's hidden slots; contact bool (N,S,S): true interactions; seen bool (N,S): slots whose
    object is in view. density: share of pairs that are neighbours; neighbours: how many a slot has, and
    neighbour_counts the shares of slots with 0, 1, … of them; quantiles: of the entries, in percent steps (so the density
    at any threshold can be told from them); between: the thresholds between which some pairs are neighbours and some are
    not, equal where there are none; zero: share of samples and slots for which each loss is 0 for want of non-neighbours; auroc and
    average_precision against contact, over all pairs and (…_seen) over those of slots in view; mean: the mean graph.
    """
    slots = graph.shape[-1]
    off = ~np.eye(slots, dtype=bool)
    entries = graph[:, off]
    near = (graph >= threshold) & off
    counts = np.bincount(near.sum(-1).ravel(), minlength=slots)
    out: dict[str, Any] = {
        "density": float(near[:, off].mean()),
        "neighbours": float(near.sum(-1).mean()),
        "neighbour_counts": (counts / counts.sum()).tolist(),
        "quantiles": np.quantile(entries, np.linspace(0, 1, 101)).tolist(),
        "between": [end if end >= FAINT else 0.0 for end in np.quantile(entries, [SLIM, 1 - SLIM]).tolist()],
        "zero": _zero(near, off, masked),
        "mean": graph.mean(0).tolist(),
        "auroc": None,
        "average_precision": None,
        "auroc_seen": None,
        "average_precision_seen": None,
    }
    if contact is not None:
        for suffix, pairs in (("", np.broadcast_to(off, graph.shape)), ("_seen", _both(seen, off, graph.shape))):
            out[f"auroc{suffix}"] = auroc(graph[pairs], contact[pairs])
            out[f"average_precision{suffix}"] = average_precision(graph[pairs], contact[pairs])
    out["warning"] = warning(name, threshold, out["density"], *out["between"])
    return out


def warning(name: str, threshold: float, density: float, low: float, high: float) -> str | None:
    """What to say of a graph that is empty or full, or as good as that; None if it is neither."""
    if SLIM < density < 1 - SLIM:
        return None
    word, means = ("empty", "every slot is to ignore every other") if density <= SLIM else ("full", "both losses are 0")
    if low == high:
        where = "at no threshold"
    else:
        where = f"at thresholds between {low:.3g} and {high:.3g}" if low else f"at thresholds above 0, up to {high:.3g}"
    return (
        f"the slot graph ({name}) is {word} at ctt_adj_threshold {threshold:g}: {100 * density:.1f} % of pairs are "
        f"neighbours, so {means}; it tells slots apart {where}"
    )


def _zero(near: np.ndarray, off: np.ndarray, masked: np.ndarray) -> dict[str, float]:
    """Shares of (sample, drawn slot) with nobody to tell apart; invariance draws among the slots that are not masked."""
    strangers = off & ~near
    alone = strangers.any(2)  # (N,S): row k has a non-neighbour, for sufficiency
    unmasked = ~masked
    unmoved = (strangers & unmasked[:, :, None]).any(1)  # (N,S): column i has an unmasked j that does not depend on it
    drawn = unmoved[unmasked]
    return {
        "invariance": float((~drawn).mean()) if drawn.size else 1.0,
        "sufficiency": float((~alone).mean()),
    }


def _both(seen: np.ndarray | None, off: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if seen is None:
        return np.broadcast_to(off, shape)
    return seen[:, :, None] & seen[:, None, :] & off
