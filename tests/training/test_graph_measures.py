"""Measures of slot graphs against loops, and areas under curves against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctt.training.graph_measures import measures, warning
from ctt.training.recovery import auroc, average_precision

scores = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]), st.booleans()), min_size=1, max_size=25)


@given(scores)
def test_auroc_counts_the_pairs_in_order(entries):
    score, truth = np.array([s for s, _ in entries]), np.array([t for _, t in entries])
    pairs = [(a > b) + 0.5 * (a == b) for a in score[truth] for b in score[~truth]]
    found = auroc(score, truth)
    assert found is None if not pairs else found == pytest.approx(np.mean(pairs), abs=1e-12)


@given(scores)
def test_average_precision_steps_through_the_scores(entries):
    score, truth = np.array([s for s, _ in entries]), np.array([t for _, t in entries])
    found = average_precision(score, truth)
    if not truth.any():
        assert found is None
        return
    area = before = 0.0
    for level in sorted(set(score), reverse=True):
        taken = score >= level
        recall = truth[taken].sum() / truth.sum()
        area += (recall - before) * truth[taken].mean()
        before = recall
    assert found == pytest.approx(area, abs=1e-12)


def test_both_are_those_of_scikit_learn():
    reference = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.random((30, 7, 7)) < 0.1
    score = np.round(rng.random(truth.shape) + 0.3 * truth, 1)  # with ties
    assert auroc(score, truth) == pytest.approx(reference.roc_auc_score(truth.ravel(), score.ravel()))
    assert average_precision(score, truth) == pytest.approx(reference.average_precision_score(truth.ravel(), score.ravel()))


def some_graphs(samples: int = 5, slots: int = 4):
    rng = np.random.default_rng(1)
    graph = rng.dirichlet(np.full(slots, 0.6), (samples, slots))
    masked = np.zeros((samples, slots), dtype=bool)
    masked[:, 1] = masked[2, 3] = True
    contact = rng.random(graph.shape) < 0.3
    seen = rng.random((samples, slots)) < 0.8
    return graph, masked, contact, seen


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.4, 0.7, 1.0])
def test_measures_equal_those_of_plain_loops(threshold):
    graph, masked, contact, seen = some_graphs()
    found = measures("attention", graph, threshold, masked, contact, seen)
    samples, slots, _ = graph.shape
    pairs, counts, no_inv, no_suf, in_view = [], [], [], [], []
    for n in range(samples):
        for s in range(slots):
            others = [j for j in range(slots) if j != s]
            pairs += [(graph[n, s, j], contact[n, s, j]) for j in others]
            in_view += [(graph[n, s, j], contact[n, s, j]) for j in others if seen[n, s] and seen[n, j]]
            counts.append(sum(graph[n, s, j] >= threshold for j in others))
            no_suf.append(all(graph[n, s, j] >= threshold for j in others))
            if not masked[n, s]:
                no_inv.append(all(graph[n, j, s] >= threshold or masked[n, j] for j in others))
    entries = np.array([value for value, _ in pairs])
    assert found["density"] == pytest.approx((entries >= threshold).mean())
    assert found["neighbours"] == pytest.approx(np.mean(counts))
    assert found["neighbour_counts"] == pytest.approx([np.mean(np.array(counts) == n) for n in range(slots)])
    assert found["zero"] == pytest.approx({"invariance": np.mean(no_inv), "sufficiency": np.mean(no_suf)})
    assert found["quantiles"][0] == entries.min() and found["quantiles"][50] == pytest.approx(np.median(entries))
    assert found["auroc"] == pytest.approx(auroc(entries, np.array([t for _, t in pairs])))
    assert found["auroc_seen"] == pytest.approx(auroc(*map(np.array, zip(*in_view, strict=True))))
    assert found["average_precision"] == pytest.approx(average_precision(entries, np.array([t for _, t in pairs])))
    assert np.allclose(found["mean"], graph.mean(0))
    assert (found["warning"] is None) == (0.01 < found["density"] < 0.99)


def test_between_holds_the_thresholds_that_separate_slots():
    graph, masked, _, _ = some_graphs(200)
    low, high = measures("attention", graph, 0.2, masked)["between"]
    for threshold, empty, full in [
        (low * 0.9, False, True),
        (high * 1.1, True, False),
        ((low + high) / 2, False, False),
    ]:
        density = measures("attention", graph, threshold, masked)["density"]
        assert (density <= 0.01, density >= 0.99) == (empty, full)


@pytest.mark.parametrize(
    "entry, often, between, text",
    [
        (5e-44, 0.0, [0, 0], "at no threshold"),  # what is left of a vanished influence
        (5e-44, 0.1, [0, 0.5], "at thresholds above 0, up to 0.5"),
        (0.02, 0.1, [0.02, 0.5], "at thresholds between 0.02 and 0.5"),
        (0.02, 0.0, [0.02, 0.02], "at no threshold"),
    ],
)
def test_thresholds_are_reported_in_a_usable_range(entry, often, between, text):
    graph = np.where(np.random.default_rng(2).random((200, 4, 4)) < often, 0.5, entry).astype(np.float32)
    found = measures("learned", graph.astype(np.float64), 0.7, np.zeros((200, 4), dtype=bool))
    assert found["between"] == pytest.approx(between, rel=1e-6)
    assert found["warning"].endswith(f"it separates slots {text}")
    for threshold in (between[0] * 0.99, 2e-4, between[1] * 0.99) if between[0] < between[1] else ():
        density = measures("learned", graph, threshold, np.zeros((200, 4), dtype=bool))["density"]
        assert (0.01 < density < 0.99) == (between[0] < threshold <= between[1])


def test_the_diagonal_and_masked_slots_do_not_count():
    graph = np.tile(np.eye(4), (2, 1, 1))
    masked = np.ones((2, 4), dtype=bool)
    found = measures("attention", graph, 0.5, masked)
    assert found["density"] == 0 and found["neighbours"] == 0 and found["quantiles"][-1] == 0
    assert found["zero"] == {"invariance": 1.0, "sufficiency": 0.0} and found["auroc"] is None


def test_the_warning_names_useful_thresholds():
    empty = warning("attention", 0.15, 0.0, 0.031, 0.142)
    assert "empty at ctt_adj_threshold 0.15" in empty and "ignore every other" in empty
    assert "between 0.031 and 0.142" in empty
    full = warning("oracle", 0.05, 1.0, 0.1, 0.2)
    assert "full" in full and "both losses are 0" in full
    assert warning("attention", 0.15, 0.3, 0.03, 0.5) is None
