"""Page: what MLflow shows of an experiment first. Its runs with their accuracies, as training runs, not as traces; as charts,
the average accuracy over what was swept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ctt.data.categories import AVERAGE, CLEVRER_CATEGORIES, single
from ctt.tracking.metric_names import ACCURACY, DIFFERENCE, ERROR

VIEW = "ctt"
_SHARED = f"mlflow.sharedViewState.{VIEW}"


def _shown(metrics: Sequence[str]) -> tuple[list[str], str]:
    """The numbers in the columns, and the one that is charted; without questions, the errors."""
    errors = [f"{ERROR}world_model", f"{ERROR}rollout"]
    if not metrics:
        return [*errors, *(f"{DIFFERENCE}{name}" for name in errors)], errors[0]
    names = [*single(metrics), AVERAGE]
    return [*(f"{ACCURACY}{name}" for name in names), f"{DIFFERENCE}{AVERAGE}", *errors], f"{ACCURACY}{AVERAGE}"


def experiment_tags(swept: Sequence[str] = (), metrics: Sequence[str] = CLEVRER_CATEGORIES.metrics) -> dict[str, str]:
    """Tags that an experiment of ours carries: its kind, and a saved view of its runs with a column for each category.

    swept: the parameters that vary, for a chart of the average accuracy in parallel coordinates over them; metrics: the
    accuracies of its runs, none on data without questions.
    """
    columns, charted = _shown(metrics)
    state: dict[str, Any] = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": ["params.`seed`", *(f"metrics.`{name}`" for name in columns)],
    }
    if swept:
        state |= _charts(swept, charted)
    return {"mlflow.experimentKind": "custom_model_development", _SHARED: json.dumps(state)}


def _charts(swept: Sequence[str], charted: str) -> dict[str, Any]:
    """The chart is the first of the first section: MLflow sorts sections by name, adds a chart for each metric, and sorts
    charts where nobody has "reordered" them."""
    section = {"uuid": "ctt", "name": charted.partition("/")[0], "display": True, "isReordered": True}
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


def address_of(server: str, experiment: str) -> str:
    """Where a browser finds that view of an experiment, by its id."""
    return f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
