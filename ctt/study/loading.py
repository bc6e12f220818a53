"""Showing a sweep: from the artifacts of its runs to the report's Results and its curves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ctt.config import Config
from ctt.core.build_context import METRICS, read_metrics
from ctt.core.settings import canonical_form
from ctt.plan import Plan
from ctt.report.figures import comparison
from ctt.report.figures.rollout_errors import ERROR
from ctt.report.results import PointResults, Predictions, Results, RunResults
from ctt.stages.base import Stage, seconds_of
from ctt.stages.position_reader import PositionReader
from ctt.stages.reader_fit import ReaderFit
from ctt.stages.vqa import Vqa
from ctt.store import Artifact, Store
from ctt.study.noise_runs import noise, predictions_of

ANSWERS = "answers.parquet"
LEVELS = {  # the reader's levels (ctt/data/levels.py) as a table calls them
    "true_future": "true future",
    "linear": "linear extrapolation",
    "copy_last": "copy of the last frame",
    "unchanged": "object not removed",
}
QUOTED = {"clevrer": ("reported", "paper"), "synthetic": ("reported",)}


def results(plan: Plan, store: Store) -> Results:
    """What the finished runs of a plan measured; a run whose artifacts are missing is there without predictions."""
    screened = {id(r.point) for r, t in zip(plan.sweep.runs, plan.targets, strict=True) if t.taught_by is not None}
    baseline = plan.sweep.baseline.config
    points = [
        PointResults(
            p.label,
            p.values,
            p.baseline,
            ("screened",) if id(p) in screened else (),
            () if p.baseline else _unreached(p.config, baseline, id(p) in screened),
        )
        for p in plan.sweep.points
    ]
    runs = []
    index = {id(p): i for i, p in enumerate(plan.sweep.points)}
    for run, target, auxiliaries in zip(plan.sweep.runs, plan.targets, plan.auxiliaries, strict=True):
        place = index[id(run.point)]
        vqa = store.get(target.key)
        if vqa is None:
            runs.append(RunResults(place, run.seed))
            continue
        state, rollout = store.get(target.rollout.state.key), store.get(target.rollout.key)
        runs.append(
            RunResults(
                place,
                run.seed,
                predictions=predictions_of(vqa),
                errors=errors(state, rollout),
                reader=_answers(auxiliaries, store),
                cost=_cost((target.rollout.state, target.rollout, target, *auxiliaries), lineage(target)[:-1], store),
                numerics=vqa.manifest["provenance"]["numerics"],
                warnings=_warnings(target, vqa, auxiliaries, store),
            )
        )
    published = QUOTED[baseline.data.kind]
    return Results(
        plan.sweep.name,
        points,
        runs,
        quoted=published,
        noise=noise(plan, store),
        reach=reach(plan),
        levels=levels_of_reading(plan, store),
    )


def _answers(auxiliaries: Sequence[Stage], store: Store) -> Predictions | None:
    """What the position reader beside a run answered, if it has."""
    for auxiliary in auxiliaries:
        artifact = store.get(auxiliary.key) if isinstance(auxiliary, PositionReader) else None
        if artifact is not None and (artifact.path / ANSWERS).is_file():
            return predictions_of(artifact, ANSWERS)
    return None


def levels_of_reading(plan: Plan, store: Store) -> dict[str, Predictions]:
    """What the position reader answers of the true future and the like; only of a sweep over one data set."""
    probes = {s.key: s for s in plan.stages.values() if isinstance(s, ReaderFit)}
    artifact = store.get(next(iter(probes))) if len(probes) == 1 else None
    if artifact is None:
        return {}
    there = {text: f"{name}.parquet" for name, text in LEVELS.items()}
    return {text: predictions_of(artifact, f) for text, f in there.items() if (artifact.path / f).is_file()}


def _warnings(target: Vqa, vqa: Artifact, auxiliaries: Sequence[Stage], store: Store) -> list[str]:
    """What a reader has to know of a run: what its diagnostics warn of, and that its ALOE was trained for fewer epochs."""
    told = [
        store.manifest(auxiliary.key)["facts"].get("warning") for auxiliary in auxiliaries if store.has(auxiliary.key)
    ]
    if target.aloe.patience is not None:
        curve = _json(vqa.file("metrics.json")).get("curve", {})  # none of an ALOE that was only evaluated
        if curve.get("stopped"):
            told.append(f"ALOE stopped after {curve['epochs']} of {curve['planned_epochs']} epochs")
    return [warning for warning in told if warning]


def diagnoses(plan: Plan, store: Store) -> dict[str, list[dict[str, Any]]]:
    """{point: what the diagnostics of each of its runs measured, see ctt/training/diagnostics.py}, as far as it is there."""
    out: dict[str, list[dict[str, Any]]] = {}
    for run, auxiliaries in zip(plan.sweep.runs, plan.auxiliaries, strict=True):
        for auxiliary in auxiliaries:
            if auxiliary.kind == "diagnostics" and (artifact := store.get(auxiliary.key)) is not None:
                out.setdefault(run.point.label, []).append(_json(artifact.file("metrics.json")))
    return out


def _unreached(config: Config, baseline: Config, screened: bool) -> tuple[str, ...]:
    """Categories that a point cannot reach: with the baseline's ALOE only those that read predicted frames can differ."""
    same = screened or not (config.aloe.trained_on_predicted or config.aloe.may_stop)
    if same and config.aloe.rollout_frames == "predictive" and not _direct(config, baseline):
        return ("descriptive", "explanatory", "counterfactual")
    return ()


def reach(plan: Plan) -> list[str]:
    """Which categories can differ from the baseline's because of what is swept, and by what way."""
    by_way: dict[str, list[str]] = {}
    for point in plan.sweep.points:
        if not point.baseline:
            by_way.setdefault(_way(point.config, plan.sweep.baseline.config), []).append(point.label)
    if len(by_way) < 2:
        return [f"reach: {way}" for way in by_way]
    return [f"reach of {', '.join(labels)}: {way}" for way, labels in by_way.items()]


def _way(config: Config, baseline: Config) -> str:
    aloe = config.aloe
    if direct := _direct(config, baseline):
        return f"a change of {' and of '.join(direct)} reaches all four categories directly ({', '.join(sum(direct.values(), []))})"
    if aloe.rollout_frames == "all":
        return "every category reads predicted frames, so a world model reaches all four directly (aloe.rollout_frames=all)"
    only = "only predictive questions read predicted frames, so a world model reaches them directly"
    if aloe.protocol == "shared":
        return f"{only}, and with one ALOE for all runs nothing else (aloe.rollout_frames=predictive, aloe.protocol=shared)"
    others = "descriptive, explanatory and counterfactual ones"
    if aloe.trained_on_predicted:
        return f"{only}, {others} through ALOE's shared weights alone (aloe.rollout_frames=predictive)"
    blind = f"{only}, in evaluation alone, as ALOE is trained without them"
    if aloe.may_stop:
        return f"{blind}, {others} through the epoch at which ALOE stops (aloe.shares, aloe.patience)"
    return f"{blind}, and nothing else (aloe.rollout_frames=predictive, aloe.shares)"


def _direct(config: Config, baseline: Config) -> dict[str, list[str]]:
    """What a point changes besides the world model: {"ALOE itself", "the data": settings that are not the baseline's}."""
    found = {}
    for name, text in (("aloe", "ALOE itself"), ("data", "the data")):
        mine, theirs = canonical_form(getattr(config, name)), canonical_form(getattr(baseline, name))
        differ = [key for key in {**theirs, **mine} if key != "protocol" and mine.get(key) != theirs.get(key)]
        if differ:
            found[text] = [f"{name}.{key}" for key in differ]
    return found


def errors(state: Artifact | None, rollout: Artifact | None) -> dict[str, float]:
    """{"world_model", "rollout"}: mean squared errors, on visible slots where the data set says which these are."""
    out = {}
    if state is not None:
        out["world_model"] = error_of(_json(state.file("metrics.json"))["validation"])
    if rollout is not None:
        metrics = _json(rollout.file("metrics.json"))
        if "error" in metrics:
            out["rollout"] = error_of(metrics)
    return out


def error_of(metrics: dict[str, Any], name: str = "error") -> float:
    """`name` on visible slots, or on all where visibility is unknown."""
    value = metrics.get(f"{name}_visible")
    return float(metrics[name] if value is None else value)


def _json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _cost(own: Sequence[Stage], prefix: Sequence[Stage], store: Store) -> dict[str, float]:
    """Hours of the run's own stages and of the shared prefix it shares; of each of its stages hours, units of progress a second
    (training: steps) and peak memory, as far as they were recorded."""
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


def curves(plan: Plan, store: Store) -> list[comparison.Curve]:
    """Each run's metrics by epoch, a branch's shared prefix included; ALOE's training loss under vqa_loss."""
    out = []
    for run, target in zip(plan.sweep.runs, plan.targets, strict=True):
        metrics: dict[str, list[tuple[float, float]]] = {}
        for stage in (*lineage(target), target):
            artifact = store.get(stage.key)
            if artifact is None or not (artifact.path / METRICS).is_file():
                continue
            for line in read_metrics(artifact.path / METRICS):
                for name, value in line.items():
                    if stage.kind == "vqa" and name == "train_loss":
                        name = "vqa_loss"
                    elif name == "validation_error" and "validation_error_visible" in line:
                        value = line["validation_error_visible"]
                    if name not in ("t", "step"):
                        metrics.setdefault(name, []).append((line["step"], value))
        out.append(comparison.Curve(run.point.label, run.seed, metrics))
    return out


def levels(plan: Plan, store: Store) -> dict[str, tuple[str, float]]:
    """Reference lines of the curves: what copying the last frame errs, and what answering without seeing gets right."""
    out: dict[str, tuple[str, float]] = {}
    target = plan.targets[0]
    if (state := store.get(target.rollout.state.key)) is not None:
        validation = _json(state.file("metrics.json"))["validation"]
        if "copy_last" in validation:
            out["validation_error"] = ("copying the last frame", error_of(validation, "copy_last"))
    if (vqa := store.get(target.key)) is not None:
        blind = _json(vqa.file("metrics.json")).get("blind", {})
        for category, value in {**blind.get("per_question", {}), "average": blind.get("average")}.items():
            if value is not None:
                out[category] = ("blind, by question form", value)
    return out


def rollout_curves(plan: Plan, store: Store) -> list[comparison.Curve]:
    """Each run's error by predicted frame, on visible slots where the data set says which these are."""
    out = []
    for run, target in zip(plan.sweep.runs, plan.targets, strict=True):
        errors_made = per_frame(store.get(target.rollout.key), "error")
        out.append(comparison.Curve(run.point.label, run.seed, {ERROR: list(enumerate(errors_made, start=1))}))
    return out


def rollout_levels(plan: Plan, store: Store) -> dict[str, list[float]]:
    """The same of no world model: copying the last frame, and going on linearly; {} where the true future is not known."""
    for target in plan.targets:
        rollout = store.get(target.rollout.key)
        if (copied := per_frame(rollout, "copy_last")) and (straight := per_frame(rollout, "linear")):
            return {"copying the last frame": copied, "linear extrapolation": straight}
    return {}


def per_frame(rollout: Artifact | None, name: str) -> list[float]:
    """A rollout's errors frame by frame, on visible slots where these are known; [] where there are none."""
    found = {} if rollout is None else _json(rollout.file("metrics.json")).get("per_frame", {})
    return list(found.get(f"{name}_visible") or found.get(name) or [])


def lineage(target: Vqa) -> list[Any]:
    """The world-model states a run goes through, the first branch point first."""
    chain: list[Any] = [target.rollout.state]
    while branch_points := chain[0].branch_points():
        chain.insert(0, branch_points[0])
    return chain
