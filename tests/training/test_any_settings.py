"""Training with settings drawn at random: branched, killed and resumed training gives the bytes of uninterrupted training,
and settings with the same canonical form give the same bytes."""

from __future__ import annotations

import dataclasses
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, example, given, settings
from hypothesis import strategies as st

from ctt.config import Config
from ctt.core.build_context import BuildContext
from ctt.core.errors import Interrupted, SettingError
from ctt.core.settings import active_rules, canonical_form
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.setting_names import get_value, with_value
from ctt.training import trainer, vqa, world_model
from ctt.training.state import MODEL, OPTIMIZER
from ctt.training.trainer import Segment
from tests.faults.processes import fork, wait
from tests.training.small_world_model import bytes_of, lines_of
from tests.training.standin import StandIn
from tests.training.toy_questions import make

EPOCHS, STEPS = 3, 5
TRAINED: dict[str, Any] = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [phase for phase in Phase if phase not in (Phase.shrink, Phase.explain)],  # they would train for minutes
}
SMALL = {
    "world_model.depth": 2,
    "world_model.heads": 2,
    "world_model.mlp_width": 24,
    "world_model.frameskip": 2,
    "world_model.batch_size": 16,
    "world_model.windows.per_epoch": 16 * STEPS,
    "world_model.windows.validation": 20,
    "world_model.epochs": EPOCHS,
}
CHOICES: dict[str, list[Any]] = {
    "ctt_inv_weight": [0.0, 0.2],
    "ctt_suf_weight": [0.0, 0.1],
    "ctt_adj_threshold": [0.1, 0.14, 0.2],
    "ctt_start_epoch": [0, 1, 2, EPOCHS],
    "num_masked_slots": [0, 2, 3],
    "seed": [0, 7],
    "world_model.num_preds": [1, 2],
    "world_model.frameskip": [1, 2],
    "world_model.dropout": [0.0, 0.2],
    "world_model.dropout_kind": ["exact", "cheap"],
    "world_model.micro_batch": [None, 5, 8, 40],
    "world_model.optimizer": ["adamw", "muon"],
    "world_model.muon_rate": [0.01, 0.03],
    "world_model.muon_precision": ["bf16", "fp32"],
    "world_model.decay_steps": [None, 7],
    "world_model.average": [None, 0.9],
    "world_model.loss_on": ["all", "visible"],
    "world_model.share_dropout": [True, False],
    "world_model.graph.source": ["attention", "rollout_attention", "jacobian", "learned"],
    "world_model.graph.frames": ["mean", "sum"],
    "world_model.graph.scope": ["batch", "sample"],
    "world_model.graph.dropout": ["after", "before"],
    "world_model.masking.draw": ["fixed", "batch", "sample"],
    "world_model.masking.seed": [42, 5],
    "world_model.windows.all_starts": [True, False],
}


def composed(values: dict[str, Any]) -> Config:
    config = Config()
    try:
        for key, value in {**SMALL, **values}.items():
            config = with_value(config, key, value)
    except SettingError:
        assume(False)  # masking.draw=sample excludes graph.scope=batch
    return config


configs = st.fixed_dictionaries({key: st.sampled_from(values) for key, values in CHOICES.items()}).map(composed)


class Interrupting(BuildContext):
    """Asks to stop at the `step`-th progress report; with `killed`, the process kills itself by SIGKILL instead."""

    def __init__(self, folder: Path, step: int, killed: bool = False) -> None:
        super().__init__(folder)
        self.left, self.killed = step, killed

    def progress(self, *arguments: Any, **more: Any) -> None:
        super().progress(*arguments, **more)
        self.left -= 1
        if self.left < 0 and self.killed:
            os.kill(os.getpid(), signal.SIGKILL)

    @property
    def stopping(self) -> bool:
        return self.left < 0 and not self.killed


def train(config: Config, folder: Path, segment: Segment, context: BuildContext | None = None):
    folder.mkdir(exist_ok=True)
    world_model.train(
        config.world_model,
        config.method(),
        config.num_masked_slots,
        config.seed,
        StandIn(),
        segment,
        context=context or BuildContext(folder),
    )


def assert_the_branch_is_the_whole(folder: Path) -> None:
    assert bytes_of(folder / "branch") == bytes_of(folder / "whole")
    assert lines_of(folder / "prefix", folder / "branch") == lines_of(folder / "whole")
    assert (folder / "branch" / "metrics.json").read_bytes() == (folder / "whole" / "metrics.json").read_bytes()


@settings(max_examples=6, **TRAINED)
@given(configs, st.integers(1, EPOCHS - 1), st.integers(0, 2 * STEPS - 2))
def test_branched_and_interrupted_training_gives_the_bytes_of_uninterrupted_training(config: Config, epoch: int, step: int) -> None:
    """A branch is interrupted and resumed: state and curves are those of uninterrupted training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(config, folder / "whole", Segment(EPOCHS))
        train(config, folder / "prefix", Segment(epoch))
        branch = Segment(EPOCHS, epoch, folder / "prefix")
        with pytest.raises(Interrupted):
            (folder / "branch").mkdir()
            steps = (EPOCHS - epoch) * STEPS - 1
            train(config, folder / "branch", branch, Interrupting(folder / "branch", step % steps))
        train(config, folder / "branch", branch)
        assert_the_branch_is_the_whole(folder)


@pytest.mark.slow
@settings(max_examples=14, **TRAINED)
@given(configs, st.integers(1, EPOCHS - 1), st.integers(1, STEPS - 1))
def test_branched_and_killed_training_gives_the_bytes_of_uninterrupted_training(config: Config, epoch: int, step: int) -> None:
    """A process that writes a checkpoint at every step is killed by SIGKILL in a branch; another one resumes it."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        train(config, folder / "whole", Segment(EPOCHS))
        train(config, folder / "prefix", Segment(epoch))
        branch = Segment(EPOCHS, epoch, folder / "prefix")
        (folder / "branch").mkdir()
        patch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
        context = Interrupting(folder / "branch", step, killed=True)
        assert wait(fork(lambda: train(config, folder / "branch", branch, context)), 60) == -signal.SIGKILL
        assert len(list((folder / "branch" / "checkpoint").iterdir())) == 1, "killed after its first checkpoint"
        train(config, folder / "branch", branch)
        assert_the_branch_is_the_whole(folder)


def others(config: Config) -> Config | None:
    """`config` with other values of the settings that its rules make inactive; None if there are none."""
    inactive = {name for rule in active_rules(config) for name in rule.inactive}
    other = config
    for key, values in CHOICES.items():
        if any(key == name or key.startswith(f"{name}.") for name in inactive):
            for value in (v for v in values if v != get_value(config, key)):
                changed = _accepted(other, key, value)
                if changed is not None and canonical_form(changed) == canonical_form(config):
                    other = changed
                    break
    return None if other == config else other


def _accepted(config: Config, key: str, value: Any) -> Config | None:
    try:
        return with_value(config, key, value)
    except SettingError:
        return None


@settings(max_examples=9, **TRAINED)
@given(configs)
@example(composed({"world_model.optimizer": "muon", "world_model.dropout": 0.0}))
def test_settings_of_one_canonical_form_give_one_state(config: Config) -> None:
    """Settings that the rules make inactive have no effect."""
    other = others(config)
    assume(other is not None)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train(config, folder / "one", Segment(EPOCHS))
        train(other, folder / "two", Segment(EPOCHS))
        assert bytes_of(folder / "one") == bytes_of(folder / "two")
        assert lines_of(folder / "one") == lines_of(folder / "two")


def test_settings_of_one_canonical_form_give_one_aloe(tmp_path: Path) -> None:
    """All of ALOE's rules at once: changing the inactive settings leaves predictions and weights as they are."""
    plain = dict(layers=1, heads=4, width=32, ffn=64, dropout=0.0, frames=8, epochs=2, batch_size=32, eval_every=2)
    inactive = dict(
        compile_mode="reduce-overhead",
        dropout_kind="cheap",
        equal_layers=False,
        frame_width=7,
        muon_learning_rate=0.5,
        muon_precision="fp32",
        schedule_epochs=2,
        eval_videos=5,
        patience=3,
    )
    one, two = AloeSettings(**plain), AloeSettings(**plain, **inactive)
    assert {name for rule in active_rules(one) for name in rule.inactive} == set(inactive)
    assert canonical_form(one) == canonical_form(two) and one != two
    dataset, rollouts = make(tmp_path / "toy")
    for folder, aloe in ((tmp_path / "one", one), (tmp_path / "two", two)):
        folder.mkdir()
        vqa.train(aloe, 0, dataset, rollouts, context=BuildContext(folder))
    for name in (MODEL, OPTIMIZER, vqa.PREDICTIONS):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert lines_of(tmp_path / "one") == lines_of(tmp_path / "two")


def test_longer_training_continues_the_shorter_one(tmp_path: Path) -> None:
    config = composed({"ctt_inv_weight": 0.2, "ctt_suf_weight": 0.1, "ctt_start_epoch": 1})
    longer = dataclasses.replace(config, world_model=dataclasses.replace(config.world_model, epochs=EPOCHS + 1))
    train(config, tmp_path / "short", Segment(EPOCHS))
    train(longer, tmp_path / "rest", Segment(EPOCHS + 1, EPOCHS, tmp_path / "short"))
    train(longer, tmp_path / "whole", Segment(EPOCHS + 1))
    assert bytes_of(tmp_path / "rest") == bytes_of(tmp_path / "whole")
