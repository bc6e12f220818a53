"""Published checkpoints: read without executing code, equal to the literal models; hostile files are refused."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from ctt.app.import_checkpoint import import_checkpoint, imported_aloe, imported_model
from ctt.config import compose
from ctt.core.errors import DataError, UsageError
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.model_settings import PredictorSettings
from ctt.stages.base import build
from ctt.stages.rollout import Rollout
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.training.published_checkpoint import aloe_of, predictor_of, read
from ctt.training.rollout import load
from ctt.training.state import MODEL
from tests.models.aloe.literal_aloe import LiteralAloe
from tests.models.literal_world_model import LiteralPredictor

SHAPE = PredictorSettings(history_size=6, num_preds=10, frameskip=2, depth=2, heads=4, mlp_width=32)


def literal() -> LiteralPredictor:
    torch.manual_seed(4)
    return LiteralPredictor(6, 10, 2, 4, 32, 128).eval()


def saved(path: Path, model: torch.nn.Module, wrap: bool, prefix: str) -> Path:
    state: Any = {prefix + name: value for name, value in model.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 30} if wrap else state, path)
    return path


@pytest.mark.parametrize("wrap, prefix", [(False, ""), (True, ""), (False, "module."), (True, "module.")])
def test_a_world_model_predicts_as_the_literal_one(tmp_path: Path, wrap: bool, prefix: str) -> None:
    theirs = literal()
    checkpoint = read(saved(tmp_path / "w.ckpt", theirs, wrap, prefix))
    assert checkpoint.kind == "world_model"
    history = torch.randn(2, 6, 7, 128)
    with torch.no_grad():
        ours = predictor_of(checkpoint, SHAPE).predict(history)
        expected = theirs(history, [[], []])[0][:, 6:]
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_aloe_has_the_published_tensors(tmp_path: Path) -> None:
    theirs = LiteralAloe()
    checkpoint = read(saved(tmp_path / "a.pth", theirs, True, "module."))
    assert checkpoint.kind == "aloe"
    ours = aloe_of(checkpoint, AloeSettings()).state_dict()
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours[name].reshape(value.shape), value), name


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def hostile() -> dict[str, bytes]:
    torch_like = io.BytesIO()
    with zipfile.ZipFile(torch_like, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"mask_token": Evil()}, 2))
    whole = io.BytesIO()
    torch.save({"mask_token": torch.zeros(1, 1, 128), "hyper": Evil()}, whole)
    return {
        "a pickle that runs something": pickle.dumps(Evil()),
        "the same in torch's zip": torch_like.getvalue(),
        "tensors and something to run": whole.getvalue(),
        "half a file": whole.getvalue()[: len(whole.getvalue()) // 2],
        "a text": b"weights",
    }


@pytest.mark.parametrize("case", hostile())
def test_hostile_files_are_refused_and_nothing_runs(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.ckpt"
    path.write_bytes(hostile()[case])
    with pytest.raises(DataError, match="evil.ckpt"):
        read(path)
    assert os.listdir(tmp_path) == ["evil.ckpt"], "something was executed"


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    checkpoint = read(saved(tmp_path / "w.ckpt", literal(), False, ""))
    with pytest.raises(DataError, match=r"w\.ckpt does not fit .*num_preds 1.*time_pos_embed.*world_model=paper"):
        predictor_of(checkpoint, PredictorSettings(history_size=3, num_preds=1, depth=2, heads=4, mlp_width=32))
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.ckpt")
    with pytest.raises(DataError, match="neither a world model's tensors nor ALOE's"):
        read(tmp_path / "other.ckpt")


TINY = [
    "data=mini", "data.train=6", "data.validation=4", "data.workers=1", "world_model=mini", "aloe=reference", "device=cpu",
    "world_model.history_size=6", "world_model.num_preds=10", "world_model.frameskip=2", "world_model.mlp_width=32",
    "reader.videos=6",
]  # fmt: skip


def test_other_byte_orders_are_read_and_strange_names_are_shortened(tmp_path: Path) -> None:
    token = np.arange(1280, dtype=">f4").reshape(1, 1, 1280)
    found = read(_pickled(tmp_path / "w.pkl", {"mask_token": token, "a\n" * 1000: token}))
    assert found.tensors["mask_token"].tolist() == token.tolist()
    with pytest.raises(DataError) as refused:
        predictor_of(found, SHAPE)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 800
    for odd in (np.float32(3.0).reshape(()), np.zeros((0, 1 << 40), np.float32)):
        with pytest.raises(DataError, match="does not fit"):
            predictor_of(read(_pickled(tmp_path / "o.pkl", {"mask_token": np.asarray(odd)})), SHAPE)


def _pickled(path: Path, tree: Any) -> Path:
    path.write_bytes(pickle.dumps(tree))
    return path


@pytest.mark.slow
def test_later_stages_use_an_imported_world_model(tmp_path: Path) -> None:
    """Rollouts of it, and an imported ALOE's answers from them."""
    path = saved(tmp_path / "w.ckpt", literal(), True, "")
    config = compose([*TINY, f"store={tmp_path / 'store'}"])
    state = imported_model(read(path), config)
    theirs = LiteralAloe()
    aloe = imported_aloe(read(saved(tmp_path / "a.pth", theirs, False, "")), Rollout(state, config.rollout), config)
    store = Store.open(tmp_path / "store")
    answers = build(Vqa(Rollout(state, config.rollout), config.aloe, 0, aloe_from=aloe), store)
    assert (answers.path / "predictions.parquet").is_file()
    history = torch.randn(1, 6, 7, 128)
    with torch.no_grad():
        predicted = load(store.get(state.key).path, config.world_model).predict(history)  # type: ignore[union-attr]
        torch.testing.assert_close(predicted, literal()(history, [[]])[0][:, 6:], rtol=1e-4, atol=1e-5)
    weights = load_file(store.path(aloe.key) / MODEL)
    assert all(torch.equal(weights[n].reshape(v.shape), v) for n, v in theirs.state_dict().items())
    renamed = path.rename(tmp_path / "renamed.ckpt")
    assert imported_model(read(renamed), config).key == state.key, "identified by its tensors, not by its name"


def test_the_command_prints_what_was_imported(tmp_path: Path) -> None:
    config = compose([*TINY, f"store={tmp_path / 'store'}"])
    console = Console(record=True, width=200, file=io.StringIO())
    assert import_checkpoint(saved(tmp_path / "w.ckpt", literal(), False, ""), None, False, config, console) == 0
    key = next(iter(Store.open(tmp_path / "store").keys()))
    assert f"world model {key}" in console.export_text()
    with pytest.raises(UsageError, match="--aloe"):
        import_checkpoint(saved(tmp_path / "a.pth", LiteralAloe(), False, ""), None, False, config, console)
