"""A training step of the world model with both losses, optimiser included: `world_model=reference`, as published and as ours."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from ctt.models.draws import Draws
from ctt.models.dropout import Dropout
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.terms import step_gradients
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.models.predictor import Predictor
from ctt.training.training_settings import WorldModelSettings
from ctt.training.world_model import optimizers_for
from tests.benchmarks.harness import Comparison, Ratio, benchmark
from tests.benchmarks.published_world_model import PublishedPredictor, invariance, plain_loss, sufficiency

INV, SUF, THRESHOLD = 0.2, 0.1, 0.15
MASKED, REMOVED, TARGET = [0, 1], 4, 3
GRAPH = GraphSettings(frames="mean", scope="batch", dropout="after")
MICRO_BATCH = 32


@benchmark
def step(toy: bool) -> Comparison:
    batch, slots = (6, 7) if toy else (256, 7)
    settings = PredictorSettings(depth=2, heads=2, mlp_width=16) if toy else PredictorSettings()
    width = 16 if toy else 128
    torch.manual_seed(0)
    x = torch.randn(batch, settings.history_size + settings.num_preds, slots, width)
    ours = Predictor(settings, width)
    published = published_twin(ours, settings, width)

    def check() -> None:
        one, other = copy.deepcopy(ours).double(), published_twin(ours, settings, width, dropout=0.0).double()
        published_gradients(other, x.double(), losses=True)
        our_gradients(one, x.double(), None, MICRO_BATCH)
        for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")

    return Comparison(
        ways={
            "published": published_step(published, x, losses=True),
            "published, losses off": published_step(copy.deepcopy(published), x, losses=False),
            "exact": our_step(copy.deepcopy(ours), x, "exact", MICRO_BATCH, "fp32"),
            "cheap dropout": our_step(copy.deepcopy(ours), x, "cheap", MICRO_BATCH, "fp32"),
            "bf16": our_step(copy.deepcopy(ours), x, "cheap", MICRO_BATCH, "bf16"),
        },
        ratios=[
            Ratio("step_both_exact", "published", "exact", at_least=1.5),
            Ratio("step_both_fast", "published", "cheap dropout", at_least=2),
            Ratio("step_both_bf16", "published", "bf16", at_least=3),
            Ratio("step_both_over_plain", "cheap dropout", "published, losses off", at_most=2.6),
            Ratio("step_both_over_plain_published", "published", "published, losses off"),
        ],
        check=check,
        sizes=dict(batch=batch, width=width, slots=slots, history=3, predicted=1, depth=settings.depth, micro_batch=MICRO_BATCH),
    )


def published_twin(ours: Predictor, settings: PredictorSettings, width: int, dropout: float | None = None) -> PublishedPredictor:
    p = settings.dropout if dropout is None else dropout
    sizes = (settings.history_size, settings.num_preds, settings.depth, settings.heads, settings.mlp_width, width)
    twin = PublishedPredictor(*sizes, p)
    twin.load_state_dict(ours.state_dict())
    return twin


def published_gradients(model: PublishedPredictor, x: Tensor, losses: bool) -> None:
    total = plain_loss(model, x, MASKED)
    if losses:
        total = total + INV * invariance(model, x, MASKED, REMOVED, THRESHOLD)
        total = total + SUF * sufficiency(model, x, MASKED, TARGET, THRESHOLD)
    total.backward()


def published_step(model: PublishedPredictor, x: Tensor, losses: bool) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.01)

    def one() -> None:
        optimizer.zero_grad(set_to_none=True)
        published_gradients(model, x, losses)
        optimizer.step()

    return one


def our_gradients(model: Predictor, x: Tensor, dropout: Dropout | None, micro_batch: int | None) -> None:
    batch, slots = len(x), x.shape[2]
    masked = torch.zeros(batch, slots, dtype=torch.bool)
    masked[:, MASKED] = True
    draws = Draws(masked, {"invariance": torch.full((batch,), REMOVED), "sufficiency": torch.full((batch,), TARGET)})
    step_gradients(
        model,
        StepBatch(x, draws),
        Objective(GRAPH, {"invariance": INV, "sufficiency": SUF}, THRESHOLD, share_dropout=False),
        dropout=dropout,
        micro_batch=micro_batch,
    )


def our_step(model: Predictor, x: Tensor, kind: str, micro_batch: int | None, precision: str) -> Callable[[], None]:
    (optimizer,) = optimizers_for(model, WorldModelSettings())
    seed = iter(range(10**9))

    def one() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            our_gradients(model, x, Dropout(0.1, kind, next(seed)), micro_batch)
        optimizer.step()

    return one
