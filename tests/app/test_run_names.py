"""A run has one name, with the seed last in tables and first in MLflow's narrow columns: either can be given to a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.app.show import find_artifact
from ctt.core.errors import UsageError
from ctt.planning.why import print_why
from ctt.study.chosen_submission import submission_of
from ctt.study.study import Study
from ctt.study.tracked_sweep import tracked_runs
from ctt.sweep import run_name
from tests.made_store import made_store


def test_the_name_that_mlflow_shows_is_found_by_every_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, plan = made_store(tmp_path / "store", "weights", "ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "seed=0,1")
    study = Study("weights", store.root)
    for shown, run, target in zip(tracked_runs(plan, store), plan.sweep.runs, plan.targets, strict=True):
        assert shown.name.startswith(f"seed={run.seed} ") and run_name(shown.name) == run_name(run.name) == run.name
        assert find_artifact(store, shown.name) == find_artifact(store, f"weights/{shown.name}") == target.key
        assert study.predictions(shown.name).equals(study.predictions(run.name))
        texts = []
        for name in (shown.name, run.name):
            print_why(plan, name, set())
            texts.append(capsys.readouterr().out)
            with pytest.raises(UsageError, match="no test questions"):  # the run is known
                submission_of(study, name)
        assert texts[0] == texts[1]
