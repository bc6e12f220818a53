"""The recipes as they are shipped: a training step of each is the literal one of what the published code computes, or of the
sound values."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch

from ctt.config import Config, compose
from ctt.models.draws import Draws
from ctt.training import world_model
from tests.models import literal_world_model as literal

VIDEOS, FRAMES, SLOTS, WIDTH, BATCH = 3, 40, 7, 16, 4
SMALL = [
    "world_model.depth=2", "world_model.heads=2", "world_model.mlp_width=24", "world_model.dropout=0",
    f"world_model.batch_size={BATCH}", "ctt_inv_weight=0.2", "ctt_suf_weight=0.1", "ctt_start_epoch=0",
]  # fmt: skip
PUBLISHED = {"reference": (3, 1, 5, [0, 1]), "paper": (6, 10, 2, [0, 1, 2, 5])}  # H, P, frameskip, masked slots
FAULTS = {  # the published value, the sound one
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
def test_a_recipe_has_the_faults_or_the_sound_values(recipe: str, fault: int) -> None:
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
def test_a_step_of_a_recipe_is_the_literal_one(recipe: str) -> None:
    """From the windows it takes to the gradients; attention is made uneven, so that graphs differ."""
    config, data = compose([f"world_model={recipe}", *SMALL]), dataset()
    published = recipe in PUBLISHED
    history, future, skip, fixed = PUBLISHED[recipe if published else "reference"]
    made: list[Draws] = []
    real = world_model.draw_slots
    with mock.patch.object(world_model, "draw_slots", lambda *a: made.append(real(*a)) or made[-1]):
        learner = world_model.WorldModelLearner(
            config.world_model, config.method(), config.num_masked_slots, 5, data, "cpu"
        )
        with torch.no_grad():
            for layer in learner.predictor.transformer.layers:
                layer[0].in_proj_weight[: 2 * WIDTH] *= 6
        terms = learner.gradients(0, 0)

    starts = FRAMES - (history + future) * skip + 1 if published else FRAMES - (history + future - 1) * skip
    numbers = learner._epoch_order(0)
    assert sorted(numbers) == list(range(VIDEOS * starts))
    x = torch.stack(
        [
            torch.from_numpy(data.split("train").slots[n // starts, n % starts :: skip][: history + future])
            for n in numbers[:BATCH]
        ]
    )
    model = literal.LiteralPredictor(history, future, 2, 2, 24, WIDTH)
    model.load_state_dict(learner.predictor.state_dict())
    removed, target = made[0].removed.tolist(), made[0].target.tolist()  # type: ignore[union-attr]
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
