"""`ctt import-checkpoint`: published weights become artifacts and are evaluated on a data set."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ctt.config import Config, config_root
from ctt.core.errors import DataError, UsageError
from ctt.core.strict_yaml import parse_yaml
from ctt.planning import auxiliaries_of
from ctt.planning.compiled_plan import answers_of
from ctt.planning.compiled_plan import imported_model as imported_model_of
from ctt.report.published import QUOTED
from ctt.stages.base import Stage, build
from ctt.stages.imported_weights import SHAPE, ImportedAloe, ImportedModel
from ctt.stages.rollout import Rollout
from ctt.stages.validation_error import ValidationError
from ctt.store import Store
from ctt.sweep import without_inactive
from ctt.training.published_checkpoint import Checkpoint, aloe_of, check_fit, misfits, read
from ctt.training.training_settings import WorldModelSettings


def import_checkpoint(path: Path, aloe: Path | None, evaluate: bool, config: Config, console: Console) -> int:
    """Puts a world model (and an ALOE) into the store and prints their keys; evaluate: also builds and shows what depends on it.

    Raises DataError if a file is refused or does not fit the settings, UsageError if it is of the other kind.
    """
    config.check()
    config = without_inactive(config)
    store = Store.open(config.store)
    checkpoint = _of_kind(read(path), "world_model")
    state = imported_model(checkpoint, config)
    for text in doubts(checkpoint, config.world_model):
        console.print(f"warning: {text}", soft_wrap=True, highlight=False)
    stages: list[Stage] = [state]
    if evaluate or aloe is not None:
        rollout = Rollout(state, config.rollout)
        teacher = None if aloe is None else imported_aloe(_of_kind(read(aloe), "aloe"), rollout, config)
        answers = None if teacher is None else dataclasses.replace(answers_of(config, rollout), aloe_from=teacher)
        target = answers or rollout
        stages += [target, *(auxiliaries_of(config, target) if evaluate else ())]
        named = ", ".join(dict.fromkeys(stage.label for stage in _with_inputs(stages)))
        console.print(f"stages: {named}", soft_wrap=True, highlight=False)

    def on_event(what: str, stage: Stage, detail: str) -> None:
        console.print(f"{what} {stage.kind} {stage.key[:12]} {detail}".rstrip(), highlight=False, soft_wrap=True)

    for stage in stages:
        artifact = build(stage, store, device=config.device, on_event=on_event)
        metrics = artifact.path / "metrics.json"
        if metrics.is_file():
            found = json.loads(metrics.read_text(encoding="utf-8"))
            if isinstance(stage, ValidationError):
                console.print(validation_text(found["validation"]), soft_wrap=True, highlight=False)
            else:
                console.print_json(json.dumps({k: v for k, v in found.items() if k in SHOWN}))
    console.print(f"world model {state.key}", soft_wrap=True, highlight=False)
    return 0


SHOWN = ("error", "error_visible", "copy_last_visible", "linear_visible", "per_question", "per_option", "average",
         "predictive", "counterfactual")  # fmt: skip


def _with_inputs(stages: Sequence[Stage]) -> Iterator[Stage]:
    for stage in stages:
        yield from _with_inputs(list(stage.inputs().values()))
        yield stage


def validation_text(errors: Mapping[str, float | None]) -> str:
    """The validation error in one line, with those that need no model and the reported one."""
    visible = errors.get("error_visible")
    seen = "" if visible is None else f" ({visible:.4f} of visible slots)"
    reported = QUOTED["reported_baseline"]
    return (
        f"validation error, mean squared, of all slots: {errors['error']:.4f}{seen}; copying the last frame: "
        f"{errors['copy_last']:.4f} (reported for {reported.label} on CLEVRER: {reported.errors['world_model_all']})"
    )


def imported_model(checkpoint: Checkpoint, config: Config) -> ImportedModel:
    """The stage of a world model. Raises DataError if it does not fit config.world_model."""
    try:
        check_fit(checkpoint, config.world_model, config.data.format)
    except DataError as error:
        known = [f"world_model={name}" for name, shape in recipes().items() if fits(checkpoint, config.world_model, shape)]
        raise DataError(f"{error}; its shapes are those of {' and '.join(known)}" if known else str(error)) from None
    return imported_model_of(config, checkpoint.digest, str(checkpoint.source))


def doubts(checkpoint: Checkpoint, settings: WorldModelSettings) -> list[str]:
    """Recipes whose shapes the tensors have too, where the settings are no recipe's: a file does not hold all of its shape."""
    own = shape_of(settings)
    fitting = {name: shape for name, shape in recipes().items() if fits(checkpoint, settings, shape)}
    if not fitting or own in fitting.values():
        return []
    named = "; ".join(
        f"world_model={name} ({', '.join(f'{key} {value}' for key, value in shape.items() if value != own[key])})"
        for name, shape in fitting.items()
    )
    return [f"{checkpoint.source} fits, but it fits a known recipe too, and its file does not record which: {named}"]


def fits(checkpoint: Checkpoint, settings: WorldModelSettings, shape: Mapping[str, Any]) -> bool:
    """Whether a world model of that shape has tensors like those of the file."""
    return not misfits(checkpoint, dataclasses.replace(settings, **shape))


def shape_of(settings: WorldModelSettings) -> dict[str, int]:
    """The settings that a checkpoint is loaded with."""
    return {name: int(getattr(settings, name)) for name in SHAPE}


def recipes() -> dict[str, dict[str, int]]:
    """The shapes of the recipes that checkpoints were published for, by name."""
    found = {}
    for name in ("reference", "paper"):
        values = parse_yaml((config_root() / "conf" / "world_model" / f"{name}.yaml").read_text(encoding="utf-8"))["world_model"]
        found[name] = {key: int(values[key]) for key in SHAPE}
    return found


def imported_aloe(checkpoint: Checkpoint, rollout: Rollout, config: Config) -> ImportedAloe:
    """The stage of an ALOE. Raises DataError if it does not fit config.aloe."""
    aloe_of(checkpoint, config.aloe, config.data.format)
    return ImportedAloe(rollout, config.aloe, config.seed, tensors=checkpoint.digest, file=str(checkpoint.source))


def _of_kind(checkpoint: Checkpoint, kind: str) -> Checkpoint:
    if checkpoint.kind != kind:
        other = "ALOE; pass it as --aloe together with a world model" if checkpoint.kind == "aloe" else "a world model"
        raise UsageError(f"{checkpoint.source} is {other}")
    return checkpoint
