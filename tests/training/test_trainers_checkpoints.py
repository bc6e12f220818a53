"""Checkpoints as trainers save them, written by torch from modules with the published names; what cannot be weights is refused."""

from __future__ import annotations

import collections
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ctt.core.errors import DataError
from ctt.models.model_settings import PredictorSettings
from ctt.training.published_checkpoint import misfits, predictor_of, read
from tests.models.aloe.literal_aloe import LiteralAloe
from tests.models.literal_world_model import LiteralPredictor

SHAPE = PredictorSettings(history_size=6, num_preds=10, frameskip=2, depth=2, heads=4, mlp_width=32)


class Recorder:
    """An object of a class that nobody else has; unpickling it leaves a file."""

    def __init__(self) -> None:
        self.callback, self.seen = print, {1, 2}

    def __reduce__(self) -> tuple[Any, ...]:
        return open, ("executed", "w")


class Settings:
    """Hyper-parameters of a class that the reader does not have."""

    def __init__(self) -> None:
        self.lr, self.nested, self.names = 1e-3, {"a": (1, 2)}, frozenset({"x"})


class Wrapped(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.predictor = model
        self.register_buffer("unused", torch.zeros(3))


def world_model() -> LiteralPredictor:
    torch.manual_seed(4)
    return LiteralPredictor(6, 10, 2, 4, 32, 128).eval()


def trained(model: nn.Module) -> dict[str, Any]:
    """An optimizer's state after a step, as trainers save it beside the model's."""
    optimizer = torch.optim.AdamW(model.parameters())
    sum(p.square().sum() for p in model.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    return optimizer.state_dict()


def lightning(model: nn.Module) -> dict[str, Any]:
    return {
        "epoch": 3,
        "global_step": 7,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": Wrapped(model).state_dict(),
        "loops": {"fit_loop": collections.defaultdict(list, {"state": [1]})},
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best": torch.tensor(0.5), "dirpath": Path("x")}},
        "optimizer_states": [trained(model)],
        "lr_schedulers": [Recorder()],
        "hparams_name": "cfg",
        "hyper_parameters": {
            "cfg": Settings(),
            ("a", "tuple"): Recorder(),
            "device": torch.device("cuda:0"),
            "dtype": torch.float16,
        },
    }


SAVED: dict[str, Callable[[nn.Module], Any]] = {
    "plain": lambda model: model.state_dict(),
    "DataParallel": lambda model: nn.DataParallel(model).state_dict(),
    "compiled": lambda model: collections.OrderedDict((f"_orig_mod.{n}", v) for n, v in model.state_dict().items()),
    "Lightning": lightning,
    "epoch file": lambda model: {
        "epoch": 79, "state_dict": nn.DataParallel(model).state_dict(), "optimizer": trained(model), "args": Settings(),
    },
    "model_state_dict": lambda model: {"it": 5, "model_state_dict": model.state_dict(), "optimizer_state_dict": trained(model)},
    "parameters": lambda model: dict(model.named_parameters()),
    "parameters of a module": lambda model: model.state_dict(keep_vars=True),
    "the module itself": lambda model: Wrapped(model),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kind", SAVED)
def test_what_torch_saves_is_read_with_equal_bytes(
    kind: str, zipped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, model in (("world_model", world_model()), ("aloe", LiteralAloe())):
        path = tmp_path / f"{name}.ckpt"
        torch.save(SAVED[kind](model), path, _use_new_zipfile_serialization=zipped)
        found = read(path)
        assert found.kind == name
        assert found.tensors.keys() == model.state_dict().keys()
        assert all(torch.equal(found.tensors[n], v) for n, v in model.state_dict().items())
    assert not (tmp_path / "executed").exists()


def test_weights_of_a_gpu_are_read(tmp_path: Path) -> None:
    """The location of a storage is a text in the file; here that of a file saved on a CPU is replaced."""
    path, tagged = tmp_path / "cpu.ckpt", tmp_path / "cuda.ckpt"
    torch.save(world_model().state_dict(), path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tagged, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"X\x03\x00\x00\x00cpu" in data
                data = data.replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0")
            new.writestr(entry.filename, data)
    assert read(tagged).digest == read(path).digest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_other_precisions_become_float32(dtype: torch.dtype, zipped: bool, tmp_path: Path) -> None:
    model = world_model().to(dtype)
    torch.save(model.state_dict(), tmp_path / "w.ckpt", _use_new_zipfile_serialization=zipped)
    found = read(tmp_path / "w.ckpt").tensors
    assert all(torch.equal(found[n], v.float()) for n, v in model.state_dict().items())


def changed(name: str, value: Any) -> dict[str, Any]:
    return {**world_model().state_dict(), name: value}


def with_value(value: float) -> torch.Tensor:
    weight = torch.zeros(128, 128)
    weight[3, 4] = value
    return weight


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (
            lambda: changed("to_out.weight", with_value(float("nan"))),
            "to_out.weight has 1 of 16384 values that are NaN or infinite",
        ),
        (lambda: changed("to_out.weight", with_value(float("-inf"))), "to_out.weight has 1 of 16384 values that are NaN or inf"),
        (lambda: changed("mask_token", torch.zeros(1, 1, 1).expand(1, 1, 5_000_000).contiguous()), "mask_token does not fit any"),
        (lambda: changed("mask_token", Recorder()), "mask_token is no tensor but .*open; nothing was executed"),
        (lambda: {"hyper_parameters": Recorder()}, "neither a world model's|is no tensor"),
        (lambda: Recorder(), "not a checkpoint.*was skipped, nothing was executed"),
    ],
)
def test_what_cannot_be_weights_is_refused_by_name(
    state: Callable[[], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(state(), tmp_path / "bad.ckpt")
    with pytest.raises(DataError, match=message) as refused:
        read(tmp_path / "bad.ckpt")
    assert "bad.ckpt" in str(refused.value) and not (tmp_path / "executed").exists()


def test_a_claimed_width_allocates_nothing(tmp_path: Path) -> None:
    torch.save(changed("mask_token", torch.zeros(1, 1, 5_000_000)), tmp_path / "wide.ckpt")
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="5000000"):
            read(tmp_path / "wide.ckpt")
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    torch.save(changed("mask_token", torch.zeros(1, 1, 90_000)), tmp_path / "wide.ckpt")
    with pytest.raises(DataError, match=r"mask_token \(1, 1, 90000\)"):
        predictor_of(read(tmp_path / "wide.ckpt"), SHAPE)


def test_what_does_not_fit_is_listed_without_making_weights(tmp_path: Path) -> None:
    torch.save(world_model().state_dict(), tmp_path / "w.ckpt")
    found = read(tmp_path / "w.ckpt")
    assert misfits(found, SHAPE) == []
    huge = PredictorSettings(history_size=6, num_preds=10, depth=2, heads=4, mlp_width=50_000_000)
    assert any("1.1.weight" in name for name in misfits(found, huge))


def test_a_file_cut_off_is_refused(tmp_path: Path) -> None:
    for zipped in (True, False):
        path = tmp_path / "cut.ckpt"
        torch.save(world_model().state_dict(), path, _use_new_zipfile_serialization=zipped)
        path.write_bytes(path.read_bytes()[:-100_000])
        with pytest.raises(DataError, match="cut.ckpt"):
            read(path)
    path.write_bytes(pickle.dumps({"a": 1})[:-3])
    with pytest.raises(DataError, match="cut.ckpt"):
        read(path)
