"""Plan: runs → unique stages → jobs. No disk, no Hydra: what a store already holds is asked by whoever reads the plan.

Runs of a seed whose world models are the same up to an epoch share the training up to there: that state is a fork. A trunk
job makes a fork and no more; a run's job then continues from it.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import Any

from ctt.config import Config, identity
from ctt.costs import Costs
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel
from ctt.sweep import Sweep

KINDS = ("data", "world_model", "rollout", "vqa")


def target_of(config: Config, fork_epochs: tuple[int, ...] = (), teacher: Vqa | None = None) -> Vqa:
    """The last stage of the run `config`, with everything it needs hanging from it.

    teacher: the baseline's run of the same seed, whose ALOE a screened run (aloe.protocol=shared) is evaluated with.
    """
    state = WorldModel(
        data=Data(config.data),
        world_model=config.world_model,
        method=config.method(),
        num_masked_slots=config.num_masked_slots,
        seed=config.seed,
        epoch=config.world_model.epochs,
        fork_epochs=fork_epochs,
        alone=identity(config) if config.sharing == "off" else "",
    )
    rollout = Rollout(state, config.rollout)
    if teacher is not None and (config.aloe.protocol != "shared" or teacher.rollout.key == rollout.key):
        teacher = None
    return Vqa(rollout=rollout, aloe=config.aloe, seed=config.seed, taught_by=teacher)


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process is asked for: `target`, after the jobs whose targets are in `needs`."""

    target: Stage
    config: Config
    fork_epochs: tuple[int, ...]
    teacher: tuple[Config, tuple[int, ...]] | None  # the screened run's baseline: its config and forks
    needs: frozenset[str]
    label: str

    @property
    def trunk(self) -> bool:
        return isinstance(self.target, WorldModel)


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep compiled. `targets` holds one target per run, in the order of `sweep.runs`."""

    sweep: Sweep
    targets: tuple[Vqa, ...]

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Every unique stage by key, inputs before those that read them."""
        found: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            if stage.key in found:
                return
            for fork in stage.forks():
                visit(fork)
            for other in stage.inputs().values():
                visit(other)
            found[stage.key] = stage

        for target in self.targets:
            visit(target)
        return found

    @cached_property
    def trunks(self) -> dict[str, WorldModel]:
        """The states that several runs continue from."""
        finals = {t.rollout.state.key for t in self.targets}
        return {k: s for k, s in self.stages.items() if isinstance(s, WorldModel) and k not in finals}

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """Trunks, then the runs that teach others (screening), then the rest; within each the costliest first."""
        runs: list[Job] = []
        trunks: dict[str, Job] = {}
        teachers = {t.taught_by.key for t in self.targets if t.taught_by is not None}
        by_key = {t.key: (run, t) for run, t in zip(self.sweep.runs, self.targets, strict=True)}
        for key, (run, target) in by_key.items():
            state, taught_by = target.rollout.state, target.taught_by
            teacher = None
            needs = {f.key for f in chain(state) if f.key in self.trunks}
            if taught_by is not None:
                needs.add(taught_by.key)
                teacher = (by_key[taught_by.key][0].config, taught_by.rollout.state.fork_epochs)
            runs.append(Job(self.stages[key], run.config, state.fork_epochs, teacher, frozenset(needs), run.name))
            for fork in chain(state):
                if fork.key in self.trunks and fork.key not in trunks:
                    label = f"trunk {fork.epoch} epochs seed={fork.seed}"
                    below = frozenset(f.key for f in fork.forks())
                    trunks[fork.key] = Job(fork, run.config, fork.fork_epochs, None, below, label)
        runs.sort(key=lambda job: (job.target.key not in teachers, -_relative_cost(job.target)))
        return (*sorted(trunks.values(), key=lambda job: -_relative_cost(job.target)), *runs)

    def waves(self, jobs: Collection[Job], width: int | None, finished: Callable[[str], bool]) -> Iterator[list[Job]]:
        """Waves of at most `width` ready jobs, trunks before runs, until none is left.

        For launchers that start a list of jobs and wait for all. `finished` tells whether a target is in the store; a
        job whose needs failed is still handed out: it builds what is missing itself.
        """
        waiting, done = list(jobs), set[str]()
        while waiting:
            ready = [j for j in waiting if all(n in done or finished(n) for n in j.needs)] or waiting
            if any(j.trunk for j in ready):
                ready = [j for j in ready if j.trunk]
            wave = ready[:width]
            yield wave
            done.update(j.target.key for j in wave)
            waiting = [j for j in waiting if j not in wave]

    def start_of(self, stage: Stage) -> Stage | None:
        """What `stage` continues from where nothing but this plan has been built."""
        return next(iter(stage.forks()), None)

    def summary(self, cached: Collection[str], costs: Costs | None = None) -> dict[str, Any]:
        """The numbers of `ctt plan --json`; `cached` holds the keys of stages that are in the store.

        Seconds are of one device. naive = every run as written, from epoch 0, ALOE retrained = device_seconds + what
        merging, sharing and screening save; what is cached is counted apart. Making the data is counted once in both.
        """
        costs = costs or Costs()
        seeds = len(self.sweep.seeds)
        runs = self.sweep.written * seeds
        seconds = {key: costs.of(s, self.start_of(s)).seconds for key, s in self.stages.items()}
        unique = {t.key: t for t in self.targets}
        merged_epochs = sum(self._point_epochs(m.into) for m in self.sweep.merged) * seeds
        alone = {key: self._alone(t, costs) for key, t in unique.items()}
        trained = {key: self._alone(dataclasses.replace(t, taught_by=None), costs) for key, t in unique.items()}
        merged = sum(trained[t.key] for m in self.sweep.merged for t in self._targets_of(m.into))
        data = sum(seconds[k] for k, s in self.stages.items() if s.kind == "data")
        total = sum(seconds.values())
        saving = {
            "merged": merged,
            "shared": sum(alone.values()) + data - total,
            "screened": sum(trained.values()) - sum(alone.values()),
            "cached": sum(seconds[key] for key in self.stages if key in cached),
        }
        return {
            "points": self.sweep.written,
            "runs": runs,
            "unique_points": len(self.sweep.points),
            "unique_runs": len(unique),
            "merged": len(self.sweep.merged),
            "forks": len(self.trunks),
            "stages": [
                {"key": key, "kind": stage.kind, "status": "cached" if key in cached else "run"}
                for key, stage in self.stages.items()
            ],
            "stages_naive": runs * len(KINDS),
            "world_model_epochs": self.world_model_epochs,
            "world_model_epochs_naive": merged_epochs + sum(t.rollout.state.epoch for t in self.targets),
            "device_seconds": round(total, 1),
            "device_seconds_naive": round(total + saving["merged"] + saving["shared"] + saving["screened"], 1),
            "saving": {name: round(value, 1) for name, value in saving.items()},
        }

    def _targets_of(self, label: str) -> list[Vqa]:
        return [t for run, t in zip(self.sweep.runs, self.targets, strict=True) if run.point.label == label]

    def _point_epochs(self, label: str) -> int:
        return next(p.config.world_model.epochs for p in self.sweep.points if p.label == label)

    def _alone(self, target: Vqa, costs: Costs) -> float:
        """Seconds of a run's own stages if nothing were shared: its world model from epoch 0."""
        stages = (target.rollout.state, target.rollout, target)
        return sum(costs.of(stage, None).seconds for stage in stages)

    def makespan(self, cached: Collection[str], costs: Costs, devices: int) -> float:
        """Seconds until the last job ends, on `devices` devices, jobs handed out in order as their needs are met."""
        free, ended, last = [0.0] * devices, dict.fromkeys(cached, 0.0), 0.0
        for job in self.jobs:
            if job.target.key in ended:
                continue
            own = {job.target.key} | (
                {r.key for r in (job.target.rollout, job.target.rollout.state)}
                if isinstance(job.target, Vqa)
                else set()
            )
            length = sum(costs.of(self.stages[k], self.start_of(self.stages[k])).seconds for k in own - set(cached))
            device = min(range(devices), key=free.__getitem__)
            begin = max(free[device], *(ended.get(n, 0.0) for n in job.needs), 0.0)
            free[device] = ended[job.target.key] = begin + length
            last = max(last, free[device])
        return last

    @property
    def world_model_epochs(self) -> int:
        """Epochs of distinct training, cached or not."""
        total = 0
        for stage in self.stages.values():
            if isinstance(stage, WorldModel):
                forks = stage.forks()
                total += stage.epoch - (forks[0].epoch if forks and isinstance(forks[0], WorldModel) else 0)
        return total


def chain(state: WorldModel) -> Iterator[WorldModel]:
    """The forks a state goes through, the last first."""
    for fork in state.forks():
        if isinstance(fork, WorldModel):
            yield fork
            yield from chain(fork)


def _relative_cost(stage: Stage) -> float:
    """For ordering alone: what the stage and its world model cost at the published rates."""
    state = stage.rollout.state if isinstance(stage, Vqa) else stage
    return Costs().of(state, None).seconds + (Costs().of(stage, None).seconds if stage is not state else 0.0)


def compile_plan(sweep: Sweep) -> Plan:
    """The plan of a sweep: a fork wherever two trainings of a seed part."""
    finals: list[WorldModel] = [target_of(run.config).rollout.state for run in sweep.runs]
    families: dict[str, dict[str, WorldModel]] = defaultdict(dict)
    for state in finals:
        families[_first_epoch(state)][state.key] = state
    forks: dict[str, tuple[int, ...]] = {}
    for family in families.values():
        for key, state in family.items():
            others = [o for k, o in family.items() if k != key]
            forks[key] = tuple(sorted({e for o in others if (e := _shared_epochs(state, o)) > 0}))
    teachers: dict[int, Vqa] = {}
    targets = []
    for run, state in sorted(zip(sweep.runs, finals, strict=True), key=lambda pair: not pair[0].point.baseline):
        target = target_of(run.config, forks[state.key], teachers.get(run.seed))
        if run.point.baseline:
            teachers[run.seed] = target
        targets.append((run, target))
    place = {id(run): i for i, run in enumerate(sweep.runs)}
    return Plan(sweep, tuple(t for _, t in sorted(targets, key=lambda pair: place[id(pair[0])])))


def _first_epoch(state: WorldModel) -> str:
    """Key of the state after one epoch without losses: equal for trainings that can share at all."""
    return dataclasses.replace(
        state, method=dataclasses.replace(state.method, inv_weight=0.0, suf_weight=0.0), epoch=1
    ).key


def _shared_epochs(a: WorldModel, b: WorldModel) -> int:
    """How many epochs two trainings of a family share: all of the shorter one's, or up to the first loss that differs."""
    shared = min(a.epoch, b.epoch)
    if a.settings()["losses"] != b.settings()["losses"] or a.graph_settings() != b.graph_settings():
        shared = min([shared, *(state.method.start_epoch for state in (a, b) if state.lossy)])
    return shared
