"""The losses and all their gradients equal the literal version; the settings are bounded and the rules hold."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from ctt.core.errors import SettingError
from ctt.models.draws import Draws, draw_slots
from ctt.models.dropout import Dropout
from ctt.models.losses import loss_term
from ctt.models.losses.loss_term import loss_terms
from ctt.models.losses.objective import Objective, StepBatch
from ctt.models.losses.terms import separate_terms, step_gradients
from ctt.models.method import RULES, Method
from ctt.models.model_settings import GraphSettings, PredictorSettings
from ctt.models.predictor import Predictor
from ctt.training.training_settings import TrainingSettings
from tests.models import literal_world_model as literal

SLOTS, WIDTH, BATCH = 7, 16, 3
INV, SUF = 0.2, 0.1
WEIGHTS = {"invariance": INV, "sufficiency": SUF}
TERMS = list(loss_terms().values())


def make(history: int, future: int, dtype=torch.float64, dropout: float = 0.0, sharp: float = 6.0):
    """Our predictor and the literal one with the same weights; `sharp` makes attention uneven, so that graphs differ."""
    torch.manual_seed(history * 100 + future)
    settings = PredictorSettings(history_size=history, num_preds=future, depth=2, heads=2, mlp_width=24, dropout=dropout)
    ours = Predictor(settings, WIDTH).to(dtype)
    with torch.no_grad():
        for layer in ours.transformer.layers:
            layer[0].in_proj_weight[: 2 * WIDTH] *= sharp
    theirs = literal.LiteralPredictor(history, future, 2, 2, 24, WIDTH).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    slots = torch.randn(BATCH, history + future, SLOTS, WIDTH, dtype=dtype)
    return ours, theirs, slots


def draws_for(masked_count: int, scope: str, draw: str = "batch") -> tuple[Draws, list[list[int]]]:
    generator = torch.Generator().manual_seed(masked_count)
    rows = 1 if draw == "batch" else BATCH
    order = torch.rand(rows, SLOTS, generator=generator).argsort(1).expand(BATCH, SLOTS)
    masked = torch.zeros(BATCH, SLOTS, dtype=torch.bool).scatter(1, order[:, :masked_count], True)
    draws = draw_slots(masked, TERMS, scope, lambda purpose: torch.Generator().manual_seed(len(purpose)))
    return draws, [row.nonzero().flatten().tolist() for row in masked]


def threshold_for(kind: str, graph: torch.Tensor) -> float:
    """partial: between the two middle entries, so that rounding does not decide which slots are neighbours."""
    middle = graph.flatten().sort().values[graph.numel() // 2 - 1 :][:2].mean()
    return {"empty": 1.0, "full": 0.0, "partial": float(middle)}[kind]


def literal_terms(theirs, slots, draws, masked, threshold, graph: GraphSettings):
    arguments = (threshold, graph.frames, graph.source)
    main, future = literal.prediction_terms(theirs, slots, masked)
    removed, target = (draws.terms[name].tolist() for name in ("invariance", "sufficiency"))
    if graph.scope == "batch":
        inv = literal.invariance_batch(theirs, slots, masked, removed[0], *arguments)
        suf = literal.sufficiency_batch(theirs, slots, masked, target[0], *arguments)
    else:
        inv = literal.invariance_sample(theirs, slots, masked, removed, *arguments)
        suf = literal.sufficiency_sample(theirs, slots, masked, target, *arguments)
    return main, future, inv, suf


CASES = [
    pytest.param(h, p, m, kind, scope, frames, source, id=f"H{h}P{p}-M{m}-{kind}-{scope}-{frames}-{source}")
    for (h, p), m, kind, scope in itertools.product([(3, 1), (6, 10)], range(5), ["empty", "partial", "full"], ["batch", "sample"])
    for frames, source in [("mean" if scope == "batch" else "sum", "attention" if m % 2 else "rollout_attention")]
]


@pytest.mark.parametrize("history,future,count,kind,scope,frames,source", CASES)
def test_losses_and_gradients_equal_the_literal_ones(history, future, count, kind, scope, frames, source):
    ours, theirs, slots = make(history, future)
    draws, masked = draws_for(count, scope, "batch" if scope == "batch" or count % 2 else "sample")
    settings = GraphSettings(source=source, frames=frames, scope=scope)
    graph = literal.read_graph(theirs, slots, masked, frames, source)
    threshold = threshold_for(kind, graph.mean(0) if scope == "batch" else graph)
    main, future_term, inv, suf = literal_terms(theirs, slots, draws, masked, threshold, settings)
    (main + future_term + INV * inv + SUF * suf).backward()
    terms = step_gradients(
        ours,
        StepBatch(slots, draws),
        Objective(settings, WEIGHTS, threshold),
        micro_batch=[None, 1, 2][count % 3],
    )
    for name, expected in dict(masked=main, future=future_term, invariance=inv, sufficiency=suf).items():
        torch.testing.assert_close(terms[name], expected.detach(), rtol=1e-10, atol=1e-14, msg=lambda m, n=name: f"{n}: {m}")
    if kind == "full":
        assert inv == 0 and suf == 0
    if kind == "empty":
        assert inv > 0 and suf > 0
    ours_by_name = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        scale = parameter.grad.abs().max().clamp(min=1e-3)
        assert (ours_by_name[name].grad - parameter.grad).abs().max() / scale < 1e-10, name


def test_a_partial_graph_has_neighbours_and_non_neighbours():
    _, theirs, slots = make(3, 1)
    graph = literal.read_graph(theirs, slots, [[0, 1]] * BATCH, "sum", "attention")
    assert 0.2 < (graph < graph.median()).double().mean() < 0.8
    assert graph.max() > 0.4  # sharp attention, not the uniform one


@pytest.mark.parametrize("scope, kind", [("sample", "partial"), ("batch", "empty"), ("sample", "full")])
def test_separate_terms_have_the_gradients_of_each_literal_term(scope, kind):
    ours, theirs, slots = make(3, 2)
    draws, masked = draws_for(2, scope)
    settings = GraphSettings(scope=scope)
    graph = literal.read_graph(theirs, slots, masked, "sum", "attention")
    threshold = threshold_for(kind, graph.mean(0) if scope == "batch" else graph)
    main, future, inv, suf = literal_terms(theirs, slots, draws, masked, threshold, settings)
    objective = Objective(settings, threshold=threshold)
    found = separate_terms(ours, StepBatch(slots, draws), objective, TERMS, dropout=None, micro_batch=2)
    for name, term in (("prediction", main + future), ("invariance", inv), ("sufficiency", suf)):
        theirs.zero_grad()
        if term.requires_grad:
            term.backward(retain_graph=True)
        norm = sum(float(p.grad.square().sum()) for p in theirs.parameters() if p.grad is not None) ** 0.5
        assert found.norms[name] == pytest.approx(norm, rel=1e-9), name
    expected = dict(masked=main, future=future, invariance=inv, sufficiency=suf)
    assert found.terms == pytest.approx({name: float(value.detach()) for name, value in expected.items()}, rel=1e-9)
    assert found.same_masks == {"invariance": None if kind == "full" else pytest.approx(0, abs=1e-20)}
    assert all(p.grad is None for p in ours.parameters())


@pytest.mark.parametrize("history,future,count,kind,scope,frames,source", CASES)
def test_float32_losses_agree_to_1e5(history, future, count, kind, scope, frames, source):
    """With the threshold further than rounding errors from every entry, so that both have the same neighbours."""
    ours, theirs, slots = make(history, future, torch.float32)
    draws, masked = draws_for(count, scope, "batch" if scope == "batch" or count % 2 else "sample")
    settings = GraphSettings(source=source, frames=frames, scope=scope)
    graph = literal.read_graph(theirs, slots, masked, frames, source)
    graph = graph.mean(0) if scope == "batch" else graph
    threshold = threshold_for(kind, graph)
    if kind == "partial":
        assert (graph - threshold).abs().min() > 1e-5 * threshold
    with torch.no_grad():
        expected = literal_terms(theirs, slots, draws, masked, threshold, settings)
    terms = step_gradients(ours, StepBatch(slots, draws), Objective(settings, WEIGHTS, threshold))
    for name, value in zip(("masked", "future", "invariance", "sufficiency"), expected, strict=True):
        assert float(terms[name]) == pytest.approx(float(value), rel=1e-5, abs=0), name


def test_total_is_the_weighted_sum_of_its_terms():
    ours, _, slots = make(3, 1)
    draws, _ = draws_for(2, "sample")
    terms = step_gradients(ours, StepBatch(slots, draws), Objective(GraphSettings(), WEIGHTS, threshold=0.5))
    total = terms["masked"] + terms["future"] + INV * terms["invariance"] + SUF * terms["sufficiency"]
    assert float(terms["train_loss"]) == pytest.approx(float(total), rel=1e-12)


def test_inactive_losses_add_nothing():
    ours, _, slots = make(3, 1)
    draws, _ = draws_for(2, "sample")
    plain = step_gradients(ours, StepBatch(slots, Draws(draws.masked)), Objective(GraphSettings()))
    assert set(plain) == {"train_loss", "masked", "future"}
    gradients = [p.grad.clone() for p in ours.parameters()]
    ours.zero_grad()
    step_gradients(
        ours, StepBatch(slots, draws), Objective(GraphSettings(), {"invariance": INV}, threshold=0.0)
    )  # full graph: inv is 0
    assert all(torch.equal(p.grad, g) for p, g in zip(ours.parameters(), gradients, strict=True))


@pytest.mark.parametrize("invariance,sufficiency", list(itertools.product([False, True], repeat=2)))
def test_an_inactive_loss_draws_nothing(invariance, sufficiency):
    purposes = []

    def rng(purpose):
        purposes.append(purpose)
        return torch.Generator().manual_seed(0)

    drawing = {name for name, on in (("invariance", invariance), ("sufficiency", sufficiency)) if on}
    draws = draw_slots(torch.zeros(4, 7, dtype=torch.bool), [t for t in TERMS if t.name in drawing], "sample", rng)
    assert len(purposes) == len(drawing) and set(draws.terms) == drawing


def test_invariance_is_0_when_every_slot_is_masked():
    ours, _, slots = make(3, 1)
    masked = torch.ones(BATCH, SLOTS, dtype=torch.bool)
    draws = draw_slots(masked, TERMS[:1], "sample", lambda purpose: torch.Generator().manual_seed(0))
    terms = step_gradients(ours, StepBatch(slots, draws), Objective(GraphSettings(), {"invariance": 1.0}, threshold=1.0))
    assert terms["invariance"] == 0 and terms["masked"] > 0


@pytest.mark.parametrize("micro_batch", [None, 2])
@pytest.mark.parametrize("kind", ["exact", "cheap"])
def test_with_shared_dropout_invariance_is_0_when_no_further_slot_is_masked(kind, micro_batch):
    """The removed slot is already masked: both passes see the same slots, so a sound invariance loss is exactly 0."""
    ours, _, slots = make(3, 4, torch.float32, dropout=0.1)
    masked = torch.zeros(BATCH, SLOTS, dtype=torch.bool)
    masked[:, [1, 4]] = True
    draws = Draws(masked, {"invariance": torch.tensor([1, 4, 1]), "sufficiency": torch.tensor([2, 3, 0])})

    def terms(share):
        source = Dropout(0.1, kind, seed=3)
        objective = Objective(GraphSettings(), WEIGHTS, threshold=1.0, share_dropout=share)
        return step_gradients(ours, StepBatch(slots, draws), objective, dropout=source, micro_batch=micro_batch)

    assert float(terms(True)["invariance"]) < 1e-12
    assert float(terms(False)["invariance"]) > 1e-3


class OtherTerm(type(TERMS[0])):  # type: ignore[misc]
    """A second term that compares its view with the prediction pass."""

    name = "another"
    flag = "ctt_another_weight"
    purpose = "another slot"


@pytest.mark.parametrize("micro_batch", [None, 2])
def test_two_views_that_are_compared_both_reuse_the_dropout_of_the_prediction_pass(monkeypatch, micro_batch):
    monkeypatch.setattr(loss_term, "loss_terms", lambda: {"another": OtherTerm(), **{term.name: term for term in TERMS}})
    ours, _, slots = make(3, 4, torch.float32, dropout=0.1)
    masked = torch.zeros(BATCH, SLOTS, dtype=torch.bool)
    masked[:, [1, 4]] = True
    removed = torch.tensor([1, 4, 1])
    draws = Draws(masked, {"invariance": removed, "another": removed, "sufficiency": torch.tensor([2, 3, 0])})
    objective = Objective(GraphSettings(), {**WEIGHTS, "another": 0.3}, threshold=1.0)
    terms = step_gradients(ours, StepBatch(slots, draws), objective, dropout=Dropout(0.1, "exact", 3), micro_batch=micro_batch)
    assert float(terms["invariance"]) < 1e-12 and float(terms["another"]) < 1e-12 and float(terms["sufficiency"]) > 0


def test_only_visible_slots_count():
    """The true values of invisible slots change neither the losses nor their gradients."""
    ours, _, slots = make(3, 1)
    draws, _ = draws_for(2, "sample")
    visible = torch.rand(slots.shape[:3], generator=torch.Generator().manual_seed(1)) < 0.7
    visible[:, :3] = True  # history is also input and must not change
    results = []
    for offset in (0.0, 5.0):
        ours.zero_grad()
        moved = slots + offset * (~visible)[..., None]
        terms = step_gradients(ours, StepBatch(moved, draws, visible), Objective(GraphSettings(), WEIGHTS, 0.5))
        results.append((terms["train_loss"], [p.grad.clone() for p in ours.parameters()]))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], results[1][1], strict=True))
    predicted = ours.predict(slots[:, :3])
    errors = (predicted - slots[:, 3:]).square().mean(-1)[visible[:, 3:]]
    none_masked = Draws(torch.zeros(BATCH, SLOTS, dtype=torch.bool))
    unmasked = step_gradients(ours, StepBatch(slots, none_masked, visible), Objective(GraphSettings()))
    assert float(unmasked["future"]) == pytest.approx(float(errors.mean().detach()), rel=1e-12)


def test_settings_are_bounded_and_have_help_texts():
    for name, value in [("inv_weight", -0.1), ("suf_weight", -1), ("start_epoch", -1), ("adj_threshold", 2)]:
        with pytest.raises(SettingError, match=name):
            Method(**{name: value})
    assert all(len(field.metadata["help"]) > 20 for field in dataclasses.fields(Method))


def inactive_settings(**values: float) -> set[str]:
    training = TrainingSettings(**values)
    return {name for rule in RULES if rule.applies(training) for name in rule.inactive}


def test_rules_name_the_settings_without_effect():
    every = {"ctt_inv_weight", "ctt_suf_weight", "ctt_adj_threshold", "ctt_start_epoch"}
    every |= {"world_model.graph", "world_model.graph.scope", "world_model.graph.dropout", "world_model.share_dropout"}
    assert inactive_settings() == every
    assert inactive_settings(ctt_inv_weight=0.2, ctt_suf_weight=0.1, ctt_start_epoch=30) == every
    assert inactive_settings(ctt_suf_weight=0.1) == {"world_model.share_dropout"}
    assert inactive_settings(ctt_inv_weight=0.2) == set()
