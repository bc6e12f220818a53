"""Equality with the CPU: losses, gradients, slot graphs, rollouts, answers. Dropout is off, since each device draws its own."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

from ctt.config import Config
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.model import Aloe
from ctt.models.dropout import KINDS, Dropout
from ctt.models.graphs.graph_source import graph_sources
from ctt.models.rollout import rollout
from ctt.training.aloe_answers import answer
from ctt.training.batches.question_batches import QuestionBatches
from ctt.training.precision import matrix_products
from ctt.training.vqa import VqaLearner
from ctt.training.world_model import WorldModelLearner
from tests.benchmarks.step import our_gradients
from tests.gpu.checks import Outcome
from tests.gpu.material import BOTH_LOSSES, Material, QuietContext

TOLERANCES = {
    "loss": 1e-4,  # relative, float32
    "gradient": 2e-3,  # ‖a − b‖ / ‖b‖ of all parameters, float32
    "gradient, float64": 1e-9,
    "rollout": 1e-3,  # largest error in standard deviations of the rollout
    "logits": 2e-3,  # largest error in standard deviations of the logits
    "reduced": 0.05,  # relative error of losses and gradients in TensorFloat-32, of losses in bfloat16
    "logits, bf16": 0.3,
    "compiled": 5e-3,  # gradients of compiled code to those of eager code, float32
}
NO_DROPOUT = ("world_model.dropout=0", "aloe.dropout=0")
WINDOWS = 32


def world_model(material: Material, config: Config, device: str) -> WorldModelLearner:
    """A learner with uneven attention, so that slot graphs have entries on both sides of the threshold."""
    masked, data = config.num_masked_slots, material.dataset
    learner = WorldModelLearner(config.world_model, config.method(), masked, 5, data, device)
    with torch.no_grad():
        for attention, _ in learner.predictor.transformer.layers:  # type: ignore[misc]  # a ModuleList of pairs
            attention.in_proj_weight[: 2 * learner.width] *= 6
    return learner


def gradients_of(model: nn.Module) -> Tensor:
    """All gradients in one vector, float64 on the CPU."""
    return torch.cat([p.grad.detach().double().cpu().flatten() for p in model.parameters() if p.grad is not None])


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def compare_steps(material: Material, out: Outcome, name: str, config: Config) -> None:
    """The first step's values and gradients on the device and on the CPU."""
    expected, found = (world_model(material, config, device) for device in ("cpu", material.device))
    on_cpu, on_device = expected.gradients(0, 0), found.gradients(0, 0)
    out.expect(on_cpu.keys() == on_device.keys(), f"{name}: logs {sorted(on_device)} instead of {sorted(on_cpu)}")
    out.expect(float(on_cpu["invariance"]) > 0 and float(on_cpu["sufficiency"]) > 0, f"{name}: a loss is 0")
    scale = float(on_cpu["train_loss"])
    worst = max(abs(float(on_device[term]) - float(value)) for term, value in on_cpu.items()) / scale
    out.within(f"{name}: losses", worst, TOLERANCES["loss"])
    out.within(f"{name}: gradient", relative(gradients_of(found.model), gradients_of(expected.model)), TOLERANCES["gradient"])


def windows(material: Material) -> str:
    return f"world_model.batch_size={material.of(WINDOWS, 8)}"


def world_model_steps(material: Material, out: Outcome) -> None:
    """A step with both losses, of both recipes and with every source of the slot graph."""
    for recipe in ("published", "fast"):
        plain = ("world_model.precision=fp32", "world_model.windows.store=float32")
        config = material.recipe(recipe, *BOTH_LOSSES, *NO_DROPOUT, *plain, windows(material))
        compare_steps(material, out, recipe, config)
    for source in graph_sources():
        more = (f"world_model.graph.source={source}", "world_model.micro_batch=4")
        config = material.recipe("published", *BOTH_LOSSES, *NO_DROPOUT, "world_model.graph.scope=sample", *more, windows(material))
        compare_steps(material, out, f"graph {source}", config)


def world_model_float64(material: Material, out: Outcome) -> None:
    """Gradients in float64, in which nothing but an error in the code makes a difference."""
    learner = world_model(material, material.recipe("published", *NO_DROPOUT, windows(material)), "cpu")
    model = copy.deepcopy(learner.predictor).double()
    slots = torch.randn(material.of(WINDOWS, 6), 4, 7, learner.width, generator=torch.Generator().manual_seed(1)).double()
    found = copy.deepcopy(model).to(material.device)
    our_gradients(model, slots, None, None)
    our_gradients(found, slots.to(material.device), None, None)
    out.within("gradient", relative(gradients_of(found), gradients_of(model)), TOLERANCES["gradient, float64"])


def reduced_precision(material: Material, out: Outcome) -> None:
    """TensorFloat-32 and bfloat16 next to float32, and that the former is in force on a GPU."""
    config = material.recipe("published", *BOTH_LOSSES, *NO_DROPOUT, windows(material))
    exact = world_model(material, config, material.device)
    losses, products = exact.gradients(0, 0), {}
    for precision in ("tf32", "bf16"):
        learner = world_model(material, config, material.device)
        autocast = torch.autocast(torch.device(material.device).type, torch.bfloat16, enabled=precision == "bf16")
        with matrix_products(precision, material.device), autocast:
            values = learner.gradients(0, 0)
        error = abs(float(values["train_loss"]) / float(losses["train_loss"]) - 1)
        out.within(f"{precision}: loss", error, TOLERANCES["reduced"])
        products[precision] = relative(gradients_of(learner.model), gradients_of(exact.model))
        kinds = {p.grad.dtype for p in learner.model.parameters() if p.grad is not None}
        out.expect(kinds == {torch.float32}, f"{precision}: gradients are {kinds}")
    out.values["gradient to fp32"] = products
    out.expect(not material.on_gpu or 0 < products["tf32"] <= TOLERANCES["reduced"], "TF32 is not in force, or too coarse")


def dropout_masks(material: Material, out: Outcome) -> None:
    """Masks drawn on the device: reproducible, with the share of zeros and the mean that they should have."""
    for kind in KINDS:
        one, other = (Dropout(0.1, kind, 7, material.device).mask((1000, 1000), torch.float32) for _ in range(2))
        out.expect(torch.equal(one, other), f"{kind}: one seed gives two masks")
        out.within(f"{kind}: share of zeros", abs(float((one == 0).double().mean()) - 0.1), 2e-3)
        out.within(f"{kind}: mean", abs(float(one.double().mean()) - 1), 2e-3)


def rollouts(material: Material, out: Outcome) -> None:
    """Both recipes' windows, and heads whose width the fused kernels do not take."""
    paper = ("world_model.history_size=6", "world_model.num_preds=10", "world_model.frameskip=2")
    cases = {"published": (), "paper's windows": paper, "heads of width 4": (f"world_model.heads={material.of(32, 32)}",)}
    videos = torch.from_numpy(np.array(material.dataset.split("validation").slots[:4]))
    for name, overrides in cases.items():
        learner = world_model(material, material.recipe("published", *overrides, windows(material)), "cpu")
        model, skip = learner.predictor.eval(), learner.settings.frameskip
        expected = rollout(model, videos, skip)
        found = rollout(model.to(material.device), videos.to(material.device), skip).cpu()
        out.within(name, float((found - expected).abs().max() / expected.std()), TOLERANCES["rollout"])


def aloe_learner(material: Material, settings: AloeSettings, device: str) -> VqaLearner:
    return VqaLearner(settings, 5, material.dataset, material.rollouts, QuietContext(material.new_folder(), device=device))


def aloe(material: Material, out: Outcome) -> None:
    """Losses, gradients and logits of the published sizes; logits in bfloat16 next to float32."""
    settings = dataclasses.replace(material.recipe("published", *NO_DROPOUT).aloe, precision="fp32")
    expected, found = (aloe_learner(material, settings, device) for device in ("cpu", material.device))
    on_cpu, on_device = expected.gradients(0, 0), found.gradients(0, 0)
    for name, value in on_cpu.items():
        out.within(f"{name}", abs(float(on_device[name]) - float(value)), TOLERANCES["loss"] * float(on_cpu["train_loss"]))
    out.within("gradient", relative(gradients_of(found.model), gradients_of(expected.model)), TOLERANCES["gradient"])
    logits = logits_of(material, expected.model, settings, "cpu")
    for precision, tolerance in (("fp32", "logits"), ("bf16", "logits, bf16")):
        made = dataclasses.replace(settings, precision=precision)
        there = logits_of(material, found.model, made, material.device)
        out.expect(bool((np.isnan(there) == np.isnan(logits)).all()), f"{precision}: other rows are answered")
        error = float(np.nanmax(np.abs(there - logits)) / np.nanstd(logits))
        out.within(f"logits, {precision}", error, TOLERANCES[tolerance])


def logits_of(material: Material, model: Aloe, settings: AloeSettings, device: str) -> np.ndarray:
    split = material.dataset.split("validation")
    batches = QuestionBatches(settings, split, material.rollouts["validation"], device=torch.device(device))
    return answer(model.eval(), settings, batches, np.arange(batches.questions)[:64], 0, device)


def compiled_world_model(material: Material, out: Outcome) -> None:
    """CUDA graphs: four steps of several passes each, whose gradients add up, next to eager ones. The first ones record."""
    sizes = ("world_model.depth=1", "world_model.precision=fp32", "world_model.windows.store=float32", windows(material))
    pieces = f"world_model.micro_batch={material.of(WINDOWS, 8) // 2}"
    config = material.recipe("compiled", *BOTH_LOSSES, *NO_DROPOUT, *sizes, pieces)
    eager = dataclasses.replace(config.world_model, compile=False)
    compiled = world_model(material, config, material.device)
    plain = world_model(material, dataclasses.replace(config, world_model=eager), material.device)
    compare_graphs(out, plain, compiled, material.of(4, 2))


def compiled_aloe(material: Material, out: Outcome) -> None:
    """The same of ALOE's batches, each in pieces of similar length."""
    settings = dataclasses.replace(material.recipe("compiled", *NO_DROPOUT).aloe, precision="fp32", layers=2)
    eager = dataclasses.replace(settings, compile=False)
    plain, compiled = (aloe_learner(material, made, material.device) for made in (eager, settings))
    compare_graphs(out, plain, compiled, material.of(4, 2))


def compare_graphs(
    out: Outcome, plain: WorldModelLearner | VqaLearner, compiled: WorldModelLearner | VqaLearner, steps: int
) -> None:
    compiled.model.load_state_dict(plain.model.state_dict())
    for step in range(steps):
        for learner in (plain, compiled):
            learner.model.zero_grad(set_to_none=True)
        epoch, within = divmod(step, plain.steps)
        expected, found = plain.gradients(epoch, within), compiled.gradients(epoch, within)
        error = max(abs(float(found[name]) - float(value)) for name, value in expected.items()) / float(expected["train_loss"])
        out.within(f"step {step}: losses", error, TOLERANCES["compiled"])
        error = relative(gradients_of(compiled.model), gradients_of(plain.model))
        out.within(f"step {step}: gradient", error, TOLERANCES["compiled"])
