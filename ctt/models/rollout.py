"""Rolling the world model out beyond the given frames."""

from __future__ import annotations

import torch
from torch import Tensor

from ctt.models.predictor import Predictor


@torch.no_grad()
def rollout(predictor: Predictor, slots: Tensor, frameskip: int, frames: int = 32) -> Tensor:
    """Given slots (V,F,S,D) → the next `frames` frames (V,frames,S,D).

    Frame F+i is read from the window offset i mod frameskip: its history are the H frames F − H·frameskip + offset,
    + frameskip, …; the model predicts P frames, they are appended, the history slides, until there are enough. The
    offsets do not depend on one another and are computed as one batch. Raises ValueError if H·frameskip > F.
    """
    videos, given, count, width = slots.shape
    history, reach = predictor.history, predictor.history * frameskip
    if reach > given:
        raise ValueError(
            f"a history of {history} frames, {frameskip} apart, needs {reach} given frames; there are {given}"
        )
    window = slots[:, given - reach :].unflatten(1, (history, frameskip)).transpose(1, 2)  # (V,offset,H,S,D)
    window = window.reshape(videos * frameskip, history, count, width)
    needed = -(-frames // frameskip)
    predicted: list[Tensor] = []
    while sum(part.shape[1] for part in predicted) < needed:
        ahead = predictor.predict(window)
        predicted.append(ahead)
        window = torch.cat([window, ahead], 1)[:, -history:]
    steps = torch.cat(predicted, 1)[:, :needed].unflatten(0, (videos, frameskip))  # (V,offset,n,S,D)
    return steps.transpose(1, 2).flatten(1, 2)[:, :frames]
