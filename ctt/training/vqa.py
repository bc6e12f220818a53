"""ALOE trained and evaluated on one world model's rollouts: the stage `vqa`.

The order of questions depends on (seed, epoch), first frames on (seed, epoch, step); the state after every step is the
same whether or not training was interrupted (see `trainer`). Evaluation is deterministic: one first frame for all
questions, fixed batches.
"""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ctt.core.atomic_files import write_json
from ctt.core.build_context import METRICS, STATE, BuildContext, read_metrics
from ctt.core.errors import DataError
from ctt.data.accuracy import metrics_of
from ctt.data.baselines.blind import blind_levels
from ctt.data.baselines.questions_asked import levels_where_asked
from ctt.data.clevrer.submission import submission
from ctt.data.dataset import Dataset
from ctt.data.sending import Ahead
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.model import Aloe, load_published
from ctt.training.aloe_answers import Rollouts, answer, autocast, evaluate, predictions_table, write_predictions
from ctt.training.batches.pieces import Piece
from ctt.training.batches.question_batches import ArrangedBatches, QuestionBatches
from ctt.training.curve import curve
from ctt.training.imagined_frames import Imaginations
from ctt.training.learner import Learner
from ctt.training.optimizers import aloe_optimizers, rate
from ctt.training.seeds import derive
from ctt.training.state import MODEL, load_weights
from ctt.training.trainer import Segment, train_segment

PREDICTIONS, METRICS_JSON = "predictions.parquet", "metrics.json"
TEST_PREDICTIONS, SUBMISSION = "test_predictions.parquet", "evalai.json"
ANSWER_LOSS = "train_answer_loss"
"""The loss of questions without choices; logged under the name of their category if that is only one."""
STEPS_ARRANGED = 32
"""Steps whose batches are arranged at once."""


def train(
    settings: AloeSettings,
    seed: int,
    dataset: Dataset,
    rollouts: Rollouts | None,
    imagined: Imaginations | None = None,
    *,
    start: Path | None = None,
    context: BuildContext,
) -> dict[str, Any]:
    """Trains ALOE for `settings.epochs` and evaluates it on the validation split; returns the contents of metrics.json.

    rollouts: {split: (V,32,S,D)}, or None for given frames alone; imagined: for aloe.rollout_frames=counterfactual; start: the
    folder of a training whose final weights are the initial ones (None: drawn from the seed). Writes into `context.folder`
    the training state (`trainer`), predictions.parquet and metrics.json; for a test split test_predictions.parquet and
    evalai.json, unless no videos of it are imagined and others are. Raises Diverged, Interrupted.
    """
    seed = seed if settings.aloe_seed is None else settings.aloe_seed
    if not _finished(context.folder, settings):
        learner = VqaLearner(settings, seed, dataset, rollouts, context, imagined)
        context.report(learner.place)
        if start is not None:
            load_published(learner.model, load_weights(start / MODEL))
        train_segment(learner, Segment(settings.epochs), seed=seed, context=context)
        del learner
        gc.collect()  # Lightning's objects form cycles that hold the training split's slots
    seconds = context.seconds
    metrics = _evaluated(settings, context.folder, dataset, rollouts, imagined, seed, context)
    metrics["curve"] = curve(
        read_metrics(context.folder / METRICS),
        names=dataset.format.categories.metrics,
        videos=validation_videos(settings, dataset),
        of=len(dataset.split("validation").slots),
        planned=settings.epochs,
    )
    metrics["cost"] = {
        "seconds": seconds,
        "steps_per_second": context.rates.get("step"),  # validations included; unknown after a single step
        "peak_memory_mib": context.peak,
    }
    write_json(context.folder / METRICS_JSON, metrics, durable=False, end="")
    return metrics


def _evaluated(
    settings: AloeSettings,
    model_folder: Path,
    dataset: Dataset,
    rollouts: Rollouts | None,
    imagined: Imaginations | None,
    seed: int,
    context: BuildContext,
) -> dict[str, Any]:
    """Writes the predictions of the validation and test splits, the latter in EvalAI's format too; returns the accuracies."""
    predictions = evaluate(settings, model_folder, dataset, rollouts, "validation", imagined, seed=seed, context=context)
    write_predictions(predictions, context.folder / PREDICTIONS)
    if "test" in dataset.splits and (imagined is None or "test" in imagined):
        test = evaluate(settings, model_folder, dataset, rollouts, "test", imagined, seed=seed, context=context)
        write_predictions(test, context.folder / TEST_PREDICTIONS)
        write_json(context.folder / SUBMISSION, submission(test, dataset.format.vocabulary), durable=False, indent=None, end="")
    metrics = metrics_of(predictions, dataset.format.categories)
    tables = dataset.split("train").questions, dataset.split("validation").questions
    metrics["blind"] = levels_where_asked(blind_levels, *tables)
    return metrics


def screen(
    settings: AloeSettings,
    seed: int,
    model_folder: Path,
    dataset: Dataset,
    rollouts: Rollouts | None,
    imagined: Imaginations | None = None,
    *,
    context: BuildContext,
) -> dict[str, Any]:
    """Evaluates the ALOE in `model_folder` on these rollouts instead of training one; writes predictions and metrics.json."""
    seed = seed if settings.aloe_seed is None else settings.aloe_seed
    metrics = _evaluated(settings, model_folder, dataset, rollouts, imagined, seed, context)
    metrics["cost"] = {"seconds": context.seconds, "peak_memory_mib": context.peak}
    write_json(context.folder / METRICS_JSON, metrics, durable=False, end="")
    return metrics


class VqaLearner(Learner):
    """ALOE's training steps, for `train_segment`."""

    model: Aloe

    def __init__(
        self,
        settings: AloeSettings,
        seed: int,
        dataset: Dataset,
        rollouts: Rollouts | None,
        context: BuildContext,
        imagined: Imaginations | None = None,
    ) -> None:
        given = {name: None if rollouts is None else rollouts.get(name) for name in ("train", "validation")}
        self.settings, self.seed, self.device, self.context = settings, seed, context.device, context
        self.precision = "tf32" if settings.precision == "tf32" else "fp32"  # bf16: by `autocast`, in forward passes alone
        seen = dict.fromkeys(given) if imagined is None else imagined
        self.train_split, self.validation = (
            QuestionBatches(settings, dataset.split(name), given[name], seen[name], torch.device(context.device)) for name in given
        )
        self.validation_split = dataset.split("validation")
        data_format = dataset.split("train").format
        self.validation_videos = validation_videos(settings, dataset)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(seed, "aloe weights"))
            self.model = Aloe(settings, data_format).to(context.device)
        if settings.compile:
            self.model.transformer_model.transformer_encoder.compile_calls(settings.compile_mode, dynamic=True)
        self.optimizers = aloe_optimizers(self.model, settings)
        self.average = settings.average
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.kinds = self.train_split.category[self.train_split.first]
        asked = np.bincount(self.kinds, minlength=len(data_format.categories))
        self.drawn = np.round(asked * np.array(self.train_split.sampling.shares)).astype(np.int64)
        if not self.drawn.any():  # the shares of few questions round to none
            self.drawn = ((asked > 0) & (np.array(self.train_split.sampling.shares) > 0)).astype(np.int64)
        if not self.drawn.any():
            names = ", ".join(data_format.categories.names)
            raise DataError(
                f"aloe.shares={settings.shares} draws from categories ({names}) of which the training split has no question"
            )
        self.batch = min(settings.batch_size, int(self.drawn.sum()))
        self.steps = int(self.drawn.sum()) // self.batch
        answered = [category.name for category in data_format.categories if not category.choices]
        self.logged_as = {ANSWER_LOSS: f"train_{answered[0]}_loss"} if len(answered) == 1 else {}
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self._arranged: tuple[tuple[int, int], ArrangedBatches] | None = None
        self._ahead = Ahead[tuple[int, int], ArrangedBatches](threaded=torch.device(context.device).type != "cpu")

    @property
    def place(self) -> str | None:
        """Where the frames are, for the log; None on the CPU, where there is no choice."""
        on_cpu = torch.device(self.device).type == "cpu"
        return (
            None if on_cpu else f"aloe.data_device={self.settings.data_device}: {self.train_split.place}, {self.validation.place}"
        )

    def questions_of(self, epoch: int, step: int) -> np.ndarray:
        """The numbers of one step's questions: a slice of the epoch's random order; the last partial batch is dropped.

        Where a category's share is under 1, each epoch draws other ones of its questions.
        """
        if self._order[0] != epoch:
            random = np.random.default_rng(derive(self.seed, "order", epoch))
            drawn = [random.permutation(np.flatnonzero(self.kinds == kind))[:count] for kind, count in enumerate(self.drawn)]
            self._order = (epoch, random.permutation(np.concatenate(drawn)))
        return self._order[1][step * self.batch : (step + 1) * self.batch]

    def gradients(self, epoch: int, step: int) -> dict[str, Tensor]:
        first = step - step % STEPS_ARRANGED
        found = batch_gradients(self.model, self.settings, self.arranged(epoch, first), step - first, self.device)
        return {self.logged_as.get(name, name): value for name, value in found.items()}

    def arranged(self, epoch: int, first: int) -> ArrangedBatches:
        """The batches of STEPS_ARRANGED steps from `first` on."""
        if self._arranged is None or self._arranged[0] != (epoch, first):
            following = first + STEPS_ARRANGED
            made = self._ahead.take(self._arrange, (epoch, first), (epoch, following) if following < self.steps else None)
            self._arranged = ((epoch, first), made)
        return self._arranged[1]

    def _arrange(self, at: tuple[int, int]) -> ArrangedBatches:
        epoch, first = at
        steps = range(first, min(first + STEPS_ARRANGED, self.steps))
        questions = np.stack([self.questions_of(epoch, step) for step in steps])
        randoms = [np.random.default_rng(derive(self.seed, "first frame", epoch, step)) for step in steps]
        starts = np.stack([random.integers(0, self.train_split.sampling.starts, self.batch) for random in randoms])
        return ArrangedBatches(self.train_split, questions, starts, self.settings.buckets)

    def schedule(self, epoch: int, step: int) -> None:
        total = (self.settings.schedule_epochs or self.settings.epochs) * self.steps
        factor = rate(epoch * self.steps + step, total, self.settings.warmup)
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * factor

    def should_stop(self, folder: Path) -> bool:
        patience = self.settings.patience
        averages = [line["average"] for line in read_metrics(folder / METRICS) if "average" in line]
        return patience is not None and bool(averages) and len(averages) - 1 - int(np.argmax(averages)) >= patience

    def validate(self, epoch: int) -> dict[str, float]:
        settings = self.settings
        if epoch + 1 < settings.epochs and (epoch + 1) % settings.eval_every:
            return {}
        questions = np.flatnonzero(self.validation.video[self.validation.first] < self.validation_videos)
        alive = self.context.alive
        logits = answer(self.model, settings, self.validation, questions, self.seed, self.device, lambda done, total: alive())
        rows = self.validation.rows_of(questions)
        table = predictions_table(self.validation_split, logits).iloc[rows]
        categories = self.validation_split.format.categories
        metrics = metrics_of(table, categories)
        values = {**metrics["per_question"], **{name: metrics[name] for name in categories.pooled}}
        values |= {f"{name}_per_option": metrics["per_option"][name] for name in categories.with_choices}
        return {name: value for name, value in values.items() if value is not None}


def validation_videos(settings: AloeSettings, dataset: Dataset) -> int:
    """The number of videos, from the first on, that validation during training uses."""
    videos = len(dataset.split("validation").slots)
    fewer = settings.eval_videos if settings.eval_every < settings.epochs else None
    return min(fewer or videos, videos)


def batch_gradients(model: Aloe, settings: AloeSettings, arranged: ArrangedBatches, batch: int, device: str) -> dict[str, Tensor]:
    """Adds the loss gradients of batch number `batch` to the model's `.grad`; returns the losses, detached."""
    descriptive, options = arranged.sequences(batch)
    totals = torch.zeros(2, device=device)
    for piece in arranged.pieces(batch):
        losses = piece_losses(model, settings, piece, descriptive, options, device)
        (losses[0] + settings.option_weight * losses[1]).backward()
        totals += losses.detach()
    return {
        "train_loss": totals[0] + settings.option_weight * totals[1],
        ANSWER_LOSS: totals[0],
        "train_option_loss": totals[1],
    }


def piece_losses(model: Aloe, settings: AloeSettings, piece: Piece, descriptive: int, options: int, device: str) -> Tensor:
    """(2,): the piece's part of the batch's descriptive and option losses, each a mean over the batch's sequences of that kind."""
    with autocast(settings, device):
        answers, choices = model(piece.input)
    truth = piece.answer
    n = piece.descriptive
    zero = answers.new_zeros((), dtype=torch.float32)
    ce = F.cross_entropy(answers[:n].float(), truth[:n], reduction="sum") / descriptive if n else zero
    bce = zero
    if len(truth) > n:
        bce = F.binary_cross_entropy_with_logits(choices[n:].float(), truth[n:].float(), reduction="sum") / options
    return torch.stack([ce, bce])


def _finished(folder: Path, settings: AloeSettings) -> bool:
    """Whether training has finished and only the evaluation is missing."""
    path = folder / STATE
    if not path.exists():
        return False
    state = json.loads(path.read_text(encoding="utf-8"))
    return bool(state["epoch"] == settings.epochs or state.get("stopped"))
