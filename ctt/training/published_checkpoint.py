"""Checkpoints with the published tensor names, read without executing anything in them.

A world model has a tensor named mask_token; ALOE's names begin with transformer_model. A file holds a dict of tensors, or
one under 'state_dict'; names may begin with `module.`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
from ctt.safeload import pickle_reader
from ctt.safeload.rebuild import Array, brief
from ctt.training.state import MODEL

LARGEST = 4 << 30
"""Maximum bytes of tensors; the published checkpoints have tens of megabytes."""


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
    """Reads a checkpoint. Raises DataError if it holds anything but tensors, or tensors of neither model."""
    path = Path(path)
    tree = pickle_reader.read(path)
    tree = tree.get("state_dict", tree) if isinstance(tree, dict) else tree
    if not isinstance(tree, dict) or not tree:
        raise DataError(f"{path} is not a checkpoint: it must hold a dict of tensors, or one under 'state_dict'")
    arrays = {str(name).removeprefix("module."): value for name, value in tree.items() if isinstance(value, Array)}
    if sum(array.size for array in arrays.values()) > LARGEST:
        raise DataError(f"{path} describes more than {LARGEST >> 30} GB of tensors")
    try:
        with open(path, "rb") as file:
            tensors = {name: _tensor(array.read(file)) for name, array in arrays.items()}
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    if "mask_token" in tensors:
        return Checkpoint(path, "world_model", tensors)
    if any(name.startswith("transformer_model.") for name in tensors):
        return Checkpoint(path, "aloe", tensors)
    some = ", ".join(map(brief, list(tensors)[:4])) or "none"
    raise DataError(f"{path} holds neither a world model's tensors nor ALOE's (it has {some})")


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def predictor_of(checkpoint: Checkpoint, settings: PredictorSettings) -> Predictor:
    """The world model, in eval mode. Raises DataError with the tensors that do not fit and the settings of their shapes."""
    token = checkpoint.tensors.get("mask_token")
    predictor = Predictor(settings, CLEVRER.width if token is None or not token.ndim or not token.numel() else token.shape[-1])
    own = predictor.state_dict()
    wrong = sorted(set(own) ^ set(checkpoint.tensors))
    wrong += [n for n, t in own.items() if n in checkpoint.tensors and t.shape != checkpoint.tensors[n].shape]
    if wrong:
        raise DataError(
            f"{checkpoint.source} does not fit the settings of world_model (history_size {settings.history_size}, num_preds "
            f"{settings.num_preds}, depth {settings.depth}, heads {settings.heads}, mlp_width {settings.mlp_width}): "
            f"{', '.join(map(brief, wrong[:5]))}; choose other settings, such as world_model=paper or world_model.depth=2"
        )
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
