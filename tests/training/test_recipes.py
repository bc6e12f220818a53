"""The shipped recipes: a training step of each equals that of the literal model, with the published or the corrected values."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ctt.config import Config, compose
from ctt.core.build_context import BuildContext
from ctt.models.draws import Draws
from ctt.training import world_model
from ctt.training.batches import window_batches
from ctt.training.vqa import VqaLearner
from tests.models import literal_world_model as literal
from tests.models.aloe.literal_aloe import LiteralAloe
from tests.training import toy_questions
from tests.training.numbered import first_frames, numbered

VIDEOS, FRAMES, SLOTS, WIDTH, BATCH = 3, 40, 7, 16, 4
SMALL = [
    "world_model.depth=2", "world_model.heads=2", "world_model.mlp_width=24", "world_model.dropout=0",
    f"world_model.batch_size={BATCH}", "ctt_inv_weight=0.2", "ctt_suf_weight=0.1", "ctt_start_epoch=0",
]  # fmt: skip
PUBLISHED = {"reference": (3, 1, 5, [0, 1]), "paper": (6, 10, 2, [0, 1, 2, 5])}  # H, P, frameskip, masked slots
FAULTS = {  # the published value, the corrected one
    "graph.frames": ("mean", "sum"),
    "graph.scope": ("batch", "sample"),
    "graph.dropout": ("after", "before"),
    "share_dropout": (False, True),
    "masking.draw": ("fixed", "batch"),
    "masking.seed": (42, 42),
    "windows.all_starts": (False, True),
}


def value(config: Config, name: str) -> object:
    found: object = config.world_model
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("recipe, fault", [("reference", 0), ("paper", 0), ("default", 1), ("mini", 1)])
def test_a_recipe_has_the_published_or_the_corrected_values(recipe: str, fault: int) -> None:
    config = compose([f"world_model={recipe}"])
    assert {name: value(config, name) for name in FAULTS} == {name: both[fault] for name, both in FAULTS.items()}
    assert config.world_model.graph.source == "attention"
    if recipe in PUBLISHED:
        made = config.world_model
        assert (made.history_size, made.num_preds, made.frameskip) == PUBLISHED[recipe][:3]
        assert (made.depth, made.heads, made.mlp_width, made.dropout, made.epochs) == (6, 16, 2048, 0.1, 30)
        assert (made.optimizer, made.learning_rate, made.weight_decay, made.precision) == ("adamw", 5e-4, 0.01, "fp32")
        assert made.decay_steps is None and made.average is None and made.windows.per_epoch is None
        assert made.batch_size == {"reference": 2048, "paper": 256}[recipe]


def dataset() -> SimpleNamespace:
    slots = np.random.default_rng(0).normal(size=(VIDEOS, FRAMES, SLOTS, WIDTH)).astype(np.float32)
    split = SimpleNamespace(slots=slots, visible=None)
    return SimpleNamespace(split=lambda name: split)


@pytest.mark.parametrize("recipe", ["reference", "paper", "default"])
def test_a_step_of_a_recipe_equals_the_literal_one(recipe: str) -> None:
    """From the windows to the gradients; attention is made uneven, so that graphs differ."""
    config, data = compose([f"world_model={recipe}", *SMALL]), dataset()
    published = recipe in PUBLISHED
    history, future, skip, fixed = PUBLISHED[recipe if published else "reference"]
    made: list[Draws] = []
    real = window_batches.draw_slots
    with mock.patch.object(window_batches, "draw_slots", lambda *a: made.append(real(*a)) or made[-1]):
        learner = world_model.WorldModelLearner(config.world_model, config.method(), config.num_masked_slots, 5, data, "cpu")
        with torch.no_grad():
            for layer in learner.predictor.transformer.layers:
                layer[0].in_proj_weight[: 2 * WIDTH] *= 6
        terms = learner.gradients(0, 0)

    starts = FRAMES - (history + future) * skip + 1 if published else FRAMES - (history + future - 1) * skip
    numbers = learner.batches.order(0)
    assert sorted(numbers) == list(range(VIDEOS * starts))
    x = torch.stack(
        [torch.from_numpy(data.split("train").slots[n // starts, n % starts :: skip][: history + future]) for n in numbers[:BATCH]]
    )
    model = literal.LiteralPredictor(history, future, 2, 2, 24, WIDTH)
    model.load_state_dict(learner.predictor.state_dict())
    removed, target = (made[0].terms[name].tolist() for name in ("invariance", "sufficiency"))  # type: ignore[union-attr]
    masked = [row.nonzero().flatten().tolist() for row in made[0].masked]
    main, ahead = literal.prediction_terms(model, x, masked)
    if published:
        assert masked == [fixed] * BATCH and len({*removed}) == len({*target}) == 1
        inv = literal.invariance_batch(model, x, masked, removed[0], 0.15, "mean")
        suf = literal.sufficiency_batch(model, x, masked, target[0], 0.15, "mean")
    else:
        assert all(row == masked[0] and len(row) == 2 for row in masked) and len({*target}) > 1
        inv = literal.invariance_sample(model, x, masked, removed, 0.15, "sum")
        suf = literal.sufficiency_sample(model, x, masked, target, 0.15, "sum")
    (main + ahead + 0.2 * inv + 0.1 * suf).backward()
    for name, expected in dict(masked=main, future=ahead, invariance=inv, sufficiency=suf).items():
        assert float(terms[name]) == pytest.approx(float(expected.detach()), rel=1e-5), name
    for (name, ours), theirs in zip(learner.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


PUBLISHED_ALOE = {
    # nn.TransformerEncoder over 144 = 8 heads of 18, pre-LN, its layers copies of one; heads of 128; a word is 14 numbers
    "layers": 12, "heads": 8, "width": 144, "ffn": 512, "head_hidden": 128, "word_width": 14, "equal_layers": True,
    "dropout": 0.1, "dropout_kind": "exact",
    # a token per slot and sampled frame and per word: 25 frames, stride 5, the first one random in evaluation too;
    # predictive questions get a window 32 frames later, others given frames only
    "tokens": "frames", "words": "tokens", "frames": 25, "eval_start": None, "rollout_frames": "predictive",
    "predicted_frames": None,
    # the reported numbers: 80 epochs into a schedule of 400, the last weights, validated every 20
    "epochs": 80, "schedule_epochs": 400, "average": None, "patience": None, "eval_every": 20, "eval_videos": None,
    # C-JEPA's file with rollouts: 96 questions on one GPU, all of them every epoch, both losses weigh 1
    "batch_size": 96, "shares": [1.0, 1.0, 1.0, 1.0], "option_weight": 1.0,
    "optimizer": "adam", "learning_rate": 1e-3, "warmup": 0.1,
    "aloe_seed": None, "protocol": "train",
}  # fmt: skip
"""SlotFormer's and C-JEPA's aloe.py, transformer.py and parameters (arXiv 2210.05861, 2602.11389), and the published logs."""
COMPUTED_DIFFERENTLY = {"precision": "bf16", "buckets": 4, "compile": False, "threads": 1, "data_device": "auto"}
"""Where `aloe=reference` differs from the published code: that uses fp16 with scaled losses and whole batches."""
UNREAD = {"frame_width", "muon_learning_rate", "muon_precision", "compile_mode", "checkpoint", "tensors"}
"""Only tokens=trajectory, optimizer=muon, compiled code and an ALOE whose weights are a file's read them."""
CORRECTED = {"eval_start": 4, "schedule_epochs": None, "eval_every": 5}
"""Where `aloe=default` differs: evaluation is deterministic, and the schedule ends with training."""


def test_aloe_reference_has_the_published_and_default_the_corrected_values() -> None:
    reference, default = (vars(compose([f"aloe={name}"]).aloe) for name in ("reference", "default"))
    assert {name: reference[name] for name in reference if name not in UNREAD} == PUBLISHED_ALOE | COMPUTED_DIFFERENTLY
    assert {name: value for name, value in default.items() if value != reference[name]} == CORRECTED


NARROW = ["aloe.layers=2", "aloe.heads=2", "aloe.width=8", "aloe.ffn=12", "aloe.batch_size=12", "aloe.dropout=0"]


def test_a_step_of_aloe_reference_equals_the_literal_one(tmp_path: Path) -> None:
    """At epoch 79, where the reported numbers were measured: from the frames of each question to the gradients."""
    dataset, rollouts = numbered(*toy_questions.make(tmp_path, train=8, validation=2))
    settings = compose(["aloe=reference", *NARROW, "aloe.precision=fp32"]).aloe
    learner = VqaLearner(settings, 3, dataset, rollouts, BuildContext(tmp_path))
    made = learner.train_split
    made.frames, made.predicted = made.frames.double(), made.predicted.double()
    model = LiteralAloe(2, 2, 8, 12, 0.0, 25 * 7).double()
    model.load_state_dict(learner.model.double().state_dict())
    learner.schedule(79, 1)
    terms = learner.gradients(79, 1)

    (optimizer,) = learner.optimizers
    rate = optimizer.param_groups[0]["lr"]
    assert type(optimizer) is torch.optim.Adam and rate == pytest.approx(9.7e-4, abs=5e-6)
    assert optimizer.defaults | {"lr": rate} == torch.optim.Adam([torch.zeros(1)], lr=rate).defaults
    rows = made.rows_of(learner.questions_of(79, 1))
    table = dataset.split("train").questions.rows(rows)
    assert learner.steps == 8 * 5 // 12 and {*table.category.tolist()} == {0, 1, 2}
    first = np.array([first_frames(learner, 79, 1)[int(question)] for question in made.question[rows]])
    assert ((first >= 32 * (table.category == 2)) & (first < 8 + 32 * (table.category == 2))).all()
    videos = np.concatenate([dataset.split("train").slots, rollouts["train"]], 1)
    windows = videos[table.video[:, None], first[:, None] + 5 * np.arange(25)]
    descriptive, truth = torch.from_numpy(table.category == 0), torch.from_numpy(table.answer).long()
    words = (torch.from_numpy(tokens).long() for tokens in (table.question_tokens, table.choice_tokens))
    answers, options = model(torch.from_numpy(windows).double(), *words, descriptive)
    answer_loss = F.cross_entropy(answers[descriptive], truth[descriptive])
    option_loss = F.binary_cross_entropy_with_logits(options[~descriptive], truth[~descriptive].double())
    (answer_loss + option_loss).backward()
    assert float(terms["train_descriptive_loss"]) == pytest.approx(float(answer_loss.detach()), rel=1e-5)
    assert float(terms["train_option_loss"]) == pytest.approx(float(option_loss.detach()), rel=1e-5)
    theirs = dict(model.named_parameters())
    for name, ours in learner.model.named_parameters():
        torch.testing.assert_close(ours.grad, theirs[name].grad, rtol=1e-4, atol=1e-7, msg=lambda m, n=name: f"{n}: {m}")
