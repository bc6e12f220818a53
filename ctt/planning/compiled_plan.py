"""Plan: runs → unique stages → jobs. No disk, no Hydra: what a store already holds is looked up by the reader of the plan.

Runs of a seed whose world models are the same up to an epoch share the training up to there, their shared prefix: its end is
a branch point. The job of a shared prefix makes that state and no more; a run's job then continues from it. A run's answers
are its target; its auxiliary stages are wanted for what they show of its world model, and built by the same job once the
target is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import cached_property

from ctt.config import Config
from ctt.core.memory import paused_gc
from ctt.core.settings import Settings
from ctt.data.categories import Categories
from ctt.planning.branching import SharedPrefixes, branch_points_of
from ctt.planning.planned_jobs import PlannedJob, by_urgency
from ctt.setting_names import identity
from ctt.stages.auxiliary_stage import wanted
from ctt.stages.base import Stage
from ctt.stages.data import Data
from ctt.stages.imagined import ImaginedVideos
from ctt.stages.imported_weights import ImportedAloe, ImportedModel
from ctt.stages.main_line import KINDS, MainLine, Target
from ctt.stages.rollout import Rollout
from ctt.stages.stage_registry import STAGES
from ctt.stages.validation_error import ValidationError
from ctt.stages.vqa import Vqa
from ctt.stages.world_model import WorldModel
from ctt.sweep import Sweep


def target_of(config: Config, branch_epochs: tuple[int, ...] = (), teacher: Target | None = None) -> Target:
    """The last stage of the run `config`, with everything it needs hanging from it.

    teacher: the baseline's run of the same seed, whose ALOE a screened run (aloe.protocol=shared) is evaluated with.
    """
    return _target(config, state_of(config).through(branch_epochs), teacher)


def state_of(config: Config) -> WorldModel:
    """The world model of the run `config`, trained in one go, or of the file that it names."""
    if config.world_model.tensors is not None:
        return imported_model(config, config.world_model.tensors, str(config.world_model.checkpoint))
    return WorldModel(
        data=config.data.remembered("stage", lambda: Data(config.data)),
        world_model=config.world_model,
        method=config.method(),
        num_masked_slots=config.num_masked_slots,
        seed=config.seed,
        epoch=config.world_model.epochs,
        alone=identity(config) if config.sharing == "off" else "",
    )


def _target(config: Config, state: WorldModel, teacher: Target | None) -> Target:
    rollout = Rollout(state, config.rollout)
    if not config.data.format.categories:
        return rollout
    own = answers_of(config, rollout)
    if config.aloe.tensors is not None:
        imported = ImportedAloe(rollout, config.aloe, config.seed, tensors=config.aloe.tensors, file=str(config.aloe.checkpoint))
        return dataclasses.replace(own, aloe_from=imported)
    answers = None if teacher is None or config.aloe.protocol != "shared" else MainLine.of(teacher).answers
    if answers is not None and _keys(answers) != _keys(own):
        return dataclasses.replace(own, aloe_from=answers)
    return own


def _keys(answers: Vqa) -> dict[str, str]:
    return {name: stage.key for name, stage in answers.inputs().items()}


def answers_of(config: Config, rollout: Rollout) -> Vqa:
    """An ALOE of the run's own on this rollout, with the videos that it sees imagined."""
    imagined = ImaginedVideos.of(rollout, config.reader) if config.imagines else None
    return Vqa(rollout=rollout, aloe=config.aloe, seed=config.seed, imagined=imagined)


def auxiliaries_of(config: Config, target: Target) -> tuple[Stage, ...]:
    """The auxiliary stages of `target` that `config` asks for and that can be made from its data."""
    own = {name: settings for name in STAGES.builtin if isinstance(settings := getattr(config, name, None), Settings)}
    line = MainLine.of(target)
    made = (stage.of(settings, line) for stage, settings in wanted(config.auxiliary, own))
    found = tuple(auxiliary for auxiliary in made if auxiliary is not None)
    if isinstance(line.world_model, ImportedModel):
        return (ValidationError(line.world_model), *found)
    return found


def imported_model(config: Config, tensors: str, file: str) -> ImportedModel:
    """The world model whose weights, with the digest `tensors`, are in a file."""
    return ImportedModel(
        data=config.data.remembered("stage", lambda: Data(config.data)),
        world_model=dataclasses.replace(config.world_model, epochs=0),
        method=config.method(),
        num_masked_slots=config.num_masked_slots,
        seed=config.seed,
        epoch=0,
        tensors=tensors,
        file=file,
    )


def parts(target: Target, auxiliaries: Sequence[Stage] = ()) -> list[Stage]:
    """Every stage of a run in the order they are built: data, the states of its shared prefix, rollout, answers, auxiliary."""
    line = MainLine.of(target)
    return list({s.key: s for s in (line.data, *line.prefix, *line.with_inputs(auxiliaries))}.values())


@dataclasses.dataclass(frozen=True)
class Plan:
    """A sweep compiled: `targets`, one per run in the order of `sweep.runs`, and in `auxiliaries` the auxiliary stages of each."""

    sweep: Sweep
    targets: tuple[Target, ...]
    auxiliaries: tuple[tuple[Stage, ...], ...]

    @cached_property
    def lines(self) -> tuple[MainLine, ...]:
        """The main line of each run, in the order of `sweep.runs`."""
        return tuple(map(MainLine.of, self.targets))

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Every unique stage by key, inputs before those that read them."""
        found: dict[str, Stage] = {}

        def visit(stage: Stage) -> None:
            if stage.key in found:
                return
            for branch_point in stage.branch_points():
                visit(branch_point)
            for other in stage.inputs().values():
                visit(other)
            found[stage.key] = stage

        for target in self.targets:
            visit(target)
        for auxiliary in (auxiliary for auxiliaries in self.auxiliaries for auxiliary in auxiliaries):
            visit(auxiliary)
        return found

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of stages: those of the main line, in the order they are built, and the auxiliary ones."""
        kinds = {stage.kind for stage in self.stages.values()}
        return (
            *(kind for kind in KINDS if kind in kinds),
            *dict.fromkeys(s.kind for s in self.stages.values() if s.kind not in KINDS),
        )

    @property
    def categories(self) -> Categories:
        """The categories of questions of the runs' data, the same for all of them."""
        return self.sweep.baseline.config.data.format.categories

    @cached_property
    def labels(self) -> dict[str, str]:
        """What the kinds of stages are called, in the order of `kinds`."""
        labels = {stage.kind: stage.label for stage in self.stages.values()}
        return {kind: labels.get(kind, kind) for kind in self.kinds}

    @cached_property
    def prefixes(self) -> dict[str, WorldModel]:
        """The states that several runs continue from."""
        finals = {line.world_model.key for line in self.lines}
        branch_points = {branch_point.key for line in self.lines for branch_point in line.prefix} - finals
        return {k: s for k, s in self.stages.items() if isinstance(s, WorldModel) and k in branch_points}

    @cached_property
    def jobs(self) -> tuple[PlannedJob, ...]:
        """Every job after those it needs; what holds up the longest work comes first."""
        prefixes: dict[str, PlannedJob] = {}
        runs: dict[str, PlannedJob] = {}
        for run, line, auxiliaries in zip(self.sweep.runs, self.lines, self.auxiliaries, strict=True):
            target, state = line.target, line.world_model
            way = [branch_point for branch_point in reversed(line.prefix) if branch_point.key in self.prefixes]
            needs = {branch_point.key for branch_point in way}
            teacher = None
            if (aloe_from := line.aloe_from) is not None:
                needs.add(aloe_from.key)
                teacher = (self._teaching[run.seed], MainLine.of(aloe_from).world_model.branch_epochs)
            if target.key not in runs:
                runs[target.key] = PlannedJob(
                    target, auxiliaries, run.config, state.branch_epochs, teacher, frozenset(needs), run.name
                )
            for branch_point in way:
                if branch_point.key not in prefixes:
                    label = f"shared prefix {branch_point.epoch} epochs seed={branch_point.seed}"
                    below = frozenset(f.key for f in branch_point.branch_points())
                    prefixes[branch_point.key] = PlannedJob(
                        branch_point, (), run.config, branch_point.branch_epochs, None, below, label
                    )
        return by_urgency([*prefixes.values(), *runs.values()])

    @cached_property
    def _teaching(self) -> dict[int, Config]:
        """The config of each seed's baseline."""
        return {run.seed: run.config for run in self.sweep.runs if run.point.baseline}

    def waves(self, jobs: Collection[PlannedJob], width: int | None, finished: Callable[[str], bool]) -> Iterator[list[PlannedJob]]:
        """Waves of at most `width` ready jobs, shared prefixes before runs, until none is left.

        For launchers that start a list of jobs and wait for all. `finished`: whether a target is in the store; a
        job whose needs failed is still handed out: it builds what is missing itself.
        """
        waiting, done = list(jobs), set[str]()
        while waiting:
            ready = [j for j in waiting if all(n in done or finished(n) for n in j.needs)] or waiting
            if any(j.prefix for j in ready):
                ready = [j for j in ready if j.prefix]
            wave = ready[:width]
            yield wave
            done.update(j.target.key for j in wave)
            waiting = [j for j in waiting if j not in wave]

    def start_of(self, stage: Stage) -> Stage | None:
        """What `stage` continues from where nothing but this plan has been built."""
        return next(iter(stage.branch_points()), None)

    @property
    def world_model_epochs(self) -> int:
        """Epochs of distinct training, cached or not."""
        total = 0
        for stage in self.stages.values():
            if isinstance(stage, WorldModel):
                total += stage.epoch - (stage.prefix.epoch if stage.prefix is not None else 0)
        return total


@paused_gc()
def compile_plan(sweep: Sweep) -> Plan:
    """The plan of a sweep: a branch point wherever two trainings of a seed part; they are the same for every seed."""
    points, seeds = sorted(sweep.points, key=lambda point: not point.baseline), sweep.seeds
    states = [state_of(dataclasses.replace(point.config, seed=seeds[0])) for point in points]
    branch_points = {id(point): way for point, way in zip(points, branch_points_of(states), strict=True)}
    prefixes, teachers, found = SharedPrefixes(), dict[int, Target](), dict[int, tuple[Target, tuple[Stage, ...]]]()
    for run in sorted(sweep.runs, key=lambda run: not run.point.baseline):
        state = prefixes.through(state_of(run.config), branch_points[id(run.point)])
        target = _target(run.config, state, teachers.get(run.seed))
        if run.point.baseline:
            teachers[run.seed] = target
        found[id(run)] = (target, auxiliaries_of(run.config, target))
    return Plan(sweep, tuple(found[id(r)][0] for r in sweep.runs), tuple(found[id(r)][1] for r in sweep.runs))
