"""Modes of torch.compile that settings choose from; without torch, which most commands do not import."""

from __future__ import annotations

MODES = ("default", "reduce-overhead")
REPLAYED = "reduce-overhead"
MODE_HELP = (
    "of compile=true. default: fused kernels; reduce-overhead: on a GPU also CUDA graphs, which launch all kernels of a pass at "
    "once, so that small ones do not wait for the processor (more memory; on a CPU as default)"
)
