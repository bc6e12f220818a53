"""ALOE in its published sizes: a training step, an evaluation, and how its batches are made."""

from __future__ import annotations

import copy
import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from ctt.core.build_context import BuildContext
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.questions.vocab import ANSWERS, QUESTION_WORDS
from ctt.data.synthetic.writing import generate
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import FrameSampling
from ctt.models.aloe.model import Aloe
from ctt.training.aloe_answers import answer
from ctt.training.batches.pieces import Piece
from ctt.training.batches.question_batches import ArrangedBatches, QuestionBatches
from ctt.training.optimizers import aloe_optimizers
from ctt.training.vqa import STEPS_ARRANGED, batch_gradients
from tests.benchmarks.harness import Comparison, Ratio, benchmark
from tests.benchmarks.published_aloe import Batch, PublishedAloe, Questions, load, loss_of, records_of

TOY = dict(layers=2, heads=2, width=16, ffn=16)


class Material:
    """Synthetic questions, rollouts (noise), and one batch of them for both ways."""

    def __init__(self, toy: bool) -> None:
        self.settings = AloeSettings(**(TOY if toy else {}), epochs=80)
        self.size = 12 if toy else 96
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            generate(DataSettings(train=4 if toy else 40, validation=1, workers=1), BuildContext(folder))
            self.split = Dataset.open(folder).split("train")
            self.split.slots = np.array(self.split.slots)
            self.table = self.split.questions
            scenes = json.loads(self.split.questions_file.read_text(encoding="utf-8"))
        random = np.random.default_rng(0)
        shape = (len(self.split.slots), 32, *self.split.slots.shape[2:])
        self.rollouts = random.standard_normal(shape, dtype=np.float32)
        self.batches = QuestionBatches(self.settings, self.split, self.rollouts)
        count = self.batches.questions
        # the published shares of the categories (FORMAT, train split): 72.1, 11.0, 4.7, 12.2 %
        shares = np.array([0.721, 0.110, 0.047, 0.122])
        kinds = self.batches.category[self.batches.first]
        weight = shares[kinds] / np.bincount(kinds, minlength=4)[kinds]
        draws = 2 if toy else STEPS_ARRANGED
        self.chosen = [random.choice(count, self.size, False, weight / weight.sum()) for _ in range(draws)]
        self.starts = random.integers(0, FrameSampling(self.settings).starts, count)
        self.starts_evaluated = np.full(count, self.settings.eval_start)
        records = records_of(scenes, {w: i + 1 for i, w in enumerate(QUESTION_WORDS)}, {a: i + 1 for i, a in enumerate(ANSWERS)})
        files = [scene["video_filename"] for scene in scenes]
        videos = np.concatenate([self.split.slots, self.rollouts], 1)
        self.loader = Questions(records, dict(zip(files, videos, strict=True)))

    def models(self, dropout: float) -> tuple[Aloe, PublishedAloe]:
        settings = copy.copy(self.settings)
        settings.dropout = dropout
        torch.manual_seed(0)
        ours = Aloe(settings)
        sizes = (settings.layers, settings.heads, settings.width, settings.ffn)
        published = PublishedAloe(*sizes, dropout, 7 * settings.frames)
        published.transformer_model.load_state_dict(ours.transformer_model.state_dict())
        return ours, published

    def published_batches(self, starts: np.ndarray) -> list[Batch]:
        return list(self.published(starts))

    def published(self, starts: np.ndarray) -> Iterator[Batch]:
        return load(self.loader, [[(int(q), int(starts[q])) for q in chosen] for chosen in self.chosen])

    def arranged(self, batches: QuestionBatches) -> ArrangedBatches:
        """All draws, arranged together as in training."""
        chosen = np.stack(self.chosen)
        return ArrangedBatches(batches, chosen, self.starts[chosen], self.settings.buckets)

    def sequences(self, chosen: np.ndarray) -> np.ndarray:
        """The rows of these questions in the published order: descriptive ones first, then all choices."""
        rows = self.batches.rows_of(chosen)
        return rows[np.argsort(self.batches.category[rows] != 0, kind="stable")]

    def sizes(self) -> dict[str, int]:
        rows = len(self.batches.rows_of(self.chosen[0]))
        return dict(questions=self.size, sequences=rows, width=self.settings.width, layers=self.settings.layers, tokens=208)


@benchmark
def aloe_train(toy: bool) -> Comparison:
    material = Material(toy)
    (batch, *_) = material.published_batches(material.starts)
    ours, published = material.models(0.1)
    optimizer = torch.optim.Adam(published.parameters(), lr=1e-3)

    def as_published() -> None:
        optimizer.zero_grad(set_to_none=True)
        loss_of(published, batch).backward()
        optimizer.step()

    def as_ours(kind: str, precision: str) -> Callable[[], None]:
        settings = copy.copy(material.settings)
        settings.dropout_kind, settings.precision = kind, precision
        torch.manual_seed(0)
        model = Aloe(settings)
        (mine,) = aloe_optimizers(model, settings)
        batches = QuestionBatches(settings, material.split, material.rollouts)

        arranged = material.arranged(batches)

        def one() -> None:
            mine.zero_grad(set_to_none=True)
            batch_gradients(model, settings, arranged, 0, "cpu")
            mine.step()

        return one

    def check() -> None:
        a, b = material.models(0.0)
        loss = loss_of(b, batch)
        loss.backward()
        values = batch_gradients(a, material.settings, material.arranged(material.batches), 0, "cpu")
        torch.testing.assert_close(values["train_loss"], loss.detach(), rtol=1e-5, atol=1e-6)
        theirs = dict(b.transformer_model.named_parameters())
        for name, p in a.transformer_model.named_parameters():
            torch.testing.assert_close(p.grad, theirs[name].grad, rtol=1e-3, atol=1e-5)

    return Comparison(
        ways={
            "published": as_published,
            "exact": as_ours("exact", "fp32"),
            "cheap dropout": as_ours("cheap", "fp32"),
            "bf16": as_ours("cheap", "bf16"),
        },
        ratios=[
            Ratio("aloe_train_exact", "published", "exact", at_least=1.3),
            Ratio("aloe_train_fast", "published", "cheap dropout", at_least=1.7),
            Ratio("aloe_train_bf16", "published", "bf16", at_least=2.4),
        ],
        check=check,
        sizes=material.sizes() | dict(buckets=material.settings.buckets),
    )


@benchmark
def aloe_eval(toy: bool) -> Comparison:
    """Against PyTorch's fast path switched off: on a CPU it is slower with it."""
    material = Material(toy)
    (batch, *_) = material.published_batches(material.starts_evaluated)
    ours, published = (model.eval() for model in material.models(0.1))

    def as_published() -> tuple[torch.Tensor, torch.Tensor]:
        before = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with torch.no_grad():
                return published(batch)
        finally:
            torch.backends.mha.set_fastpath_enabled(before)

    def as_ours(precision: str) -> Callable[[], np.ndarray]:
        settings = copy.copy(material.settings)
        settings.precision = precision
        batches = QuestionBatches(settings, material.split, material.rollouts)
        return lambda: answer(ours, settings, batches, material.chosen[0], 0, "cpu")

    def check() -> None:
        answers, options = as_published()
        rows = material.sequences(material.chosen[0])
        for precision, error in (("fp32", 1e-4), ("bf16", 0.2)):
            logits = as_ours(precision)()[rows]
            np.testing.assert_allclose(logits[: len(answers)], answers, atol=error)
            np.testing.assert_allclose(logits[len(answers) :, 0], options, atol=error)

    return Comparison(
        ways={"published": as_published, "fp32": as_ours("fp32"), "bf16": as_ours("bf16")},
        ratios=[
            Ratio("aloe_eval", "published", "fp32", at_least=1.1),
            Ratio("aloe_eval_bf16", "published", "bf16", at_least=1.8),
        ],
        check=check,
        sizes=material.sizes(),
    )


@benchmark
def aloe_data(toy: bool) -> Comparison:
    """From slots in memory in both ways; ours as aloe=default and aloe=reference hold them (bf16), and in float32."""
    material = Material(toy)
    starts = material.starts
    batches, half = (
        QuestionBatches(dataclasses.replace(material.settings, precision=p), material.split, material.rollouts)
        for p in ("fp32", "bf16")
    )

    def ours(batches: QuestionBatches) -> Iterator[Iterator[Piece]]:
        arranged = material.arranged(batches)
        return (arranged.pieces(n) for n in range(len(material.chosen)))

    def all_of(made: Callable[[], Iterable[object]]) -> Callable[[], None]:
        def one_after_another() -> None:
            for batch in made():
                for _ in batch if isinstance(batch, Iterator) else ():
                    pass

        return one_after_another

    def check() -> None:
        for pieces, chosen, batch in zip(ours(batches), material.chosen, material.published_batches(starts), strict=True):
            at = {int(row): i for i, row in enumerate(material.sequences(chosen))}
            made = list(pieces)
            assert sorted(at) == sorted(int(r) for piece in made for r in piece.rows)
            texts = torch.cat([batch["cls_text"], batch["mc_text"]])
            slots = torch.cat([batch["cls_slots"], batch["mc_slots"][batch["mc_flag"]]])
            labels = torch.cat([batch["cls_label"], batch["mc_label"]])
            for piece in made:
                there = torch.tensor([at[int(row)] for row in piece.rows])
                text = torch.zeros(len(piece.rows), 32, dtype=torch.long)
                text[:, piece.input.columns] = piece.input.text
                assert torch.equal(text, texts[there].long())
                assert torch.equal(piece.input.given[piece.input.owner], slots[there])
                assert torch.equal(piece.answer, labels[there])

    return Comparison(
        ways={
            "loader": all_of(lambda: material.published(starts)),
            "float32": all_of(lambda: ours(batches)),
            "bf16": all_of(lambda: ours(half)),
        },
        ratios=[Ratio("aloe_data", "loader", "bf16", at_least=10), Ratio("aloe_data_float32", "loader", "float32")],
        check=check,
        sizes=material.sizes() | dict(batches=len(material.chosen)),
    )
