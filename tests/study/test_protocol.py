"""Which sweeps follow the authors' recipe."""

from __future__ import annotations

from ctt.config import Config
from ctt.report.published import QUOTED
from ctt.report.tables.power import power_grid
from ctt.report.tables.table import build
from ctt.study.protocol import follows_reported, protocol, unlike_reported
from ctt.sweep import compile_sweep
from tests.report import made_up_answers


def point(*words: str) -> Config:
    return compile_sweep(words[0], list(words[1:])).points[-1].config


def test_reported_is_the_authors_protocol_and_reported_sound_is_not() -> None:
    assert follows_reported(point("reported")) and "that of the reported numbers" in protocol(point("reported"))
    aloe = point("reported").aloe
    assert (aloe.schedule_epochs, aloe.eval_start) == (400, None)
    sound = point("reported_sound")
    assert not follows_reported(sound)
    assert {"world_model.share_dropout", "aloe.schedule_epochs"} <= unlike_reported(sound).keys()
    assert "`ctt sweep reported` follows theirs" in protocol(sound)
    assert compile_sweep("reported", []).points[1].values == compile_sweep("reported_sound", []).points[1].values


def test_one_changed_setting_is_named() -> None:
    assert unlike_reported(point("reported", "aloe.eval_start=4")) == {"aloe.eval_start": (4, None)}
    assert "other data" in protocol(point("demo"))


def test_the_power_page_compares_within_one_protocol_alone() -> None:
    row = build(made_up_answers.results(seeds=4)).rows[3]
    same, other = (power_grid(row, QUOTED["reported_ctt"], None, kind) for kind in (True, False))
    assert all("our interval" in line[-1] for line in same.blocks[0])
    assert all(line[-1].endswith("the reported one is of another protocol") for line in other.blocks[0])
