"""Auxiliary stages are found by name, take settings as text, and name what is wrong; the main line names its parts by role."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest

from ctt.config import Config, compose
from ctt.core.errors import UsageError
from ctt.core.settings import Settings, setting
from ctt.planning import auxiliaries_of, parts, target_of
from ctt.stages.auxiliary_stage import AuxiliaryStage, stage_class, wanted
from ctt.stages.base import Stage
from ctt.stages.columns import Column
from ctt.stages.main_line import MainLine
from ctt.stages.stage_registry import STAGES
from ctt.tracking.summary import differences, note
from ctt.tracking.tracked_runs import TrackedRun, TrackedStage
from ctt.tracking.view import MetricPoint


@dataclasses.dataclass
class LookSettings(Settings):
    often: int = setting(2, "how often", minimum=1)
    where: str = setting("here", "where")


@dataclasses.dataclass(frozen=True)
class Fit(Stage):
    """What Look reads besides the main line; it reads another one itself."""

    kind = "fit"
    version = 1
    below: Stage

    def settings(self) -> Mapping[str, Any]:
        return {}

    def inputs(self) -> Mapping[str, Stage]:
        return {"below": self.below}


@dataclasses.dataclass(frozen=True)
class Look(AuxiliaryStage):
    kind = "look"
    version = 1
    settings_class = LookSettings
    fit: Fit

    @classmethod
    def of(cls, settings: LookSettings, line: MainLine) -> "Look":
        return cls(Fit(Fit(line.data)))

    def settings(self) -> Mapping[str, Any]:
        return {}

    def inputs(self) -> Mapping[str, Stage]:
        return {"fit": self.fit}


@pytest.fixture
def with_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES.builtin, "look", f"{__name__}:Look")


@pytest.fixture
def config() -> Config:
    return compose(["data=mini", "world_model=mini", "aloe=mini"])


def test_a_stage_of_ctt_is_a_file_with_its_name() -> None:
    assert list(STAGES.builtin) == ["diagnostics", "reader"]
    for name in STAGES.builtin:
        assert stage_class(name).kind == name and isinstance(getattr(Config(), name), stage_class(name).settings_class)


def test_settings_are_given_with_the_name(with_look: None) -> None:
    ((stage, settings),) = wanted(["look {often: 5, where: there}"], {})
    assert stage is Look and settings == LookSettings(5, "there")
    assert wanted(["look"], {}) == ((Look, LookSettings()),)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("look {often: 0}", "look: often must be at least 1, got 0"),
        ("look {often: some}", "look: Value 'some' of type 'str' could not be converted to Integer"),
        ("look {oft: 1}", "look has no setting oft; it has often, where"),
        ("look often=1", "neither NAME nor"),
        ("look {often: 1", "neither NAME nor"),
        ("look {often: [}", "is not readable"),
    ],
)
def test_a_mistake_is_named(with_look: None, entry: str, words: str) -> None:
    with pytest.raises(UsageError, match="auxiliary: ") as caught:
        wanted([entry], {})
    assert words in str(caught.value)


def test_what_is_no_auxiliary_stage_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES.builtin, "other", f"{__name__}:Look")
    with pytest.raises(UsageError, match="other of ctt is not an AuxiliaryStage with kind 'other'"):
        stage_class("other")


def test_all_that_an_auxiliary_stage_reads_is_part_of_the_run(with_look: None, config: Config) -> None:
    target = target_of(dataclasses.replace(config, auxiliary=["look"]))
    auxiliaries = auxiliaries_of(dataclasses.replace(config, auxiliary=["look"]), target)
    kinds = [stage.kind for stage in parts(target, auxiliaries)]
    assert kinds == ["data", "world_model", "rollout", "vqa", "diagnostics", "probe", "reader", "fit", "fit", "look"]


def test_a_main_line_may_end_with_the_rollout(config: Config) -> None:
    whole = MainLine.of(target_of(config))
    short = MainLine.of(whole.rollout)
    assert short.answers is None and short.aloe_from is None and short.target is whole.rollout
    assert short.own == whole.own[:-1] and short.world_model is whole.world_model and short.data is whole.data
    auxiliaries = auxiliaries_of(config, whole.rollout)
    assert [s.key for s in auxiliaries] == [s.key for s in auxiliaries_of(config, whole.target)]
    assert [s.kind for s in parts(short.target, auxiliaries)] == [
        "data",
        "world_model",
        "rollout",
        "diagnostics",
        "probe",
        "reader",
    ]


def test_a_column_has_a_direction_or_none() -> None:
    assert Column("a/b_c", unit="px", better="lower").detail == "px, lower is better" and Column("a/b_c").heading == "a b c"
    with pytest.raises(UsageError, match="column a: better must be higher, lower or empty; got 'smaller'"):
        Column("a", better="smaller")


def test_columns_are_on_the_runs_page_with_differences(tmp_path: Any) -> None:
    columns = (Column("far", unit="px", digits=2), Column("hidden", shown=False))
    stage = TrackedStage("look", "key", tmp_path, tmp_path, label="long look", columns=columns)
    run = TrackedRun("demo", "ctt-1", "ctt", 1, stages=(stage,))
    own = [
        MetricPoint(name, value, 0, 0) for name, value in (("accuracy/predictive", 50.0), ("look/far", 2.5), ("look/other", 1.0))
    ]
    base = [
        MetricPoint(name, value, 0, 0) for name, value in (("accuracy/predictive", 40.0), ("look/far", 2.0), ("look/other", 2.0))
    ]
    found = differences(run, own, base)
    assert {point.name: point.value for point in found} == {"difference/predictive": 10.0, "difference/look/far": 0.5}
    assert note(run, [], [*own, *found]).splitlines()[-1] == "Long look: far 2.50 px (+0.50 to the baseline)"
