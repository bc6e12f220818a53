"""A build context reports progress and keeps the figures of earlier attempts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ctt.core.build_context
from ctt.core.build_context import BuildContext, read_metrics
from ctt.core.device_use import DeviceUse
from ctt.core.memory import peak_mib


class Clock:
    now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ctt.core.build_context.time, "time", made.time)
    return made


def report(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "progress.json").read_text())
    return record


def test_rates_are_by_unit_and_exclude_earlier_work(tmp_path: Path, clock: Clock) -> None:
    context = BuildContext(tmp_path)
    clock.now += 60  # reading the data
    for step in range(1, 12):
        context.progress(step, 20, "step")
        clock.now += 2
    clock.now += 98  # writing something large
    for row in (100, 200, 300):
        context.progress(row, 300, "sequence")
        clock.now += 4
    assert context.rates == pytest.approx({"step": 0.5, "sequence": 25.0})
    assert report(tmp_path)["rate"] == pytest.approx(25.0)
    later = BuildContext(tmp_path)
    later.progress(100, 200, "sequence")
    clock.now += 1
    later.progress(200, 200, "sequence")
    assert later.rates == pytest.approx({"step": 0.5, "sequence": 100.0}), "steps: from the earlier attempt"


def test_alive_updates_the_report_without_progress(tmp_path: Path, clock: Clock) -> None:
    beats: list[float] = []
    context = BuildContext(tmp_path, beat=lambda: beats.append(clock.now))
    context.alive()
    assert not (tmp_path / "progress.json").exists(), "there is no report to repeat yet"
    context.progress(5, 10, "step")
    clock.now += 0.5
    context.alive()
    assert report(tmp_path)["updated"] == 1000.0 and beats == [1000.0], "at most once a second"
    clock.now += 5
    context.alive()
    record = report(tmp_path)
    assert (record["done"], record["updated"]) == (5, 1005.5) and beats == [1000.0, 1005.5]


def test_the_peak_is_that_of_all_attempts(tmp_path: Path) -> None:
    BuildContext(tmp_path).progress(1, 2, "step")
    record = report(tmp_path)
    assert record["peak_mib"] == pytest.approx(peak_mib("cpu"), rel=0.05)
    (tmp_path / "progress.json").write_text(json.dumps(record | {"peak_mib": 1e7}))
    later = BuildContext(tmp_path)
    assert later.peak == 1e7
    later.progress(1, 2, "step")
    assert report(tmp_path)["peak_mib"] == 1e7


def test_lines_of_stages_with_steps_have_the_throughput_and_use_since_the_last_line(tmp_path: Path, clock: Clock) -> None:
    context = BuildContext(tmp_path)
    for epoch, pause in ((1, 2.0), (2, 4.0)):
        for step in range(1, 11):
            clock.now += pause
            context.progress(10 * (epoch - 1) + step, 20, "step")
        context.log(epoch, train_loss=0.5)
    one, two = read_metrics(tmp_path / "metrics.jsonl")
    assert (one["steps_per_second"], two["steps_per_second"]) == (0.5, 0.25), "of each epoch by itself"
    assert set(one) == {"t", "step", "train_loss", "steps_per_second", "memory_mib", "cpu_percent"} and one["memory_mib"] > 10
    context.progress(1, 2, "video")
    context.log(3, error=1.0)
    assert set(read_metrics(tmp_path / "metrics.jsonl")[-1]) == {"t", "step", "error"}


def test_gpu_use_is_the_mean_of_samples_where_it_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([20, 60])
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: next(found))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3 * 2**20)
    use = DeviceUse("cuda:0")
    for _ in range(3):  # the third time the driver reports nothing any more
        use.sample()
    first, second = use.since_last(), use.since_last()
    assert (first["gpu_percent"], first["memory_mib"]) == (40.0, 3.0) and "gpu_percent" not in second
