"""What training cannot do is refused when settings are composed, with the key named; everything else trains."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from ctt.config import Config, compose
from ctt.core.errors import Diverged, SettingError, UsageError
from ctt.planning import auxiliaries_of, target_of
from ctt.setting_names import get_value, typed, with_values
from ctt.stages.base import build
from ctt.store import Store
from ctt.sweep import compile_sweep, without_inactive
from tests.stages.test_rules import fields
from tests.tiny import TINY

SMALLEST = [
    *TINY, "num_masked_slots=2", "ctt_start_epoch=0", "ctt_inv_weight=0.1", "ctt_suf_weight=0.1", "reader.videos=8",
    "world_model.depth=1", "world_model.heads=2", "world_model.mlp_width=16", "world_model.epochs=1", "world_model.batch_size=8",
    "world_model.windows.per_epoch=16", "world_model.windows.validation=8", "aloe.layers=1", "aloe.width=8", "aloe.heads=2",
    "aloe.ffn=8", "aloe.head_hidden=4", "aloe.batch_size=16", "aloe.shares=[0.1,0.05,0.05,0.05]", "aloe.eval_videos=2",
    "diagnostics.windows=8",
]  # fmt: skip
MANY, LARGE = 1_000_000, 1e200
REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"world_model.heads": 3}, ("world_model.heads", "128")),
    ({"world_model.history_size": 30}, ("world_model.history_size=30", "128")),
    ({"world_model.frameskip": 64}, ("frameskip=64", "128")),
    ({"world_model.batch_size": MANY}, ("world_model.batch_size=1000000", "16", "world_model.windows.per_epoch")),
    ({"world_model.windows.per_epoch": 7}, ("world_model.batch_size=8", "world_model.windows.per_epoch=7")),
    ({"world_model.windows.per_epoch": None, "world_model.batch_size": 1569}, ("batch_size=1569", "1568", "16 training")),
    ({"world_model.masking.seed": 2**32, "world_model.masking.draw": "fixed"}, ("world_model.masking.seed", "4294967295")),
    ({"world_model.graph.source": "jacobian", "world_model.graph.projections": MANY}, ("world_model.graph.projections", "512")),
    ({"world_model.graph.source": "learned", "world_model.graph.learned.windows": MANY}, ("graph.learned.windows", "16384")),
    ({"world_model.graph.source": "learned", "world_model.graph.learned.windows": 1569}, ("graph.learned.windows=1569", "1568")),
    ({"world_model.history_size": 1}, ("world_model.history_size", "ctt_inv_weight")),
    ({"world_model.learning_rate": LARGE}, ("world_model.learning_rate", "3.4e+38")),
    ({"world_model.learning_rate": 0.0}, ("world_model.learning_rate", "more than 0")),
    ({"num_masked_slots": 8}, ("num_masked_slots", "7")),
    ({"aloe.heads": 3}, ("aloe.width", "aloe.heads", "8 and 3")),
    ({"aloe.frames": 129}, ("aloe.frames", "128")),
    ({"aloe.frames": 1}, ("aloe.predicted_frames", "null", "aloe.frames=1")),
    ({"aloe.eval_start": 9}, ("aloe.eval_start", "less than 8")),
    ({"aloe.predicted_frames": 5}, ("aloe.predicted_frames", "at most 4")),
    ({"aloe.shares": [0.5, 0.5, 0.5]}, ("aloe.shares", "descriptive")),
    ({"aloe.learning_rate": LARGE}, ("aloe.learning_rate", "3.4e+38")),
    ({"rollout.frames": 31}, ("rollout.frames=31", "32")),
    ({"reader.videos": 1}, ("reader.videos", "at least 2")),
    ({"reader.stride": 65}, ("reader.stride", "at most 64")),
    ({"diagnostics.windows": 0}, ("diagnostics.windows", "at least 1")),
    ({"launch.kind": "slurm", "launch.nodes": 3, "launch.tasks_per_node": 3}, ("world_model.batch_size=8", "launch.nodes=3", "9")),
]  # fmt: skip


def composed(values: dict[str, Any]) -> Config:
    """The run of these values as a sweep compiles it. Raises SettingError."""
    config = without_inactive(with_values(compose(SMALLEST), {key: typed(key, value) for key, value in values.items()}))
    config.check()
    return config


@pytest.mark.parametrize("values, named", REFUSED, ids=["+".join(values) for values, _ in REFUSED])
def test_what_cannot_be_trained_is_refused_with_its_key(values: dict[str, Any], named: tuple[str, ...]) -> None:
    with pytest.raises(SettingError) as refused:
        composed(values)
    assert [text for text in named if text not in str(refused.value)] == [], refused.value


def test_a_sweep_names_the_point_that_cannot_be_trained() -> None:
    with pytest.raises(UsageError, match=r"world_model\.batch_size=1000000 is more than an epoch's 64 windows .*demo\.yaml"):
        compile_sweep("demo", [*TINY, "world_model.batch_size=8,1000000"])


@pytest.mark.parametrize("override", ["world_model.heads=0", "launch.poll_s=0", "world_model.graph.learned.width=0"])
def test_a_bound_names_the_setting_with_its_group_on_the_command_line(override: str) -> None:
    with pytest.raises(SettingError, match=rf"^{override.split('=')[0]} must be ".replace(".", r"\.")):
        compose(["data=mini", override])


LEFT = ("data", "launch", "tracking", "checkpoint", "tensors", "compile", "threads", "sharing", "device", "store", "sweep", "name")
"""Parts of keys that say nothing about a training, or take minutes (compile)."""
COSTLY = {
    "depth", "mlp_width", "epochs", "layers", "ffn", "width", "head_hidden", "word_width", "frame_width", "frames", "num_preds",
    "projected", "projections", "schedule_epochs", "heads",
}  # fmt: skip
"""Whose work or memory grows with the value, which therefore stays small."""
OWN = {
    "aloe.shares": [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.001], [1.0], [0.2, 0.0, 0.0, 0.0]],
    "rollout.frames": [8, 31, 32, 40],
}


def pool(key: str, field: Any, now: Any) -> list[Any]:
    """Values of a setting that matter: its bounds and those next to them, and some far too large."""
    kind = field.metadata
    low, above, high = kind.get("minimum"), kind.get("above"), kind.get("maximum")
    if key in OWN:
        return OWN[key]
    if kind.get("choices"):
        return list(kind["choices"])
    if isinstance(now, bool):
        return [True, False]
    whole = not isinstance(now, float) and not (now is None and (above is not None or isinstance(high, float)))
    none = [None] if field.default is None else []
    if not whole:
        return [*none, low if above is None else above, 0.5, *([high] if high is not None else [LARGE])]
    name = key.rsplit(".", 1)[-1]
    return [*none, low, low + 1, 3, 30, *([MANY] if name not in COSTLY else [])]


def values() -> st.SearchStrategy[dict[str, Any]]:
    base = compose(SMALLEST)
    drawn = {
        key: pool(key, field, get_value(base, key))
        for key, (field, excluded) in sorted(fields().items())
        if not excluded and not set(key.split(".")) & set(LEFT) and key not in ("auxiliary", "spec", "reader.annotations")
    }
    one = st.sampled_from(sorted(drawn)).flatmap(lambda key: st.tuples(st.just(key), st.sampled_from(drawn[key])))
    return st.lists(one, min_size=1, max_size=4).map(dict)


@pytest.fixture(scope="module")
def data(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with the tiny data set, to which the trainings of this module are added."""
    folder = tmp_path_factory.mktemp("limits") / "store"
    shutil.copytree(tiny_data, folder)
    return Store(folder)


@settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.generate], suppress_health_check=list(HealthCheck))
@example({})
@example({"aloe.shares": [0.0, 0.0, 0.0, 0.001]})  # rounds to no question
@example({"diagnostics.windows": MANY})
@example({"world_model.graph.source": "learned", "world_model.graph.learned.windows": 1568})
@example({"world_model.masking.draw": "fixed", "world_model.masking.seed": 2**32 - 1})
@given(values())
def test_settings_are_refused_with_their_key_or_train(data: Store, values: dict[str, Any]) -> None:
    try:
        config = composed(values)
    except SettingError as error:
        assert any(part in str(error) for key in values for part in (key, key.rsplit(".", 1)[-1])), (error, values)
        return
    target = target_of(config)
    try:
        for stage in (target, *auxiliaries_of(config, target)):
            build(stage, data)
    except Diverged:
        pass  # as it may with any learning rate
