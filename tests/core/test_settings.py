"""Settings: bounds, and canonical forms with one text per meaning."""

import dataclasses
import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctt.config import Config
from ctt.core.errors import SettingError
from ctt.core.settings import (
    Rule,
    Settings,
    active_rules,
    canonical_form,
    canonical_json,
    digest,
    old_values,
    setting,
)


@dataclasses.dataclass
class Inner(Settings):
    share: float = setting(0.5, "a share", minimum=0, maximum=1)
    where: str = setting("here", "a path", key=False)


@dataclasses.dataclass
class Outer(Settings):
    kind: str = setting("a", "which", choices=("a", "b"))
    count: int = setting(3, "how many", above=0)
    inner: Inner = setting(Inner, "nested")


@dataclasses.dataclass
class Later(Outer):
    added: bool = setting(False, "added later; false is the behaviour before", old=False)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Outer(kind="c"), "kind must be one of a, b"),
        (lambda: Outer(kind=True), "kind must be one of a, b; got True"),
        (lambda: Outer(count=0), "count must be more than 0, got 0"),
        (lambda: Inner(share=1.5), "share must be at most 1, got 1.5"),
        (lambda: Inner(share=-0.1), "share must be at least 0"),
        (lambda: Inner(share=math.nan), "share must be a finite number"),
    ],
)
def test_bounds_name_the_setting(make, message) -> None:
    for sound in (lambda: None, lambda: (Outer(kind="b", count=1), Inner(share=1.0)), lambda: None):
        sound()  # what was checked before has no effect
        with pytest.raises(SettingError, match=message):
            make()


def test_what_must_not_change_a_result_is_not_in_the_key() -> None:
    assert digest(Outer(inner=Inner(where="elsewhere"))) == digest(Outer())
    assert digest(Outer(inner=Inner(share=0.25))) != digest(Outer())


def test_a_setting_added_later_keeps_old_keys_at_its_old_value() -> None:
    assert digest(Later()) == digest(Outer())
    assert digest(Later(added=True)) != digest(Outer())


def test_a_changed_default_changes_the_key() -> None:
    @dataclasses.dataclass
    class Changed(Outer):
        count: int = setting(4, "how many", above=0)

    @dataclasses.dataclass
    class ChangedLater(Later):
        added: bool = setting(True, "added later; false is the behaviour before", old=False)

    @dataclasses.dataclass
    class Above(Settings):
        below: ChangedLater = setting(ChangedLater, "nested")
        other: Outer = setting(Outer, "has no old values")

    assert old_values(Above) == {"below": {"added": False}}, "the meaning of a record without it"
    assert digest(Changed()) != digest(Outer())
    assert digest(ChangedLater()) != digest(Later()) and digest(ChangedLater(added=False)) == digest(Later())


@dataclasses.dataclass
class Ruled(Settings):
    optimizer: str = setting("sgd", "which", choices=("sgd", "muon"))
    muon_rate: float = setting(0.02, "Muon's")
    inner: Inner = setting(Inner, "nested")

    rules = (
        Rule(("muon_rate",), "only muon has that rate", lambda s: s.optimizer != "muon"),
        Rule(("inner.share",), "the rate is 0", lambda s: s.muon_rate == 0),
    )


@dataclasses.dataclass
class Derived(Ruled):
    more: int = setting(0, "more")
    rules = (Rule(("more",), "never read", lambda s: True),)


def test_rules_leave_out_inactive_settings_by_name_and_below() -> None:
    assert canonical_form(Ruled()) == {"optimizer": "sgd", "inner": {"share": 0.5}}
    assert digest(Ruled(muon_rate=0.5)) == digest(Ruled())
    live = Ruled(optimizer="muon", muon_rate=0.0)
    assert canonical_form(live) == {"optimizer": "muon", "muon_rate": 0.0, "inner": {}}
    assert [rule.reason for rule in active_rules(live)] == ["the rate is 0"]


def test_a_class_has_its_bases_rules_too() -> None:
    assert canonical_form(Derived(more=3)) == canonical_form(Ruled())


def test_settings_become_read_only() -> None:
    made = Ruled()
    digest(made)
    with pytest.raises(AttributeError, match="dataclasses.replace"):
        made.muon_rate = 1.0
    assert dataclasses.replace(made, optimizer="muon", muon_rate=1.0).muon_rate == 1.0


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(values)
def test_canonical_is_idempotent_and_survives_json(value) -> None:
    once = canonical_form(value)
    assert canonical_form(once) == once
    assert digest(json.loads(canonical_json(value))) == digest(value)


@given(st.dictionaries(st.text(max_size=4), st.integers(), min_size=2, max_size=5))
def test_the_order_of_keys_has_no_effect(mapping) -> None:
    assert digest(dict(reversed(list(mapping.items())))) == digest(mapping)


def test_a_form_without_some_settings_is_canonical_and_leaves_the_whole_one() -> None:
    outer = Outer(count=5)
    less = canonical_form(outer).without("inner", "absent")
    assert less == {"kind": "a", "count": 5} and canonical_form({"outer": less}) == {"outer": less}
    assert canonical_form(outer) == {"kind": "a", "count": 5, "inner": {"share": 0.5}}
    assert digest(less) == digest({"kind": "a", "count": 5})


def test_zero_has_one_sign() -> None:
    assert digest({"w": -0.0}) == digest({"w": 0.0})


def test_settings_go_to_another_process_after_their_rules_were_read() -> None:
    """Rules hold functions, which cannot be pickled; a worker gets values alone and computes what it needs anew."""
    config = Config()
    active_rules(config), canonical_form(config)
    copied = pickle.loads(pickle.dumps(config))
    assert copied == config and digest(copied) == digest(config)
    assert pickle.loads(pickle.dumps(config.data)) == config.data
