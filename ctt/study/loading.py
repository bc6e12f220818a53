"""Loading a sweep's results: from the artifacts of its runs to the report's Results and curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctt.core.build_context import METRICS, read_metrics
from ctt.core.device_use import MEASURED
from ctt.planning import Plan, parts
from ctt.report.results import PointResults, Predictions, Results, RunResults
from ctt.stages.auxiliary_stage import AuxiliaryStage
from ctt.stages.base import Stage, seconds_of
from ctt.stages.columns import AuxiliaryColumns
from ctt.stages.main_line import MainLine
from ctt.stages.validation_error import ValidationError
from ctt.store import Artifact, Store
from ctt.study.blind_levels import MOST_FREQUENT, blind_answers
from ctt.study.noise_runs import noise, predictions_of
from ctt.study.protocol import follows_reported, protocol
from ctt.study.reach import graphs_read, reach, unreached
from ctt.study.run_devices import RunDevices
from ctt.tracking.tail import FINALS, flatten

if TYPE_CHECKING:
    from ctt.report.figures.curves import Curve


def results(plan: Plan, store: Store, blind: bool = True) -> Results:
    """The results of a plan's finished runs; a run whose artifacts are missing has no predictions. blind: with the levels without
    the video."""
    screened = {id(r.point) for r, line in zip(plan.sweep.runs, plan.lines, strict=True) if line.aloe_from is not None}
    baseline = plan.sweep.baseline.config
    points = [
        PointResults(
            p.label,
            p.values,
            p.baseline,
            ("screened",) if id(p) in screened else (),
            () if p.baseline else unreached(p.config, baseline, id(p) in screened),
        )
        for p in plan.sweep.points
    ]
    runs, devices = [], RunDevices(store)
    index = {id(p): i for i, p in enumerate(plan.sweep.points)}
    for run, line, auxiliaries in zip(plan.sweep.runs, plan.lines, plan.auxiliaries, strict=True):
        point = index[id(run.point)]
        last = store.get(line.target.key)
        if last is None:
            runs.append(RunResults(point, run.seed))
            continue
        state, rollout = store.get(line.world_model.key), store.get(line.rollout.key)
        runs.append(
            RunResults(
                point,
                run.seed,
                predictions=predictions_of(last) if line.answers is not None else None,
                errors=errors(state, rollout, _error_of_imported(auxiliaries, store)),
                answered=_answered(auxiliaries, store),
                measured=_measured(auxiliaries, store),
                cost=_cost((*line.own, *auxiliaries), line.prefix, store),
                numerics=last.manifest["provenance"]["numerics"],
                devices=devices.of(parts(line.target, auxiliaries)),
                warnings=_warnings(line, last, auxiliaries, store),
            )
        )
    return Results(
        plan.sweep.name,
        points,
        runs,
        quoted=baseline.data.source.reported,
        noise=noise(plan, store),
        reach=[*reach(plan), *graphs_read(plan)],
        reference_levels=reference_levels(plan, store),
        unread=unread(plan, store),
        auxiliary=described(plan),
        blind=blind_answers(plan, store) if blind and any(run.predictions is not None for run in runs) else {},
        protocol=protocol(plan.sweep.points[-1].config),
        same_protocol=follows_reported(plan.sweep.points[-1].config),
        categories=plan.categories,
    )


def described(plan: Plan) -> list[AuxiliaryColumns]:
    """What the auxiliary stages of a plan add to tables, in the order in which a run builds them."""
    return list({stage.kind: stage.described() for stages in plan.auxiliaries for stage in _with_columns(stages)}.values())


def _with_columns(stages: Sequence[Stage]) -> list[AuxiliaryStage]:
    return [stage for stage in stages if isinstance(stage, AuxiliaryStage)]


def _answered(auxiliaries: Sequence[Stage], store: Store) -> dict[str, Predictions]:
    """The answers to questions of a run's auxiliary stages, by kind, of those that are finished and have any."""
    found: dict[str, Predictions] = {}
    for stage in _with_columns(auxiliaries):
        artifact = store.get(stage.key) if stage.answers else None
        if artifact is not None and (artifact.path / stage.answers).is_file():
            found[stage.kind] = predictions_of(artifact, stage.answers)
    return found


def _measured(auxiliaries: Sequence[Stage], store: Store) -> dict[str, dict[str, float]]:
    """{kind: {column: number}} of a run's auxiliary stages, from their metrics.json."""
    found = {}
    for stage in _with_columns(auxiliaries):
        names = [column.name for column in stage.columns if not column.answers]
        artifact = store.get(stage.key) if names else None
        if artifact is not None and (artifact.path / FINALS).is_file():
            numbers = flatten(_json(artifact.file(FINALS)))
            found[stage.kind] = {name: numbers[name] for name in names if name in numbers}
    return found


def reference_levels(plan: Plan, store: Store) -> dict[str, dict[str, Predictions]]:
    """{kind of auxiliary stage: {label: its answers without a world model}}; without a kind whose runs have different ones."""
    places: dict[str, set[tuple[tuple[str, str, str], ...]]] = {}
    for stage in (stage for stages in plan.auxiliaries for stage in _with_columns(stages)):
        references = tuple((label, other.key, file) for label, (other, file) in stage.references().items())
        places.setdefault(stage.kind, set()).add(references)
    found: dict[str, dict[str, Predictions]] = {}
    for kind, all_references in places.items():
        for label, key, file in all_references.pop() if len(all_references) == 1 else ():
            if (artifact := store.get(key)) is not None and (artifact.path / file).is_file():
                found.setdefault(kind, {})[label] = predictions_of(artifact, file)
    return found


def unread(plan: Plan, store: Store) -> dict[str, list[dict[str, Any]]]:
    """{kind of auxiliary stage: the questions that it cannot read}, as the artifacts of its references list them."""
    stages = {stage.key: stage for stages in plan.auxiliaries for stage in _with_columns(stages)}
    found: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    for kind, key in dict.fromkeys((s.kind, other.key) for s in stages.values() for other, _ in s.references().values()):
        artifact = store.get(key)
        if artifact is not None and (artifact.path / FINALS).is_file():
            listed = _json(artifact.file(FINALS)).get("unread", ())
            if listed:
                found.setdefault(kind, {}).update({(one["scene"], one["question_id"]): one for one in listed})
    return {kind: list(listed.values()) for kind, listed in found.items()}


def _warnings(line: MainLine, last: Artifact, auxiliaries: Sequence[Stage], store: Store) -> list[str]:
    """Warnings of a run: those of its stages, and that ALOE stopped early."""
    stages = [*line.own, *auxiliaries]
    warnings = [store.manifest(stage.key).get("facts", {}).get("warning") for stage in stages if store.has(stage.key)]
    if line.answers is not None and line.answers.aloe.patience is not None:
        curve = _json(last.file("metrics.json")).get("curve", {})  # an ALOE that was only evaluated has none
        if curve.get("stopped"):
            warnings.append(f"ALOE stopped after {curve['epochs']} of {curve['planned_epochs']} epochs")
    return [warning for warning in warnings if warning]


def diagnoses(plan: Plan, store: Store) -> dict[str, list[dict[str, Any]]]:
    """{label of a point: diagnoses of its runs, see ctt/training/diagnostics.py}, of those that are finished."""
    return measurements(plan, store, "diagnostics")


def measurements(plan: Plan, store: Store, kind: str) -> dict[str, list[dict[str, Any]]]:
    """{label of a point: what the auxiliary stage `kind` measured of its runs (metrics.json)}, of those that are finished."""
    out: dict[str, list[dict[str, Any]]] = {}
    for run, auxiliaries in zip(plan.sweep.runs, plan.auxiliaries, strict=True):
        for auxiliary in auxiliaries:
            if auxiliary.kind == kind and (artifact := store.get(auxiliary.key)) is not None:
                out.setdefault(run.point.label, []).append(_json(artifact.file("metrics.json")))
    return out


def _error_of_imported(auxiliaries: Sequence[Stage], store: Store) -> Artifact | None:
    """What was measured of imported weights, as a training state has it of itself."""
    return next((store.get(stage.key) for stage in auxiliaries if isinstance(stage, ValidationError)), None)


def errors(state: Artifact | None, rollout: Artifact | None, measured: Artifact | None = None) -> dict[str, float]:
    """{"world_model", "rollout"}: mean squared errors of visible slots, where visibility is known; with "_all" of all slots.

    measured: where the world model's are if its state has none.
    """
    out: dict[str, float] = {}
    state = measured or (state if state is not None and (state.path / FINALS).is_file() else None)
    if state is not None:
        out |= _both_errors("world_model", _json(state.file("metrics.json"))["validation"])
    if rollout is not None:
        out |= _both_errors("rollout", _json(rollout.file("metrics.json")))
    return out


def _both_errors(name: str, metrics: dict[str, Any]) -> dict[str, float]:
    """Where visibility is unknown, stages take every slot for visible: the two are then equal to the last bit, and of all slots."""
    if metrics.get("error_visible") == metrics.get("error"):
        metrics = metrics | {"error_visible": None}
    known = {name: metrics.get("error_visible"), f"{name}_all": metrics.get("error")}
    return {kind: float(value) for kind, value in known.items() if value is not None}


def error_of(metrics: dict[str, Any], name: str = "error") -> float:
    """`name` on visible slots, or on all where visibility is unknown."""
    value = metrics.get(f"{name}_visible")
    return float(metrics[name] if value is None else value)


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _cost(own: Sequence[Stage], prefix: Sequence[Stage], store: Store) -> dict[str, float]:
    """Device-hours of the run's own stages and of its shared prefix; for each own stage hours, units of progress (training:
    steps) per second, and peak memory in MiB, where recorded."""
    out = {"device_hours": 0.0, "shared_prefix_hours": 0.0}
    for name, stages in (("device_hours", own), ("shared_prefix_hours", prefix)):
        for stage in stages:
            if not store.has(stage.key):
                continue
            provenance = store.manifest(stage.key)["provenance"]
            hours = seconds_of(provenance) / 3600
            out[name] += hours
            if stages is own:
                out[f"{stage.kind}_hours"] = hours
                if rates := provenance.get("rate", {}):
                    out[f"{stage.kind}_rate"] = rates.get("step", next(iter(rates.values())))
                if "peak_memory_mib" in provenance:
                    out[f"{stage.kind}_memory_mib"] = provenance["peak_memory_mib"]
    return out


OF_BOTH = {"train_loss": "vqa_loss"} | {
    name: f"aloe_{name}" for name in ("gradient_norm", "learning_rate", "muon_learning_rate", *MEASURED)
}
"""What the world model and ALOE log under one name: what it is called of ALOE."""


def curves(plan: Plan, store: Store) -> list[Curve]:
    """Each run's metrics by epoch, its shared prefix included. ALOE's training loss is vqa_loss; what else the world model logs
    too is aloe_NAME of ALOE."""
    from ctt.report.figures.curves import Curve  # imports matplotlib

    out = []
    for run, line in zip(plan.sweep.runs, plan.lines, strict=True):
        metrics: dict[str, list[tuple[float, float]]] = {}
        for stage in (*line.training, line.target):
            artifact = store.get(stage.key)
            if artifact is None or not (artifact.path / METRICS).is_file():
                continue
            for logged in read_metrics(artifact.path / METRICS):
                for name, value in logged.items():
                    if stage.kind == "vqa" and name in OF_BOTH:
                        name = OF_BOTH[name]
                    elif name == "validation_error" and "validation_error_visible" in logged:
                        value = logged["validation_error_visible"]
                    if name not in ("t", "step"):
                        metrics.setdefault(name, []).append((logged["step"], value))
        out.append(Curve(run.point.label, run.seed, metrics))
    return out


def reference_lines(plan: Plan, store: Store) -> dict[str, tuple[str, float]]:
    """{metric: (label, value)} for curves: the error of copying the last frame, and the blind level of each category."""
    out: dict[str, tuple[str, float]] = {}
    line = plan.lines[0]
    if (state := store.get(line.world_model.key)) is not None and (state.path / FINALS).is_file():
        validation = _json(state.file("metrics.json"))["validation"]
        if "copy_last" in validation:
            out["validation_error"] = ("copy of the last frame", error_of(validation, "copy_last"))
    if line.answers is not None and (vqa := store.get(line.answers.key)) is not None:
        blind = _json(vqa.file("metrics.json")).get("blind", {})
        for category, value in {**blind.get("per_question", {}), "average": blind.get("average")}.items():
            if value is not None:
                out[category] = (MOST_FREQUENT, value)
    return out


def curve_videos(plan: Plan, store: Store) -> tuple[int, int] | None:
    """Of how many validation videos the accuracies during ALOE's training are, and how many there are; None: of all."""
    for line in plan.lines:
        vqa = None if line.answers is None else store.get(line.answers.key)
        found = {} if vqa is None else _json(vqa.file("metrics.json")).get("curve", {})
        if found.get("videos", 0) < found.get("of", 0):
            return int(found["videos"]), int(found["of"])
    return None


def rollout_curves(plan: Plan, store: Store) -> list[Curve]:
    """Each run's error by predicted frame, on visible slots where visibility is known."""
    from ctt.report.figures.curves import Curve
    from ctt.report.figures.rollout_errors import ERROR

    out = []
    for run, line in zip(plan.sweep.runs, plan.lines, strict=True):
        by_frame = per_frame(store.get(line.rollout.key), "error")
        out.append(Curve(run.point.label, run.seed, {ERROR: list(enumerate(by_frame, start=1))}))
    return out


def rollout_references(plan: Plan, store: Store) -> dict[str, list[float]]:
    """The same without a world model, by copying or linear extrapolation; {} where the true future is not known."""
    for line in plan.lines:
        rollout = store.get(line.rollout.key)
        if (copied := per_frame(rollout, "copy_last")) and (straight := per_frame(rollout, "linear")):
            return {"copy of the last frame": copied, "linear extrapolation": straight}
    return {}


def per_frame(rollout: Artifact | None, name: str) -> list[float]:
    """A rollout's errors by frame, on visible slots where visibility is known; [] without errors."""
    found = {} if rollout is None else _json(rollout.file("metrics.json")).get("per_frame", {})
    return list(found.get(f"{name}_visible") or found.get(name) or [])
