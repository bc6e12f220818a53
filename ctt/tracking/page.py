"""Page: what MLflow shows of an experiment first. Its runs with their accuracies, as training runs, not as traces; as charts,
the average accuracy over what was swept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ctt.tracking.metric_names import ACCURACY, DIFFERENCE, ERROR

COLUMNS = (
    "params.`seed`",
    *(f"metrics.`{ACCURACY}{name}`" for name in ("descriptive", "explanatory", "predictive", "counterfactual", "average")),
    f"metrics.`{DIFFERENCE}average`",
    f"metrics.`{ERROR}world_model`",
    f"metrics.`{ERROR}rollout`",
)
VIEW = "ctt"
_SHARED = f"mlflow.sharedViewState.{VIEW}"


CHART = f"{ACCURACY}average"


def experiment_tags(swept: Sequence[str] = ()) -> dict[str, str]:
    """Tags that an experiment of ours carries: its kind, and a saved view of its runs with the columns above.

    swept: the parameters that vary, for a chart of the average accuracy in parallel coordinates over them.
    """
    state: dict[str, Any] = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": COLUMNS,
    }
    if swept:
        state |= _charts(swept)
    return {"mlflow.experimentKind": "custom_model_development", _SHARED: json.dumps(state)}


def _charts(swept: Sequence[str]) -> dict[str, Any]:
    """The chart is the first of the first section: MLflow sorts sections by name, adds a chart for each metric, and sorts
    charts where nobody has "reordered" them."""
    section = {"uuid": "ctt", "name": CHART.partition("/")[0], "display": True, "isReordered": True}
    chart = {
        "uuid": "ctt-swept",
        "type": "PARALLEL",
        "metricSectionId": section["uuid"],
        "selectedParams": list(swept),
        "selectedMetrics": [CHART],
        "showAllRuns": True,
        "runsCountToCompare": 100,
    }
    unchanged = {"deleted": False, "isGenerated": False}
    return {"compareRunSections": [section | unchanged], "compareRunCharts": [chart | unchanged]}


def address_of(server: str, experiment: str) -> str:
    """Where a browser finds that view of an experiment, by its id."""
    return f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
