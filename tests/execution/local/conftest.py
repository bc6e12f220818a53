"""Retries of local jobs do not wait, except where a test is about that."""

from __future__ import annotations

import pytest

from ctt.execution.jobs import retries


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "LONGEST", 0.0)
