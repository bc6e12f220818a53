"""The position reader in tables: the statistics of all other accuracies, in a separate grid."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from ctt.report.results import Results
from ctt.report.tables.table import build
from ctt.report.writers import render
from ctt.report.writers.csv_table import as_csv
from ctt.stages.auxiliary.reader import PositionReader
from tests.report import made_up_answers

READ = ["predictive", "counterfactual"]


def with_reader(results: Results) -> Results:
    """The position reader answers as ALOE does, in two categories; a reference level answers everything right."""

    def readable(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["category"].isin(READ)].reset_index(drop=True)

    runs = [dataclasses.replace(run, answered={"reader": readable(run.predictions)}) for run in results.runs]
    level = readable(runs[0].predictions).assign(correct=True)
    return dataclasses.replace(
        results, runs=runs, auxiliary=[PositionReader.described()], reference_levels={"reader": {"true future": level}}
    )


def test_equal_predictions_give_equal_estimates() -> None:
    table = build(with_reader(made_up_answers.results()))
    for row in table.rows:
        for category in READ:
            expected = dataclasses.replace(row.estimates[category], p_holm=None)
            mine = row.auxiliary["reader"][category].numbers()
            mine.pop("p_holm")  # of its own family
            for name, other in expected.numbers().items():
                if name == "p_holm":
                    continue
                assert mine[name] == (other if other is None else pytest.approx(other)), (row.label, category, name)
            assert row.auxiliary["reader"][f"{category}_per_option"].mean == pytest.approx(row.options[category].mean)
    assert table.rows[1].auxiliary["reader"]["predictive"].delta_low is not None


def test_accuracies_are_those_of_plain_counting() -> None:
    results = with_reader(made_up_answers.results(seeds=2))
    per_seed = [
        100 * np.mean([group["correct"].all() for _, group in frame.groupby(["scene", "question_id"])])
        for run in results.runs
        if run.point == 3
        for answers in [run.answered["reader"]]
        for frame in [answers[answers["category"] == "counterfactual"]]
    ]
    row = next(r for r in build(results).rows if r.label == results.points[3].label)
    assert row.auxiliary["reader"]["counterfactual"].mean == pytest.approx(np.mean(per_seed))
    assert row.auxiliary["reader"]["counterfactual"].low is None, "two seeds: no interval"


def test_json_has_them_next_to_the_metrics_and_reference_levels_apart() -> None:
    out = json.loads(render(build(with_reader(made_up_answers.results())), "json"))
    assert len(out["rows"]) == 9
    for row in out["rows"]:
        assert set(row["reader"]) == {*READ, *(f"{c}_per_option" for c in READ)}
        assert set(row["metrics"]) >= set(READ)
    assert out["levels"] == [{"point": "true future", "reader": dict.fromkeys([*READ, *(f"{c}_per_option" for c in READ)], 100.0)}]
    bare = json.loads(render(build(made_up_answers.results()), "json"))
    assert bare["levels"] == [] and all(row["reader"] == {} for row in bare["rows"])


def test_they_are_never_among_the_accuracies_of_aloe() -> None:
    one, two = (build(r) for r in (made_up_answers.results(), with_reader(made_up_answers.results())))
    assert [row.estimates for row in one.rows] == [row.estimates for row in two.rows]
    text = render(two, "md")
    accuracy, _, reader = text.partition("Position reader")
    assert reader and "true future" in reader and "true future" not in accuracy
    assert "Position reader" not in render(one, "md")
    lines = as_csv(two).splitlines()
    assert sum(",level,predictive," in line for line in lines) == 1
    assert sum(",reader,predictive," in line for line in lines) == 9


def with_levels(results: Results) -> Results:
    """Each run has a level of its own, as the stage's metrics.json holds it; the position reader cannot read four questions."""
    path = "levels/ancestry_of_rollout/{}/counterfactual".format
    runs = [
        dataclasses.replace(run, measured={"reader": {path("per_question"): 40.0 + run.seed + run.point, path("per_option"): 70.0}})
        for run in results.runs
    ]
    unread = [dict(scene=10_000 + i, question_id=i, category="predictive", reason="unique: there are 0, not one") for i in range(4)]
    return dataclasses.replace(results, runs=runs, unread={"reader": unread})


def test_a_runs_own_level_stands_below_the_points_and_is_not_tested() -> None:
    table = build(with_levels(with_reader(made_up_answers.results(seeds=3))))
    lines = [line for line in render(table, "md").splitlines() if "ancestry, seen and rolled out" in line]
    assert len(lines) == len(table.rows)
    first = [text.strip() for text in lines[0].strip("|").split("|")]
    assert first[0] == f"{table.rows[0].label}: ancestry, seen and rolled out" and first[1] == "3"
    seeds = np.mean([run.seed for run in made_up_answers.results(seeds=3).runs if run.point == 0])
    assert first[2] == "–" and first[4].startswith(f"{40 + seeds:.1f}") and first[6].startswith("70.0")
    out = json.loads(render(table, "json"))
    for row in out["rows"]:
        assert row["reader"]["levels"]["ancestry_of_rollout"]["per_option"] == {"counterfactual": 70.0}
    bare = build(with_reader(made_up_answers.results(seeds=3)))
    for one, two in zip(bare.rows, table.rows, strict=True):
        for category in READ:
            assert one.auxiliary["reader"][category].p_holm == two.auxiliary["reader"][category].p_holm
    assert "ancestry" not in str([row.sentence for row in table.rows])


def test_levels_and_what_cannot_be_read_are_in_the_json_and_counted_in_the_notes() -> None:
    results = with_levels(with_reader(made_up_answers.results()))
    out = json.loads(render(build(results), "json"))["reader"]
    assert out["levels"]["true future"]["counterfactual"] == 100.0
    assert [one["question_id"] for one in out["unread"]] == [0, 1, 2, 3]
    text = render(build(results), "md")
    assert "position reader: 4 questions not readable, counted as wrong in runs and levels (scene 10000, question 0: unique" in text
    assert "; 1 more in the JSON" in text
    assert "not readable" not in render(build(with_reader(made_up_answers.results())), "md")


def test_a_run_without_a_position_reader_is_left_out() -> None:
    results = with_reader(made_up_answers.results())
    runs = [dataclasses.replace(run, answered={}) if run.point == 2 and run.seed else run for run in results.runs]
    rows = build(dataclasses.replace(results, runs=runs)).rows
    assert rows[2].auxiliary["reader"]["predictive"].delta is not None and rows[2].auxiliary["reader"]["predictive"].low is None
    assert rows[2].estimates["predictive"].low is not None
