"""The library: what `import ctt` offers, that it is light, and that it does what the command line does."""

from __future__ import annotations

import doctest
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ctt
from ctt.report.tables.table import Table
from ctt.sweep.points import Run
from tests.made_store import made_store
from tests.tiny import TINY
from tests.tiny import ctt as command

NAMES = [
    "AuxiliaryStage", "Budget", "Config", "CttError", "DATA_SOURCES", "DataError", "DataSource", "GRAPH_SOURCES", "GraphSource",
    "LAUNCHERS", "LOSSES", "Launcher", "LossTerm", "Point", "PollingLauncher", "Registry", "Run", "STAGES", "SettingError",
    "Stage", "Store", "StoreError", "StoredPlan", "Study", "Sweep", "SweepError", "UsageError", "compile_sweep", "plan", "run",
    "set_up_data",
]  # fmt: skip
GRID = ("ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "seed=0,1,2")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of 4 points and 3 seeds, made up."""
    root = tmp_path_factory.mktemp("library") / "store"
    made_store(root, "weights", *GRID)
    return root


def test_the_names_are_these() -> None:
    """A name that goes breaks scripts; one that comes is promised from then on."""
    assert sorted(ctt.__all__) == sorted(NAMES)
    for name in NAMES:
        assert getattr(ctt, name) is not None and (inspect.getdoc(getattr(ctt, name)) or name.isupper()), name
    assert set(NAMES) <= set(dir(ctt))
    with pytest.raises(AttributeError, match="no attribute 'compile_sweeps'"):
        ctt.compile_sweeps  # noqa: B018


def test_type_checkers_know_the_names() -> None:
    source = Path(ctt.__file__).read_text(encoding="utf-8").partition("if TYPE_CHECKING:")[2].partition("__version__")[0]
    typed = {name.split(" as ")[-1].strip() for line in source.splitlines() if "import" in line
             for name in line.partition(" import ")[2].split(",")}  # fmt: skip
    assert typed == set(NAMES)


def test_importing_it_loads_nothing() -> None:
    code = "import sys; before = set(sys.modules); import ctt; print(*sorted(n for n in set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ctt" in loaded and not {name.partition(".")[0] for name in loaded} & {"torch", "hydra", "omegaconf", "pandas", "numpy"}
    assert [name for name in loaded if name.startswith("ctt")] == ["ctt"]


def test_planning_needs_no_torch(tmp_path: Path) -> None:
    code = "import sys, ctt; ctt.plan('demo', store=sys.argv[1]).cost().left; ctt.Store; ctt.STAGES; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "store")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_sweep_has_points_and_runs() -> None:
    sweep = ctt.compile_sweep("sweeps/demo.yaml", ["seed=0,1"])
    assert [point.label for point in sweep.points] == ["baseline", "ctt_inv_weight=0.2 ctt_suf_weight=0.1 ctt_start_epoch=4"]
    assert [run.seed for run in sweep.runs] == [0, 1, 0, 1] and all(isinstance(run, Run) for run in sweep.runs)
    with pytest.raises(ctt.SweepError, match="ctt_inv_wieght"):
        ctt.compile_sweep("demo", ["ctt_inv_wieght=1"])


def test_a_plan_is_that_of_the_command_line(root: Path) -> None:
    names = ["weights", *TINY, *GRID]
    numbers = json.loads(command(root, "plan", *names, "--json").stdout)
    plan = ctt.plan("weights", [*TINY, *GRID], store=root)
    assert plan.cost().numbers() == numbers
    assert len(plan.cached) == sum(stage["status"] == "cached" for stage in numbers["stages"])
    assert str(plan).split() == command(root, "plan", *names, "--devices", "1").stdout.split()
    assert plan.why(plan.sweep.runs[-1].name).startswith("data ")
    with pytest.raises(ctt.UsageError, match="no run 'baseline'"):
        plan.why("baseline")


def test_a_studys_table_is_tidy(root: Path) -> None:
    study = ctt.Study("weights", root)
    table = study.table
    assert list(table.columns[:4]) == ["point", "ctt_inv_weight", "ctt_suf_weight", "seeds"]
    assert list(table.columns[4:]) == [
        "metric", "category", "mean", "low", "high", "delta", "delta_low", "delta_high", "p", "p_holm",
    ]  # fmt: skip
    assert not table.duplicated(["point", "metric", "category"]).any()
    printed = json.loads(command(root, "report", "weights", "--format", "json").stdout)["rows"]
    for row in printed:
        mine = table[(table.point == row["point"]) & (table.metric == "accuracy")].set_index("category")
        for category, numbers in row["metrics"].items():
            assert mine["mean"][category] == pytest.approx(numbers["mean"], abs=1e-5)
            assert (
                np.isnan(mine.delta[category])
                if row["baseline"]
                else mine.delta[category] == pytest.approx(numbers["delta"], abs=1e-5)
            )
    wanted = 100 * np.mean(
        [study.predictions(f"baseline seed={seed}").query("category == 'descriptive'").correct.mean() for seed in range(3)]
    )
    descriptive = table.query("point == 'baseline' and metric == 'accuracy' and category == 'descriptive'")
    assert float(descriptive["mean"].iloc[0]) == pytest.approx(wanted)
    assert {"world_model_error", "rollout_error"} <= set(table.metric)


def test_a_study_has_answers_curves_pages_and_figures(root: Path) -> None:
    study = ctt.Study("weights", root)
    assert isinstance(study.comparison, Table) and len(study.runs) == 12 and study.missing() == []
    assert study.predictions(study.runs[0]).equals(study.predictions(study.runs[0].name))
    with pytest.raises(ctt.UsageError, match="weights has no run 'nonsense'; its runs are called like 'baseline seed=0'"):
        study.predictions("nonsense")
    curves = study.curves
    assert list(curves.columns) == ["point", "seed", "metric", "epoch", "value"] and curves.metric.nunique() > 3
    assert {"table", "learning_curves", "spending", "against_ctt_inv_weight"} <= set(study.figures)
    assert study.figures["table"].axes and "ranking" not in study.figures
    assert "<table>" in study.pages["comparison"]._repr_html_()
    with pytest.raises(KeyError, match="no page tables; there are ablation, comparison, "):
        study.pages["tables"]
    assert 0 < study.cost().left < study.cost().total, "made up without what is measured with the answers"


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ctt.UsageError, match="no store at"):
        ctt.Study("weights", tmp_path / "nothing")
    store, _ = made_store(tmp_path / "store", "weights", *GRID)
    with pytest.raises(ctt.UsageError, match="no sweep demo in the store"):
        ctt.Study("demo", store.root)


@pytest.mark.slow
def test_running_from_python_is_running_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same artifacts, and again: nothing is run."""
    monkeypatch.setenv("CTT_LEASES", str(tmp_path / "leases"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    sweep = ctt.compile_sweep("demo", [*TINY, "ctt_start_epoch=1", "seed=0", "tracking=off", "launch=local"])
    study = ctt.run(sweep, store=tmp_path / "store")
    assert study.missing() == [] and isinstance(study.table, pd.DataFrame) and study.table["mean"].notna().any()
    again = command(tmp_path / "store", "sweep", "demo", *TINY, "ctt_start_epoch=1", "seed=0", "tracking=off").stdout
    assert f"{len(study.plan.stages)} stages ({len(study.plan.stages)} cached)" in " ".join(again.split())
    with pytest.raises(ctt.UsageError, match="from Python choose launch=local"):
        ctt.run("demo", ["launch=inproc"], store=tmp_path / "store")


def test_examples_are_python() -> None:
    for name in ("plan", "run", "Study", "StoredPlan", "compile_sweep", "Store"):
        examples = doctest.DocTestParser().get_examples(inspect.getdoc(getattr(ctt, name)) or "")
        assert examples, f"{name} has no example"
        for example in examples:
            compile(example.source, name, "exec")
