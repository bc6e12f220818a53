"""The example of docs/how-to/add-a-loss.md, as a package outside of the checkout."""

import json
import shutil
from pathlib import Path

import pytest

from ctt.core.errors import SettingError
from ctt.execution.jobs.spec import thaw
from tests.docs.pages import ROOT, install, keys, path_with, write_example
from tests.prepared import copy_artifacts
from tests.tiny import TINY, ctt

pytest.importorskip("setuptools")


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("example")
    write_example("how-to/add-a-loss.md", folder)
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


def test_a_sweep_with_the_term_ends_in_a_table(
    package: Path, target: Path, tiny_one_seed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", path_with(target))
    store = copy_artifacts(tiny_one_seed, tmp_path / "store")
    ctt(store, "sweep", str(package / "necessity.yaml"), *TINY, "seed=0", "tracking=off")
    report = ctt(store, "report", "necessity", "--format", "md").stdout
    assert "nec_weight=0.1" in report and "nec_margin=0.2" in report and "baseline" in report
    manifests = [json.loads(p.read_text()) for p in store.glob("artifacts/*/*/manifest.json")]
    states = [m for m in manifests if m["kind"] == "world_model"]
    trained = [m for m in states if "ctt_nec_weight" in m["settings"]]
    assert len(trained) == 1 and len(states) > 1
    assert all(m["settings"]["plugins"]["ctt_nec_weight"].startswith("necessity-loss 1.0 ") for m in trained)
    metrics = [line for p in store.glob("artifacts/*/*/metrics.jsonl") for line in map(json.loads, p.read_text().splitlines())]
    assert any(line.get("necessity", 0) > 0 for line in metrics)
    diagnoses = [p.parent / "metrics.json" for p in store.glob("artifacts/*/*/manifest.json") if '"diagnostics"' in p.read_text()]
    losses = [json.loads(p.read_text()).get("losses", {}) for p in diagnoses if p.exists()]
    assert any("necessity" in found.get("gradient_norms", {}) for found in losses)

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the plugin is gone
    done = ctt(store, "report", "necessity", check=False)
    assert done.returncode != 0 and "the loss term necessity of necessity-loss 1.0" in " ".join(done.stderr.split())
    frozen = [json.loads(path.read_text()) for path in store.glob("sweeps/necessity/0001/jobs/[0-9]*.json")]
    needing = [spec for spec in frozen if "plugins" in spec.get("config", {})]
    assert needing
    for spec in needing:
        with pytest.raises(SettingError, match="ctt_nec_weight is a setting of the loss term necessity of necessity-loss 1.0"):
            thaw(spec)


def test_keys_hold_the_code_of_a_term_that_acts_and_no_other(target: Path) -> None:
    both, weighted = "ctt_inv_weight=0.2 ctt_suf_weight=0.1", "ctt_nec_weight=0.1"
    without = keys(str(ROOT), "", both)
    before = keys(path_with(target), "", both, weighted)
    assert {o: before[o] for o in without} == without
    module = target / "necessity_loss.py"
    module.write_text(module.read_text() + "\n# edited\n")
    after = keys(path_with(target), "", both, weighted)
    assert {o: after[o] for o in without} == without and after[weighted] != before[weighted]


def test_a_term_that_cannot_be_imported_is_named_and_the_rest_works(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "necessity_loss.py").write_text("import nothing_of_that_name\n")
    monkeypatch.setenv("PYTHONPATH", path_with(target))
    assert ctt(tmp_path / "store", "plan", "demo").returncode == 0
    done = ctt(tmp_path / "store", "plan", "demo", "ctt_nec_weight=0.1", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2
    assert "the loss term necessity of necessity-loss 1.0 cannot be imported" in text and "nothing_of_that_name" in text
