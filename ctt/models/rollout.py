"""Rolling the world model out beyond the given frames."""

from __future__ import annotations

import torch
from torch import Tensor

from ctt.models.predictor import Predictor


@torch.no_grad()
def rollout(predictor: Predictor, slots: Tensor, frameskip: int, frames: int = 32) -> Tensor:
    """Given slots (V,F,S,D) → the next `frames` frames (V,frames,S,D).

    Frame F+i comes from the window with offset i mod frameskip. Its history are the H frames F − H·frameskip + offset,
    + frameskip, …; the model predicts P frames, these are appended, and the history moves on until there are enough. The
    offsets are independent and computed as one batch. Raises ValueError if H·frameskip > F.
    """
    videos, given, count, width = slots.shape
    history, reach = predictor.history, predictor.history * frameskip
    if reach > given:
        raise ValueError(f"a history of {history} frames with frameskip {frameskip} needs {reach} given frames; there are {given}")
    window = torch.unflatten(slots[:, given - reach :], 1, (history, frameskip)).transpose(1, 2)  # (V,offset,H,S,D)
    window = window.reshape(videos * frameskip, history, count, width)
    needed = -(-frames // frameskip)
    predicted: list[Tensor] = []
    while sum(part.shape[1] for part in predicted) < needed:
        ahead = predictor.predict(window)
        predicted.append(ahead)
        window = torch.cat([window, ahead], 1)[:, -history:]
    steps = torch.unflatten(torch.cat(predicted, 1)[:, :needed], 0, (videos, frameskip))  # (V,offset,n,S,D)
    return steps.transpose(1, 2).flatten(1, 2)[:, :frames]
