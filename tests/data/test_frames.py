"""Where frames are held."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch

from ctt.core.errors import SettingError
from ctt.core.settings import canonical_form
from ctt.data.frames import fits, frame_rows, size_of
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.training.training_settings import WindowSettings

GIB = 2**30


@pytest.mark.parametrize(
    ("choice", "need", "held"),
    [("auto", 4 * GIB, True), ("auto", 4 * GIB + 1, False), ("device", 7 * GIB, True), ("host", 1, False)],
)
def test_frames_are_held_on_a_gpu_that_has_enough_free_memory(choice: str, need: int, held: bool) -> None:
    """What torch holds there for the next tensors is free, too."""
    with (
        mock.patch.object(torch.cuda, "mem_get_info", lambda device: (5 * GIB, 80 * GIB)),
        mock.patch.object(torch.cuda, "memory_reserved", lambda device: 4 * GIB),
        mock.patch.object(torch.cuda, "memory_allocated", lambda device: 1 * GIB),
    ):
        assert fits(choice, need, torch.device("cuda:1"), "a.key") == held
    assert not fits(choice, need, torch.device("cpu"), "a.key")


def test_frames_that_must_be_on_a_gpu_and_do_not_fit_are_an_error_with_the_remedy() -> None:
    with (
        mock.patch.object(torch.cuda, "mem_get_info", lambda device: (8 * GIB, 80 * GIB)),
        pytest.raises(SettingError, match=r"a.key=device: the slots take 9.0 GiB, and cuda:1 has 8.0 GiB free; set a.key to auto"),
    ):
        fits("device", 9 * GIB, torch.device("cuda:1"), "a.key")


@pytest.mark.parametrize("store", ["float32", "bf16"])
def test_the_size_is_that_of_the_rows(store: str) -> None:
    slots = np.random.default_rng(0).normal(size=(70, 3, 2, 4)).astype(np.float32)
    rows = frame_rows(slots, store)
    assert rows.shape == (210, 8) and rows.nbytes == size_of(slots, store)
    assert torch.equal(rows, torch.from_numpy(slots).view(210, 8).to(rows.dtype))


def test_where_they_are_held_is_in_no_key() -> None:
    for settings in (WindowSettings, AloeSettings):
        name = "device" if settings is WindowSettings else "data_device"
        assert canonical_form(settings(**{name: "host"})) == canonical_form(settings())
        with pytest.raises(SettingError, match=f"{name} must be one of auto, device, host"):
            settings(**{name: "gpu"})
