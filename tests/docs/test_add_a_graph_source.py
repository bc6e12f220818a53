"""The example of docs/how-to/add-a-graph-source.md, as a package outside of the checkout."""

import json
import re
import shutil
from pathlib import Path

import pytest

from ctt.core.errors import SettingError
from ctt.execution.jobs.spec import thaw
from tests.docs.pages import ROOT, install, keys, path_with, write_example
from tests.prepared import copy_artifacts
from tests.tiny import TINY, ctt

pytest.importorskip("setuptools")
SOURCE = "world_model.graph.source=nearness"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    write_example("how-to/add-a-graph-source.md", folder)
    return folder


@pytest.fixture(scope="module")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    install(package, target)
    return target


@pytest.fixture
def target(installed: Path, tmp_path: Path) -> Path:
    """Where the package is installed as it is on the page; tests may edit it."""
    return shutil.copytree(installed, tmp_path / "installed")


def test_a_sweep_with_the_source_ends_in_a_table(
    package: Path, target: Path, tiny_one_seed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_with(target))
    store = copy_artifacts(tiny_one_seed, tmp_path / "store")
    ctt(store, "sweep", str(package / "nearness.yaml"), *TINY, "seed=0", "tracking=off")
    report = ctt(store, "report", "nearness", "--format", "md").stdout
    assert "graph.source=nearness" in report and "baseline" in report
    manifests = {p.parent: json.loads(p.read_text()) for p in store.glob("artifacts/*/*/manifest.json")}
    plugins = [m["settings"]["plugins"] for m in manifests.values() if "plugins" in m["settings"]]
    assert len(plugins) == 1 and plugins[0]["world_model.graph.source"].startswith("nearness-graph 1.0 ")
    diagnoses = [json.loads((p / "metrics.json").read_text()) for p, m in manifests.items() if m["kind"] == "diagnostics"]
    (own,) = (found["readings"]["nearness"] for found in diagnoses if found["own"] == "nearness")
    assert 0 < sum(own["mean"][0]) <= 1.001

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the plugin is gone
    done = ctt(store, "report", "nearness", check=False)
    assert done.returncode != 0 and "the graph source nearness of nearness-graph 1.0" in " ".join(done.stderr.split())
    frozen = [json.loads(path.read_text()) for path in store.glob("sweeps/nearness/0001/jobs/[0-9]*.json")]
    needing = [spec for spec in frozen if "plugins" in spec.get("config", {})]
    assert needing
    for spec in needing:
        with pytest.raises(SettingError, match="of the graph source nearness of nearness-graph 1.0"):
            thaw(spec)


def test_keys_hold_the_code_of_a_source_that_is_read_and_no_other(target: Path) -> None:
    others = ["", "ctt_inv_weight=0.2", "ctt_inv_weight=0.2 world_model.graph.source=learned"]
    without, unread, read = keys(str(ROOT), *others), SOURCE, f"ctt_inv_weight=0.2 {SOURCE}"
    before = keys(path_with(target), *others, unread, read)
    assert {o: before[o] for o in others} == without and before[unread] == without[""]
    module = target / "nearness_graph.py"
    module.write_text(module.read_text() + "\n# edited\n")
    after = keys(path_with(target), *others, unread, read)
    assert {o: after[o] for o in others} == without and after[read] != before[read]


def test_a_source_that_cannot_be_imported_is_named_and_the_rest_works(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "nearness_graph.py").write_text("import nothing_of_that_name\n")
    monkeypatch.setenv("PYTHONPATH", path_with(target))
    assert ctt(tmp_path / "store", "plan", "demo").returncode == 0
    done = ctt(tmp_path / "store", "plan", "demo", SOURCE, "ctt_inv_weight=0.1", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2
    assert "the graph source nearness of nearness-graph 1.0 cannot be imported" in text and "nothing_of_that_name" in text


def test_two_plugins_of_one_name_are_refused(target: Path, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("pyproject.toml", "nearness_graph.py"):
        text = (package / name).read_text().replace("nearness-graph", "another-graph").replace("nearness_graph", "another_graph")
        (other / name.replace("nearness", "another")).write_text(text)
    install(other, target)
    monkeypatch.setenv("PYTHONPATH", path_with(target))
    done = ctt(tmp_path / "store", "plan", "demo", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2 and "Traceback" not in text
    assert re.search("(another|nearness)-graph 1.0 and (another|nearness)-graph 1.0 both have a graph source named nearness", text)
