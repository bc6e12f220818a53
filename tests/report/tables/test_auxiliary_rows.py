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


def test_a_run_without_a_position_reader_is_left_out() -> None:
    results = with_reader(made_up_answers.results())
    runs = [dataclasses.replace(run, answered={}) if run.point == 2 and run.seed else run for run in results.runs]
    rows = build(dataclasses.replace(results, runs=runs)).rows
    assert rows[2].auxiliary["reader"]["predictive"].delta is not None and rows[2].auxiliary["reader"]["predictive"].low is None
    assert rows[2].estimates["predictive"].low is not None
