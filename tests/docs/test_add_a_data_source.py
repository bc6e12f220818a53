"""The example of docs/how-to/add-a-data-source.md, as a package outside of the checkout; and one without questions."""

import json
import sqlite3
from pathlib import Path

import pytest

from ctt.core.errors import SettingError
from ctt.execution.jobs.spec import thaw
from tests.docs.pages import ROOT, install, path_with, write_example
from tests.tiny import TINY, ctt

pytest.importorskip("setuptools")
SMALL = ["data.train=10", "data.validation=6", *TINY[3:], "world_model.epochs=2", "world_model.windows.per_epoch=64",
         "world_model.windows.validation=32", "world_model.batch_size=32", "diagnostics.windows=8"]  # fmt: skip
ORBITS = ["data=orbits", "data.train=10", "data.validation=6"]
CATEGORIES = """
        categories=Categories((Category("where", choices=False), Category("next", future=True))),
        vocabulary=Vocabulary(words=("where", "is", "will", "be", "it", *SIDES), answers=SIDES),"""
QUESTIONS = (
    "            scenes = [",
    "    def questions",
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    write_example("how-to/add-a-data-source.md", folder)
    return folder


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    install(package, target)
    return target


@pytest.fixture
def target(package: Path, installed: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the package is installed as it is on the page; tests may edit it."""
    (installed / "orbit_data.py").write_text((package / "orbit_data.py").read_text())
    monkeypatch.setenv("PYTHONPATH", path_with(installed))
    return installed


def manifests(store: Path) -> dict[Path, dict]:
    return {path.parent: json.loads(path.read_text()) for path in store.glob("artifacts/*/*/manifest.json")}


def stages(store: Path, *overrides: str) -> set[str]:
    """Keys of the stages of a plan."""
    plan = json.loads(ctt(store, "plan", "demo", *overrides, "--json").stdout)
    return {stage["key"] for stage in plan["stages"]}


def metric_names(store: Path) -> set[str]:
    database = sqlite3.connect(store / "mlflow.db")
    names = {name for (name,) in database.execute("select distinct key from metrics")}
    database.close()
    return names


@pytest.mark.slow
def test_a_sweep_with_the_source_ends_in_a_table(
    package: Path, target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    ctt(store, "sweep", str(package / "orbits.yaml"), *SMALL, "aloe.shares=[1,1]", "seed=0")
    table = json.loads(ctt(store, "report", "orbits", "--format", "json").stdout)
    assert [list(row["metrics"]) for row in table["rows"]] == [["where", "next", "average"]] * 2
    assert all(row["metrics"]["where"]["mean"] is not None for row in table["rows"]) and not table["quoted"]
    assert all(set(row["errors"]) == {"world_model_all", "rollout_all"} for row in table["rows"])
    assert all(list(row["options"]) == ["next"] for row in table["rows"])
    assert "only next questions read predicted frames" in table["reach"][0]
    names = metric_names(store)
    assert {"where", "next", "average", "vs_baseline_next", "aloe/train_where_loss"} <= names
    assert not any("descriptive" in name or "multiple_choice" in name for name in names)
    assert (store / "sweeps/orbits/report/table.png").stat().st_size > 1000
    found = manifests(store)
    (data,) = (folder for folder, manifest in found.items() if manifest["kind"] == "data")
    assert found[data]["settings"]["plugins"]["data.kind"].startswith("orbit-data 1.0 ")
    recorded = json.loads((data / "dataset.json").read_text())
    assert [recorded[name] for name in ("frames", "slots", "width", "positions")] == [96, 11, 64, "radii"]
    assert [category["name"] for category in recorded["categories"]] == ["where", "next"] and recorded["answers"] == [
        "left",
        "right",
    ]

    checked = json.loads(ctt(store, "data", "check", *ORBITS, "--json").stdout)
    assert checked["key"] == data.name and checked["splits"]["train"]["questions"] == {"where": 10, "next": 10}
    text = ctt(store, "data", "check", *ORBITS).stdout
    assert "96 frames, 11 slots of width 64; where, next; positions in radii" in text and "CLEVRER" not in text
    shown = ctt(store, "data", "show", "3", *ORBITS, "--to", str(tmp_path)).stdout
    assert "Where will it be?" in shown and "✓" in shown and "the data source orbits draws none" in shown

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the plugin is gone
    done = ctt(store, "report", "orbits", check=False)
    assert done.returncode != 0 and "the data source orbits of orbit-data 1.0" in " ".join(done.stderr.split())
    frozen = [json.loads(path.read_text()) for path in store.glob("sweeps/orbits/0001/jobs/[0-9]*.json")]
    frozen = [spec for spec in frozen if "config" in spec]  # the others are outcomes
    assert frozen
    for spec in frozen:
        with pytest.raises(SettingError, match="of the data source orbits of orbit-data 1.0, which is not installed"):
            thaw(spec)


@pytest.mark.slow
def test_a_sweep_over_data_without_questions_ends_in_a_table_of_errors(package: Path, target: Path, tmp_path: Path) -> None:
    module = target / "orbit_data.py"
    text = module.read_text()
    assert CATEGORIES in text and all(part in text for part in QUESTIONS)
    text = text.replace(CATEGORIES, "")
    text = text[: text.index(QUESTIONS[0])] + text[text.index("\n\nSOURCE") :]
    module.write_text(text)
    store = tmp_path / "store"
    plan = json.loads(ctt(store, "plan", str(package / "orbits.yaml"), *SMALL, "--json").stdout)
    assert {stage["kind"] for stage in plan["stages"]} == {"data", "world_model", "rollout", "diagnostics"}
    ctt(store, "sweep", str(package / "orbits.yaml"), *SMALL, "seed=0,1,2")
    table = json.loads(ctt(store, "report", "orbits", "--format", "json").stdout)
    baseline, lossy = table["rows"]
    assert baseline["metrics"] == {} and baseline["seeds"] == [0, 1, 2] and lossy["paired"] == 3
    interval = lossy["error_intervals"]["rollout_all"]
    assert interval["delta"] is not None and interval["p_holm"] is not None
    assert "rollout error" in lossy["sentence"] and "Holm p" in lossy["sentence"]
    for format in ("md", "tex", "csv", "html", "terminal"):
        assert "Accuracy" not in ctt(store, "report", "orbits", "--format", format).stdout
    status = json.loads(ctt(store, "status", "orbits", "--json").stdout)
    assert status["share"] == 1.0 and all("vqa" not in run["stages"] for run in status["runs"])
    assert "copy_last" in ctt(store, "show", "orbits/baseline seed=0").stdout
    assert {"rollout_error", "world_model_error", "vs_baseline_rollout_error"} <= metric_names(store)
    assert (store / "sweeps/orbits/report/table.png").stat().st_size > 1000
    picture = tmp_path / "against.png"
    ctt(store, "report", "orbits", "--against", "ctt_inv_weight", "--picture", str(picture))
    assert picture.stat().st_size > 1000
    assert "answers no questions" in ctt(store, "promote", "orbits", "--top", "1", check=False).stderr
    assert "no questions" in ctt(store, "data", "show", "3", *ORBITS, "--to", str(tmp_path)).stdout
    assert "no questions" in ctt(store, "data", "check", *ORBITS).stdout
    pytest.importorskip("nbconvert")
    page = Path(ctt(store, "report", "orbits", "--notebook", "ablation").stdout.split()[-1]).read_text()
    assert "rollout error" in page and "Traceback" not in page


def test_keys_hold_the_code_of_a_source_that_is_used_and_no_other(target: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    others, chosen = ["data=mini"], ["data=orbits", "aloe.shares=[1,1]"]
    before, orbits, faster = stages(store, *others), stages(store, *chosen), stages(store, *chosen, "data.orbit_speed=0.2")
    assert not orbits & faster and not orbits & before
    module = target / "orbit_data.py"
    module.write_text(module.read_text() + "\n# edited\n")
    assert stages(store, *others) == before and not stages(store, *chosen) & orbits


FAULTS = {
    "slots=11": ("slots=4", "slots must be from 5 to 24, got 4; add empty slots"),
    "width=64": ("width=96", "slots_train.npy must contain float32 (10, 96, 11, 96), got float32 (10, 96, 11, 64)"),
    'Category("where"': ('Category("side"', "question_type must be one of side, next, got 'where'"),
    "answers=SIDES": ('answers=("up", "down")', "is not one of the data set's 2 answers (up, down)"),
    "SOURCE = OrbitSource()": ("import nothing_of_that_name", "cannot be imported: ModuleNotFoundError"),
}


@pytest.mark.parametrize("written", FAULTS)
def test_what_does_not_fit_is_named_before_any_training(written: str, target: Path, tmp_path: Path) -> None:
    fault, words = FAULTS[written]
    module, store = target / "orbit_data.py", tmp_path / "store"
    module.write_text(module.read_text().replace(written, fault))
    done = ctt(store, "sweep", "demo", *ORBITS, *SMALL, "aloe.shares=[1,1]", "seed=0", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and words in text and "Traceback" not in done.stderr
    assert not list(store.glob("artifacts/*/*/manifest.json"))
    if "import" in fault:
        assert "the data source orbits of orbit-data 1.0" in text
        assert ctt(store, "plan", "demo", "data=mini").returncode == 0, "all else works"


def test_two_plugins_of_one_name_are_refused(target: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("pyproject.toml", "orbit_data.py"):
        text = (package / name).read_text().replace("orbit-data", "another-data").replace("orbit_data", "another_data")
        (other / name.replace("orbit", "another")).write_text(text)
    install(other, tmp_path / "installed")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'installed'}:{path_with(target)}")
    done = ctt(tmp_path / "store", "plan", "demo", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2 and "Traceback" not in text
    assert "another-data 1.0 and orbit-data 1.0 both have a data source named orbits" in text
