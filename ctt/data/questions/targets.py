"""CLEVRER's own shares, the targets of question sampling.

Source: counts over the 152,572 questions of the official training file. Shares under "derived" are not counted there
but follow from the counts of program tokens (for instance, every `get_frame` belongs to a question about motion).
"""

from __future__ import annotations

from typing import Any

RATES = {"explanatory": 1.68, "predictive": 0.718, "counterfactual": 1.864}
"""Questions per video."""

GROUPS = {"count": 4, "exist": 2, "query": 5}
"""Descriptive questions per video."""

_COLORS = ("gray", "red", "blue", "green", "brown", "cyan", "purple", "yellow")

SHARES: dict[str, dict[Any, float]] = {
    "count answers": {"0": 0.247, "1": 0.277, "2": 0.232, "3": 0.163, "4": 0.079, "5": 0.002},
    "exist answers": {"yes": 0.5, "no": 0.5},
    "query_color answers": dict.fromkeys(_COLORS, 0.125),
    "query_material answers": {"metal": 0.5, "rubber": 0.5},
    "query_shape answers": dict.fromkeys(("cube", "sphere", "cylinder"), 1 / 3),
    "query attributes": {"query_color": 0.369, "query_material": 0.293, "query_shape": 0.338},
    # derived
    "count forms": {"moving": 0.25, "stationary": 0.25, "entering": 0.18, "exiting": 0.02, "collisions": 0.3},
    "exist forms": {"moving": 0.25, "stationary": 0.25, "entering": 0.45, "exiting": 0.05},
    "query forms": {"motion": 0.4, "partner": 0.446, "entering": 0.134, "exiting": 0.02},
    # 10,251 `null`, 11,432 `start` and 12,606 `end` among 49,952 filters of motion; the others are at a crossing
    "moments": {"whole video": 0.205, "start": 0.229, "end": 0.252, "in": 0.294, "out": 0.02},
    # 9,915 `last` and 9,587 `first` or `second` among the queries of partners and crossings
    "orders": {"only": 0.35, "first": 0.205, "second": 0.115, "last": 0.33},
    # what 156,291 `events`, 63,933 `filter_in` and fewer than 9,915 `filter_out`, `filter_before` and `filter_after` leave
    "count relations": {"none": 0.7, "before in": 0.135, "after in": 0.135, "before out": 0.015, "after out": 0.015},
    "exist relations": {"before in": 0.45, "after in": 0.45, "before out": 0.05, "after out": 0.05},
    # what 103,597 `filter_material` leave, the public explanatory questions and choices having 0.36 and 0.44
    "materials in names": {True: 0.22, False: 0.78},
    "attributes of sets": {"": 0.22, "color": 0.23, "shape": 0.09, "color shape": 0.25, "material": 0.13, "material shape": 0.08},
    # derived from the counted options of both categories together and the counted choices with all_events
    "explanatory options": {4: 0.714, 3: 0.2, 2: 0.078, 1: 0.008},
    "counterfactual options": {4: 0.59, 3: 0.37, 2: 0.04},
    "explanatory correct": {0: 0.163, 1: 0.204, 2: 0.33, 3: 0.257, 4: 0.046},
    "counterfactual correct": {0: 0.009, 1: 0.426, 2: 0.344, 3: 0.221},
    "explanatory negated": {True: 0.48, False: 0.52},
    "counterfactual negated": {True: 0.52, False: 0.48},
    # counted in the 628 public questions with a text
    "explanatory outcomes": {"collision": 0.896, "exit": 0.104},
    "explanatory causes": {"presence": 0.46, "collision": 0.32, "entrance": 0.22},
    "predictive wordings": {"What": 0.8, "Which event": 0.2},
}
"""Target share of every value, by the counted quantity."""


def joint(group: str) -> dict[tuple[str, str], float]:
    """Target shares of (form name, answer) in a descriptive group: answers are distributed alike in all forms."""
    subtypes = SHARES["query attributes"] if group == "query" else {group: 1.0}
    return {
        (f"{subtype}:{kind}", answer): of_group * of_kind * of_answer
        for subtype, of_group in subtypes.items()
        for kind, of_kind in SHARES[f"{group} forms"].items()
        for answer, of_answer in SHARES[f"{subtype} answers"].items()
    }
