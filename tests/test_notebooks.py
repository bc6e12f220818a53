"""The notebooks of analysis/: thin, stored without outputs, and executed over a small sweep that really ran.

A notebook that is added to analysis/ is executed here too: by default over the sweep `weights` of the store that `swept`
makes; SWEEPS names another one.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from ctt.recorded.notebook import as_page, execute, notebooks
from tests.tiny import TINY, ctt

SWEEPS = {"screening": "screened"}
GRID = ["ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "ctt_start_epoch=1", "seed=0,1,2"]
CPUS = str(len(os.sched_getaffinity(0)))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a real 2 × 2 sweep over three seeds, the same one screened, and its best points promoted."""
    store = tmp_path_factory.mktemp("notebooks") / "store"
    words = [*TINY, *GRID, "tracking=off"]
    ctt(store, "sweep", "weights", *words, "launch=local", f"launch.jobs={CPUS}")
    ctt(store, "sweep", "weights", *words, "name=screened", "aloe.protocol=shared")
    ctt(store, "promote", "screened", "--top", "3", "tracking=off")  # all of these runs are in the store already
    return store


@pytest.mark.parametrize("name", sorted(notebooks()))
def test_a_notebook_is_thin_and_stored_without_outputs(name: str) -> None:
    cells = json.loads(notebooks()[name].read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    lines = [line for cell in code for line in cell["source"] if line.strip()]
    assert len(lines) <= 60 and not any(re.match(r"\s*(def|class) ", line) for line in lines), "logic belongs in ctt"
    assert cells[0]["cell_type"] == "markdown" and cells[0]["source"][0].startswith("# ")


@pytest.mark.parametrize("name", sorted(notebooks()))
def test_a_notebook_runs_over_a_real_sweep(name: str, swept: Path, tmp_path: Path) -> None:
    done = execute(notebooks()[name], swept, SWEEPS.get(name, "weights"))
    outputs = [out for cell in done.cells if cell.cell_type == "code" for out in cell.outputs]
    assert any("image/png" in out.get("data", {}) for out in outputs), "no picture"
    assert any("<table>" in str(out.get("data", {}).get("text/html", "")) for out in outputs), "no table"
    assert not [out for out in outputs if out.output_type == "stream" and out.name == "stderr"]
    page = as_page(done, name)
    assert "<script" not in page and not re.search(r"""(src|href)=["']https?:""", page), "needs the network"
    assert len(page) > 20_000


def test_report_renders_a_notebook_to_one_file(swept: Path) -> None:
    path = Path(ctt(swept, "report", "weights", "--notebook", "cost").stdout.strip())
    assert path == swept / "sweeps" / "weights" / "report" / "cost.html"
    assert "ALOE it/s" in path.read_text(encoding="utf-8")
    done = ctt(swept, "report", "weights", "--notebook", "costs", check=False)
    assert done.returncode == 2 and "no notebook is called 'costs'; there are ablation, cost" in done.stderr
