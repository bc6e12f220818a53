"""Costs: what was measured is preferred, by kind, settings and device; else the published figures, labelled as such."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ctt.planning import Budget, compile_plan
from ctt.planning.costs import Costs, Source, record
from ctt.stages.vqa import Vqa
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests.made_store import made_store
from tests.tiny import environment

ALONE = ("diagnostics.enabled=false", "reader.enabled=false")  # auxiliary stages are counted elsewhere


def plan_of(name: str | None, *overrides: str):
    return compile_plan(compile_sweep(name, (*ALONE, *overrides)))


def test_published_costs_by_hand() -> None:
    """The README's two points, 6 seeds: world models from state 10, rollouts, ALOE for 80 epochs, each on one H100."""
    plan = plan_of("reported", "aloe=reference")
    summary = Budget(plan, ()).numbers()
    (data,) = [s for s in plan.stages.values() if s.kind == "data"]
    video_seconds = Costs().of(data, None).seconds
    run = 58 + 80 * 110 + 24
    shared = 6 * (10 * 42 + 20 * 42 + 20 * 124 + 2 * run)
    naive = 6 * (30 * 42 + (10 * 42 + 20 * 124) + 2 * run)
    assert summary["device_seconds"] == pytest.approx(shared + video_seconds)
    assert summary["device_seconds_naive"] == pytest.approx(naive + video_seconds)
    assert summary["saving"]["shared"] == pytest.approx(naive - shared)
    assert {Costs().of(s, None).source for s in plan.stages.values()} == {Source.PUBLISHED}


def test_the_parts_of_the_saving_add_up() -> None:
    for overrides in ([], ["aloe.protocol=shared"], ["world_model.epochs=12"]):
        summary = Budget(plan_of("ablation", *overrides), ()).numbers()
        saving = summary["saving"]
        whole = summary["device_seconds"] + saving["merged"] + saving["shared"] + saving["screened"]
        assert whole == pytest.approx(summary["device_seconds_naive"], abs=1)
        assert all(v >= 0 for v in saving.values())


def test_screening_trains_aloe_once_a_seed() -> None:
    plan = plan_of("weights", "aloe.protocol=shared", "data=mini", "world_model=mini", "aloe=mini")
    trained = [t for t in plan.targets if t.aloe_from is None]
    assert len(trained) == 3 and len(plan.targets) == 48
    by_key = {t.key: t for t in plan.targets}
    for target in plan.targets:
        if target.aloe_from is not None:
            assert by_key[target.aloe_from.key].rollout.state.seed == target.rollout.state.seed
            assert by_key[target.aloe_from.key] in trained
    retrained = plan_of("weights", "data=mini", "world_model=mini", "aloe=mini")
    assert {t.key for t in trained} <= {t.key for t in retrained.targets}, "the baseline's own ALOE is the same one"


def test_measured_medians_win_where_settings_and_device_agree(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    tmp_path.mkdir(exist_ok=True)
    plan = plan_of("demo")
    vqa = next(s for s in plan.stages.values() if isinstance(s, Vqa))
    for seconds in (80.0, 90.0, 400.0):
        record(store, vqa, None, "cpu", seconds * 1.0)
    estimate = Costs(tmp_path, "cpu").of(vqa, None)
    assert estimate.source is Source.MEASURED and estimate.seconds == pytest.approx(90, rel=0.01)
    assert Costs(tmp_path, "cuda").of(vqa, None).source is Source.DEMO
    other = dataclasses.replace(vqa, aloe=dataclasses.replace(vqa.aloe, layers=5))
    assert Costs(tmp_path, "cpu").of(other, None).source is Source.DEMO
    (line, *_) = (json.loads(text) for text in (tmp_path / "timings.jsonl").read_text().splitlines())
    assert line["key"] == vqa.key


def test_small_models_on_synthetic_data_are_not_taken_to_run_on_an_h100() -> None:
    """The demo's own costs stand in for them; a published recipe, or CLEVRER, has the published ones."""
    demo = plan_of("demo", "reader.enabled=true", "diagnostics.enabled=true")
    assert {Costs().of(s, None).source for s in demo.stages.values()} == {Source.DEMO}
    assert all(s.demo_seconds.keys() >= s.effort(None).keys() for s in demo.stages.values()), "every kind has a cost"
    vqa = next(t for t in demo.targets)
    assert Costs().of(vqa, None).seconds == 2 * Vqa.demo_seconds["epochs"] + Vqa.demo_seconds["evaluations"]
    large = plan_of("demo", "world_model=reference", "aloe=mini", "seed=0")
    sources = {kind: Costs().of(s, None).source for s in large.stages.values() if (kind := s.kind)}
    assert sources.pop("data") is Source.DEMO and set(sources.values()) == {Source.PUBLISHED}
    assert Costs().of(plan_of("reported", "aloe=mini", "world_model=mini").targets[0], None).source is Source.PUBLISHED


def test_json_has_the_keys_that_readers_rely_on() -> None:
    numbers = Budget(plan_of("demo"), ()).numbers()
    assert list(numbers) == [
        "points", "runs", "unique_points", "unique_runs", "merged", "branch_points", "stages", "stages_naive",
        "world_model_epochs", "world_model_epochs_naive", "device_seconds", "device_seconds_naive", "disk_bytes", "saving",
    ]  # fmt: skip
    assert all(set(stage) == {"key", "kind", "status"} for stage in numbers.pop("stages"))
    assert set(numbers.pop("saving")) == {"merged", "shared", "screened", "cached"}
    assert all(type(number) in (int, float) for number in numbers.values())


def test_epochs_without_and_with_losses_have_costs_of_their_own(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    plan = plan_of("demo")
    prefix = next(iter(plan.prefixes.values()))
    final = next(t.rollout.state for t in plan.targets if t.rollout.state.lossy)
    record(store, prefix, None, "cpu", 4 * 5.0)
    record(store, final, prefix, "cpu", 8 * 12.0)
    costs = Costs(tmp_path, "cpu")
    assert costs.of(final, prefix).seconds == pytest.approx(96)
    assert costs.of(final, None).seconds == pytest.approx(20 + 96)


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "timings.jsonl").write_text('{"kind": "vqa", "al\n' + json.dumps({"kind": "x"}) + "\n")
    assert not Costs(tmp_path).rates


def test_more_devices_never_take_longer() -> None:
    plan = plan_of("demo")
    budget = Budget(plan)
    spans = [budget.makespan(n) for n in (1, 2, 3, 6, 12)]
    assert spans == sorted(spans, reverse=True)
    assert spans[0] == pytest.approx(budget.total) and spans[-1] == budget.critical_path
    assert Budget(plan, plan.stages).makespan(2) == 0
    shares = [dict.fromkeys(plan.stages, share) for share in (0.0, 0.25, 1.0)]
    assert [budget.makespan(2, done) for done in shares] == pytest.approx([spans[1], 0.75 * spans[1], 0])


def test_the_critical_path_by_hand() -> None:
    """One seed of the demo: data, shared prefix, then the point with both losses, its rollout and its ALOE."""
    plan = plan_of("demo", "seed=0")
    budget = Budget(plan)
    target = next(t for t in plan.targets if t.rollout.state.lossy)
    (data,) = [s for s in plan.stages.values() if s.kind == "data"]
    state = target.rollout.state
    way = (data, *state.branch_points(), state, target.rollout, target)
    assert budget.critical_path == pytest.approx(sum(budget.seconds[s.key] for s in way))


def test_jobs_come_after_their_needs_and_the_longest_way_first() -> None:
    plan = plan_of("ablation", "aloe.protocol=shared", "seed=0,1")
    place = {job.target.key: i for i, job in enumerate(plan.jobs)}
    assert all(place[need] < place[job.target.key] for job in plan.jobs for need in job.needs)
    first = plan.jobs[0]
    assert first.prefix and first.target.epoch == 5, "everything of a seed waits for it"
    lossy = [j for j in plan.jobs if not j.prefix and j.target.aloe_from is not None]
    ends = [Budget(plan).seconds[j.target.rollout.state.key] for j in lossy]
    assert ends == sorted(ends, reverse=True)


@pytest.mark.parametrize("overrides", [[], ["aloe=reference", "world_model=reference"], ["aloe=quick"]])
def test_a_training_s_disk_is_estimated_near_the_models_that_are_really_made(overrides: list[str]) -> None:
    from ctt.models.aloe.model import Aloe
    from ctt.models.predictor import Predictor

    vqa = plan_of("demo", "seed=0", *overrides).targets[0]
    state = vqa.rollout.state
    format, world_model = state.data.data.format, state.world_model
    for stage, model, settings in (
        (vqa, Aloe(vqa.aloe, format), vqa.aloe),
        (state, Predictor(world_model, format.width), world_model),
    ):
        kept = 1 + (settings.average is not None)
        bytes = sum(
            4 * one.numel() * (kept + (1 if settings.optimizer == "muon" and one.ndim == 2 else 2)) for one in model.parameters()
        )
        assert bytes == pytest.approx(Costs().size_of(stage), rel=0.15, abs=3e5)


@pytest.mark.parametrize(
    ("command", "unneeded", "says"),
    [
        (["plan", "demo"], {"torch", "mlflow"}, "critical path"),
        (["status"], {"torch", "mlflow", "pandas", "scipy", "numpy"}, "weights"),
        (["status", "weights"], {"torch", "mlflow", "pandas", "scipy", "numpy"}, "baseline seed=0"),
    ],
)
def test_commands_that_only_look_import_nothing_large(tmp_path: Path, command: list[str], unneeded: set[str], says: str) -> None:
    """It is what they would wait for most."""
    made_store(tmp_path / "store", "weights", "ctt_inv_weight=0", "ctt_suf_weight=0", "seed=0")
    code = f"import sys\nfrom ctt.cli import main\ntry: main({command})\nfinally: print({unneeded} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(tmp_path / "store"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0 and says in done.stdout and done.stdout.endswith("set()\n"), done.stdout + done.stderr


def test_disk_is_estimated_or_from_the_store(tmp_path: Path) -> None:
    """A measured size wins, for what is alike."""
    plan = plan_of("demo", "seed=0")
    vqa = plan.targets[0]
    rollout = vqa.rollout
    assert Costs().size_of(rollout) == 1500 * 32 * 7 * 128 * 4
    (tmp_path / "timings.jsonl").write_text(
        json.dumps(
            {
                "kind": "rollout",
                "alike": rollout.cost_class(),
                "device": "cpu",
                "effort": {"stage": 1.0},
                "seconds": 1.0,
            }
            | {"bytes": 77}
        )
        + "\n"
    )
    costs = Costs(tmp_path)
    assert costs.size_of(rollout) == 77 and costs.size_of(vqa) == Costs().size_of(vqa)
    budget = Budget(plan, (), costs)
    assert budget.disk == sum(costs.size_of(s) for s in plan.stages.values())
    assert Budget(plan, {rollout.key}, costs).disk == budget.disk - 77
