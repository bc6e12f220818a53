"""Syncer: follows the metrics files of runs and sends them to MLflow; it never delays work and loses nothing."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from ctt.core.atomic_files import read_json
from ctt.core.errors import LeaseLost, StoreError
from ctt.core.secrets import masked
from ctt.tracking.database import artifacts_path, prepare_database
from ctt.tracking.limits import EXPERIMENT_LENGTH
from ctt.tracking.page import Runs
from ctt.tracking.sender import Sender
from ctt.tracking.summary import blind_points, cost_points, differences, final_points, start_time
from ctt.tracking.tail import Tail
from ctt.tracking.tracked_runs import TrackedRun
from ctt.tracking.tracking_settings import TrackingSettings
from ctt.tracking.view import Unreachable, View

log = logging.getLogger("ctt.tracking")
LONGEST_WAIT = 60.0  # seconds between attempts to reach a server that stays dead
LAST_SYNC_SECONDS = 10.0  # seconds a stopped `follow` may still spend on what is left


class Syncer:
    """Sends `runs` of the store at `store_root`.

    runs is a list, or a function that gives the present one (`ctt ui` learns of new sweeps that way). lease makes a
    context manager that holds the store's tracking lease and raises StoreError while another process does (what it
    yields may have a check() that raises LeaseLost); without one nothing guards against a second syncer. rebuild=True
    trusts no cursor and asks the server about every run.
    """

    def __init__(
        self,
        tracking: TrackingSettings,
        store_root: Path,
        runs: Sequence[TrackedRun] | Callable[[], Sequence[TrackedRun]],
        *,
        lease: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
        rebuild: bool = False,
    ) -> None:
        self.settings = tracking
        self.store_root = Path(store_root).resolve()
        self._runs = runs if callable(runs) else lambda: runs
        self._lease = lease
        artifacts = artifacts_path(self.store_root) if tracking.kind == "sqlite" else None
        self._view = View(tracking.address(self.store_root), artifacts, tracking.timeout)
        self._send = Sender(self._view, self.store_root, tracking, rebuild)
        self._tails: dict[str, Tail] = {}
        self._seen: dict[str, object] = {}
        self._charted: dict[str, Runs] = {}
        self._turn = threading.RLock()
        self._leased = self._lost = self._prepared = self._down = False
        self._check: Callable[[], object] = lambda: None
        self._wait = self._not_before = 0.0

    def sync_once(self, *, patient: bool = True) -> int:
        """Looks once, sends what is new and returns how many points that were.

        Never raises for the server's sake: where it is dead, slow or full the first call warns, and those that follow
        return 0 at once until it is time to try again (patient=False tries now). Nothing is lost by that.
        """
        if self.settings.kind == "off" or (patient and time.monotonic() < self._not_before):
            return 0
        sent = 0
        try:
            with self._turn, self.exclusive():
                for points in self._pass():
                    sent += points
        except (Unreachable, OSError) as error:
            self._failed(error)
            return sent
        except StoreError as error:
            self._lost = isinstance(error, LeaseLost)
            log.debug("tracking: another process syncs this store: %s", error)
            return sent
        if self._down:
            log.warning("tracking: %s answers again; nothing was lost", masked(self._view.address))
        self._wait, self._not_before, self._down = 0.0, 0.0, False
        return sent

    def places(self) -> set[str]:
        """The names of the experiments that show these runs, or will."""
        return {self._place(run) for run in self._runs()}

    def experiments(self) -> dict[str, str]:
        """The experiments that show these runs, whichever syncer sent them: name → MLflow's id."""
        there = self._view.experiments()
        return {place: there[safe] for place in self.places() if (safe := place[:EXPERIMENT_LENGTH]) in there}

    @property
    def down(self) -> bool:
        """True if the server could not be reached the last time."""
        return self._down

    def follow(self, stop: threading.Event, every: float | None = None) -> None:
        """Syncs every few seconds until `stop` is set, then once more for at most ten seconds. Meant for a thread.

        Holds the lease all the while; if another process has it, waits for its turn.
        """
        if self.settings.kind == "off":
            return
        pause, reported = self.settings.every if every is None else every, ""
        while not stop.is_set():
            try:
                with self.exclusive():
                    while not stop.is_set() and not self._lost:
                        self.sync_once()
                        stop.wait(pause)
                    if stop.is_set():
                        self._view.deadline = time.monotonic() + LAST_SYNC_SECONDS
                        self.sync_once(patient=False)
            except StoreError as error:
                log.debug("tracking: waiting, another process syncs this store: %s", error)
                stop.wait(pause)
            except Exception as error:  # the view must never end what it looks at
                if reported != str(error):
                    log.warning("tracking: %s: %s; tried again every %g s", type(error).__name__, masked(str(error)), pause)
                reported = str(error)
                stop.wait(pause)
            finally:
                self._view.deadline = float("inf")

    def finish(self, files: Sequence[Path], sweep: str) -> bool:
        """Makes `files` (tables, plots) the artifacts of the sweep's own run and sends what else is left.

        Returns False if the server can't take them now; they are remembered in the store, and any later sync of it
        brings them along.
        """
        if self.settings.kind == "off":
            return False
        note = self._send.register(sweep, files)
        self.sync_once(patient=False)
        return all((read_json(note) or {"files": {"": ""}})["files"].values())

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Holds the tracking lease, if this syncer doesn't yet; StoreError while another process has it."""
        if self._leased:
            yield
            return
        with self._lease() as lease:
            self._check = getattr(lease, "check", lambda: None)
            self._send.forget()
            self._seen.clear()
            self._leased, self._lost = True, False
            try:
                yield
            finally:
                self._leased = False

    def _pass(self) -> Iterator[int]:
        self._check()
        if self.settings.kind == "sqlite" and not self._prepared:
            try:
                prepare_database(self.store_root)
            except StoreError as error:
                raise Unreachable(str(error)) from error
            self._prepared = True
        runs = list(self._runs())
        for run in runs:
            for stage in run.stages:
                self._tails.setdefault(stage.key, Tail(stage)).stage = stage
        for tail in self._tails.values():
            tail.poll()
        baselines = {(run.sweep, run.seed): run for run in runs if run.baseline}
        needed = Counter((run.sweep, stage.key) for run in runs for stage in run.stages)
        for run in runs:
            shared = {stage.key for stage in run.stages if needed[run.sweep, stage.key] > 1}
            yield self._sync_run(run, baselines.get((run.sweep, run.seed)), shared)
        self._chart(runs)
        self._send.send_files()

    def _chart(self, runs: Sequence[TrackedRun]) -> None:
        """Sets on the pages of the experiments whose runs have begun what was swept in them, and their accuracies."""
        shown: dict[str, list[TrackedRun]] = {}
        for run in runs:
            shown.setdefault(self._place(run), []).append(run)
        due = {place: page for place, of in shown.items() if self._charted.get(place, Runs()) != (page := _page(of))}
        begun = {place for run in runs if (place := self._place(run)) in due and start_time(self._tails_of(run), run.asked)}
        for place, experiment in self.experiments().items() if begun else ():
            if place in begun:
                self._view.chart(experiment, due[place])
                self._charted[place] = due[place]

    def _place(self, run: TrackedRun) -> str:
        return run.experiment or self.settings.experiment_name(run.sweep)

    def _sync_run(self, run: TrackedRun, baseline: TrackedRun | None, shared: Collection[str]) -> int:
        tails = self._tails_of(run)
        other = self._tails_of(baseline) if baseline is not None and baseline.identity != run.identity else []
        looks = [tail.position() for tail in (*tails, *other)]
        if self._seen.get(run.identity) == looks:
            return 0
        finals = [*final_points(tails), *blind_points(tails), *cost_points(tails, run.asked, shared)]
        finals += differences(run, finals, final_points(other))
        sent = self._send.sync(run, tails, finals)
        if sent is not None:
            self._seen[run.identity] = looks
        return sent or 0

    def _tails_of(self, run: TrackedRun) -> list[Tail]:
        return [self._tails[stage.key] for stage in run.stages]

    def _failed(self, error: Exception) -> None:
        self._wait = min(LONGEST_WAIT, max(self.settings.every, self._wait * 2))
        self._not_before = time.monotonic() + self._wait
        self._send.forget()
        if not self._down:
            log.warning(
                "tracking: %s can't be reached (%s). Work goes on; what is missing there is sent once it answers, "
                "or by `ctt sync`.",
                masked(self._view.address),
                masked(str(error)),
            )
        self._down = True


def _page(runs: Sequence[TrackedRun]) -> Runs:
    """What the page of an experiment shows of its runs."""
    swept = tuple(dict.fromkeys(name for run in runs for name in run.swept))
    common = tuple(name for name in swept if all(name in run.params for run in runs))
    metrics = tuple(dict.fromkeys(name for run in runs for name in run.metrics))
    return Runs(swept, common, metrics, len({run.seed for run in runs}) > 1)
