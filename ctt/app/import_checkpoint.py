"""`ctt import-checkpoint`: published weights become artifacts and are evaluated on a data set."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from rich.console import Console

from ctt.config import Config
from ctt.core.errors import UsageError
from ctt.planning import auxiliaries_of
from ctt.stages.base import Stage, build
from ctt.stages.data import Data
from ctt.stages.imported_weights import ImportedAloe, ImportedModel
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.sweep import without_inactive
from ctt.training.published_checkpoint import Checkpoint, aloe_of, predictor_of, read


def import_checkpoint(path: Path, aloe: Path | None, evaluate: bool, config: Config, console: Console) -> int:
    """Puts a world model (and an ALOE) into the store and prints their keys; evaluate: also rolls out and fits the position reader.

    Raises DataError if a file is refused or does not fit the settings, UsageError if it is of the other kind.
    """
    config.check()
    config = without_inactive(config)
    store = Store.open(config.store)
    state = imported_model(_of_kind(read(path), "world_model"), config)
    stages: list[Stage] = [state]
    if evaluate or aloe is not None:
        rollout = Rollout(state, config.rollout)
        teacher = None if aloe is None else imported_aloe(_of_kind(read(aloe), "aloe"), rollout, config)
        answers = None if teacher is None else Vqa(rollout=rollout, aloe=config.aloe, seed=config.seed, aloe_from=teacher)
        target = answers or rollout
        stages += [target, *auxiliaries_of(config, target)]

    def on_event(what: str, stage: Stage, detail: str) -> None:
        console.print(f"{what} {stage.kind} {stage.key[:12]} {detail}".rstrip(), highlight=False, soft_wrap=True)

    for stage in stages:
        artifact = build(stage, store, device=config.device, on_event=on_event)
        metrics = artifact.path / "metrics.json"
        if metrics.is_file():
            shown = {k: v for k, v in json.loads(metrics.read_text(encoding="utf-8")).items() if k in SHOWN}
            console.print_json(json.dumps(shown))
    console.print(f"world model {state.key}", soft_wrap=True, highlight=False)
    return 0


SHOWN = ("error", "error_visible", "copy_last_visible", "linear_visible", "per_question", "per_option", "average",
         "predictive", "counterfactual")  # fmt: skip


def imported_model(checkpoint: Checkpoint, config: Config) -> ImportedModel:
    """The stage of a world model. Raises DataError if it does not fit config.world_model."""
    predictor_of(checkpoint, config.world_model)
    model = dataclasses.replace(config.world_model, epochs=0)
    return ImportedModel(
        Data(config.data), model, config.method(), config.num_masked_slots, config.seed, 0,
        tensors=checkpoint.digest, file=str(checkpoint.source),
    )  # fmt: skip


def imported_aloe(checkpoint: Checkpoint, rollout: Rollout, config: Config) -> ImportedAloe:
    """The stage of an ALOE. Raises DataError if it does not fit config.aloe."""
    aloe_of(checkpoint, config.aloe, config.data.format)
    return ImportedAloe(rollout, config.aloe, config.seed, tensors=checkpoint.digest, file=str(checkpoint.source))


def _of_kind(checkpoint: Checkpoint, kind: str) -> Checkpoint:
    if checkpoint.kind != kind:
        other = "ALOE; pass it as --aloe together with a world model" if checkpoint.kind == "aloe" else "a world model"
        raise UsageError(f"{checkpoint.source} is {other}")
    return checkpoint
