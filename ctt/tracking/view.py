"""View: the few things ctt asks of MLflow, in ctt's words. The only file that imports mlflow, and only when used.

Errors come out as `Unreachable` (the server is dead, slow, full or locked: try again later) or `Refused` (it answered
and does not want this: other runs may fare better). MLflow's own limits are met here: names and values are cut to
what it stores, batches to what it takes at once.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ctt.core.errors import CttError
from ctt.core.settings import digest
from ctt.tracking.limits import (
    ARTIFACTS,
    EXPERIMENT_LENGTH,
    EXPERIMENT_NOTE_LENGTH,
    METRICS_AT_ONCE,
    OTHERS_AT_ONCE,
    PARAM_LENGTH,
    TAG_LENGTH,
    cut,
    safe_name,
)
from ctt.tracking.page import Runs, experiment_tags

REFUSALS = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST", "INTERNAL_ERROR"}
CONNECTION = (  # how MLflow and the databases behind it word what is the server's or the network's trouble
    "API request to", "OperationalError", "InterfaceError", "DiskFull", "AdminShutdown", "CannotConnectNow",
    "TooManyConnections", "TimeoutError",
)  # fmt: skip
NOTE = "mlflow.note.content"
MADE_AS = "ctt.experiment"  # the tag that holds the name an experiment was made under
STORE = "ctt.store"  # the tag that names the store which feeds a run
Result = TypeVar("Result")
_ours: dict[str, str] = {}


class Unreachable(CttError):
    """The tracking server can't take anything now."""


class Refused(CttError):
    """The tracking server refuses what was sent."""


@dataclass(frozen=True)
class MetricPoint:
    """One value of a metric: `time` in ms since 1970."""

    name: str
    value: float
    time: int
    step: int


@dataclass(frozen=True)
class Known:
    """A run the server already has: deleted means that a person put it in the bin.

    note: its description; twins: other runs of the same identity (two stores have made it at once).
    store: the id of the store that made it; running: that store has not reported its end yet.
    """

    run_id: str
    deleted: bool = False
    params: frozenset[str] = frozenset()
    note: str = ""
    twins: tuple[str, ...] = ()
    store: str = ""
    running: bool = False


class View:
    """An MLflow server, or database, at `address`. Making one touches nothing; the first call imports mlflow.

    artifacts: of a database, the folder that ARTIFACTS means, which no server serves while this writes to it.
    After `deadline` (a time.monotonic()) every call fails as Unreachable.
    """

    def __init__(self, address: str, artifacts: Path | None, timeout: float) -> None:
        self.address = address
        self.artifacts = artifacts
        self.timeout = timeout
        self.deadline = float("inf")
        self._made: Any = None

    def experiment(self, name: str) -> str:
        """The id of the experiment that was made under a name, whatever it is called now; made if it is not there, "" if a person
        has deleted it."""
        name = name[:EXPERIMENT_LENGTH]

        def find_or_create(client: Any) -> str:
            found = _made_as(client, name) or client.get_experiment_by_name(name)
            if found is None:
                place = None if self.artifacts is None else ARTIFACTS + safe_name(name)
                tags = experiment_tags() | {MADE_AS: name}
                try:
                    return str(client.create_experiment(name, artifact_location=place, tags=tags))
                except Exception:  # somebody else may have made it since
                    found = client.get_experiment_by_name(name)
                    if found is None:
                        raise
            if found.lifecycle_stage == "deleted":
                return ""
            for key, value in (experiment_tags() | {MADE_AS: name}).items():
                if key not in found.tags:
                    client.set_experiment_tag(found.experiment_id, key, value)
            return str(found.experiment_id)

        return self._ask(find_or_create)

    def experiments(self) -> dict[str, str]:
        """The experiments that are there: the name they were made under → id."""

        def search(client: Any) -> dict[str, str]:
            found: dict[str, str] = {}
            token = None
            while True:
                page = client.search_experiments(max_results=1000, page_token=token)
                found.update((one.tags.get(MADE_AS, one.name), one.experiment_id) for one in page)
                token = page.token
                if not token:
                    return found

        return self._ask(search)

    def describe_experiment(self, experiment: str, text: str, ours: str | None) -> str | None:
        """Writes an experiment's description, Markdown, cut at a line; returns its digest. `ours`: that of the last one: a
        description that a person has written stays."""
        while len(text) > EXPERIMENT_NOTE_LENGTH:
            text = text[:EXPERIMENT_NOTE_LENGTH].rpartition("\n")[0]

        def describe(client: Any) -> str | None:
            known = client.get_experiment(experiment).tags.get(NOTE, "")
            if known and digest(known) != ours:
                return ours
            client.set_experiment_tag(experiment, NOTE, text)
            return digest(text)

        return self._ask(describe)

    def chart(self, experiment: str, runs: Runs) -> None:
        """Lets the experiment's page show these runs."""

        def set_tags(client: Any) -> None:
            known = client.get_experiment(experiment).tags
            for key, value in experiment_tags(runs).items():
                if known.get(key) != value:
                    client.set_experiment_tag(experiment, key, value)

        self._ask(set_tags)

    def known(self, experiment: str, tag: str, value: str | None = None) -> dict[str, Known]:
        """The runs of an experiment by the value of `tag` (all, or one); of several with one value the oldest."""
        wanted = "" if value is None else f"tags.`{tag}` = '{value}'"

        def search(client: Any) -> dict[str, Known]:
            from mlflow.entities import ViewType

            found: dict[str, list[Any]] = {}
            token = None
            while True:
                page = client.search_runs([experiment], wanted, ViewType.ALL, 1000, page_token=token)
                for run in page:
                    if name := run.data.tags.get(tag):
                        found.setdefault(name, []).append(run)
                token = page.token
                if not token:
                    return {name: _first(runs) for name, runs in found.items()}

        return self._ask(search)

    def create(self, experiment: str, name: str, start: int, tags: Mapping[str, str]) -> str:
        """Makes a run that began at `start` (ms) and returns its id."""
        tags = {safe_name(k): cut(str(v), TAG_LENGTH) for k, v in tags.items()}
        return self._ask(lambda client: str(client.create_run(experiment, start, tags, name).info.run_id))

    def describe(self, run_id: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Writes parameters (never twice with another value: MLflow refuses) and tags."""
        from mlflow.entities import Param, RunTag

        texts = [Param(safe_name(k), cut("" if v is None else str(v), PARAM_LENGTH)) for k, v in params.items()]
        self._batches(run_id, "params", texts, OTHERS_AT_ONCE)
        labels = [RunTag(safe_name(k), cut(str(v), TAG_LENGTH)) for k, v in tags.items()]
        self._batches(run_id, "tags", labels, OTHERS_AT_ONCE)

    def send(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Adds points to a run, in batches of at most 1000."""
        from mlflow.entities import Metric

        metrics = [Metric(safe_name(p.name), p.value, p.time, p.step) for p in points]
        self._batches(run_id, "metrics", metrics, METRICS_AT_ONCE)

    def steps(self, run_id: str) -> dict[str, set[int]]:
        """Every metric of a run with the steps it has values for."""

        def read(client: Any) -> dict[str, set[int]]:
            names = client.get_run(run_id).data.metrics
            return {name: {metric.step for metric in client.get_metric_history(run_id, name)} for name in names}

        return self._ask(read)

    def status(self, run_id: str, status: str, end: int | None) -> None:
        """Sets a run's status; `end` (ms) is when it came to rest, None while it runs."""
        if end is None:
            self._ask(lambda client: client.update_run(run_id, status))
        else:
            self._ask(lambda client: client.set_terminated(run_id, status, end))

    def note(self, run_id: str, text: str) -> None:
        """Writes a run's description, which its page shows: Markdown."""
        self._ask(lambda client: client.set_tag(run_id, NOTE, cut(text, TAG_LENGTH)))

    def bin(self, run_id: str) -> None:
        """Puts a run in MLflow's bin, from which it can be restored."""
        self._ask(lambda client: client.delete_run(run_id))

    def dataset(self, run_id: str, name: str, digest: str, source: str) -> None:
        """Notes a data set as the run's input; a second time changes nothing. MLflow keeps 36 characters of digest."""
        from mlflow.entities import Dataset, DatasetInput

        entry = Dataset(cut(name, 500), digest[:36], "local", json.dumps({"uri": source}))
        self._ask(lambda client: client.log_inputs(run_id, [DatasetInput(entry)]))

    def model(self, experiment: str, run_id: str, name: str, key: str, source: str, step: int) -> None:
        """Notes a trained model, which stays in the store at `source`, as the run's output; a second time changes nothing."""

        def note(client: Any) -> None:
            from mlflow.entities import LoggedModelOutput

            outputs = client.get_run(run_id).outputs
            for known in outputs.model_outputs if outputs else ():
                if client.get_logged_model(known.model_id).tags.get("ctt.key") == key:
                    return
            tags = {"ctt.key": key, "ctt.artifact": source}
            made = client.create_logged_model(experiment, name, source_run_id=run_id, tags=tags, model_type=name)
            client.finalize_logged_model(made.model_id, "READY")
            client.log_outputs(run_id, [LoggedModelOutput(made.model_id, step)])

        self._ask(note)

    def artifact(self, run_id: str, file: Path, folder: str | None = None) -> None:
        """Copies a file into a run's artifacts, over an older one of that name."""

        def log(client: Any) -> None:
            place = client.get_run(run_id).info.artifact_uri if self.artifacts is not None else ""
            if not place.startswith(ARTIFACTS) or self.artifacts is None:
                client.log_artifact(run_id, str(file), folder)
                return
            copy = self.artifacts / place.removeprefix(ARTIFACTS) / (folder or "") / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)

        self._ask(log)

    def document(self, run_id: str, value: Mapping[str, Any], name: str) -> None:
        """Writes a JSON document into a run's artifacts."""
        self.text(run_id, json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", name)

    def text(self, run_id: str, text: str, name: str) -> None:
        """Writes a text into a run's artifacts."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_text(text, encoding="utf-8")
            self.artifact(run_id, file)

    def _batches(self, run_id: str, what: str, items: Sequence[Any], size: int) -> None:
        for start in range(0, len(items), size):
            part = {what: items[start : start + size]}
            self._ask(lambda client, part=part: client.log_batch(run_id, synchronous=True, **part))  # type: ignore[misc]  # a lambda's default

    def _ask(self, question: Callable[[Any], Result]) -> Result:
        if time.monotonic() > self.deadline:
            raise Unreachable("no time is left for it")
        try:
            if self._made is None:
                self._made = connect(self.address, self.timeout)
            return question(self._made)
        except CttError:
            raise
        except Exception as error:  # whatever a server, a database driver or the network throws
            code = getattr(error, "error_code", None)
            text = f"{type(error).__name__}: {error}".split("\n", 1)[0][:300]
            if code in REFUSALS and not any(word in text for word in CONNECTION):
                raise Refused(text) from error
            raise Unreachable(text) from error


def _made_as(client: Any, name: str) -> Any:
    """The experiment that was made under a name, deleted or not; None if there is none."""
    from mlflow.entities import ViewType

    if "'" in name or '"' in name:  # MLflow's filters have no quotes in texts
        return None
    found = client.search_experiments(ViewType.ALL, 1, f"tags.`{MADE_AS}` = '{name}'")
    return found[0] if found else None


def _first(runs: Sequence[Any]) -> Known:
    """Of the runs of one identity the oldest that was not deleted: every syncer chooses the same."""
    order = sorted(runs, key=lambda run: (run.info.start_time, run.info.run_id))
    active = [run for run in order if run.info.lifecycle_stage != "deleted"]
    chosen = (active or order)[0]
    twins = tuple(run.info.run_id for run in active[1:])
    tags = chosen.data.tags
    running = chosen.info.status == "RUNNING"
    params = frozenset(chosen.data.params)
    return Known(chosen.info.run_id, not active, params, tags.get(NOTE, ""), twins, tags.get(STORE, ""), running)


def connect(address: str, timeout: float = 10.0) -> Any:
    """An MlflowClient, with MLflow's telemetry, chatter and long retries off (values the user has set are kept)."""
    quiet(timeout)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=address)


def quiet(timeout: float = 10.0) -> None:
    """Sets the environment and loggers that MLflow reads, in this process and those it starts."""
    for name, value in {  # set where the user has set nothing, or where we did
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "CRITICAL",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(timeout))),
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        if os.environ.get(name, "") == _ours.get(name, ""):
            os.environ[name] = _ours[name] = value
    for logger in ("alembic", "urllib3"):
        logging.getLogger(logger).setLevel(logging.CRITICAL)
