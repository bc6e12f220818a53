"""What a run looks like in MLflow: a real one, on SQLite."""

from __future__ import annotations

import json
import re
import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from ctt.core.errors import SettingError
from ctt.tracking.syncer import Syncer
from ctt.tracking.tracked_runs import TrackedRun
from ctt.tracking.tracking_settings import TrackingSettings, database_path
from ctt.training.curve import curve as training_curve
from tests.tracking.made_up_runs import CATEGORIES, SQLITE, curve, finish, metrics, rows, run, stage, work


def artifacts(store: Path, place: str) -> Path:
    """The folder of a run's artifacts, given its place in MLflow."""
    assert place.startswith("mlflow-artifacts:/")
    return store / place.replace(":", "", 1)


def test_a_run_is_shown_with_its_curves_numbers_parameters_and_tags(store: Path) -> None:
    one = run(store)
    model, vqa = one.stages
    work(model, range(1, 4))
    line = json.loads((model.working / "metrics.jsonl").read_text().splitlines()[1])
    assert Syncer(SQLITE, store, [one]).sync_once() == 3
    [(status,)] = rows(database_path(store), "SELECT status FROM runs")
    assert status == "RUNNING"
    finish(model, validation={"error": 0.015, "error_visible": 0.03, "copy_last": 0.04})
    finish(vqa, per_question=CATEGORIES, average=70.25)
    assert Syncer(SQLITE, store, [one]).sync_once() == 5

    client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")
    [seen] = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert seen.info.run_name == "ctt-1" and seen.info.status == "FINISHED"
    history = client.get_metric_history(seen.info.run_id, "world_model/train_loss")
    assert [(m.step, m.value) for m in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3)]
    assert history[1].timestamp == round(line["t"] * 1000), "the original time"
    assert seen.info.start_time == history[0].timestamp
    assert {k: v for k, v in seen.data.metrics.items() if "/" not in k} == {
        "descriptive": 80.0,
        "predictive": 61.5,
        "average": 70.25,
        "world_model_error": 0.03,  # of visible slots, as tables have it
        "world_model_all_error": 0.015,
    }
    numbers = json.loads((artifacts(store, seen.info.artifact_uri) / "numbers.json").read_text())
    assert numbers["world_model_validation/copy_last"] == 0.04 and numbers["accuracy/average"] == 70.25, "all of them"
    assert seen.data.params["ctt_inv_weight"] == "0.2" and seen.data.params["world_model.epochs"] == "3"
    assert len(seen.data.params["data.note"]) == 6000, "MLflow's limit"
    tags = seen.data.tags
    assert (tags["ctt.sweep"], tags["ctt.point"], tags["ctt.seed"]) == ("demo", "ctt", "1")
    assert tags["ctt.key.vqa"] == "vqa-ctt-1" and tags["mlflow.source.git.commit"] == "abc123"
    config = json.loads((artifacts(store, seen.info.artifact_uri) / "config.json").read_text())
    assert config["data.note"] == "x" * 7000, "in full"


def test_syncing_twice_changes_nothing(store: Path) -> None:
    one = run(store)
    work(one.stages[0], range(1, 6))
    syncer = Syncer(SQLITE, store, [one])
    assert syncer.sync_once() == 5
    finish(one.stages[0], validation={"error": 0.5})
    finish(one.stages[1], per_question=CATEGORIES)
    syncer.sync_once()
    before = database_path(store).read_bytes()
    assert syncer.sync_once() == 0
    assert Syncer(SQLITE, store, [one]).sync_once() == 0
    assert database_path(store).read_bytes() == before


def test_two_numbers_of_a_step_written_apart_both_arrive_and_half_lines_wait(store: Path) -> None:
    one = run(store)
    model = one.stages[0]
    work(model, range(1, 2), train_loss=1.0)
    syncer = Syncer(SQLITE, store, [one])
    assert syncer.sync_once() == 1
    work(model, range(1, 2), validation_error=2.0)
    with open(model.working / "metrics.jsonl", "a") as file:
        file.write('{"t": 5.0, "step": 2, "train_')
    assert syncer.sync_once() == 1
    with open(model.working / "metrics.jsonl", "a") as file:
        file.write('loss": NaN}\nnot json\n{"t": 6.0, "step": 3, "train_loss": 0.5, "note": "text", "ok": true}\n')
    assert syncer.sync_once() == 2
    assert [step for step, _ in curve(store, "ctt-1", "world_model/train_loss")] == [1, 2, 3]
    assert rows(database_path(store), "SELECT step FROM metrics WHERE is_nan = 1") == [(2,)]


def test_a_forked_run_shows_its_trunk_as_its_own(store: Path) -> None:
    prefix = stage(store, "world_model", "state-10")
    branch_points = [
        run(store, name, (prefix, stage(store, "world_model", f"state-30-{name}"))) for name in ("baseline-1", "ctt-1")
    ]
    work(prefix, range(1, 11))
    finish(prefix, validation={"error": 0.9})
    for branch_point in branch_points:
        work(branch_point.stages[1], range(11, 31))
        finish(branch_point.stages[1], validation={"error": 0.1})
    Syncer(SQLITE, store, branch_points).sync_once()
    for branch_point in branch_points:
        assert curve(store, branch_point.name, "world_model/train_loss") == [(s, 1 / s) for s in range(1, 31)]
        assert curve(store, branch_point.name, "world_model_all_error") == [(0, 0.1)], "the last state's, not the shared prefix's"
    parents = rows(database_path(store), "SELECT value FROM tags WHERE key = 'ctt.branch_parent'")
    assert parents == [("state-10",)] * 2


def test_differences_to_the_baseline_of_the_same_seed(store: Path) -> None:
    base = run(store, "base-1", (stage(store, "vqa", "b1"),), baseline=True)
    other = run(store, "ctt-1", (stage(store, "vqa", "c1"),))
    lonely = run(store, "ctt-2", (stage(store, "vqa", "c2"),), seed=2)
    finish(other.stages[0], per_question={"predictive": 60.0})
    finish(lonely.stages[0], per_question={"predictive": 10.0})
    syncer = Syncer(SQLITE, store, [base, other, lonely])
    syncer.sync_once()
    assert curve(store, "ctt-1", "vs_baseline_predictive") == []
    finish(base.stages[0], per_question={"predictive": 62.5})
    syncer.sync_once()
    found = [(name, value) for name, key, _, value, _ in metrics(store) if key == "vs_baseline_predictive"]
    assert found == [("ctt-1", -2.5)]
    [(uri,)] = rows(database_path(store), "SELECT artifact_uri FROM runs WHERE name = 'ctt-1'")
    assert json.loads((artifacts(store, uri) / "numbers.json").read_text())["difference/predictive"] == -2.5


def test_failed_then_continued_then_finished(store: Path) -> None:
    one = run(store, stages=(stage(store, "world_model", "wm"),))
    work(one.stages[0], range(1, 3))
    syncer = Syncer(SQLITE, store, [one])

    def status() -> str:
        syncer.sync_once()
        return rows(database_path(store), "SELECT status FROM runs")[0][0]

    assert status() == "RUNNING"
    time.sleep(0.02)
    one.stages[0].failure.mkdir(parents=True)
    (one.stages[0].failure / "1.json").write_text("{}")
    assert status() == "FAILED"
    time.sleep(0.02)
    work(one.stages[0], range(3, 4))
    assert status() == "RUNNING"
    finish(one.stages[0])
    assert status() == "FINISHED"


def test_tables_become_artifacts_of_the_sweeps_own_run(store: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.md"
    table.write_text("first")
    one = run(store)
    work(one.stages[0], range(1, 3))
    syncer = Syncer(SQLITE, store, [one])
    assert syncer.finish([table], "demo") is True
    [(uri,)] = rows(
        database_path(store),
        "SELECT artifact_uri FROM runs JOIN tags USING (run_uuid) WHERE key='ctt.kind' AND value='sweep'",
    )
    copy = artifacts(store, uri) / "table.md"
    assert copy.read_text() == "first"
    table.write_text("second!")
    Syncer(SQLITE, store, [one]).sync_once()
    assert copy.read_text() == "second!"
    assert len(rows(database_path(store), "SELECT 1 FROM runs")) == 2


def test_a_run_put_in_the_bin_is_left_there_and_holds_no_other_up(store: Path) -> None:
    binned, other = run(store, "a-1"), run(store, "b-1")
    syncer = Syncer(SQLITE, store, [binned, other])
    for one in (binned, other):
        work(one.stages[0], range(1, 3))
    syncer.sync_once()
    client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")
    [(run_id,)] = rows(database_path(store), "SELECT run_uuid FROM runs WHERE name = 'a-1'")
    client.delete_run(run_id)
    for one in (binned, other):
        work(one.stages[0], range(3, 5))
    syncer.sync_once()
    Syncer(SQLITE, store, [binned, other]).sync_once()
    assert len(curve(store, "a-1", "world_model/train_loss")) == 2
    assert len(curve(store, "b-1", "world_model/train_loss")) == 4
    client.restore_run(run_id)
    Syncer(SQLITE, store, [binned, other]).sync_once()
    assert len(curve(store, "a-1", "world_model/train_loss")) == 4
    assert len(rows(database_path(store), "SELECT 1 FROM runs")) == 2


def test_the_data_set_is_the_runs_input(store: Path) -> None:
    data = stage(store, "data", "d" * 64)
    one = run(store, stages=(data, stage(store, "world_model", "wm")))
    finish(data, videos=10)
    (data.finished / "dataset.json").write_text('{"name": "mini"}')
    work(one.stages[1], range(1, 3))
    for _ in range(2):
        Syncer(SQLITE, store, [one], rebuild=True).sync_once()
    client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")
    [(run_id,)] = rows(database_path(store), "SELECT run_uuid FROM runs")
    [entry] = client.get_run(run_id).inputs.dataset_inputs
    assert (entry.dataset.name, entry.dataset.digest) == ("mini", "d" * 36)


def test_trained_models_are_the_runs_outputs(store: Path) -> None:
    one = run(store)
    for each in one.stages:
        work(each, range(1, 4))
    (one.stages[0].working / "model.safetensors").write_bytes(b"weights")
    finish(one.stages[0], validation={"error": 0.5})
    finish(one.stages[1], per_question=CATEGORIES)  # screened: it has trained no model of its own
    for _ in range(2):
        Syncer(SQLITE, store, [one], rebuild=True).sync_once()
    client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")
    [(run_id,)] = rows(database_path(store), "SELECT run_uuid FROM runs")
    [output] = client.get_run(run_id).outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    assert (model.name, output.step, model.tags["ctt.key"]) == ("world_model", 3, one.stages[0].key)
    assert model.tags["ctt.artifact"] == f"artifacts/{one.stages[0].key}"


def test_a_line_no_tracker_can_take_is_left_out(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = run(store)
    work(one.stages[0], range(1, 3))
    with open(one.stages[0].working / "metrics.jsonl", "a") as file:
        file.write('{"t": 1e30, "step": 9, "loss": 1}\n{"t": 1e999, "step": 9, "loss": 1}\n[1]\n{"t": 3, "step": 3, "loss": 1}\n')
    assert Syncer(SQLITE, store, [one]).sync_once() == 3
    assert len(caplog.records) == 1 and "left out" in caplog.text


def test_odd_names_are_made_fit(store: Path) -> None:
    one = run(store)
    work(one.stages[0], range(1, 2), **{"loss (%)": 1.0, "../up": 2.0, "x" * 300: 3.0})
    assert Syncer(SQLITE, store, [one]).sync_once() == 3
    names = {key for _, key, *_ in metrics(store)}
    assert "world_model/loss ___" in names and "world_model/_/up" in names and max(map(len, names)) == 250


def test_off_does_nothing(tmp_path: Path) -> None:
    one = run(tmp_path)
    work(one.stages[0], range(1, 3))
    syncer = Syncer(TrackingSettings(kind="off"), tmp_path, [one])
    assert syncer.sync_once() == 0 and syncer.finish([], "demo") is False
    assert not database_path(tmp_path).exists()


def test_settings_that_contradict_each_other_are_refused() -> None:
    for wrong in (dict(kind="server"), dict(uri="http://x"), dict(experiment="{name}"), dict(kind="files")):
        with pytest.raises(SettingError):
            TrackingSettings(**wrong)
    assert TrackingSettings(kind="server", uri="http://h:1/").address(Path("/s")) == "http://h:1"


def test_a_runs_description_is_its_table_and_a_persons_own_is_left(store: Path) -> None:
    base = run(store, "base-1", (stage(store, "vqa", "b1"),), baseline=True)
    other = run(store, "ctt-1", (stage(store, "vqa", "c1"),))
    seen = ({"predictive": 64.0, "average": 52.0}, {"predictive": 61.0, "multiple_choice": 48.5, "average": 51.0})
    lines = [{"step": step, **values} for step, values in zip((7, 9), seen, strict=True)]
    finish(
        other.stages[0],
        per_question={"predictive": 60.0},
        curve=training_curve(lines, names=list(seen[0] | seen[1]), videos=20, of=50, planned=9),
    )
    client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")

    def note() -> str:
        Syncer(SQLITE, store, [base, other]).sync_once()
        [(run_id,)] = rows(database_path(store), "SELECT run_uuid FROM runs WHERE name = 'ctt-1'")
        return str(client.get_run(run_id).data.tags["mlflow.note.content"])

    tables = """
| | accuracy |
|---|---:|
| predictive | 60.0 |

On 20 of 50 videos:

| | epoch 9, the last | epoch 7, the best by validation |
|---|---:|---:|
| predictive | 61.0 | 64.0 |
| multiple choice | 48.5 | – |
| average | 51.0 | 52.0 |"""
    where = "\n\nAnswers: `artifacts/c1/c1/predictions.parquet` of the store"
    where += "\n\n[All runs of demo](#/experiments/1/runs?viewStateShareKey=ctt&workflowType=machine_learning)"
    assert note() == f"**ctt**, seed 1, % of questions\n{tables}{where}", "both epochs on the same videos"
    finish(base.stages[0], per_question={"predictive": 62.5})
    assert "| predictive | 60.0 | -2.5 |" in note()
    [(run_id,)] = rows(database_path(store), "SELECT run_uuid FROM runs WHERE name = 'ctt-1'")
    client.set_tag(run_id, "mlflow.note.content", "mine")
    for path in (store / "tracking").glob("*/*.json"):
        path.unlink()  # even where nothing is known of what was sent
    assert note() == "mine"


def test_a_failed_run_has_its_reason_among_its_artifacts(store: Path) -> None:
    one = run(store, stages=(stage(store, "world_model", "wm"),))
    work(one.stages[0], range(1, 3))
    one.stages[0].failure.mkdir(parents=True)
    record = {"failure": "out of memory", "message": "CUDA out of memory", "log": "Traceback: here"}
    (one.stages[0].failure / "1.json").write_text(json.dumps(record))
    Syncer(SQLITE, store, [one]).sync_once()
    [(uri,)] = rows(database_path(store), "SELECT artifact_uri FROM runs")
    text = (artifacts(store, uri) / "failure.txt").read_text()
    assert text == "world_model: out of memory\nCUDA out of memory\nTraceback: here"


def test_a_finished_run_has_its_jobs_log_and_its_answers_among_its_artifacts(store: Path) -> None:
    logs = [store / "one.log", store / "two.log"]
    for log, text in zip(logs, ("prefix\n", "x" * (1 << 20) + "the end\n"), strict=True):
        log.write_text(text)
    made = (stage(store, "world_model", "wm"), stage(store, "rollout", "ro"), stage(store, "vqa", "an"))
    found = dict(zip(made, (logs[0], logs[1], logs[1]), strict=True))
    stages = tuple(replace(one, log=partial(found.get, one)) for one in made)
    one = run(store, stages=stages)
    work(one.stages[0], range(1, 3))
    syncer = Syncer(SQLITE, store, [one])
    syncer.sync_once()
    [(uri,)] = rows(database_path(store), "SELECT artifact_uri FROM runs")
    assert {path.name for path in artifacts(store, uri).iterdir()} == {"config.json"}, "it still runs"
    for number, made_stage in enumerate(one.stages):
        if number == 2:
            made_stage.working.mkdir(parents=True)
            (made_stage.working / "predictions.parquet").write_bytes(b"answers")
        finish(made_stage, per_question={"predictive": 60.0})
    syncer.sync_once()
    assert (artifacts(store, uri) / "predictions.parquet").read_bytes() == b"answers"
    text = (artifacts(store, uri) / "log.txt").read_text()
    assert text.count("==> ") == 2 and "one.log <==\nprefix\n" in text and text.endswith("the end\n")
    assert len(text) < (1 << 20) + 200, "of a long log the end"


def test_what_the_machine_does_is_under_system_metrics(store: Path) -> None:
    one = run(store)
    work(one.stages[1], range(1, 2), learning_rate=0.1, steps_per_second=4.0, memory_mib=300.0, cpu_percent=99.0, gpu_percent=50.0)
    Syncer(SQLITE, store, [one]).sync_once()
    names = {key for _, key, *_ in metrics(store)}
    machine = {f"system/aloe/{name}" for name in ("memory_mib", "cpu_percent", "gpu_percent")}
    assert names == {"aloe/learning_rate", "aloe/steps_per_second"} | machine


def test_a_run_shows_no_swept_setting_that_has_no_effect_on_it(tmp_path: Path) -> None:
    """So parallel coordinates draw no line through a threshold that nothing reads; weights of 0 are shown."""
    from ctt.study.tracked_sweep import AllRuns
    from tests.made_store import made_store

    made, plan = made_store(tmp_path / "store", "demo", "ctt_adj_threshold=0.1,0.2", "ctt_start_epoch=3", "seed=0")
    runs = {one.point: one for one in AllRuns(made, plan)()}
    plain, *others = (runs.pop("baseline"), *runs.values())
    assert plain.params["ctt_inv_weight"] == 0 and "ctt_inv_weight" in plain.swept
    assert "ctt_adj_threshold" not in plain.params and "ctt_adj_threshold" not in plain.swept
    assert {one.params["ctt_adj_threshold"] for one in others} == {0.1, 0.2}
    assert {one.params["ctt_start_epoch"] for one in (plain, *others)} == {3}, "else MLflow would show that as a difference"
    assert not any(name.startswith("world_model.graph.learned") for one in (plain, *others) for name in one.params)
    differing = {name for name in plain.params if any(one.params.get(name) != plain.params[name] for one in others)}
    assert differing <= {"ctt_inv_weight", "ctt_suf_weight"}


def test_a_deleted_experiment_stays_deleted_and_a_renamed_one_is_followed(store: Path) -> None:
    deleted, renamed = run(store, "a-1"), run(store, "b-1", sweep="other")
    for one in (deleted, renamed):
        work(one.stages[0], range(1, 3))
    Syncer(SQLITE, store, [deleted, renamed]).sync_once()
    client = MlflowClient(tracking_uri=SQLITE.address(store))
    ids = {name: client.get_experiment_by_name(name).experiment_id for name in ("demo", "other")}
    client.delete_experiment(ids["demo"])
    client.rename_experiment(ids["other"], "of the paper")
    for one in (deleted, renamed):
        work(one.stages[0], range(3, 5))
    again = Syncer(SQLITE, store, [deleted, renamed])
    assert again.sync_once() == 2 and not again.down
    assert len(curve(store, "b-1", "world_model/train_loss")) == 4
    assert client.get_experiment(ids["demo"]).lifecycle_stage == "deleted"
    assert again.experiments() == {"other": ids["other"]}
    assert len(rows(database_path(store), "SELECT 1 FROM experiments")) == 3, "with MLflow's own"


def test_an_experiments_description_is_its_table_and_a_persons_own_is_left(store: Path, tmp_path: Path) -> None:
    table, one = tmp_path / "table.md", run(store)
    work(one.stages[0], range(1, 3))
    client = MlflowClient(tracking_uri=SQLITE.address(store))
    rest = "".join(f"| {n} | a row |\n" for n in range(1000))
    for text in ("| first |\n", "| second |\n" + rest):
        table.write_text(text)
        assert Syncer(SQLITE, store, [one]).finish([table], "demo")
        described = client.get_experiment_by_name("demo").tags["mlflow.note.content"]
        link, _, shown = described.partition("\n\n")
        assert re.fullmatch(r"\[Tables and pictures\]\(#/experiments/1/runs/[0-9a-f]{32}/artifacts\)", link)
        assert text.startswith(shown) and shown.startswith(text.splitlines()[0]) and len(described) <= 5000
    client.set_experiment_tag(client.get_experiment_by_name("demo").experiment_id, "mlflow.note.content", "mine")
    table.write_text("| third |")
    Syncer(SQLITE, store, [one]).sync_once()
    assert client.get_experiment_by_name("demo").tags["mlflow.note.content"] == "mine"


def test_an_experiment_of_several_seeds_is_grouped_by_point(store: Path) -> None:
    runs = [run(store, f"ctt-{seed}", seed=seed, swept=("ctt_inv_weight",)) for seed in (1, 2)]
    for one in runs:
        work(one.stages[0], range(1, 2))
    for several in (1, 2):
        Syncer(SQLITE, store, runs[:several]).sync_once()
        tags = MlflowClient(tracking_uri=SQLITE.address(store)).get_experiment_by_name("demo").tags
        view = json.loads(tags["mlflow.sharedViewState.ctt"])
        assert ("groupBy" in view) is (several == 2) and "params.`ctt_inv_weight`" in view["selectedColumns"]


def test_an_experiment_is_shown_by_its_accuracies(store: Path) -> None:
    one = run(store)
    work(one.stages[0], range(1, 2))
    Syncer(SQLITE, store, [one]).sync_once()
    client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")
    tags = client.get_experiment_by_name("demo").tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "metrics.`counterfactual`" in json.loads(tags["mlflow.sharedViewState.ctt"])["selectedColumns"]


def test_whoever_shows_the_page_finds_experiments_that_another_process_syncs(store: Path) -> None:
    one, hidden = run(store), run(store, sweep="not yet")
    work(one.stages[0], range(1, 4))
    Syncer(SQLITE, store, [one]).sync_once()
    assert list(Syncer(SQLITE, store, [one, hidden]).experiments()) == ["demo"]


def test_an_experiment_charts_its_accuracies_over_what_was_swept(store: Path) -> None:
    """What a sweep's runs vary is sent once it is known, and again when it changes; a second syncer writes nothing."""
    one = run(store, swept=("ctt_inv_weight",))
    work(one.stages[0], range(1, 2))

    def chart(*runs: TrackedRun) -> list[str]:
        Syncer(SQLITE, store, runs).sync_once()
        client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")
        view = json.loads(client.get_experiment_by_name("demo").tags["mlflow.sharedViewState.ctt"])
        (section,), (chart,) = view["compareRunSections"], view["compareRunCharts"]
        assert chart["metricSectionId"] == section["uuid"] and chart["selectedMetrics"] == ["average"]
        return chart["selectedParams"]

    assert chart(one) == ["ctt_inv_weight"]
    before = database_path(store).read_bytes()
    assert chart(one) == ["ctt_inv_weight"] and database_path(store).read_bytes() == before
    other = run(store, "other-1", swept=("ctt_inv_weight", "world_model.epochs", "read_by_one"))
    both = replace(other, params={**other.params, "read_by_one": 1})
    assert chart(one, both) == ["ctt_inv_weight", "world_model.epochs"], "MLflow draws nothing where a run lacks one"


def test_a_run_made_twice_at_once_is_one_the_next_time(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two stores that hold the same run have each made it before either could see the other's; the other is gone since."""
    monkeypatch.setattr("ctt.tracking.sender.SILENT_SECONDS", 0.0)
    one = run(store)
    work(one.stages[0], range(1, 4))
    Syncer(SQLITE, store, [one]).sync_once()
    client = MlflowClient(tracking_uri=f"sqlite:///{database_path(store)}")
    experiment = client.get_experiment_by_name("demo").experiment_id
    client.create_run(experiment, 1, one.all_tags(), "ctt-1")  # begun earlier, by its own clock
    for _ in range(2):
        Syncer(SQLITE, store, [one]).sync_once()
    [seen] = client.search_runs([experiment])
    assert seen.info.start_time == 1
    history = client.get_metric_history(seen.info.run_id, "world_model/train_loss")
    assert [metric.step for metric in history] == [1, 2, 3]


@pytest.fixture
def shared(empty_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose database stands for the server that every store here sends to."""
    shutil.copytree(empty_database, tmp_path / "a")
    place = f"sqlite:///{database_path(tmp_path / 'a')}"
    monkeypatch.setattr(TrackingSettings, "address", lambda self, root: place)
    return tmp_path


def test_a_run_that_another_store_is_sending_is_left_to_it_until_it_rests(shared: Path) -> None:
    """Both train the same run: its points must not stand there twice, whichever is ahead."""
    (mine, ours), (theirs, other) = ((shared / name, run(shared / name)) for name in "ab")
    work(ours.stages[0], range(1, 4))
    maker, second = Syncer(SQLITE, mine, [ours]), Syncer(SQLITE, theirs, [other])
    assert maker.sync_once() == 3
    work(other.stages[0], range(1, 7))
    assert second.sync_once() == 0 and metrics(mine) and len(metrics(mine)) == 3
    work(ours.stages[0], range(4, 6))
    assert maker.sync_once() == 2 and second.sync_once() == 0
    for one in (ours, other):
        finish(one.stages[0], validation={"error": 0.5})
        finish(one.stages[1], per_question=CATEGORIES)
    assert maker.sync_once() > 0
    assert second.sync_once() == 1, "step 6 alone was missing"
    steps = [step for _, name, step, *_ in metrics(mine) if name == "world_model/train_loss"]
    assert steps == list(range(1, 7))


def test_a_run_whose_store_fell_silent_is_fed_by_another(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (mine, ours), (theirs, other) = ((shared / name, run(shared / name)) for name in "ab")
    work(ours.stages[0], range(1, 4))
    assert Syncer(SQLITE, mine, [ours]).sync_once() == 3
    work(other.stages[0], range(1, 7))
    second = Syncer(SQLITE, theirs, [other])
    assert second.sync_once() == 0
    monkeypatch.setattr("ctt.tracking.sender.SILENT_SECONDS", 0.0)
    assert second.sync_once() == 3


def test_a_sweeps_syncer_mirrors_what_other_sweeps_send_there_too(tmp_path: Path) -> None:
    """One process at a time syncs a store with a server; the curves of the others are live all the same."""
    from ctt.study.tracked_sweep import AllRuns, store_syncer
    from tests.made_store import made_store

    made, plan = made_store(tmp_path / "store", "demo", "seed=0")
    made_store(tmp_path / "store", "demo", "seed=0", "name=other", "tracking.experiment=mine")
    made_store(tmp_path / "store", "demo", "seed=0", "name=hidden", "tracking=off")
    sweeps = {(one.sweep, one.experiment) for one in AllRuns(made, plan, TrackingSettings())()}
    assert sweeps == {("demo", "demo"), ("other", "mine")}
    assert {one.sweep for one in AllRuns(made)()} == {"demo", "other", "hidden"}, "ctt ui shows the whole store"
    assert all("ctt_inv_weight" in one.swept and "seed" not in one.swept for one in AllRuns(made, plan)())
    first, second = (store_syncer(TrackingSettings(), made, plan) for _ in "ab")
    server = store_syncer(TrackingSettings(kind="server", uri="http://127.0.0.1:9"), made, plan)
    with first.exclusive():
        assert second.sync_once() == 0
        with server.exclusive():
            pass  # another address is another lease


def test_a_record_that_cannot_be_read_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from ctt.study import record
    from ctt.study.tracked_sweep import AllRuns
    from tests.made_store import made_store

    made, _ = made_store(tmp_path / "store", "demo", "seed=0")
    made_store(tmp_path / "store", "demo", "seed=0", "name=other")
    damaged = record.newest(made, "other") / "record.json"
    damaged.write_text("{")
    runs = AllRuns(made)
    for _ in range(3):
        assert {one.sweep for one in runs()} == {"demo"}
    (warning,) = caplog.records
    assert str(damaged) in warning.getMessage() and "its runs are not shown" in warning.getMessage()
