"""Page: what MLflow shows of an experiment first. Its runs with their accuracies, as training runs, not as traces."""

from __future__ import annotations

import json

COLUMNS = (
    "params.`seed`",
    *(
        f"metrics.`accuracy/{name}`"
        for name in ("descriptive", "explanatory", "predictive", "counterfactual", "average")
    ),
    "metrics.`difference/average`",
    "metrics.`error/world_model`",
    "metrics.`error/rollout`",
)
VIEW = "ctt"
_SHARED = f"mlflow.sharedViewState.{VIEW}"


def experiment_tags() -> dict[str, str]:
    """Tags that an experiment of ours carries: its kind, and a saved view of its runs with the columns above."""
    state = {
        "searchFilter": "",
        "orderByKey": "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": COLUMNS,
    }
    return {"mlflow.experimentKind": "custom_model_development", _SHARED: json.dumps(state)}


def address_of(server: str, experiment: str) -> str:
    """Where a browser finds that view of an experiment, by its id."""
    return f"{server}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}&workflowType=machine_learning"
