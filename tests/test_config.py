"""Config: every shipped YAML composes, typos stop with a name, values are typed."""

import dataclasses
import itertools

import pytest

from ctt.config import GROUPS, RENAMED, Config, compose, config_root, from_dict
from ctt.core.errors import SettingError
from ctt.setting_names import check_key, identity, known_keys, with_value, with_values

CHOICES = {group: sorted(p.stem for p in (config_root() / "conf" / group).glob("*.yaml")) for group in GROUPS if group != "launch"}
CHOICES["launch"] = sorted(p.stem for p in (config_root() / "launch").glob("*.yaml"))


@pytest.mark.parametrize("group, choice", [(g, c) for g, cs in CHOICES.items() for c in cs])
def test_every_shipped_group_file_composes(group: str, choice: str) -> None:
    assert isinstance(compose([f"{group}={choice}"]), Config)


def test_there_are_the_recipes_the_design_names() -> None:
    assert {"default", "reference", "paper", "mini"} <= set(CHOICES["world_model"])
    assert {"default", "reference", "mini"} <= set(CHOICES["aloe"])
    assert {"mini", "synthetic", "clevrer"} <= set(CHOICES["data"])
    assert {"inproc", "local", "slurm"} <= set(CHOICES["launch"])


def test_recipes_differ() -> None:
    for group in ("world_model", "aloe", "data"):
        digests = [identity(compose([f"{group}={c}"])) for c in CHOICES[group] if c != "default"]
        assert all(a != b for a, b in itertools.combinations(digests, 2))


def test_the_paper_recipe_masks_four_slots_and_the_reference_two() -> None:
    assert compose(["world_model=paper"]).num_masked_slots == 4
    assert compose(["world_model=reference"]).num_masked_slots == 2


@pytest.mark.parametrize(
    "overrides, words",
    [
        (["ctt_inv_wieght=0.2"], "ctt_inv_wieght"),
        (["world_model.epochs=many"], "epochs"),
        (["world_model=minni"], "minni"),
        (["ctt_inv_weight=-1"], "ctt_inv_weight must be at least 0"),
        (["ctt_start_epoch=1.5"], "ctt_start_epoch"),
        (
            ["rollout.frames=31"],
            "rollout.frames=31 is too few: ALOE reads .* at least 32, or aloe.predicted_frames .* 6",
        ),
        (["aloe=mini", "rollout.frames=7"], "rollout.frames=7 .* set rollout.frames to at least 32$"),
        (["aloe=mini", "rollout.frames=23", "aloe.predicted_frames=3"], "rollout.frames to at least 24, or .* most 2"),
    ],
)
def test_mistakes_are_named(overrides, words) -> None:
    with pytest.raises(SettingError, match=words):
        compose(overrides).check()


def test_fewer_frames_are_rolled_out_where_no_more_are_read() -> None:
    for overrides in (
        ["rollout.frames=32"],
        ["aloe=mini", "rollout.frames=24", "aloe.predicted_frames=3"],
        ["aloe=mini", "rollout.frames=29", "aloe.shares=[1,0.2,0,0.1]"],  # first frame 4, not every one up to 7
    ):
        compose(overrides).check()
        assert compose(overrides).rollout.frames == int(next(o for o in overrides if "rollout" in o)[-2:])
    short = with_values(compose(["aloe=mini"]), {"aloe.predicted_frames": 1, "rollout.frames": 8})
    with pytest.raises(SettingError, match="rollout.frames=8"):
        with_value(short, "aloe.predicted_frames", 4).check()


def test_a_typo_is_answered_with_the_right_name() -> None:
    with pytest.raises(SettingError, match="did you mean ctt_inv_weight"):
        check_key("ctt_inv_wieght")
    with pytest.raises(SettingError, match="world_model.epochs"):
        check_key("world_model.epoch")
    for key in known_keys():
        check_key(key)


def test_the_published_trainers_keys_are_translated() -> None:
    for key, ours in RENAMED.items():
        with pytest.raises(SettingError, match="published trainer's name"):
            check_key(key)
        assert ours.split()[0].rstrip(",") in known_keys() or ours.startswith("data.slots")


def test_values_are_typed_and_bounded() -> None:
    config = with_value(Config(), "ctt_inv_weight", 1)
    assert isinstance(config.ctt_inv_weight, float)
    assert with_value(config, "world_model.graph.frames", "mean").world_model.graph.frames == "mean"
    for key, value in [
        ("ctt_inv_weight", "x"),
        ("world_model.graph.frames", "meen"),
        ("world_model.graph", {"frames": "sum"}),
    ]:
        with pytest.raises(SettingError, match=key.rsplit(".", 1)[-1]):
            with_value(Config(), key, value)


def test_a_config_survives_its_dict() -> None:
    config = with_value(compose(["world_model=mini", "aloe=mini", "data=mini"]), "ctt_suf_weight", 0.1)
    assert from_dict(dataclasses.asdict(config)) == config


def test_a_record_older_than_a_setting_means_what_it_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    values = dataclasses.asdict(compose(["data=synthetic", "aloe=mini"]))
    del values["data"]["density"], values["aloe"]["words"]
    config = from_dict(values)
    assert config.data.density == 1 and config.aloe.words == "tokens" and config.aloe.width == 96
    monkeypatch.setattr(
        "ctt.config.old_values", lambda kind: {"data": {"density": 3}}
    )  # as if it were another one than the default
    assert from_dict(values).data.density == 3


def test_where_a_run_goes_is_no_part_of_what_it_is() -> None:
    config = compose(["data=mini"])
    moved = dataclasses.replace(config, store="elsewhere", device="cpu", sweep="x")
    assert identity(moved) == identity(config)
    assert identity(with_value(config, "world_model.epochs", 7)) != identity(config)
    for key, value in (("world_model.threads", 2), ("world_model.windows.device", "host"), ("aloe.data_device", "host")):
        assert identity(with_value(config, key, value)) == identity(config), key


def test_every_setting_explains_itself() -> None:
    def walk(cls, prefix=""):
        for field in dataclasses.fields(cls):
            yield prefix + field.name, field.metadata.get("help", "")
            if dataclasses.is_dataclass(field.default_factory):
                yield from walk(field.default_factory, f"{prefix}{field.name}.")

    for name, text in walk(Config):
        assert len(text) > 5, f"{name} has no help"


def test_settings_of_a_former_name_are_read_and_refused_by_the_present_one() -> None:
    stored = dataclasses.asdict(compose([]))
    stored["launch"]["trunk"] = stored["launch"].pop("prefix") | {"timeout_min": 240.0}
    assert from_dict(stored).launch.prefix.timeout_min == 240
    with pytest.raises(SettingError, match=r"launch\.trunk\.timeout_min is now called launch\.prefix\.timeout_min"):
        with_value(compose([]), "launch.trunk.timeout_min", 10)
