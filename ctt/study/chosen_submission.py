"""The submission of a sweep for EvalAI's CLEVRER challenge: one run's answers to the test questions."""

from __future__ import annotations

import json
from pathlib import Path

from ctt.core.errors import UsageError
from ctt.study.study import Study
from ctt.sweep import run_name

SUBMISSION = "evalai.json"


def submission_of(study: Study, run: str | None = None) -> tuple[str, Path]:
    """(the run's name, its submission file). run: a name; None: the finished run that answers most validation questions.

    Raises UsageError if there is no such run, if none is finished, or if its data have no test questions.
    """
    run = None if run is None else run_name(run)
    finished = {}
    for one, target in zip(study.runs, study.plan.targets, strict=True):
        artifact = study.store.get(target.key)
        if artifact is not None and run in (None, one.name):
            finished[one.name] = artifact.path
    if not finished:
        names = [one.name for one in study.runs]
        if run is not None and run not in names:
            raise UsageError(f"{study.name} has no run {run!r}; its runs are called like {', '.join(map(repr, names[:3]))}")
        what = f"the run {run!r} is not" if run else "no run is"
        raise UsageError(f"{what} finished in {study.name}; `ctt status {study.name}` shows what is lacking")
    answered = {name: path for name, path in finished.items() if (path / SUBMISSION).is_file()}
    if not answered:
        raise UsageError(
            f"the data of {study.name} have no test questions, so there is nothing to submit; CLEVRER's test.json belongs into "
            "the folder data.questions"
        )
    best = max(answered, key=lambda name: (_average(answered[name]), -list(answered).index(name)))
    return best, answered[best] / SUBMISSION


def _average(artifact: Path) -> float:
    metrics = json.loads((artifact / "metrics.json").read_text(encoding="utf-8"))
    return float(metrics.get("average") or 0.0)
