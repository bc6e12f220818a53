"""The noise of the sweep `demo`: what a difference to its baseline varies by, for plans in a store that has measured none.

These are from the intervals of its table (docs/results/records/demo.json), which have two degrees of freedom:
3 (half-width / 4.303)². What of it is of the questions is not in that table and counts as 0, so that more videos promise nothing.
`python -m tests.demo_noise STORE` writes all parts, from a store with the finished demo.
"""

from __future__ import annotations

import numpy as np

from ctt.report.detectable import PooledNoise, pooled
from ctt.report.statistics import Spread

SEEDS = 3
VIDEOS = 200
SPREADS: dict[str, tuple[float, float, float]] = {
    "descriptive": (0.4683, 0.0, 0.0),
    "explanatory": (11.7075, 0.0, 0.0),
    "predictive": (2.1000, 0.0, 0.0),
    "counterfactual": (0.4683, 0.0, 0.0),
}
"""By metric, in squared points: of one seed's mean, of the videos' means, of one seed in one video."""


def demo_noise() -> dict[str, PooledNoise]:
    """The noise by metric."""
    found = {}
    for metric, (seed, video, rest) in SPREADS.items():
        noise = pooled([Spread(np.array(seed), np.array(video), np.array(rest), SEEDS, np.array(float(VIDEOS)))])
        assert noise is not None
        found[metric] = noise
    return found
