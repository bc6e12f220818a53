"""ALOE's answers: a trained model's predictions for all questions of a split, as a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from ctt.core.atomic_files import replacing
from ctt.core.build_context import BuildContext
from ctt.core.errors import StoreError
from ctt.data.dataset import Dataset, Split
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.model import Aloe, load_published
from ctt.training.batches.question_batches import QuestionBatches
from ctt.training.imagined_frames import Imaginations
from ctt.training.precision import matrix_products
from ctt.training.seeds import derive
from ctt.training.state import MODEL

EVALUATION_ROWS = 256
"""Maximum number of sequences per forward pass."""
EVALUATION_TOKENS = 2048
"""Approximate number of tokens per forward pass on a CPU; more would not fit its cache."""
Rollouts = Mapping[str, np.ndarray]
"""{split: predicted frames (V,32,S,D)}."""


def evaluate(
    settings: AloeSettings,
    model_folder: Path,
    dataset: Dataset,
    rollouts: Rollouts | None,
    split: str,
    imagined: Imaginations | None = None,
    *,
    seed: int = 0,
    context: BuildContext,
) -> pd.DataFrame:
    """The predictions table of `split` by the ALOE in `model_folder`: one row per sequence, in the question table's order.

    Columns: scene, video, question_id, choice_id (−1: without choices), category, form, truth (−1: unknown), prediction (a class,
    where 0 is padding and never correct; 0 or 1 for an option), correct (False if truth is unknown), logit (of the predicted
    class, or of the option), logits (a list: of all classes for a question without choices, one for an option).
    `seed` matters only if `settings.eval_start` is null. Raises Interrupted; partial results are discarded.
    """

    def tick(done: int, total: int) -> None:
        context.progress(done, total, "sequence", split=split)
        if context.stopping:
            context.stop()

    part = dataset.split(split)
    model = load(model_folder, settings, part).to(context.device)
    seen = None if imagined is None else imagined[split]
    given, device = None if rollouts is None else rollouts.get(split), torch.device(context.device)
    batches = QuestionBatches(settings, part, given, seen, device)
    return predictions_table(part, answer(model, settings, batches, np.arange(batches.questions), seed, context.device, tick))


def load(folder: Path, settings: AloeSettings, split: Split) -> Aloe:
    """The ALOE of a training state's folder, in eval mode. Raises StoreError if it is missing, DataError if shapes differ."""
    model = Aloe(settings, split.format)
    try:
        state = load_file(folder / MODEL)
    except (OSError, ValueError) as error:
        raise StoreError(f"{folder} holds no {MODEL}: {error}") from error
    load_published(model, state)
    return model.eval()


def autocast(settings: AloeSettings, device: str) -> torch.autocast:
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=settings.precision == "bf16")


@torch.no_grad()
def answer(
    model: Aloe,
    settings: AloeSettings,
    batches: QuestionBatches,
    questions: np.ndarray,
    seed: int,
    device: str,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """Logits (R,classes) float32 for all rows of the split: one and NaN in the row of an option.

    Rows of other questions hold only NaN. `tick(done, total)` is called with the number of sequences answered so far.
    """
    logits = np.full((len(batches.video), len(model.vocabulary.answers) + 1), np.nan, np.float32)
    random = np.random.default_rng(derive(seed, "first frame in evaluation"))
    starts = random.integers(0, batches.sampling.starts, batches.questions)
    if settings.eval_start is not None:
        starts[:] = settings.eval_start
    sequences = int(batches.options[questions].sum())
    at_a_time = EVALUATION_ROWS
    if torch.device(device).type == "cpu":
        at_a_time = min(at_a_time, max(1, EVALUATION_TOKENS // model.longest))
    count, by_layout = math.ceil(sequences / at_a_time), settings.words == "tokens"
    pieces = batches.pieces(questions, starts[questions], count, by_layout)
    done = 0
    rows, answered, chosen = [], [], []
    # around the loop, so that weights are cast once
    with autocast(settings, device), matrix_products(settings.precision, device):
        for piece in pieces:
            answers, choices = model(piece.input)
            n = piece.descriptive
            rows.append((piece.rows[:n], piece.rows[n:]))
            answered.append(answers[:n].float())
            chosen.append(choices[n:].float())
            done += len(piece.rows)
            tick(done, sequences)
    if rows:  # all are read at once, since reading waits for the device
        read = torch.cat([torch.cat(answered).flatten(), torch.cat(chosen)]).cpu().numpy()
        descriptive, options = (np.concatenate(part) for part in zip(*rows, strict=True))
        cut = len(read) - len(options)
        logits[descriptive] = read[:cut].reshape(-1, logits.shape[1])
        logits[options, 0] = read[cut:]
    return logits


def predictions_table(split: Split, logits: np.ndarray) -> pd.DataFrame:
    """The questions of the split with the predictions that follow from logits (R,classes); −1 in rows without logits."""
    table = split.questions
    truth = np.asarray(table.answer, np.int32)
    descriptive = ~table.has_choices
    logit = np.where(descriptive, logits.max(1), logits[:, 0])
    prediction = np.where(descriptive, logits.argmax(1), logits[:, 0] > 0).astype(np.int32)
    prediction[np.isnan(logit)] = -1
    return pd.DataFrame(
        {
            "scene": np.asarray(table.scene, np.int64),
            "video": np.asarray(table.video, np.int32),
            "question_id": np.asarray(table.question_id, np.int32),
            "choice_id": np.asarray(table.choice_id, np.int32),
            "category": table.category_names,
            "form": np.array(table.forms)[table.form],
            "truth": truth,
            "prediction": prediction,
            "correct": prediction == truth,
            "logit": logit,
            "logits": [row if full else row[:1] for row, full in zip(logits, descriptive, strict=True)],
        }
    )


def write_predictions(predictions: pd.DataFrame, path: Path) -> None:
    """Writes parquet atomically; its bytes depend only on the table and on pyarrow's version."""
    with replacing(path) as temporary:
        predictions.to_parquet(temporary, engine="pyarrow", index=False, compression="zstd")
