"""Secrets: what of addresses and of the environment may be written down, where others read it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_PASSWORD = re.compile(
    r"""(?<=://)([^\s/@:'"]*):(?!\d{1,5}[/?\#])(?:[^\s/'"]+|[^\s@'"]+)(?=@)  # it may hold "@", or "/" if it is no port
    | (?<=://)[^\s/@:'"]{12,}(?=@)""",
    re.VERBOSE,
)
"""USER:PASSWORD@ of an address, or a token alone in its place."""
_TOKEN = re.compile(
    r"(?<=[?&#])((?:access_?|auth_?|api_?)?(?:token|key|signature|sig|password|passwd|pwd|secret)|x-amz-(?:signature|credential|security-token))"
    r"=[^\s&#'\"]+",
    re.IGNORECASE,
)
"""What signs a request, in the query of an address."""
RECORDED = (
    "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE", "OMP_NUM_THREADS",
    "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "SLURM_JOB_ID", "SLURM_JOB_PARTITION",
)  # fmt: skip
"""The only variables of the environment that are recorded: they can change bits, or find the job again."""


def masked(text: str) -> str:
    """The text, in whose addresses passwords and tokens are replaced by ***."""
    if "://" not in text:
        return text
    text = _PASSWORD.sub(lambda found: f"{found[1]}:{MASK}" if found[1] is not None else MASK, text)
    return _TOKEN.sub(rf"\1={MASK}", text)


def masked_values(value: Any) -> Any:
    """Plain nested values with every text masked."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: masked_values(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_values(item) for item in value]
    return value


def recorded_environment() -> dict[str, str]:
    """The variables of the environment that are recorded, of those that are set."""
    return {name: os.environ[name] for name in RECORDED if name in os.environ}
