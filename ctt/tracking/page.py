"""Page: what MLflow shows of an experiment first. Its runs with their accuracies, as training runs, not as traces; as charts,
the average accuracy over what was swept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctt.data.categories import AVERAGE, CLEVRER_CATEGORIES, single
from ctt.tracking.metric_names import AGAINST

VIEW = "ctt"
SECTION = "accuracy"
"""The section of our chart: MLflow sorts sections by name, those of curves (aloe, world_model) come later."""
NAMES = {"attributes.`Run Name`": 300, "runDateAndNestInfo": 130, "duration": 96}
"""MLflow's own first columns, and how wide they are."""
LETTER, MARGIN, LEAST = 8, 30, 100
"""Widths of a letter of a column's name, of what surrounds it, and of the narrowest column."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
"""The tag of an experiment that holds the view."""


def _shown(metrics: Sequence[str]) -> tuple[list[str], str]:
    """The numbers in the columns, and the one that is charted; without questions, the errors."""
    errors = ["world_model_error", "rollout_error"]
    if not metrics:
        return [*errors, *(AGAINST + name for name in errors)], errors[0]
    return [*single(metrics), AVERAGE, AGAINST + AVERAGE, *errors], AVERAGE


@dataclass(frozen=True)
class Runs:
    """What an experiment's page has to know of its runs.

    swept: the parameters that vary; common: those of them that every run has; metrics: the accuracies, none on data without
    questions; several_seeds: whether points have more than one run.
    """

    swept: tuple[str, ...] = ()
    common: tuple[str, ...] = ()
    metrics: tuple[str, ...] = CLEVRER_CATEGORIES.metrics
    several_seeds: bool = False


def experiment_tags(runs: Runs = Runs()) -> dict[str, str]:
    """Tags that an experiment of ours carries: its kind, and a saved view of its runs with a column for each category and each
    swept parameter, grouped by point with the means of several seeds.

    A chart has the average accuracy in parallel coordinates over the parameters that all runs have: MLflow draws none where a
    run lacks one, as the baseline does of what it never reads.
    """
    columns, charted = _shown(runs.metrics)
    names = [*(f"metrics.`{name}`" for name in columns), *(f"params.`{name}`" for name in runs.swept)]
    widths = NAMES | {name: max(LEAST, MARGIN + LETTER * (len(name.partition("`")[2]) - 1)) for name in names}
    state: dict[str, Any] = {
        "searchFilter": "tags.`ctt.kind` = 'run'",  # not the run of the sweep's own files
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": names,
        "columnOrder": list(widths),
        "columnWidths": widths,
    }
    if runs.several_seeds:  # a line for each point, with the means of its seeds, that opens to its runs
        by_point = {"mode": "tag", "groupByData": "ctt.point"}
        state["groupBy"] = {"aggregateFunction": "average", "groupByKeys": [by_point]}
    if runs.common:
        state |= _charts(runs.common, charted)
    return {"mlflow.experimentKind": "custom_model_development", VIEW_TAG: json.dumps(state)}


def _charts(swept: Sequence[str], charted: str) -> dict[str, Any]:
    """The chart is alone in its section, which MLflow would sort if nobody had "reordered" it."""
    section = {"uuid": "ctt", "name": SECTION, "display": True, "isReordered": True}
    chart = {
        "uuid": "ctt-swept",
        "type": "PARALLEL",
        "metricSectionId": section["uuid"],
        "selectedParams": list(swept),
        "selectedMetrics": [charted],
        "showAllRuns": True,
        "runsCountToCompare": 100,
    }
    unchanged = {"deleted": False, "isGenerated": False}
    return {"compareRunSections": [section | unchanged], "compareRunCharts": [chart | unchanged]}


def start_of(server: str) -> str:
    """Where a browser finds the experiments, as training runs and not as traces."""
    return f"{server}/#/experiments?workflowType=machine_learning"


def artifacts_of(experiment: str, run_id: str) -> str:
    """Where a browser finds the files of a run, within a server."""
    return f"#/experiments/{experiment}/runs/{run_id}/artifacts"


def address_of(server: str, experiment: str) -> str:
    """Where a browser finds that view of an experiment, by its id; server "": as a link within it."""
    start = f"{server}/" if server else ""
    return f"{start}#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
