"""`ctt ui` as people see it: a real MLflow server on a store, read in headless Chromium.

CTT_SCREENSHOTS=FOLDER keeps the pictures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from ctt.tracking.page import start_of
from tests.made_store import made_store
from tests.tracking.chromium import BINARIES, browsing
from tests.tracking.test_server import processes_of

pytestmark = pytest.mark.slow

POINTS = [
    "baseline",
    "ctt_inv_weight=0 ctt_suf_weight=0.1",
    "ctt_inv_weight=0.2 ctt_suf_weight=0",
    "ctt_inv_weight=0.2 ctt_suf_weight=0.1",
]
COLUMNS = ["descriptive", "explanatory", "predictive", "counterfactual", "average", "vs_baseline_average", "world_model_error"]
MLFLOWS = ["attributes.`Source`", "attributes.`Models`", "attributes.`Dataset`"]
SWEEP = ("ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "seed=0,1,2", "diagnostics.enabled=false", "reader.enabled=false")


@dataclass
class Page:
    """A browser, and the address of the sweep's page that `ctt ui` has printed."""

    driver: Any
    address: str
    pictures: Path

    @property
    def text(self) -> str:
        return str(self.driver.find_element("tag name", "body").text)

    def open(self, address: str) -> None:
        self.driver.get("about:blank")  # a change after the # alone would load nothing
        self.driver.get(address)

    def until(self, seen: Callable[[], Any], what: str, seconds: float = 150) -> Any:
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + seconds
        while True:
            try:
                if found := seen():
                    return found
            except WebDriverException:  # the page is being drawn anew
                pass
            if time.monotonic() > end:
                self.driver.save_screenshot(str(self.pictures / "missing.png"))
                pytest.fail(f"{what} did not appear; the page shows:\n{self.text[:3000]}")
            time.sleep(0.2)

    def picture(self, name: str) -> None:
        path = self.pictures / f"{name}.png"
        self.driver.save_screenshot(str(path))
        assert path.stat().st_size > 20_000, "an empty page"
        if keep := os.environ.get("CTT_SCREENSHOTS"):
            Path(keep).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, keep)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if not all(shutil.which(name) for name in BINARIES):
        reason = "Chromium is not installed (apt-get install chromium chromium-driver)"
        if os.environ.get("CTT_REQUIRE_SYSTEM") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("browser")
    store, _ = made_store(folder / "store", "weights", *SWEEP)
    with browsing(store.root, "weights", folder) as (driver, address):
        yield Page(driver, address, folder)
    assert processes_of(store.root) == [], "no process is left"


def test_the_experiments_page_has_a_line_for_each_point_and_its_runs_with_accuracies_first(page: Page) -> None:
    page.open(page.address)
    page.until(lambda: "12 matching runs" in page.text, "the 12 runs, without that of the table")
    groups = page.until(lambda: re.findall(r"Group: (\S+)", page.text), "groups by point")
    assert len(groups) == 4 and "baseline" in groups
    page.until(lambda: columns(page) == COLUMNS, "columns of accuracies, in the order of the tables")
    heads = """const fits = e => e.scrollWidth <= e.clientWidth || getComputedStyle(e).overflowX == 'visible';
        return [...document.querySelectorAll('.ag-header-cell')].map(
            cell => [cell.innerText.trim(), [...cell.querySelectorAll('*')].every(fits)])"""
    whole = dict(page.driver.execute_script(heads))
    assert "counterfactual" in whole and all(whole.values()), whole
    text = page.text
    assert all(f"seed={seed} baseline" in text for seed in (0, 1, 2))
    assert len(set(re.findall(r"\b\d{2}\.\d{2}\n", text + "\n"))) >= 8, "two decimals, next to the runs"
    page.picture("experiment")


def test_the_address_that_is_printed_first_lists_the_sweeps_as_training_runs_not_as_traces(page: Page) -> None:
    page.open(start_of(page.address.partition("/#")[0]))
    page.until(lambda: page.driver.find_element("link text", "weights"), "the sweep")
    assert "Traces" not in page.text and "Prompts" not in page.text


def test_a_click_on_a_sweep_from_mlflows_first_page_leads_to_training_runs(page: Page) -> None:
    """In a browser that has chosen nothing; one that has chosen GenAI keeps it."""
    assert entry_points(group="mlflow.app", name="ctt"), "ctt was installed before it had this entry point: pip install -e ."
    server = page.address.partition("/#")[0]
    new_reader(page)
    page.open(server)
    page.until(lambda: page.driver.find_element("link text", "weights"), "the sweep").click()
    page.until(lambda: "12 matching runs" in page.text and "seed=0 baseline" in page.text, "its runs, without the table's")
    assert "/runs" in page.driver.current_url and "Group: baseline" in page.text, "grouped by point"
    page.until(lambda: columns(page) == COLUMNS, "our columns")
    page.driver.execute_script("localStorage.setItem('mlflow.workflowType_v1', JSON.stringify('genai'))")
    page.open(server)
    page.until(lambda: page.driver.find_element("link text", "weights"), "the sweep").click()
    page.until(lambda: "/overview" in page.driver.current_url, "MLflow's page for GenAI")
    new_reader(page)


def test_columns_that_a_reader_chooses_stay_and_untouched_ones_follow_the_sweep(page: Page) -> None:
    """In the list's link: what the printed address shows is always the sweep's own view."""
    server, rest = page.address.split("/#/experiments/")
    place = f'MLflowLocalStorage-1.1-ExperimentPage-["{rest.split("/")[0]}"]-ReactComponentState'
    for old, shown in ((["metrics.`predictive`"], ["predictive"]), (MLFLOWS, COLUMNS)):
        new_reader(page)
        page.driver.execute_script(f"localStorage.setItem({json.dumps(place)}, arguments[0])", json.dumps({"selectedColumns": old}))
        page.open(server)
        page.until(lambda: page.driver.find_element("link text", "weights"), "the sweep").click()
        page.until(lambda: "matching runs" in page.text, "its runs")
        page.until(lambda shown=shown: columns(page) == shown, f"columns {shown}")
    new_reader(page)


def test_means_of_seeds_are_as_short_as_accuracies(page: Page) -> None:
    page.open(page.address)
    page.until(lambda: page.text.count("(average)") >= 16, "means")
    cells = "return [...document.querySelectorAll('.ag-cell[col-id^=metrics]')].map(c => c.innerText)"
    means = [text.split()[0] for text in page.driver.execute_script(cells) if "(average)" in text]
    assert len(means) >= 16 and all(len(re.sub(r"^-?0\.0*|\.", "", mean)) <= 5 for mean in means), means


def new_reader(page: Page) -> None:
    """Forgets what the browser keeps, on a page without MLflow's scripts, which would write it again."""
    page.open(f"{page.address.partition('/#')[0]}/health")
    page.driver.execute_script("localStorage.clear()")


def columns(page: Page) -> list[str]:
    """The metrics that the table of runs shows, of COLUMNS, by their places."""
    cells = """return [...document.querySelectorAll('.ag-header-cell')].map(
        cell => [cell.getBoundingClientRect().left, cell.getAttribute('col-id')]).sort((a, b) => a[0] - b[0]).map(one => one[1])"""
    shown = [str(column).removeprefix("metrics.").strip("`") for column in page.driver.execute_script(cells)]
    return [name for name in shown if name in COLUMNS]


def test_a_runs_files_and_what_the_machine_did_have_pages(page: Page) -> None:
    start = f"{page.address.split('?')[0]}/{run_ids(page)['seed=1 baseline']}"
    page.open(f"{start}/artifacts")
    page.until(lambda: "predictions.parquet" in page.text and "config.json" in page.text, "the files")
    page.open(f"{start}/system-metrics")
    charts = {"memory_mib", "cpu_percent"}
    page.until(lambda: charts <= {line.rpartition("/")[2] for line in page.text.splitlines()}, "the machine's charts")
    page.open(f"{start}/model-metrics")
    page.until(lambda: "gradient_norm" in page.text and "learning_rate" in page.text, "the training's charts")


def test_a_runs_charts_begin_with_its_curves_and_few_numbers_are_bars(page: Page) -> None:
    start = page.address.split("?")[0]
    page.driver.set_window_size(1800, 4000)
    page.open(f"{start}/{run_ids(page)['seed=1 baseline']}/model-metrics")
    sections = ("aloe", "world_model", "Model metrics")
    page.until(lambda: "world_model" in page.text.splitlines(), "the sections")
    lines = page.text.splitlines()
    places = [len(lines) - 1 - lines[::-1].index(name) for name in sections]
    assert places == sorted(places), "curves, then constants"
    page.driver.set_window_size(1800, 1100)


def run_ids(page: Page) -> dict[str, str]:
    """{run name: id} by MLflow's API, through the browser's own address."""
    import urllib.request

    server, rest = page.address.split("/#/experiments/")
    body = json.dumps({"experiment_ids": [rest.split("/")[0]], "max_results": 100}).encode()
    request = urllib.request.Request(f"{server}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return {run["info"]["run_name"]: run["info"]["run_id"] for run in json.load(answer)["runs"]}


def test_a_runs_page_shows_its_table_and_its_curves(page: Page) -> None:
    name = "seed=1 ctt_inv_weight=0.2 ctt_suf_weight=0.1"
    start = page.address.split("?")[0]
    page.open(f"{start}/{run_ids(page)[name]}")
    page.until(lambda: "difference to the baseline" in page.text, "the table")
    assert name in page.text
    page.driver.execute_script("[...document.querySelectorAll('button')].find(b => b.textContent == 'Show more').click()")
    page.until(lambda: "the best by validation" in page.text, "the whole description")
    cells = {cell.text for cell in page.driver.find_elements("css selector", "td, th")}
    titles = {"epoch 5, the last", "epoch 4, the best by validation", "counterfactual"}
    assert titles <= cells and "On 40 of 40 videos:" in page.text, "tables, not their Markdown"
    page.picture("run")
    page.open(f"{start}/{run_ids(page)[name]}/model-metrics")
    search = page.until(lambda: page.driver.find_element("css selector", "input[placeholder='Search metric charts']"), "the charts")
    search.send_keys("train_loss")
    page.until(lambda: page.driver.find_elements("css selector", ".js-plotly-plot .scatterlayer .trace"), "a curve")
    page.picture("curves")


def test_the_charts_begin_with_the_accuracy_over_what_was_swept(page: Page) -> None:
    page.open(f"{page.address}&compareRunsMode=CHART")

    def seen() -> bool:
        names = {text.text for text in page.driver.find_elements("css selector", "svg text")}
        shortened = any(re.fullmatch(r"average", name) for name in names)
        return {"ctt_inv_weight", "ctt_suf_weight"} <= names and shortened

    page.until(seen, "the axes of the chart")
    page.picture("charts")


def test_comparing_runs_draws_parallel_coordinates_over_the_swept_values(page: Page) -> None:
    ids = run_ids(page)
    chosen = [ids[f"seed=1 {point}"] for point in POINTS]
    server, rest = page.address.split("/#/experiments/")
    experiment = rest.split("/")[0]
    page.open(f"{server}/#/compare-runs?runs={json.dumps(chosen)}&experiments={json.dumps([experiment])}")
    page.until(lambda: "Parallel Coordinates Plot" in page.text, "the plot's tab")
    axes = page.until(lambda: page.driver.find_elements("css selector", ".js-plotly-plot .parcoords .axis-title"), "the axes")
    titles = {axis.text for axis in axes}
    assert {"ctt_inv_weight", "ctt_suf_weight"} <= titles, titles
    page.picture("compare")
