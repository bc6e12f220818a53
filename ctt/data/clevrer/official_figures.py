"""The official counts of CLEVRER, against which every data set is compared.

Train: counted over the full official download by a public format report. Validation: solved from three published
accuracies per category (their only common denominators). Test: the paper's totals (https://arxiv.org/abs/1910.01442)
minus the other two.
"""

from __future__ import annotations

VIDEOS = {"train": 10_000, "validation": 5_000, "test": 5_000}

QUESTIONS = {
    "train": {"descriptive": 109_952, "explanatory": 16_799, "predictive": 7_179, "counterfactual": 18_642},
    "validation": {"descriptive": 54_990, "explanatory": 8_488, "predictive": 3_557, "counterfactual": 9_333},
    "test": {"descriptive": 54_976, "explanatory": 8_524, "predictive": 3_562, "counterfactual": 9_278},
}

# The counts below are of train; the known ones of other splits have the same proportions.

SUBTYPES = {
    "count": 40_000,
    "exist": 20_000,
    "query_color": 18_454,
    "query_material": 14_614,
    "query_shape": 16_884,
}

ANSWERS = {
    "0": 9_862,
    "1": 11_079,
    "2": 9_292,
    "3": 6_525,
    "4": 3_173,
    "5": 69,
    "yes": 10_026,
    "no": 9_974,
    "metal": 7_303,
    "rubber": 7_311,
    "cube": 5_601,
    "cylinder": 5_635,
    "sphere": 5_648,
    "blue": 2_301,
    "brown": 2_292,
    "cyan": 2_315,
    "gray": 2_339,
    "green": 2_318,
    "purple": 2_272,
    "red": 2_318,
    "yellow": 2_299,
}

OPTIONS = {"1": 149, "2": 9_317, "3": 10_188, "4": 22_966}
"""Multiple-choice questions by number of options."""

VERDICTS = {"correct": 70_836, "wrong": 70_375}
"""Options by correctness, over the three categories."""

CORRECT = {
    "explanatory": {"0": 2_743, "1": 3_428, "2": 5_541, "3": 4_320, "4": 767},
    "predictive": {"1": 7_179},
    "counterfactual": {"0": 169, "1": 7_947, "2": 6_406, "3": 4_120},
}
"""Questions by number of correct options."""

# Counted in 1,128 public explanatory questions of train.

OUTCOMES = {
    "the collision between the X and the Y": 522,
    "the X's colliding with the Y": 489,
    "the X's exit": 64,
    "the X's exiting the scene": 53,
}
"""Explanatory questions by the event they ask about."""

NEGATED = {"not responsible": 48, "responsible": 52}
"""Explanatory questions, percent."""

CAUSES = {
    "the presence of the X": 46,
    "the X's colliding with the Y": 16,
    "the collision between the X and the Y": 16,
    "the X's entrance": 11,
    "the X's entering the scene": 11,
}
"""Options of explanatory questions, percent."""

TOKENS = {
    "unique": 558_994,
    "objects": 456_302,
    "filter_shape": 297_627,
    "filter_color": 264_815,
    "filter_collision": 264_201,
    "events": 156_291,
    "filter_material": 103_597,
    "all_events": 99_043,
    "filter_in": 63_933,
    "belong_to": 42_620,
    "count": 40_000,
    "get_frame": 39_701,
    "filter_moving": 25_245,
    "filter_stationary": 24_707,
    "get_col_partner": 22_301,
    "exist": 20_000,
    "filter_order": 19_502,
    "get_counterfact": 18_642,
    "query_color": 18_454,
    "negate": 17_753,
    "query_shape": 16_884,
    "filter_ancestor": 16_799,
    "query_material": 14_614,
    "end": 12_606,
    "start": 11_432,
    "null": 10_251,
    "last": 9_915,
}
"""Tokens in all programs of train, those of choices included: the most frequent ones but for attribute values. Of the other
seven (filter_out, filter_before, filter_after, get_object, first, second, unseen_events) each has fewer than "last"."""
