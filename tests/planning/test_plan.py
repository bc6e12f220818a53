"""Plans: what is shared, what is counted, and in which order jobs are handed out."""

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctt.planning import KINDS, Budget, compile_plan, target_of
from ctt.planning.branching import branch_points_of
from ctt.setting_names import with_value
from ctt.stages import world_model
from ctt.stages.world_model import WorldModel
from ctt.sweep import compile_sweep

MINI = ["data=mini", "world_model=mini", "aloe=mini"]


def plan_of(*overrides: str):
    return compile_plan(compile_sweep(None, [*MINI, *overrides]))


def test_the_demo_shares_training_up_to_the_start() -> None:
    plan = compile_plan(compile_sweep("demo"))
    summary = Budget(plan, ()).numbers()
    assert (summary["points"], summary["runs"], summary["unique_runs"]) == (2, 6, 6)
    assert (summary["world_model_epochs"], summary["world_model_epochs_naive"]) == (3 * (4 + 8 + 8), 6 * 12)
    kinds = [s["kind"] for s in summary["stages"]]
    assert {k: kinds.count(k) for k in KINDS} == {"data": 1, "world_model": 9, "rollout": 6, "imagined": 0, "vqa": 6}
    assert kinds.count("diagnostics") == 6
    assert (kinds.count("probe"), kinds.count("reader")) == (1, 6)
    assert summary["stages_naive"] == 6 * len(set(kinds)) and summary["branch_points"] == 3
    assert len({s["key"] for s in summary["stages"]}) == len(kinds)
    assert all(s["status"] == "run" for s in summary["stages"])


def test_diagnostics_are_beside_every_run_unless_switched_off() -> None:
    on, off = plan_of("ctt_inv_weight=0,0.2"), plan_of("ctt_inv_weight=0,0.2", "diagnostics.enabled=false")
    assert [s.kind for auxiliaries in on.auxiliaries for s in auxiliaries].count("diagnostics") == 2
    assert "diagnostics" not in {s.kind for s in off.stages.values()}
    assert [t.key for t in on.targets] == [t.key for t in off.targets]


def auxiliary_stages(*overrides: str) -> dict[str, int]:
    kinds = [stage.kind for stage in plan_of(*overrides).stages.values()]
    return {kind: kinds.count(kind) for kind in ("probe", "reader") if kind in kinds}


def test_a_reader_is_beside_every_run_where_positions_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    grid = ["ctt_inv_weight=0,0.2", "seed=0,1"]
    assert auxiliary_stages(*grid) == {"probe": 1, "reader": 4}
    assert auxiliary_stages(*grid, "reader.enabled=false") == {}
    real = [*grid, "data=clevrer"]
    assert auxiliary_stages(*real) == {}, "CLEVRER's objects have no positions"
    archive = tmp_path / "annotations"
    archive.mkdir()
    (archive / "annotation_00000.json").write_text("{}")
    annotated = [*real, f"data.annotation_files={archive}"]
    assert auxiliary_stages(*annotated) == {"probe": 1, "reader": 4}
    keys = [next(k for k, s in plan_of(*annotated).stages.items() if s.kind == "probe")]
    (archive / "annotation_00001.json").write_text("{}")
    os.utime(archive, ns=(1, 1))
    keys.append(next(k for k, s in plan_of(*annotated).stages.items() if s.kind == "probe"))
    assert keys[0] != keys[1], "a probe is known by its annotations"
    one, two = plan_of(*real), plan_of(*annotated)
    assert [t.key for t in one.targets] == [t.key for t in two.targets], "the answers are not"


def test_cached_stages_are_reported_as_cached() -> None:
    plan = compile_plan(compile_sweep("demo"))
    one = plan.targets[0].key
    assert [s["key"] for s in Budget(plan, {one}).numbers()["stages"] if s["status"] == "cached"] == [one]


def test_forks_at_every_start_epoch_form_a_chain() -> None:
    plan = plan_of("ctt_inv_weight=0,0.2", "ctt_start_epoch=2,5,8", "seed=0")
    assert sorted(s.epoch for s in plan.prefixes.values()) == [2, 5, 8]
    prefixes = {s.epoch: s for s in plan.prefixes.values()}
    assert [f.key for f in prefixes[8].branch_points()] == [prefixes[5].key]
    assert plan.world_model_epochs == 12 + (12 - 2) + (12 - 5) + (12 - 8)


def test_runs_of_one_point_share_nothing_over_seeds() -> None:
    assert not plan_of("ctt_inv_weight=0", "seed=0,1").prefixes


def test_a_longer_training_continues_the_shorter_one() -> None:
    short, long = plan_of("world_model.epochs=6"), plan_of("world_model.epochs=12")
    end = short.targets[0].rollout.state
    assert end.key in [s.key for s in long.targets[0].rollout.state.continues()]


def brute_force_shared(a: WorldModel, b: WorldModel) -> int:
    return max((e for e in range(1, min(a.epoch, b.epoch) + 1) if a.at(e).key == b.at(e).key), default=0)


weights = st.sampled_from([0.0, 0.1, 0.2])


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(weights, weights, st.integers(0, 13), st.sampled_from([0.1, 0.3]), st.sampled_from([6, 12])),
        min_size=2,
        max_size=5,
        unique=True,
    )
)
def test_forks_lie_where_keys_part(points) -> None:
    """Against brute force: the last epoch at which the keys of two trainings are equal."""
    base = compile_sweep(None, [*MINI, "seed=0"]).baseline.config
    states = []
    for inv, suf, start, threshold, epochs in points:
        config = base
        for key, value in [
            ("ctt_inv_weight", inv),
            ("ctt_suf_weight", suf),
            ("ctt_start_epoch", start),
            ("ctt_adj_threshold", threshold),
            ("world_model.epochs", epochs),
        ]:
            config = with_value(config, key, value)
        states.append(target_of(config).rollout.state)
    for state, branch_points in zip(states, branch_points_of(states), strict=True):
        others = {o.key: o for o in states if o.key != state.key}
        shared = {brute_force_shared(state, other) for other in others.values()}
        assert [f.epoch for f in branch_points] == sorted(e for e in shared if 0 < e < state.epoch)
        for branch_point in branch_points:
            alike = {
                other.at(branch_point.epoch).key
                for other in states
                if branch_point in branch_points_of(states)[states.index(other)]
            }
            assert alike == {state.at(branch_point.epoch).key}, "what is called one branch point is one state"


def test_a_state_is_addressed_by_what_it_is() -> None:
    """State 4 without losses is the same artifact for the baseline and for every run that starts at 4 or later."""
    plan = plan_of("ctt_inv_weight=0,0.2", "ctt_start_epoch=4,7", "seed=0")
    states = [t.rollout.state for t in plan.targets]
    assert len({s.at(4).key for s in states}) == 1
    assert len({s.at(5).key for s in states}) == 2
    assert len({s.key for s in states}) == 3


@pytest.mark.parametrize(
    "key, value",
    [
        ("world_model.depth", 3),
        ("world_model.learning_rate", 1e-4),
        ("world_model.precision", "bf16"),
        ("world_model.dropout_kind", "exact"),
        ("world_model.micro_batch", 8),
        ("num_masked_slots", 3),
        ("data.noise", 0.2),
        ("world_model.masking.draw", "fixed"),
        ("world_model.compile", True),
        ("world_model.precision", "tf32"),
        ("seed", 9),
    ],
)
def test_changing_a_live_value_changes_the_key(key, value) -> None:
    config = compile_sweep(None, [*MINI, "world_model.dropout=0.1", "num_masked_slots=2"]).baseline.config
    assert target_of(with_value(config, key, value)).rollout.state.key != target_of(config).rollout.state.key


@pytest.mark.parametrize(
    "key, value",
    [
        ("world_model.threads", 2),
        ("world_model.windows.device", "host"),
        ("data.workers", 1),
        ("device", "cpu"),
        ("aloe.epochs", 99),
        ("world_model.compile_mode", "reduce-overhead"),  # of what is not compiled
        ("world_model.graph.frames", "mean"),
    ],
)
def test_what_says_nothing_to_a_state_is_not_in_its_key(key, value) -> None:
    config = compile_sweep(None, MINI).baseline.config
    assert target_of(with_value(config, key, value)).rollout.state.key == target_of(config).rollout.state.key


def test_waves_hand_out_trunks_first_and_never_more_than_asked() -> None:
    plan = compile_plan(compile_sweep("demo"))
    built: set[str] = set()
    waves = []
    for wave in plan.waves(plan.jobs, 2, built.__contains__):
        assert len(wave) <= 2
        assert all(need in built for job in wave for need in job.needs)
        built |= {job.target.key for job in wave}
        waves.append(wave)
    assert [j.prefix for w in waves for j in w] == [True] * 3 + [False] * 6
    assert len(list(plan.waves(plan.jobs, None, lambda _: False))) == 2


def test_a_wave_whose_need_failed_is_handed_out_all_the_same() -> None:
    plan = compile_plan(compile_sweep("demo"))
    runs = [j for j in plan.jobs if not j.prefix]
    assert [j for w in plan.waves(runs, 2, lambda _: False) for j in w] == runs


def test_thousands_of_runs_are_compiled_by_counted_steps(monkeypatch) -> None:
    """Hydra composes once, a state is described once, an estimate is made once for all that are alike."""
    from ctt.stages import base
    from ctt.sweep import compiling

    counts = dict.fromkeys(("compose", "describe", "training"), 0)

    def counted(name, function):
        def call(*args, **kwargs):
            counts[name] += 1
            return function(*args, **kwargs)

        return call

    monkeypatch.setattr(compiling, "compose", counted("compose", compiling.compose))
    monkeypatch.setattr(base.Stage, "describe", counted("describe", base.Stage.describe))
    monkeypatch.setattr(world_model, "TrainingSettings", counted("training", world_model.TrainingSettings))
    overrides = ["ctt_inv_weight=0.1,0.2,0.3", "ctt_suf_weight=0,0.1,0.2", "ctt_start_epoch=1,2,3", "seed=range(50)"]
    plan = compile_plan(compile_sweep(None, [*MINI, *overrides]))
    numbers = Budget(plan, ()).numbers()
    assert len(plan.targets) == numbers["unique_runs"] == 50 * 28 and len(plan.jobs) == 50 * (28 + 3)
    assert counts["compose"] == 1
    assert counts["describe"] == len(plan.stages) == 2 + 50 * (28 * 5 + 3)
    assert counts["training"] <= 28 * 2 + 3, "seeds share them: one for each point's end, one for its family, one a branch point"


def test_the_same_point_twice_runs_once() -> None:
    sweep = compile_sweep("demo")
    doubled = dataclasses.replace(sweep, seeds=(0, 0))
    assert Budget(compile_plan(doubled), ()).numbers()["unique_runs"] == 2
