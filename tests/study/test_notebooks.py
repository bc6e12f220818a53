"""The notebooks of analysis/: thin, stored without outputs, and executed over a small sweep that really ran.

A notebook that is added to analysis/ is executed here too, by default over the sweep `weights` of the store that `swept`
makes; SWEEPS names another one. That store is made by screening and promoting, which are tested here too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from ipywidgets import Output

from ctt.study.notebooks import as_page, execute, notebooks
from ctt.study.study import Study
from tests.prepared import copy_artifacts
from tests.tiny import TINY, ctt, ctt_commands

SWEEPS = {"screening": "screened", "graphs": "graph"}
LEARNED = ["world_model.graph.source=learned", "ctt_start_epoch=1", "aloe.protocol=shared", "seed=0", "tracking=off"]
GRID = ["ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "ctt_start_epoch=1", "seed=0,1,2"]


@dataclasses.dataclass(frozen=True)
class Promoted:
    """A store, and after each command that made it: its output, and how many ALOEs had been trained."""

    store: Path
    output: list[str]
    trained: list[int]


@pytest.fixture(scope="module")
def promoted(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Promoted:
    """A real 2 × 2 sweep over three seeds: screened, its best point promoted, then all of it trained and promoted."""
    store = copy_artifacts(tiny_data, tmp_path_factory.mktemp("notebooks") / "store")
    arguments = [*TINY, *GRID, "tracking=off"]
    here = ["tracking=off", "device=cpu"]  # in one process: launching is tested elsewhere
    steps = [
        ("sweep", "weights", *arguments, *here, "name=screened", "aloe.protocol=shared"),
        ("promote", "screened", "--top", "1", *here),
        ("sweep", "weights", *arguments, *here),
        ("promote", "screened", "--top", "3", "tracking=off"),  # all of these runs are in the store
    ]
    *ran, _ = ctt_commands(store, *steps, ("sweep", "graph", *TINY, *LEARNED, *here))
    manifests = [json.loads(path.read_text()) for path in store.glob("artifacts/*/*/manifest.json")]
    answers = [one["provenance"]["ended"] for one in manifests if one["kind"] == "vqa" and not one["facts"]["screened"]]
    trained = [sum(one <= ended for one in answers) for _, ended in ran]
    return Promoted(store, [text for text, _ in ran], trained)


@pytest.fixture(scope="module")
def swept(promoted: Promoted) -> Path:
    return promoted.store


def test_screening_trains_aloe_once_a_seed_and_promoting_only_the_best_points(promoted: Promoted) -> None:
    assert promoted.trained == [3, 6, 12, 12], "of the baseline; of the best point; of all points; none"
    rows = json.loads(ctt(promoted.store, "report", "screened", "--format", "json").stdout)["rows"]
    others = [row for row in rows if not row["baseline"]]
    assert [row["marks"] for row in rows] == [[], *[["screened"]] * 3]
    best = max(others, key=lambda row: row["metrics"]["average"]["mean"])["point"]
    assert f"promoting 1 point by screened average: {best}" in promoted.output[1].replace("\n", " ")
    assert "3 points × 3 seeds" not in promoted.output[1] and "2 points × 3 seeds = 6 runs" in promoted.output[1]


def test_promoting_prints_both_differences_and_how_screening_ranked(promoted: Promoted) -> None:
    tables = [json.loads(ctt(promoted.store, "report", name, "--format", "json").stdout) for name in ("screened", "weights")]
    found = []
    for one in tables:
        rows = [row for row in one["rows"] if not row["baseline"]]
        found.append({row["point"]: row["metrics"]["average"]["delta"] for row in rows})
    text = promoted.output[3]
    for label, delta in found[0].items():
        (line,) = [line for line in text.splitlines() if f" {label} " in line and "│" in line]
        shown = [float(text.replace("−", "-")) for text in line.split("│")[2:6]]
        assert shown[0] == pytest.approx(delta, abs=0.006) and shown[2] == pytest.approx(found[1][label], abs=0.006)
    ranked = [sorted(one.values(), reverse=True) for one in found]
    best = max(found[1], key=lambda label: found[1][label])
    if len(set(ranked[0])) == len(set(ranked[1])) == 3:
        assert f"{best}, was ranked {ranked[0].index(found[0][best]) + 1} of 3 by screening" in text


def test_screened_rows_are_labelled_and_unreachable_differences_are_no_zeros(promoted: Promoted) -> None:
    text = ctt(promoted.store, "report", "screened", "--format", "md").stdout
    differences = text.partition("## Difference")[2].partition("##")[0].splitlines()
    lines = [[text.strip() for text in line.split("|")] for line in differences if "(screened)" in line]
    assert len(lines) == 3
    for line in lines:
        assert Counter(line)["not reachable"] == 3 and line[5] != "not reachable", "only predictive questions are reachable"
    assert "screened: answered by the baseline's ALOE" in text


@pytest.mark.parametrize("name", sorted(notebooks()))
def test_a_notebook_is_thin_and_stored_without_outputs(name: str) -> None:
    cells = json.loads(notebooks()[name].read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    lines = [line for cell in code for line in cell["source"] if line.strip()]
    assert [line.strip() for line in lines if "import" in line.split()] == ["import ctt"], "notebooks use the library alone"
    assert len(lines) <= 60 and not any(re.match(r"\s*(def|class) ", line) for line in lines), "logic belongs in ctt"
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")
    assert code[0]["metadata"] == {"tags": ["parameters"]}, "papermill sets these"
    assert [line.partition(" = ")[0] for line in code[0]["source"]] == ["sweep", "store"]
    texts = {i: "".join(cell["source"]) for i, cell in enumerate(cells) if cell["cell_type"] == "markdown"}
    assert all(text.count(". ") + text.count(".\n") + text.endswith(".") >= 1 for text in texts.values())


@pytest.mark.parametrize("name", sorted(notebooks()))
def test_a_notebook_runs_over_a_real_sweep(name: str, swept: Path, tmp_path: Path) -> None:
    done = execute(notebooks()[name], swept, SWEEPS.get(name, "weights"))
    assert not kernels(), "a kernel is left"
    outputs = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert any("image/png" in out.get("data", {}) for out in outputs), "no picture"
    assert any("<table>" in str(out.get("data", {}).get("text/html", "")) for out in outputs), "no table"
    assert not [out for out in outputs if out.output_type == "stream" and out.name == "stderr"]
    if name == "graphs":
        assert_graphs_are_shown(outputs)
    if name == "ablation":
        tables = html.unescape("".join(str(out["data"]["text/html"]) for out in outputs if "text/html" in out.get("data", {})))
        _, _, reader = tables.partition("Position reader")
        for level in ("ancestry, seen and rolled out", "ancestry, true future", "object not removed", "words alone", "true future"):
            assert level in reader, level
    page = as_page(done, name)
    assert "<script" not in page and not re.search(r"""(src|href)=["']https?:""", page), "needs the network"
    assert len(page) > 20_000


def assert_graphs_are_shown(outputs: list) -> None:
    """The three grids, the learned graph's row in those by source, and every figure of both points."""
    tables = [str(out["data"]["text/html"]) for out in outputs if "text/html" in out.get("data", {})]
    for title, times in (
        ("Slot graphs at threshold", 2),
        ("True interactions found", 2),
        ("Loss terms, unweighted", 1),
    ):
        (found,) = [html.unescape(table) for table in tables if title in table]
        assert found.count(title) == times, title
        assert times == 1 or found.count("learned (this run's)") == 1, title
    pictures = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(pictures) == 3, "graphs, their means, what the losses measure"


def test_notebooks_run_in_a_checkout_by_themselves(swept: Path, tmp_path: Path) -> None:
    """As Jupyter runs them: in their own folder, without environment variables, the store in the folder above; with a selector."""
    (tmp_path / "store").symlink_to(swept)
    folder = shutil.copytree(notebooks()["ablation"].parent, tmp_path / "analysis")
    path = folder / "ablation.ipynb"
    path.write_text(path.read_text().replace('sweep = \\"demo\\"', 'sweep = \\"weights\\"'))
    variables = {name: value for name, value in os.environ.items() if not name.startswith("CTT_")}
    command = [sys.executable, "-m", "jupyter", "execute", "--inplace", "ablation.ipynb"]
    done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    outputs = [out for cell in json.loads(path.read_text())["cells"] for out in cell.get("outputs", [])]
    tables = ["".join(out["data"]["text/html"]) for out in outputs if "text/html" in out.get("data", {})]
    assert "ctt_suf_weight \\ ctt_inv_weight" in tables[0] or "ctt_inv_weight \\ ctt_suf_weight" in tables[0], "the ablation first"
    assert any("application/vnd.jupyter.widget-view+json" in out.get("data", {}) for out in outputs), "no selector"


def test_the_selector_lists_the_sweeps_of_the_store_and_what_each_has(swept: Path) -> None:
    selector = Study("weights", swept).browser()
    (sweep, content), below = selector.children[0].children, selector.children[1]
    assert set(sweep.options) >= {"weights", "screened", "graph"} and content.value == "table: ablation"
    assert "table: ranking" not in content.options and "figure: learning_curves" in content.options
    assert "<table>" in below.value and "data:image/png" not in below.value
    content.value = "figure: learning_curves"
    assert "data:image/png;base64,iVBOR" in below.value and "<table>" not in below.value
    sweep.value = "screened"
    assert "table: ranking" in content.options
    assert not isinstance(below, Output), "executing a notebook with one may never end"


def kernels() -> list[str]:
    """Commands of this process's children that are notebook kernels."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            command = (path / "cmdline").read_bytes().decode()
            if parent == os.getpid() and "ipykernel_launcher" in command:
                found.append(command)
    return found


def test_report_renders_a_notebook_to_one_file(swept: Path) -> None:
    path = Path(ctt(swept, "report", "weights", "--notebook", "cost").stdout.strip())
    assert path == swept / "sweeps" / "weights" / "report" / "cost.html"
    assert "it/s" in path.read_text(encoding="utf-8")
    done = ctt(swept, "report", "weights", "--notebook", "screening", check=False)
    assert done.returncode == 1 and "\x1b" not in done.stderr
    assert "screen it (`ctt sweep weights aloe.protocol=shared`), then run `ctt promote weights`" in done.stderr
    done = ctt(swept, "report", "weights", "--notebook", "costs", check=False)
    assert done.returncode == 2 and "no notebook is called 'costs'; known are ablation, cost" in done.stderr
