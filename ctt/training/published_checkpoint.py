"""Checkpoints with the published tensor names, read without executing anything in them.

A world model has a tensor named mask_token; ALOE's names begin with transformer_model. A file holds a dict of tensors, or one
under a name that trainers use (WRAPPERS), with anything else next to it, which is skipped, or is a pickled module. Names may begin
with `module.` or another attribute. Numbers of half precision become float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from ctt.core.errors import DataError
from ctt.core.settings import digest
from ctt.data.data_format import CLEVRER, DataFormat
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.model import Aloe
from ctt.models.aloe.model import load_published as fill
from ctt.models.model_settings import PredictorSettings
from ctt.models.predictor import Predictor
from ctt.safeload.checkpoint_reader import Skipped, read_checkpoint
from ctt.safeload.rebuild import Array, brief
from ctt.training.state import MODEL

LARGEST = 4 << 30
"""Maximum bytes of tensors; the published checkpoints have tens of megabytes."""
LONGEST_AXIS = 100_000
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "module")
"""Under what trainers keep a model's state next to an optimizer's, the epoch and their settings."""
MARKS = {"world_model": "mask_token", "aloe": "transformer_model."}
"""What names of each kind's tensors begin with."""


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by name; kind: world_model or aloe."""

    source: Path
    kind: str
    tensors: dict[str, Tensor]

    @property
    def digest(self) -> str:
        """Digest of names, shapes, types and values; independent of the file's name."""
        parts = {n: [list(t.shape), str(t.dtype), t.numpy().tobytes().hex()] for n, t in sorted(self.tensors.items())}
        return digest(parts)


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint. Raises DataError if its state holds anything but tensors, or tensors of neither model, or NaN."""
    path = Path(path)
    state = _state_of(read_checkpoint(path), path)
    arrays = _tensors_of(state, path)
    kind = _kind_of(arrays, path)
    if sum(array.size for array in arrays.values()) > LARGEST:
        raise DataError(f"{path} describes more than {LARGEST >> 30} GB of tensors")
    try:
        with open(path, "rb") as file:
            tensors = {name: _tensor(array.read(file)) for name, array in arrays.items()}
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            bad = int((~torch.isfinite(tensor)).sum())
            raise DataError(f"{path}: {brief(name)} has {bad} of {tensor.numel()} values that are NaN or infinite")
    return Checkpoint(path, kind, tensors)


def _state_of(tree: Any, path: Path) -> dict[Any, Any]:
    """The dict of tensors: the file itself, or under one of WRAPPERS."""
    if isinstance(tree, dict) and not any(isinstance(value, Array) for value in tree.values()):
        tree = next((tree[name] for name in WRAPPERS if isinstance(tree.get(name), (dict, Skipped))), tree)
    if isinstance(tree, Skipped) and (whole := tree.tensors()):
        return whole
    if not isinstance(tree, dict) or not tree:
        what = f" ({tree.what} was skipped, nothing was executed)" if isinstance(tree, Skipped) else ""
        raise DataError(f"{path} is not a checkpoint: it must hold a dict of tensors, or one under {' or '.join(WRAPPERS)}{what}")
    return tree


def _tensors_of(state: dict[Any, Any], path: Path) -> dict[str, Array]:
    """The arrays by name, without what wrappers put before every name."""
    found = {}
    for name, value in state.items():
        if isinstance(value, Skipped):
            raise DataError(f"{path}: {brief(str(name))} is no tensor but {value.what}; nothing was executed")
        if isinstance(value, Array):
            if max(value.shape, default=0) > LONGEST_AXIS:
                known = f"its shape is {value.shape}, and no axis has over {LONGEST_AXIS:,}"
                raise DataError(f"{path}: {brief(str(name))} does not fit any model: {known}")
            found[str(name)] = value
    return _without_prefix(found)


def _without_prefix(arrays: dict[str, Array]) -> dict[str, Array]:
    """Names from the one on that shows the kind: DataParallel puts `module.` before all of them, Lightning the attribute's name."""
    for mark in MARKS.values():
        starts = {
            name.removesuffix(mark) if name.endswith(mark) else name[: name.index(mark)] for name in arrays if _has(name, mark)
        }
        if len(starts) == 1 and (prefix := starts.pop()):
            return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    return arrays


def _has(name: str, mark: str) -> bool:
    place = name.find(mark)
    return place == 0 or (place > 0 and name[place - 1] == ".")


def _kind_of(arrays: dict[str, Array], path: Path) -> str:
    for kind, mark in MARKS.items():
        if any(name.startswith(mark) for name in arrays):
            return kind
    some = ", ".join(map(brief, list(arrays)[:4])) or "none"
    raise DataError(f"{path} holds neither a world model's tensors nor ALOE's (it has {some})")


def _tensor(array: np.ndarray) -> Tensor:
    """Numbers as float32 where they are of another precision; others as they are."""
    native = array.astype(array.dtype.newbyteorder("="), order="C")
    return torch.from_numpy(native.astype(np.float32) if native.dtype.kind == "f" else native)


def misfits(checkpoint: Checkpoint, settings: PredictorSettings, data_format: DataFormat = CLEVRER) -> list[str]:
    """The names of tensors that are missing, not known, or of another shape than with these settings. No weights are made."""
    with torch.device("meta"):
        own = Predictor(settings, data_format.width).state_dict()
    wrong = sorted(set(own) ^ set(checkpoint.tensors))
    return wrong + [n for n, t in own.items() if n in checkpoint.tensors and t.shape != checkpoint.tensors[n].shape]


def check_fit(checkpoint: Checkpoint, settings: PredictorSettings, data_format: DataFormat = CLEVRER) -> None:
    """Raises DataError with the tensors that do not fit and the settings of their shapes."""
    if wrong := misfits(checkpoint, settings, data_format):
        known = {name: tuple(checkpoint.tensors[name].shape) for name in wrong[:5] if name in checkpoint.tensors}
        named = [f"{brief(name)} {known[name]}" if name in known else brief(name) for name in wrong[:5]]
        raise DataError(
            f"{checkpoint.source} does not fit the settings of world_model (history_size {settings.history_size}, num_preds "
            f"{settings.num_preds}, depth {settings.depth}, heads {settings.heads}, mlp_width {settings.mlp_width}; slots have "
            f"{data_format.width} numbers): {', '.join(named)}; choose other settings, such as "
            "world_model=paper or world_model.depth=2"
        )


def predictor_of(checkpoint: Checkpoint, settings: PredictorSettings, data_format: DataFormat = CLEVRER) -> Predictor:
    """The world model, in eval mode. Raises the errors of `check_fit`."""
    check_fit(checkpoint, settings, data_format)
    predictor = Predictor(settings, data_format.width)
    predictor.load_state_dict(checkpoint.tensors)
    return predictor.eval()


def aloe_of(checkpoint: Checkpoint, settings: AloeSettings, data_format: DataFormat = CLEVRER) -> Aloe:
    """The ALOE, in eval mode. Raises DataError with the tensors that do not fit."""
    model = Aloe(settings, data_format)
    try:
        fill(model, checkpoint.tensors)
    except DataError as error:
        raise DataError(f"{checkpoint.source}: {brief(str(error), 500)}") from None
    return model.eval()


def save(model: Predictor | Aloe, folder: Path) -> None:
    """Writes the weights in the format of a training state's model file."""
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / MODEL)
