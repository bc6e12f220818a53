"""The table: numbers checked by hand, pairing, missing runs, and runs that cannot be compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ctt.core.errors import DataError, UsageError
from ctt.data.categories import CLEVRER_CATEGORIES
from ctt.report import statistics
from ctt.report.results import Noise, PointResults, Results, RunResults
from ctt.report.tables.table import build
from tests.report import made_up_answers

TWO = [PointResults("baseline", {"w": 0.0}, baseline=True), PointResults("w=1", {"w": 1.0})]


def frame(answers: dict[tuple[int, int, int], bool], category: str = "explanatory") -> pd.DataFrame:
    """Predictions from {(scene, question, choice): correct}; choice −1 is a descriptive question."""
    rows = []
    for (scene, question, choice), correct in answers.items():
        kind = "descriptive" if choice < 0 else category
        rows.append((scene, question, choice, kind, f"{kind}:only", 1, int(correct), correct, 0.5))
    names = ["scene", "question_id", "choice_id", "category", "form", "truth", "prediction", "correct", "logit"]
    return pd.DataFrame(rows, columns=names)


# two videos: descriptive questions 2 + 1, explanatory (two choices) 1 + 1
BASE = {(1, 0, -1): 1, (1, 1, -1): 0, (1, 2, 0): 1, (1, 2, 1): 0, (2, 0, -1): 1, (2, 1, 0): 1, (2, 1, 1): 1}


def answers(**changed: int) -> pd.DataFrame:
    """BASE with some answers changed: keys like a1_0_d (scene 1, question 0, descriptive) or a1_2_1 (choice 1)."""
    flipped = {tuple(-1 if p == "d" else int(p) for p in key[1:].split("_")): value for key, value in changed.items()}
    return frame({key: bool(value) for key, value in (BASE | flipped).items()})


def test_accuracies_and_differences_by_hand() -> None:
    baseline = [answers(), answers(a1_1_d=1), answers(a2_1_0=0)]
    other = [answers(a1_0_d=0), answers(a1_2_1=1), answers(a1_2_1=1)]
    runs = [RunResults(0, s, f) for s, f in enumerate(baseline)] + [RunResults(1, s, f) for s, f in enumerate(other)]
    table = build(Results("hand", TWO, runs))
    base, row = table.rows
    # descriptive right of 3: baseline 2, 3, 2; other 1, 2, 2 (seed by seed −1, −1, 0)
    assert base.estimates["descriptive"].mean == pytest.approx(100 * 7 / 9)
    assert row.estimates["descriptive"].mean == pytest.approx(100 * 5 / 9)
    assert row.estimates["descriptive"].delta == pytest.approx(-100 * 2 / 9)
    # explanatory questions right of 2 (both choices): baseline 1, 1, 0; other 1, 2, 2
    assert base.estimates["explanatory"].mean == pytest.approx(100 * 2 / 6)
    assert row.estimates["explanatory"].delta == pytest.approx(100 * 3 / 6)
    # options right of 4: baseline 3, 3, 2; other 3, 4, 4
    assert base.options["explanatory"].mean == pytest.approx(100 * 8 / 12)
    assert row.options["explanatory"].delta == pytest.approx(100 * 3 / 12)
    # average = all right / all questions; multiple choice is explanatory alone here
    assert base.estimates["average"].mean == pytest.approx(100 * 9 / 15)
    assert row.estimates["multiple_choice"].delta == row.estimates["explanatory"].delta
    # the interval is the statistics' own, over the 3 seeds × 2 videos table of differences
    differences = np.array([[-1, 0], [-1, 0], [0, 0]])
    expected = statistics.estimate(differences, np.array([2, 1]))
    assert row.estimates["descriptive"].delta_low == pytest.approx(float(expected.low))
    assert row.estimates["descriptive"].p == pytest.approx(float(expected.p))
    # sums of the sign patterns of (−1, −1, 0): 2, 0, 0, 2 in size, so 4 of 8 reach 2
    assert row.estimates["descriptive"].sign_flip == pytest.approx(0.5)
    # there are no predictive and counterfactual questions
    assert row.estimates["predictive"].mean is None and row.estimates["predictive"].delta is None


def test_baseline_has_no_difference_and_comes_first() -> None:
    results = made_up_answers.results()
    table = build(replace(results, points=results.points[::-1], runs=[replace(r, point=8 - r.point) for r in results.runs]))
    assert table.rows[0].baseline and all(estimate.delta is None for estimate in table.rows[0].estimates.values())
    assert table.rows[0].sentence == "differences are to this row"
    assert all(row.estimates[m].delta is not None for row in table.rows[1:] for m in CLEVRER_CATEGORIES.metrics)


def test_order_of_runs_and_rows_of_files_change_nothing() -> None:
    results = made_up_answers.results()
    rng = np.random.default_rng(0)
    shuffled = [replace(r, predictions=r.predictions.sample(frac=1, random_state=r.seed)) for r in results.runs]
    rng.shuffle(shuffled)
    assert build(replace(results, runs=shuffled)) == build(results)


def test_predictions_may_be_read_when_needed() -> None:
    results = made_up_answers.results(seeds=2)
    lazy = [replace(run, predictions=lambda run=run: run.predictions) for run in results.runs]
    assert build(replace(results, runs=lazy)) == build(results)


def test_under_three_seeds_no_interval_and_no_p() -> None:
    row = build(made_up_answers.results(seeds=2)).rows[1]
    estimate = row.estimates["descriptive"]
    assert estimate.mean is not None and estimate.delta is not None
    assert [estimate.low, estimate.delta_low, estimate.p, estimate.p_holm, estimate.sign_flip, estimate.smallest] == [None] * 6
    assert row.sentence.startswith("2 seeds: too few")


def test_holm_runs_over_points_and_the_four_categories() -> None:
    table = build(made_up_answers.results(seeds=4))
    rows = table.rows[1:]
    p = np.array([[row.estimates[c].p for c in CLEVRER_CATEGORIES.names] for row in rows], dtype=float)
    adjusted = np.array([[row.estimates[c].p_holm for c in CLEVRER_CATEGORIES.names] for row in rows], dtype=float)
    assert p.size == 8 * 4
    ranked = np.sort(p.ravel())
    by_hand = np.minimum(1, np.maximum.accumulate(ranked * np.arange(p.size, 0, -1)))
    np.testing.assert_allclose(np.sort(adjusted.ravel()), by_hand)
    assert all(row.estimates["average"].p_holm is None and row.estimates["average"].p is not None for row in rows)


def test_sentences_state_findings_and_detectable_differences() -> None:
    table = build(made_up_answers.results(videos=300, seeds=6))
    strong = next(row for row in table.rows if row.values == {"ctt_inv_weight": 0.2, "ctt_suf_weight": 0.0})
    assert "counterfactual is " in strong.sentence and " points worse (Holm p " in strong.sentence
    estimates = [(row, category, row.estimates[category]) for row in table.rows[1:] for category in CLEVRER_CATEGORIES.names]
    assert any(estimate.p < 0.05 <= estimate.p_holm for _, _, estimate in estimates), (
        "without Holm chance would be reported as a finding"
    )
    for row, category, estimate in estimates:
        assert (f"{category} is " in row.sentence) == (estimate.p_holm < 0.05)
    weak = next(row for row in table.rows if row.values == {"ctt_inv_weight": 0.0, "ctt_suf_weight": 0.2})
    detectable = [weak.estimates[c].smallest for c in CLEVRER_CATEGORIES.names]
    span = f"{min(detectable):.1f} to {max(detectable):.1f} points"
    expected = f"no evidence of a difference (6 seeds); min. detectable difference (80 % power): {span}"
    assert weak.sentence.startswith(expected)
    few = build(made_up_answers.results(videos=60, seeds=3)).rows[1].sentence
    assert "themselves known only as " in few and few.endswith(" from so few seeds")


def test_categories_without_any_difference_claim_no_power() -> None:
    """An unlearnt category answers alike in every run: its interval of zero width must not read as precision."""
    results = made_up_answers.results(videos=60, seeds=3)

    def unlearnt(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(correct=frame.correct & (frame.category != "predictive"))

    row = build(replace(results, runs=[replace(r, predictions=unlearnt(r.predictions)) for r in results.runs])).rows[2]
    assert row.estimates["predictive"].smallest == 0 and row.estimates["predictive"].p == 1
    assert "power): 0.0" not in row.sentence
    assert row.sentence.endswith("predictive: as many right answers as the baseline in every video")


def test_missing_runs_are_reported_and_the_rest_is_paired() -> None:
    results = made_up_answers.results(seeds=4)
    gone = [replace(r, predictions=None) if (r.point, r.seed) in {(0, 1), (2, 3)} else r for r in results.runs]
    table = build(replace(results, runs=gone))
    base, other, short = table.rows[0], table.rows[1], table.rows[2]
    assert base.missing == (1,) and base.seeds == (0, 2, 3)
    assert "1 of 4 runs missing (seed 1)" in base.warnings
    assert other.seeds == (0, 1, 2, 3) and other.paired == 3
    assert "no baseline run to pair with: seed 1" in other.warnings
    accuracy = {
        (r.point, r.seed): 100 * r.predictions.groupby(["scene", "question_id"]).correct.all().mean()
        for r in gone
        if r.point < 2 and r.predictions is not None
    }
    assert base.estimates["average"].mean == pytest.approx(np.mean([accuracy[0, s] for s in (0, 2, 3)]))
    assert other.estimates["average"].mean == pytest.approx(np.mean([accuracy[1, s] for s in range(4)]))
    paired = np.mean([accuracy[1, s] - accuracy[0, s] for s in (0, 2, 3)])
    assert other.estimates["average"].delta == pytest.approx(paired), "not the difference of the two means"
    assert short.paired == 2 and short.estimates["average"].delta_low is None and short.estimates["average"].low is not None
    assert any(warning.startswith(short.label) for warning in table.warnings)


def test_no_results_yet() -> None:
    runs = [RunResults(p, s) for p in range(2) for s in range(3)]
    table = build(Results("empty", TWO, runs))
    assert [row.sentence for row in table.rows] == ["differences are to this row", "no results yet"]
    assert all(estimate.mean is None for row in table.rows for estimate in row.estimates.values())
    assert build(Results("none", [], [])).rows == ()


def test_other_numerics_than_the_baseline_are_warned_of() -> None:
    results = made_up_answers.results()
    runs = [replace(r, numerics="gpu") if r.point == 1 and r.seed == 2 else r for r in results.runs]
    table = build(replace(results, runs=runs))
    assert [w for w in table.warnings if "numerics" in w] == [f"{table.rows[1].label}: {table.rows[1].warnings[0]}"]
    assert "seed 2" in table.rows[1].warnings[0]
    assert not build(results).warnings


def test_warnings_of_runs_name_their_seeds() -> None:
    """A warning names only the seeds it is about; the baseline's warnings are included."""
    results = made_up_answers.results()
    warned = {(0, 1): ["stopped"], (1, 0): ["empty"], (1, 1): ["full", "stopped"], (1, 2): ["empty"]}
    runs = [replace(run, warnings=warned.get((run.point, run.seed), [])) for run in results.runs]
    table = build(replace(results, runs=runs))
    assert [row.warnings for row in table.rows[:3]] == [
        ("stopped (seed 1)",),
        ("empty (seeds 0, 2)", "full (seed 1)", "stopped (seed 1)"),
        (),
    ]
    label = table.rows[1].label
    assert table.warnings == (
        "baseline: stopped (seed 1)",
        *(f"{label}: {text}" for text in ("empty (seeds 0, 2)", "full (seed 1)", "stopped (seed 1)")),
    )


def test_warnings_that_differ_in_numbers_alone_are_one_line_with_their_ranges() -> None:
    results = made_up_answers.results(seeds=5)
    limits = ("0.0143", "0.02", "0.0143", "1e-05", "0.0143")
    texts = [f"the graph is empty at 0.15: 0.0 % of pairs; up to {limit}" for limit in limits]
    runs = [replace(run, warnings=[texts[run.seed], *(["other"] * (run.seed == 4))]) for run in results.runs if run.point < 2]
    row = build(replace(results, points=results.points[:2], runs=runs)).rows[1]
    assert row.warnings == ("the graph is empty at 0.15: 0.0 % of pairs; up to 1e-05–0.02 (seeds 0 to 4)", "other (seed 4)")


def test_without_baseline_runs_there_are_accuracies_only() -> None:
    results = made_up_answers.results()
    table = build(replace(results, runs=[replace(r, predictions=None) if r.point == 0 else r for r in results.runs]))
    assert table.rows[1].estimates["average"].low is not None and table.rows[1].estimates["average"].delta is None
    assert table.rows[1].warnings == ("no differences: there is no baseline run",)
    assert table.rows[1].sentence == "no run pairs with the baseline, so there is no difference"


def test_other_questions_than_the_baseline_are_not_compared() -> None:
    results = made_up_answers.results()
    other = made_up_answers.questions(40, seed=9)
    runs = [replace(r, predictions=made_up_answers.predictions(other, r.seed)) if r.point == 1 else r for r in results.runs]
    row = build(replace(results, runs=runs)).rows[1]
    assert row.estimates["average"].mean is not None and row.estimates["average"].delta is None
    assert row.warnings == ("no differences: its questions are not the baseline's",)


def test_unreached_categories_have_no_difference_and_no_test() -> None:
    results = made_up_answers.results()
    points = [replace(p, unreached=() if p.baseline else ("descriptive",)) for p in results.points]
    table, plain = build(replace(results, points=points)), build(results)
    for row in table.rows[1:]:
        estimate = row.estimates["descriptive"]
        assert not estimate.reached and estimate.delta is None and estimate.p_holm is None and estimate.mean is not None
        assert "; descriptive cannot be reached by the swept settings" in row.sentence
        assert not row.forms["descriptive/count"].reached
    # a smaller family is adjusted less
    c = "counterfactual"
    assert any(a.estimates[c].p_holm < b.estimates[c].p_holm for a, b in zip(table.rows[1:], plain.rows[1:], strict=True))


def test_errors_are_means_over_seeds_with_paired_differences() -> None:
    row = next(r for r in build(made_up_answers.results()).rows if r.values == {"ctt_inv_weight": 0.2, "ctt_suf_weight": 0.05})
    assert row.errors["world_model"].mean == pytest.approx(0.0147 + 0.0002 + 1e-4)
    assert row.errors["rollout"].delta == pytest.approx(0.004)
    assert row.errors["rollout"].delta_high - row.errors["rollout"].delta_low < 1e-9, "each seed differs by the same"
    assert row.cost["device_hours"] == pytest.approx(3.3)


def test_forms_add_up_to_their_category() -> None:
    row = build(made_up_answers.results()).rows[1]
    questions = made_up_answers.questions(40).drop_duplicates(["scene", "question_id"])
    weights = questions[questions.category == "descriptive"].form.value_counts()
    pooled = sum(weights[f] * row.forms[f.replace(":", "/")].mean for f in weights.index) / weights.sum()
    assert pooled == pytest.approx(row.estimates["descriptive"].mean)
    assert set(row.forms) == {f.replace(":", "/") for forms in made_up_answers.FORMS.values() for f in forms}


def test_noise_is_the_deviation_and_the_difference_of_pairs() -> None:
    noise = made_up_answers.noise(videos=60)
    row = build(made_up_answers.results(videos=60, noise=[noise])).noise[0]
    levels = [100 * f[f.category == "descriptive"].correct.mean() for f in noise.groups[0]]
    assert row.deviation["descriptive"] == pytest.approx(np.std(levels, ddof=1))
    assert row.delta["descriptive"] == pytest.approx(np.mean([levels[0] - levels[1], levels[2] - levels[3], levels[4] - levels[5]]))
    assert row.low["average"] < row.delta["average"] < row.high["average"]
    assert (row.runs, row.pairs, row.freedom) == (6, 3, 5)
    single = build(made_up_answers.results(noise=[Noise("one", [[noise.groups[0][0]]])])).noise[0]
    assert single.deviation["average"] is None and single.delta["average"] is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns="correct"), "lack the columns correct"),
        (lambda f: pd.concat([f, f.iloc[:1]]), "hold a row twice"),
        (lambda f: f.iloc[:0], "are empty"),
        (lambda f: f.assign(category="physical"), "unknown categories: physical"),
    ],
)
def test_bad_predictions_name_their_run(spoil, message: str) -> None:
    with pytest.raises(DataError, match=f"w=1, seed 4.*{message}"):
        build(Results("bad", TWO, [RunResults(1, 4, spoil(answers()))]))


def test_impossible_results_are_refused() -> None:
    with pytest.raises(UsageError, match="more than one point"):
        Results("two", [TWO[0], TWO[0]], [])
    with pytest.raises(UsageError, match="two runs of w=1, seed 3"):
        Results("twice", TWO, [RunResults(1, 3), RunResults(1, 3)])
    with pytest.raises(UsageError, match="a run names point 2"):
        Results("beyond", TWO, [RunResults(2, 0)])
    with pytest.raises(UsageError, match="no published row is called 'papper'; known are reported, paper"):
        build(Results("quote", TWO, [], quoted=["papper"]))
