"""Every setting decides the key of a stage, or a rule (or `key=False`) gives the reason why it does not."""

import dataclasses
import functools
import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ctt.config import Config, compose
from ctt.core.errors import SettingError
from ctt.core.settings import Settings, active_rules
from ctt.planning import auxiliaries_of, target_of
from ctt.setting_names import get_value, identity, known_keys, with_value
from ctt.stages.base import Stage
from ctt.sweep import without_inactive

ALL_ON = [
    "data=mini", "world_model=mini", "aloe=mini", "ctt_inv_weight=0.2", "ctt_suf_weight=0.1",
    "world_model.dropout=0.1", "world_model.micro_batch=8", "aloe.dropout=0.1", "aloe.epochs=6", "aloe.schedule_epochs=8",
]  # fmt: skip
BASES = {
    "all on": ALL_ON,
    "plain": ["data=mini", "world_model=mini", "aloe=mini"],
    "defaults": ["data.slots_file=slots", "data.questions=questions", "data.content=known"],
    "reference": ["data=mini", "world_model=reference", "aloe=reference", "ctt_suf_weight=0.1"],
    "nothing masked": [*ALL_ON, "num_masked_slots=0", "reader.interventions=false"],
    "one layer": [*ALL_ON, "aloe.layers=1", "world_model.frameskip=1", "aloe.eval_every=9"],
    "jacobian": [*ALL_ON, "world_model.graph.source=jacobian"],
    "learned": [*ALL_ON, "world_model.graph.source=learned"],
    "compiled": [*ALL_ON, "world_model.compile=true", "aloe.compile=true"],
    "not diagnosed": [*ALL_ON, "diagnostics.enabled=false", "reader.enabled=false"],
    "weights of a file": ["data=mini", "world_model=mini", "aloe=mini", "world_model.tensors=known", "aloe.tensors=known"],
    "clevrer, all on": [*ALL_ON, "data=clevrer", "data.content=known"],
    "imagined videos": [*ALL_ON, "aloe.rollout_frames=counterfactual"],
    "imagined by the graph": ["data=mini", "aloe=mini", "aloe.rollout_frames=counterfactual", "reader.reach=graph"],
}
# Other valid values of settings for which `other_value` can't derive one from type and bounds.
OTHER: dict[str, Any] = {
    "aloe.shares": [1.0, 1.0, 1.0, 0.5],
    "aloe.width": 192,
    "aloe.heads": 2,
    "world_model.heads": 2,
    "aloe.predicted_frames": 3,
    "aloe.eval_videos": 7,
    "aloe.patience": 2,
    "aloe.schedule_epochs": 500,
    "aloe.frames": 20,
    "aloe.aloe_seed": 5,
    "aloe.average": 0.5,
    "world_model.average": 0.5,
    "world_model.micro_batch": 4,
    "world_model.decay_steps": 77,
    "world_model.windows.per_epoch": 512,
    "world_model.windows.validation": 99,
}


@functools.cache
def config_of(base: str) -> Config:
    return compose(BASES[base])


@functools.cache
def fields() -> dict[str, Any]:
    """{dotted key: its field, and whether it or a group of it is excluded from keys}; of settings only, not of groups."""

    def walk(cls: Any, prefix: str, excluded: bool) -> dict[str, Any]:
        found = {}
        for field in dataclasses.fields(cls):
            out = excluded or not field.metadata.get("key", True)
            if isinstance(field.default_factory, type) and issubclass(field.default_factory, Settings):
                found |= walk(field.default_factory, f"{prefix}{field.name}.", out)
            else:
                found[prefix + field.name] = (field, out)
        return found

    return walk(Config, "", False)


def other_value(config: Config, key: str) -> Any:
    """A valid value of `key` that differs from that in `config`."""
    value, metadata = get_value(config, key), fields()[key][0].metadata
    if key in OTHER and OTHER[key] != value:
        return OTHER[key]
    if metadata.get("choices"):
        return next(c for c in metadata["choices"] if c != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1 if metadata.get("maximum") is None or value < metadata["maximum"] else value - 1
    if isinstance(value, float):
        return value / 2 if value else 0.25
    return "another" if value != "another" else "one more"


def keys_of(config: Config, other: Config | None = None) -> tuple[str, ...]:
    """The keys of a run and its auxiliary stages, given a baseline whose ALOE it could use: `other` (None: the run), with weights
    of its own."""
    baseline = target_of(with_value(with_value(other or config, "ctt_inv_weight", 0.0), "ctt_suf_weight", 0.07))
    target = target_of(config, (), baseline)
    return (target.key, *(stage.key for stage in auxiliaries_of(config, target)))


def inactive_settings(config: Config) -> set[str]:
    return {name for rule in active_rules(config) for name in rule.inactive}


def covered(key: str, names: set[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def changed(config: Config, key: str) -> Config | None:
    try:
        return with_value(config, key, other_value(config, key))
    except SettingError:
        return None  # a combination that is refused


def possible(config: Config) -> bool:
    """Whether a sweep with these settings is not refused when it is compiled."""
    try:
        config.check()
    except SettingError:
        return False
    return True


def test_the_walk_reaches_every_setting() -> None:
    groups = {k.rsplit(".", 1)[0] for k in known_keys() if "." in k}
    assert set(fields()) == set(known_keys()) - groups


@pytest.mark.parametrize("base", BASES)
def test_a_setting_changes_a_key_or_a_rule_gives_the_reason(base: str) -> None:
    config = config_of(base)
    before, inactive = keys_of(config), inactive_settings(config)
    for key, (_, excluded) in fields().items():
        other = changed(config, key)
        if other is None or key == "sharing":  # sharing=off salts keys, to measure what sharing saves
            continue
        no_effect = excluded or (covered(key, inactive) and covered(key, inactive_settings(other)))
        assert (keys_of(other) == before) is no_effect, key


def test_every_setting_of_a_key_matters_somewhere() -> None:
    """So rules deactivate no setting that has an effect, and no setting is left out of all keys by mistake."""
    idle = {key for key, (_, excluded) in fields().items() if not excluded}
    for base in BASES:
        config = config_of(base)
        before = keys_of(config)
        idle -= {key for key in idle if (other := changed(config, key)) is not None and keys_of(other) != before}
    assert not idle


def test_every_rule_applies_somewhere_and_gives_its_reason() -> None:
    from ctt.core.settings import rules_of

    kinds = {Config} | {
        type(node)
        for key in known_keys()
        if dataclasses.is_dataclass(node := get_value(Config(), key)) and isinstance(node, Settings)
    }
    every = {rule.reason for kind in kinds for rule in rules_of(kind)}
    met = {rule.reason for base in BASES for rule in active_rules(config_of(base))}
    met |= {rule.reason for rule in active_rules(with_value(config_of("all on"), "ctt_start_epoch", 99))}
    met.add("the data has no questions")  # all sources of ctt have some
    assert met == every and all(" " in reason for reason in every)
    for base in BASES:
        names = inactive_settings(config_of(base))
        assert names <= set(known_keys()), "rules name settings as users write them"


@pytest.mark.parametrize("base", ["defaults", "learned"])
def test_a_live_value_is_in_the_key_even_where_it_is_the_default(base: str) -> None:
    """So after a change of the default, results computed under the old one are not found."""
    config = config_of(base)
    target = target_of(config)
    auxiliaries = [s for stage in auxiliaries_of(config, target) for s in (stage, *stage.inputs().values())]
    stages = (target, target.rollout, target.rollout.state, *auxiliaries)
    text = json.dumps([s.describe()["settings"] for s in stages])
    for key, (field, excluded) in fields().items():
        if excluded or covered(key, inactive_settings(config)) or key.startswith("data."):
            continue
        if get_value(config, key) == field.metadata["old"]:  # the behaviour before this setting existed
            continue
        name = key.rsplit(".", 1)[-1]
        assert name in ("aloe_seed", "protocol") or f'"{name}"' in text, key


choice = st.dictionaries(st.sampled_from(sorted(fields())), st.integers(0, 1), max_size=12)


@settings(max_examples=60, deadline=None)
@example("plain", {"aloe.protocol": 0})  # the baseline whose ALOE is shared has settings that the run does not read
@example("all on", {"aloe.aloe_seed": 0, "aloe.tensors": 0})  # resets settings that only fit each other together
@example("imagined by the graph", {"reader.enabled": 0})  # refused: ALOE's frames are imagined as the reader does
@given(st.sampled_from(sorted(BASES)), choice)
def test_canonical_is_idempotent_and_keeps_every_key(base: str, chosen: dict[str, int]) -> None:
    config = config_of(base)
    for key in chosen:
        config = changed(config, key) or config
    plain = without_inactive(config)
    assert without_inactive(plain) == plain
    if config.data.kind == "synthetic" and possible(config):  # CLEVRER's content is read from its files
        assert identity(plain) == identity(config)
        if config.sharing == "on":
            assert keys_of(plain, config) == keys_of(config)
    inactive = inactive_settings(plain)
    for key in chosen:
        other = changed(plain, key)
        if other is None or fields()[key][1] or key == "reader.annotations":
            continue  # annotations (computed from files) decide whether reader.enabled has an effect, even while it is off
        same = covered(key, inactive) and covered(key, inactive_settings(other))
        assert (identity(other) == identity(plain)) is same, key


def test_the_seeds_of_a_point_share_one_canonical_form() -> None:
    """Computing keys is cheap because forms are cached."""
    config = config_of("plain")
    states: list[Stage] = [target_of(dataclasses.replace(config, seed=s)).rollout.state for s in range(3)]
    assert len({state.key for state in states}) == 3
    assert len({id(state._form) for state in states}) == 1  # type: ignore[attr-defined]
