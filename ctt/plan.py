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

from ctt.config import Config
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel
from ctt.sweep import Run, Sweep

KINDS = ("data", "world_model", "rollout", "vqa")


def target_of(config: Config, fork_epochs: tuple[int, ...] = ()) -> Vqa:
    """The last stage of the run `config`, with everything it needs hanging from it."""
    state = WorldModel(
        data=Data(config.data),
        world_model=config.world_model,
        method=config.method(),
        num_masked_slots=config.num_masked_slots,
        seed=config.seed,
        epoch=config.world_model.epochs,
        fork_epochs=fork_epochs,
    )
    return Vqa(rollout=Rollout(state, config.rollout), aloe=config.aloe, seed=config.seed)


@dataclasses.dataclass(frozen=True)
class Job:
    """What one process is asked for: `target`, after the jobs whose targets are in `needs`."""

    target: Stage
    config: Config
    fork_epochs: tuple[int, ...]
    needs: frozenset[str]
    label: str
    cost: float  # estimated seconds of training an epoch each, for ordering: longest first

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
        """Trunks first, then runs; within each the costliest first."""
        configs = {}
        for run, target in zip(self.sweep.runs, self.targets, strict=True):
            for state in (target.rollout.state, *_chain(target.rollout.state)):
                configs.setdefault(state.key, run.config)
        trunks = [
            Job(
                target=state,
                config=dataclasses.replace(configs[key]),
                fork_epochs=state.fork_epochs,
                needs=frozenset(f.key for f in state.forks()),
                label=f"trunk {state.epoch} epochs seed={state.seed}",
                cost=_epochs_cost(state),
            )
            for key, state in self.trunks.items()
        ]
        seen: set[str] = set()
        runs = []
        for run, target in zip(self.sweep.runs, self.targets, strict=True):
            if target.key in seen:
                continue
            seen.add(target.key)
            state = target.rollout.state
            needs = frozenset(f.key for f in (state, *_chain(state)) if f.key in self.trunks)
            runs.append(Job(target, run.config, state.fork_epochs, needs, run.name, _epochs_cost(state)))
        trunks.sort(key=lambda job: (job.target.epoch if isinstance(job.target, WorldModel) else 0, -job.cost))
        runs.sort(key=lambda job: -job.cost)
        return (*trunks, *runs)

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

    def summary(self, cached: Collection[str]) -> dict[str, Any]:
        """The numbers of `ctt plan --json`; `cached` holds the keys of stages that are in the store."""
        runs = self.sweep.written * len(self.sweep.seeds)
        per_run = len(KINDS)
        epochs = self.targets[0].rollout.state.epoch if self.targets else 0
        naive = sum(t.rollout.state.epoch for t in self.targets)
        naive += (runs - len(self.targets)) * epochs
        return {
            "points": self.sweep.written,
            "runs": runs,
            "unique_points": len(self.sweep.points),
            "unique_runs": len({t.key for t in self.targets}),
            "merged": len(self.sweep.merged),
            "forks": len(self.trunks),
            "stages": [
                {"key": key, "kind": stage.kind, "status": "cached" if key in cached else "run"}
                for key, stage in self.stages.items()
            ],
            "stages_naive": runs * per_run,
            "world_model_epochs": self.world_model_epochs,
            "world_model_epochs_naive": naive,
        }

    @property
    def world_model_epochs(self) -> int:
        """Epochs of distinct training, cached or not."""
        total = 0
        for stage in self.stages.values():
            if isinstance(stage, WorldModel):
                forks = stage.forks()
                total += stage.epoch - (forks[0].epoch if forks and isinstance(forks[0], WorldModel) else 0)
        return total


def _chain(state: WorldModel) -> Iterator[WorldModel]:
    for fork in state.forks():
        if isinstance(fork, WorldModel):
            yield fork
            yield from _chain(fork)


def _epochs_cost(state: WorldModel) -> float:
    """Relative cost of training `state`: an epoch with both losses costs three plain ones (the published 42 and 124 s)."""
    plain = min(state.epoch, state.method.start_epoch) if state.lossy else state.epoch
    return plain + (state.epoch - plain) * (1.0 + (state.method.inv_weight > 0) + (state.method.suf_weight > 0))


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
    targets = []
    for run, state in zip(sweep.runs, finals, strict=True):
        targets.append(target_of(run.config, forks[state.key]))
    return Plan(sweep, tuple(targets))


def _first_epoch(state: WorldModel) -> str:
    """Key of the state after one epoch without losses: equal for trainings that can share at all."""
    return dataclasses.replace(state, method=dataclasses.replace(state.method, inv_weight=0.0, suf_weight=0.0), epoch=1).key


def _shared_epochs(a: WorldModel, b: WorldModel) -> int:
    """How many epochs two trainings of a family share: all of the shorter one's, or up to the first loss that differs."""
    shared = min(a.epoch, b.epoch)
    if a.settings()["losses"] != b.settings()["losses"] or a.graph_settings() != b.graph_settings():
        shared = min([shared, *(state.method.start_epoch for state in (a, b) if state.lossy)])
    return shared
