"""Training states on disk: everything a learner holds after a number of steps.

A state folder holds `model.safetensors` (the model's state_dict; if the learner averages its weights, their average, and
`weights.safetensors` then holds the weights themselves), `optimizer.safetensors` (moments, named
`optimizer/parameter/moment`), `side.safetensors` where there is a side network (its weights as `model/…`, its moments as
`optimizer/…`) and `state.json` ({"epoch", "step", "sums", "count"}; "stopped" if training stopped before the last epoch).
During training these files are in `checkpoint/NNN/` of the stage's folder, with `sha256.json` ({"files": {name: hash},
"metrics": [bytes of the stage's metrics.jsonl at that time, their hash]}).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ctt.core.atomic_files import read_json, sha256, write_json
from ctt.core.build_context import CHECKPOINT, METRICS, STATE
from ctt.core.errors import StoreError
from ctt.training.learner import Learner

MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
WEIGHTS, SIDE = "weights.safetensors", "side.safetensors"
HASHES = "sha256.json"


def save_state(folder: Path, learner: Learner, at: dict[str, Any]) -> None:
    """Writes the files of a state folder; all are synced to disk when this returns."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().cpu().contiguous() for name, value in learner.model.state_dict().items()}
    files = [MODEL, OPTIMIZER, STATE]
    if learner.averaged is None:
        save_file(weights, folder / MODEL)
    else:
        save_file({name: value.cpu().contiguous() for name, value in learner.averaged.items()}, folder / MODEL)
        save_file(weights, folder / WEIGHTS)
        files.append(WEIGHTS)
    save_file(_moments(learner.model, learner.optimizers), folder / OPTIMIZER)
    if learner.side is not None:
        tensors = {f"model/{n}": v.detach().cpu().contiguous() for n, v in learner.side.model.state_dict().items()}
        moments = _moments(learner.side.model, [learner.side.optimizer])
        save_file(tensors | {f"optimizer/{name}": value for name, value in moments.items()}, folder / SIDE)
        files.append(SIDE)
    (folder / STATE).write_text(json.dumps(at, sort_keys=True), encoding="utf-8")
    for name in files:
        with open(folder / name, "rb") as file:
            os.fsync(file.fileno())


def load_state(folder: Path, learner: Learner) -> dict[str, Any]:
    """Loads a saved state into the learner; returns its `state.json`. Raises StoreError if it is of another model or damaged."""
    try:
        at: dict[str, Any] = json.loads((folder / STATE).read_text(encoding="utf-8"))
        weights = load_weights(folder / MODEL)
        if (folder / WEIGHTS).exists():
            device = next(learner.model.parameters()).device
            learner.averaged = {name: value.to(device) for name, value in weights.items()}
            weights = load_weights(folder / WEIGHTS)
        learner.model.load_state_dict(weights)
        _set_moments(load_weights(folder / OPTIMIZER), learner.model, learner.optimizers)
        learner.side = None
        if (folder / SIDE).exists():
            learner.side = learner.make_side()
            tensors = load_weights(folder / SIDE)
            learner.side.model.load_state_dict(_below("model/", tensors))
            _set_moments(_below("optimizer/", tensors), learner.side.model, [learner.side.optimizer])
    except (OSError, ValueError, RuntimeError) as error:
        raise StoreError(f"{folder} does not hold a training state of this model: {error}") from error
    return at


def _moments(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """The state of the optimizers, by `number/parameter/moment`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{number}/{names[id(parameter)]}/{key}": value.detach().cpu().contiguous()
        for number, optimizer in enumerate(optimizers)
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _set_moments(moments: dict[str, Tensor], model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for number, optimizer in enumerate(optimizers):
        saved = optimizer.state_dict()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for index, parameter in enumerate(parameters):
            state = _below(f"{number}/{names[id(parameter)]}/", moments)
            if state:
                saved["state"][index] = state
        optimizer.load_state_dict(saved)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def load_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Raises StoreError if it is missing or damaged."""
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise StoreError(f"{file} can't be read: {error}") from error


def write_checkpoint(folder: Path, learner: Learner, at: dict[str, Any]) -> None:
    """Writes a new folder under `checkpoint/`, renamed to its final name when complete; then deletes older ones."""
    root = folder / CHECKPOINT
    final = root / f"{at['epoch']:06d}-{at['step']:09d}"
    temporary = root / f"{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    save_state(temporary, learner, at)
    files = {path.name: sha256(path) for path in sorted(temporary.iterdir())}
    write_json(temporary / HASHES, {"files": files, "metrics": _start_of(folder / METRICS)})
    shutil.rmtree(final, ignore_errors=True)
    os.rename(temporary, final)
    for other in root.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)


def newest_checkpoint(folder: Path) -> Path | None:
    """The latest undamaged state under `checkpoint/`; None if there is none. Warns of damaged ones."""
    root = folder / CHECKPOINT
    complete = sorted(p for p in root.iterdir() if p.suffix != ".tmp") if root.is_dir() else []
    for path in reversed(complete):
        if not (damaged := _damaged(path)):
            return path
        warnings.warn(f"the checkpoint {path} is damaged ({damaged}); training continues without it", stacklevel=2)
    return None


def _damaged(checkpoint: Path) -> str:
    """The name of a file that is not as it was when the checkpoint was written, or ""; checkpoints of ctt 0.1 have no hashes."""
    if not (checkpoint / HASHES).exists() and (checkpoint / STATE).exists():
        return ""
    found = read_json(checkpoint / HASHES)
    try:
        for name, digest in found["files"].items() if found else ():
            if not (checkpoint / name).is_file() or sha256(checkpoint / name) != digest:
                return str(name)
        length, digest = found["metrics"] if found else (0, None)
        return "" if _start_of(checkpoint.parent.parent / METRICS, length) == [length, digest] else METRICS
    except (KeyError, TypeError, ValueError, AttributeError):
        return HASHES


def _start_of(path: Path, length: int | None = None) -> list[Any]:
    """[bytes, their hash] of the first `length` bytes of a file, by default of all; of none if there is no file."""
    data = path.read_bytes()[:length] if path.exists() else b""
    return [len(data), hashlib.sha256(data).hexdigest()]
