"""Settings of speed, as far as a CPU shows them: keys, what stays in float32, and what is asked of torch for a GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch._subclasses import FakeTensorMode

from ctt.config import compose
from ctt.core.build_context import BuildContext
from ctt.core.settings import canonical_form
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.compilable import Compilable
from ctt.models.method import Method
from ctt.planning import target_of
from ctt.training.optimizers import aloe_optimizers
from ctt.training.precision import matrix_products
from ctt.training.vqa import VqaLearner
from ctt.training.world_model import WorldModelLearner
from tests.training import toy_questions
from tests.training.small_aloe import SMALL
from tests.training.small_world_model import LOSSES, bytes_of, run, settings
from tests.training.standin import StandIn

MINI = ["data=mini", "world_model=mini", "aloe=mini"]


def key(*overrides: str) -> str:
    return target_of(compose([*MINI, *overrides])).key


@pytest.mark.parametrize("group", ["world_model", "aloe"])
def test_a_mode_is_in_the_key_of_what_is_compiled_and_old_keys_do_not_know_it(group: str) -> None:
    compiled, mode = f"{group}.compile=true", f"{group}.compile_mode=reduce-overhead"
    assert key() == key(mode) != key(compiled)
    assert len({key(compiled), key(compiled, mode), key(f"{group}.precision=tf32"), key()}) == 4
    config = compose([*MINI, compiled])
    assert "compile_mode" not in json.dumps(canonical_form(getattr(config, group)))


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_trainings_compile_in_the_mode_of_their_settings(tmp_path: Path, mode: str) -> None:
    found: dict[type, tuple[Any, ...]] = {}

    def note(self: nn.Module, *given: Any, **named: Any) -> None:
        found[type(self)] = (*given, *named.values())

    with mock.patch.object(Compilable, "compile_calls", note):
        WorldModelLearner(settings(compile=True, compile_mode=mode), Method(), 2, 0, StandIn(), "cpu")  # type: ignore[arg-type]
        dataset, rollouts = toy_questions.make(tmp_path / "toy", 4, 2)
        made = AloeSettings(**SMALL, compile=True, compile_mode=mode)
        VqaLearner(made, 0, dataset, rollouts, BuildContext(tmp_path))
    assert {kind.__name__: given for kind, given in found.items()} == {"Predictor": (mode,), "AloeEncoder": (mode, True)}


def test_tf32_is_set_for_the_products_of_a_gpu_alone_and_taken_back() -> None:
    for precision, device, inside in (("tf32", "cuda:0", "high"), ("tf32", "cpu", "highest"), ("fp32", "cuda", "highest")):
        with pytest.raises(KeyError), matrix_products(precision, device):
            assert torch.get_float32_matmul_precision() == inside
            raise KeyError
        assert torch.get_float32_matmul_precision() == "highest"


def test_tf32_is_in_force_in_steps_and_answers(tmp_path: Path) -> None:
    """A CPU trains as in fp32. On a GPU steps and ALOE's answers are within `matrix_products`."""
    for name, precision in (("a", "fp32"), ("b", "tf32")):
        run(tmp_path / name, 1, precision=precision)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    with mock.patch("ctt.training.trainer.matrix_products", wraps=matrix_products) as steps:
        run(tmp_path / "c", 1, precision="tf32")
    assert steps.call_count == 5 and {call.args[0] for call in steps.call_args_list} == {"tf32"}
    dataset, rollouts = toy_questions.make(tmp_path / "toy", 4, 2)
    learner = VqaLearner(AloeSettings(**SMALL, precision="tf32"), 0, dataset, rollouts, BuildContext(tmp_path))
    assert learner.precision == "tf32"
    with mock.patch("ctt.training.aloe_answers.matrix_products", wraps=matrix_products) as answers:
        learner.model.eval()
        learner.validate(learner.settings.epochs - 1)
    assert [call.args[0] for call in answers.call_args_list] == ["tf32"]


def test_bf16_keeps_weights_gradients_and_moments_in_float32(tmp_path: Path) -> None:
    method = Method(**LOSSES, start_epoch=0)
    run(tmp_path / "state", 1, method=method, precision="bf16")
    saved = [load_file(tmp_path / "state" / f"{name}.safetensors") for name in ("model", "optimizer")]
    assert {value.dtype for tensors in saved for value in tensors.values()} == {torch.float32}
    learner = WorldModelLearner(settings(precision="bf16"), method, 2, 0, StandIn(), "cpu")  # type: ignore[arg-type]
    products = []
    learner.predictor.transformer.layers[0][1][1].register_forward_hook(lambda *given: products.append(given[2].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        learner.gradients(0, 0)
    assert set(products) == {torch.bfloat16}
    assert {p.grad.dtype for p in learner.model.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.parametrize("optimizer, fused", [("adam", [True]), ("muon", [None, True])])
def test_adam_is_one_kernel_on_a_gpu_and_torchs_loop_on_a_cpu(optimizer: str, fused: list[bool | None]) -> None:
    made = AloeSettings(optimizer=optimizer)
    with FakeTensorMode():
        parts = {"weight": torch.empty(4, 4, device="cuda"), "bias": torch.empty(4, device="cuda")}
        on_gpu = aloe_optimizers(nn.ParameterDict(parts), made)
    assert [one.defaults.get("fused") for one in on_gpu] == fused
    assert not any(one.defaults.get("fused") for one in aloe_optimizers(nn.Linear(4, 4), made))
