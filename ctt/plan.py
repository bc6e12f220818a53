"""Plan: runs → unique stages → jobs. No disk, no Hydra: what a store already holds is asked by whoever reads the plan.

Runs of a seed whose world models are the same up to an epoch share the training up to there: that state is a fork. A trunk
job makes a fork and no more; a run's job then continues from it. A run's answers are its target; its sides are stages
beside them, wanted for what they tell of its world model, and built by the same job once the target is there.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
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


def sides_of(config: Config, target: Vqa) -> tuple[Stage, ...]:
    """The stages beside `target` that `config` asks for and that can be made from its data."""
    return ()


def parts(target: Vqa, sides: Sequence[Stage] = ()) -> list[Stage]:
    """Every stage of a run in the order they are built: data, the states of its trunk first, rollout, answers, sides."""
    state = target.rollout.state
    found: dict[str, Stage] = {s.key: s for s in (state.data, *reversed(list(chain(state))), state)}
    found |= {s.key: s for s in (target.rollout, target)}
    for side in sides:
        found |= {s.key: s for s in side.inputs().values() if s.key not in found}
        found[side.key] = side
    return list(found.values())


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process is asked for: `target`, after the jobs whose targets are in `needs`, and then its `sides`."""

    target: Stage
    sides: tuple[Stage, ...]
    config: Config
    fork_epochs: tuple[int, ...]
    teacher: tuple[Config, tuple[int, ...]] | None  # the screened run's baseline: its config and forks
    needs: frozenset[str]
    label: str

    @property
    def trunk(self) -> bool:
        return isinstance(self.target, WorldModel)

    def finished(self, has: Callable[[str], bool]) -> bool:
        """Whether nothing is left to do; `has` tells whether a key is in the store."""
        return all(has(stage.key) for stage in (self.target, *self.sides))


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep compiled. `targets` holds one target per run, in the order of `sweep.runs`; `sides` what is beside each."""

    sweep: Sweep
    targets: tuple[Vqa, ...]
    sides: tuple[tuple[Stage, ...], ...]

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
        for side in (side for sides in self.sides for side in sides):
            visit(side)
        return found

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of stages: those that every plan has, and those beside them."""
        return (*KINDS, *dict.fromkeys(s.kind for s in self.stages.values() if s.kind not in KINDS))

    @cached_property
    def trunks(self) -> dict[str, WorldModel]:
        """The states that several runs continue from."""
        finals = {t.rollout.state.key: t.rollout.state for t in self.targets}
        forks = {fork.key for state in finals.values() for fork in chain(state)} - set(finals)
        return {k: s for k, s in self.stages.items() if isinstance(s, WorldModel) and k in forks}

    @cached_property
    def jobs(self) -> tuple[Job, ...]:
        """Trunks, then the runs that teach others (screening), then the rest; within each the costliest first."""
        runs: list[Job] = []
        trunks: dict[str, Job] = {}
        teachers = {t.taught_by.key for t in self.targets if t.taught_by is not None}
        every = zip(self.sweep.runs, self.targets, self.sides, strict=True)
        by_key = {target.key: (run, target, sides) for run, target, sides in every}
        for key, (run, target, sides) in by_key.items():
            state, taught_by = target.rollout.state, target.taught_by
            teacher = None
            needs = {f.key for f in chain(state) if f.key in self.trunks}
            if taught_by is not None:
                needs.add(taught_by.key)
                teacher = (by_key[taught_by.key][0].config, taught_by.rollout.state.fork_epochs)
            runs.append(
                Job(self.stages[key], sides, run.config, state.fork_epochs, teacher, frozenset(needs), run.name)
            )
            for fork in chain(state):
                if fork.key in self.trunks and fork.key not in trunks:
                    label = f"trunk {fork.epoch} epochs seed={fork.seed}"
                    below = frozenset(f.key for f in fork.forks())
                    trunks[fork.key] = Job(fork, (), run.config, fork.fork_epochs, None, below, label)
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
        merging, sharing and screening save; what is cached is counted apart. What is made of the data alone is counted
        once in both.
        """
        costs = costs or Costs()
        seeds = len(self.sweep.seeds)
        runs = self.sweep.written * seeds
        seconds = {key: costs.of(s, self.start_of(s)).seconds for key, s in self.stages.items()}
        unique = {t.key: (t, sides) for t, sides in zip(self.targets, self.sides, strict=True)}
        merged_epochs = sum(self._point_epochs(m.into) for m in self.sweep.merged) * seeds
        alone = {key: self._alone(t, sides, costs) for key, (t, sides) in unique.items()}
        trained = {
            key: self._alone(dataclasses.replace(t, taught_by=None), sides, costs) for key, (t, sides) in unique.items()
        }
        merged = sum(trained[t.key] for m in self.sweep.merged for t in self._targets_of(m.into))
        own = {s.key for t, sides in unique.values() for s in (t.rollout.state, t.rollout, t, *sides)}
        once = sum(seconds[k] for k in self.stages if k not in own and k not in self.trunks)
        total = sum(seconds.values())
        saving = {
            "merged": merged,
            "shared": sum(alone.values()) + once - total,
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
            "stages_naive": runs * len(self.kinds),
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

    def _alone(self, target: Vqa, sides: Sequence[Stage], costs: Costs) -> float:
        """Seconds of a run's own stages if nothing were shared: its world model from epoch 0."""
        stages = (target.rollout.state, target.rollout, target, *sides)
        return sum(costs.of(stage, None).seconds for stage in stages)

    def makespan(self, cached: Collection[str], costs: Costs, devices: int) -> float:
        """Seconds until the last job ends, on `devices` devices, jobs handed out in order as their needs are met."""
        free, ended, last = [0.0] * devices, dict.fromkeys(cached, 0.0), 0.0
        for job in self.jobs:
            if job.finished(ended.__contains__):
                continue
            own = {stage.key for stage in (job.target, *job.sides)}
            if isinstance(job.target, Vqa):
                own |= {job.target.rollout.key, job.target.rollout.state.key}
            length = sum(costs.of(self.stages[k], self.start_of(self.stages[k])).seconds for k in own - set(cached))
            device = min(range(devices), key=free.__getitem__)
            begin = max(free[device], *(ended.get(n, 0.0) for n in job.needs), 0.0)
            free[device] = begin + length
            ended |= dict.fromkeys(own, free[device])
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
    targets.sort(key=lambda pair: place[id(pair[0])])
    sides = tuple(sides_of(run.config, target) for run, target in targets)
    return Plan(sweep, tuple(target for _, target in targets), sides)


def _first_epoch(state: WorldModel) -> str:
    """Key of the state after one epoch without losses: equal for trainings that can share at all."""
    return dataclasses.replace(
        state, method=dataclasses.replace(state.method, inv_weight=0.0, suf_weight=0.0), epoch=1
    ).key


def _shared_epochs(a: WorldModel, b: WorldModel) -> int:
    """How many epochs two trainings of a family share: all of the shorter one's, or up to the first loss that differs."""
    shared = min(a.epoch, b.epoch)
    if a.course != b.course:
        shared = min([shared, *(state.method.start_epoch for state in (a, b) if state.lossy)])
    return shared
