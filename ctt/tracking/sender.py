"""Sender: brings one run in MLflow, or the files of one sweep, up to date with the store, and remembers what the server has.

Nothing is sent twice: a cursor per run records what arrived, and where it does not the server is asked. A metric has
one value per step, so a step that a job repeats after going back to its checkpoint is not sent again.

Two stores may hold one run, as where a team repeats a baseline. The store that made it on the server feeds it; another
one adds what is still missing once the run has come to rest there, or once nothing has come for a while.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ctt.core.atomic_files import read_json
from ctt.core.secrets import masked
from ctt.core.settings import digest
from ctt.tracking import metric_names
from ctt.tracking.cursor import Cursor, CursorFolder, write_note
from ctt.tracking.limits import safe_name
from ctt.tracking.page import address_of, artifacts_of
from ctt.tracking.summary import end_time, failure_text, log_text, note, run_status, start_time
from ctt.tracking.tail import Tail
from ctt.tracking.tracked_runs import TrackedRun
from ctt.tracking.tracking_settings import TrackingSettings
from ctt.tracking.view import STORE, Known, MetricPoint, Refused, Unreachable, View

log = logging.getLogger("ctt.tracking")
MODELS = {"world_model": "world_model", "vqa": "aloe"}  # what MLflow calls the models that these stages train
MODEL_FILE, ANSWERS, TABLE = "model.safetensors", "predictions.parquet", "table.md"
REFUSED_SECONDS = 60.0  # a run the server refuses is tried again after that
SILENT_SECONDS = 60.0  # a run whose own store has sent nothing for that long is fed by another store that has it


class Sender:
    """The view of one store on one server. Use it under the tracking lease; `forget` when the lease was given up."""

    def __init__(self, view: View, store_root: Path, settings: TrackingSettings, rebuild: bool) -> None:
        self.view = view
        self._root = Path(store_root)
        self._folder = CursorFolder(store_root, view.address if view.artifacts is None else "mlflow.db")
        self._settings = settings
        self._rebuild = rebuild
        self._cursors: dict[str, Cursor] = {}
        self._known: dict[str, dict[str, Known]] = {}
        self._experiments: dict[str, str] = {}
        self._refused: dict[str, float] = {}
        self._left: dict[str, tuple[float, dict[str, set[int]]]] = {}

    def forget(self) -> None:
        """Drops what is remembered in memory: another syncer, or nobody, may have changed it since."""
        self._cursors.clear()
        self._known.clear()
        self._experiments.clear()

    def sync(self, run: TrackedRun, tails: Sequence[Tail], finals: Sequence[MetricPoint]) -> int | None:
        """Sends what the server lacks of a run; the number of points, or None if the server refuses the run now."""
        start = start_time(tails, run.asked)
        if start is None:
            return 0
        if time.monotonic() < self._refused.get(run.identity, 0.0):
            return None
        try:
            if not self._experiment(self._place(run)):  # a person has deleted it: it stays so
                return 0
            sent = self._sync(run, self._cursor(run), tails, finals, start)
        except Refused as refusal:
            if run.identity not in self._refused:
                log.warning("tracking: %s refuses run %s: %s", masked(self.view.address), run.name, masked(str(refusal)))
            self._refused[run.identity] = time.monotonic() + REFUSED_SECONDS
            self._cursors.pop(run.identity, None)
            self._known.pop(self._place(run), None)
            return None
        except Unreachable:
            self._cursors.pop(run.identity, None)  # what arrived is unknown; the file records that
            raise
        self._refused.pop(run.identity, None)
        return sent

    def _sync(
        self, run: TrackedRun, cursor: Cursor, tails: Sequence[Tail], finals: Sequence[MetricPoint], start: int
    ) -> int | None:
        news, reached = new_points(tails, cursor)
        shown = shown_points(run, finals)
        news += [point for point in shown if point.name not in cursor.finals]
        status = run_status(tails)
        if cursor.deleted or not (news or cursor.unsure or not cursor.described or status != cursor.status):
            return 0
        fresh = not cursor.run_id and self._create(run, cursor, start)
        if cursor.unsure and not fresh:
            there = self.view.steps(cursor.run_id)
            if self._leave(run, there):
                self._cursors.pop(run.identity, None)
                self._known.pop(self._place(run), None)
                return None
            news = [point for point in news if point.step not in there.get(safe_name(point.name), ())]
        cursor.unsure = True
        self._folder.save(run, cursor)
        if not cursor.described:
            has = self._known[self._place(run)][run.identity].params
            params = {name: value for name, value in run.params.items() if safe_name(name) not in has}
            self.view.describe(cursor.run_id, params, {} if fresh else run.all_tags())
            self.view.document(cursor.run_id, run.params, "config.json")
            cursor.described = True
        for tail in tails:
            if tail.stage.kind == "data" and tail.finished and tail.stage.key not in cursor.datasets:
                name = (read_json(tail.stage.finished / "dataset.json") or {}).get("name", "data")
                self.view.dataset(cursor.run_id, str(name), tail.stage.key, self._within(tail.stage.finished))
                cursor.datasets.append(tail.stage.key)
        for tail in models(tails):
            if tail.stage.key not in cursor.models:
                place, source = self._experiment(self._place(run)), self._within(tail.stage.finished)
                step = tail.lines[-1].step if tail.lines else 0
                self.view.model(place, cursor.run_id, MODELS[tail.stage.kind], tail.stage.key, source, step)
                cursor.models.append(tail.stage.key)
        self.view.send(cursor.run_id, news)
        self._describe(run, cursor, note(run, tails, finals))
        if status == "FINISHED":  # again where differences to a baseline that finished later have come
            self.view.document(cursor.run_id, {point.name: point.value for point in finals}, "numbers.json")
        if status != cursor.status:
            self._send_files(cursor.run_id, status, tails)
            self.view.status(cursor.run_id, status, None if status == "RUNNING" else end_time(tails, run.asked))
        cursor.sent, cursor.status, cursor.unsure = reached, status, False
        cursor.finals = sorted({*cursor.finals, *(point.name for point in shown)})
        self._folder.save(run, cursor)
        return len(news)

    def _send_files(self, run_id: str, status: str, tails: Sequence[Tail]) -> None:
        """The files of a run that has come to rest: its jobs' log, its answers, or why it failed."""
        if status != "RUNNING" and (text := log_text(tails)):
            self.view.text(run_id, text, "log.txt")
        if status == "FAILED" and (why := failure_text(tails)):
            self.view.text(run_id, why, "failure.txt")
        answers = [file for tail in tails if tail.stage.kind == "vqa" and (file := tail.stage.finished / ANSWERS).is_file()]
        if status == "FINISHED" and answers:
            self.view.artifact(run_id, answers[-1])

    def _cursor(self, run: TrackedRun) -> Cursor:
        """The run's cursor, checked against the server the first time: a run it doesn't have is begun anew."""
        cursor = self._cursors.get(run.identity)
        if cursor is None:
            cursor = self._folder.load(run)
            known = self._runs_there(self._place(run)).get(run.identity)
            for twin in known.twins if known is not None else ():
                self.view.bin(twin)
            if known is None or self._rebuild or cursor.run_id != known.run_id:
                cursor = Cursor(run_id=known.run_id if known else "")
            cursor.deleted = known is not None and known.deleted  # put in the bin in the UI: left alone there
            self._cursors[run.identity] = cursor
        return cursor

    def _create(self, run: TrackedRun, cursor: Cursor, start: int) -> bool:
        """Makes the run and notes its id in the cursor; False if it is one that another store made at the same moment.

        Of two such runs both stores keep the older one.
        """
        place = self._place(run)
        store_id = self._folder.store_id()
        made = self.view.create(self._experiment(place), run.name, start, {**run.all_tags(), STORE: store_id})
        alone = Known(made, store=store_id, running=True)
        known = self.view.known(self._experiment(place), "ctt.run", run.identity).get(run.identity, alone)
        if made in known.twins:
            self.view.bin(made)
        self._known[place][run.identity] = known
        cursor.run_id = known.run_id
        return known.run_id == made

    def _leave(self, run: TrackedRun, there: dict[str, set[int]]) -> bool:
        """Whether another store is feeding the run: `there` are the points it has now."""
        known = self._known[self._place(run)][run.identity]
        if self._rebuild or not known.running or known.store == self._folder.store_id():
            return False
        now = time.monotonic()
        since, seen = self._left.get(run.identity, (now, there))
        if seen != there:
            since = now
        self._left[run.identity] = (since, there)
        return now - since < SILENT_SECONDS

    def _describe(self, run: TrackedRun, cursor: Cursor, text: str) -> None:
        """Brings the run's description up to date, unless a person has written another one."""
        known = self._known[self._place(run)][run.identity]
        if text:
            text += f"\n\n[All runs of {run.sweep}]({address_of('', self._experiment(self._place(run)))})"
        ours = digest(known.note) == cursor.note if cursor.note else known.note.partition("\n")[0] in text
        if not text or text == known.note or (known.note and not ours):
            return
        self.view.note(cursor.run_id, text)
        self._known[self._place(run)][run.identity] = replace(known, note=text)
        cursor.note = digest(text)

    def _place(self, run: TrackedRun) -> str:
        """The name of the experiment that shows the run."""
        return run.experiment or self._settings.experiment_name(run.sweep)

    def _runs_there(self, place: str) -> dict[str, Known]:
        if place not in self._known:
            self._known[place] = self.view.known(self._experiment(place), "ctt.run")
        return self._known[place]

    def _experiment(self, place: str) -> str:
        if place not in self._experiments:
            self._experiments[place] = self.view.experiment(place)
        return self._experiments[place]

    def register(self, sweep: str, files: Sequence[Path]) -> Path:
        """Notes that `files` are the sweep's artifacts; returns the note, which `send_files` keeps up to date."""
        path = self._folder.path(f"files-{digest(sweep)[:16]}")
        place = self._settings.experiment_name(sweep)
        record = read_json(path) or {"sweep": sweep, "experiment": place, "run_id": "", "files": {}}
        for file in files:
            record["files"].setdefault(self._within(Path(file).resolve()), "")
        write_note(path, record)
        return path

    def send_files(self) -> None:
        """Copies the registered files that are new or have changed into the artifacts of their sweep's own run."""
        for path in sorted(self._folder.folder.glob("files-*.json")):
            record = read_json(path)
            if record is None or not self._experiment(record["experiment"]):
                continue
            run_id = self._sweep_run(record["sweep"], record["experiment"])
            if run_id != record["run_id"]:
                record = {**record, "run_id": run_id, "files": dict.fromkeys(record["files"], "")}
            stamps = {name: stamp(self._root / name) for name in record["files"]}
            due = {name: new for name, new in stamps.items() if new and new != record["files"][name]}
            for name in due:
                self.view.artifact(run_id, self._root / name)
                if Path(name).name == TABLE:
                    place = self._experiment(record["experiment"])
                    table = (self._root / name).read_text(encoding="utf-8")
                    text = f"[Tables and pictures]({artifacts_of(place, run_id)})\n\n{table}"
                    record["note"] = self.view.describe_experiment(place, text, record.get("note"))
            if due:
                write_note(path, {**record, "files": {**record["files"], **due}})

    def _within(self, path: Path) -> str:
        """A path as the view holds it: relative to the store if it lies there, so that the store can move."""
        return str(path.relative_to(self._root) if path.is_relative_to(self._root) else path)

    def _sweep_run(self, sweep: str, place: str) -> str:
        identity = digest(["sweep", sweep])
        known = self._runs_there(place).get(identity)
        if known is None:
            tags = {"ctt.kind": "sweep", "ctt.run": identity, "ctt.sweep": sweep, "mlflow.source.name": "ctt"}
            now = round(time.time() * 1000)
            run_id = self.view.create(self._experiment(place), f"{sweep}: table", now, tags)
            self.view.status(run_id, "FINISHED", now)
            known = self._known[place][identity] = Known(run_id)
        return known.run_id


def shown_points(run: TrackedRun, finals: Sequence[MetricPoint]) -> list[MetricPoint]:
    """The final numbers that MLflow shows, under its names."""
    columns = {f"{stage.kind}/{column.name}" for stage in run.stages for column in stage.columns if column.shown}
    found = ((point, metric_names.shown(point.name, columns)) for point in finals)
    return [replace(point, name=name[0], value=round(point.value, name[1])) for point, name in found if name is not None]


def new_points(tails: Sequence[Tail], cursor: Cursor) -> tuple[list[MetricPoint], dict[str, dict[str, int]]]:
    """The points of the curves past the cursor, and what its `sent` becomes once they have arrived."""
    points = []
    reached = {key: dict(last) for key, last in cursor.sent.items()}
    for tail in tails:
        last = reached.setdefault(tail.stage.key, {})
        for line in tail.lines:
            for name, value in line.values.items():
                if line.step > last.get(name, -1):
                    points.append(MetricPoint(metric_names.curve(tail.stage.kind, name), value, line.time, line.step))
                    last[name] = line.step
    return points, reached


def models(tails: Sequence[Tail]) -> list[Tail]:
    """The stages that have trained the run's models: the last state of the world model, and ALOE where it is its own."""
    last = {tail.stage.kind: tail for tail in tails if tail.stage.kind in MODELS}
    return [tail for tail in last.values() if tail.finished and (tail.stage.finished / MODEL_FILE).is_file()]


def stamp(file: Path) -> str:
    """Changes when the file does; "" if there is none."""
    with contextlib.suppress(OSError):
        status = file.stat()
        return f"{status.st_size} {status.st_mtime_ns}"
    return ""
