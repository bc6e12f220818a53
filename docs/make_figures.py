"""Makes the pictures of what people look at: MLflow's pages, the HTML table at three widths, the LaTeX tables, three notebooks.

    python docs/make_figures.py [--store DIR --sweep NAME] [--to DIR] [mlflow html latex notebooks]

docs/figures holds those that pages show. Without a store the numbers are made up (tests/made_store.py). Chromium, pdflatex and
pdftoppm are needed. The numbers of docs/results have a script of their own, make_results.py.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # `tests` is in the checkout alone, so what follows is imported after this line

from ctt.report.writers import render  # noqa: E402
from ctt.report.writers.latex import PACKAGES, WIDTH  # noqa: E402
from ctt.store import Store  # noqa: E402
from ctt.study.notebooks import render_notebook  # noqa: E402
from ctt.study.study import Study  # noqa: E402
from tests.made_store import made_store  # noqa: E402
from tests.tracking.chromium import browsing, chromium  # noqa: E402

SWEEP = ("ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "seed=0,1,2", "diagnostics.enabled=false", "reader.enabled=false")
WIDTHS = {"phone": (390, 844), "screen": (1280, 900)}
NOTEBOOKS = ("ablation", "cost", "reported")
COLOURS, DRAWN = 64, 8.0  # of a picture; seconds in which a page of MLflow draws itself
Named = Iterator[tuple[str, bytes]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--store", type=Path)
    parser.add_argument("--sweep", default="weights")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "figures")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ctt-figures-") as folder:
        store = Store.open(given.store) if given.store else made_store(Path(folder) / "store", given.sweep, *SWEEP)[0]
        for kind in given.kinds or KINDS:
            for name, picture in KINDS[kind](store, given.sweep, Path(folder)):
                path = given.to / f"{name}.png"
                path.write_bytes(picture)
                with Image.open(path) as image:
                    image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
                print(path, path.stat().st_size)


def mlflow_pages(store: Store, sweep: str, folder: Path) -> Named:
    """The runs of the sweep, its charts, one run with its curves, and the comparison of several."""
    with browsing(store.root, sweep, folder) as (driver, address):
        server, rest = address.split("/#/experiments/")
        experiment = rest.split("/")[0]
        runs = _runs(server, experiment)
        chosen = [run for name, run in runs.items() if name.startswith("seed=0 ")]
        start = f"{server}/#/experiments/{experiment}"
        pages = {
            "mlflow_runs": (address, 900),
            "mlflow_charts": (f"{address}&compareRunsMode=CHART", 1000),
            "mlflow_run": (f"{start}/runs/{chosen[-1]}", 1000),
            "mlflow_curves": (f"{start}/runs/{chosen[-1]}/model-metrics", 900),
            "mlflow_compare": (f"{server}/#/compare-runs?runs={json.dumps(chosen)}&experiments={json.dumps([experiment])}", 760),
        }
        for name, (page, height) in pages.items():
            driver.set_window_size(1600, height)
            driver.get("about:blank")  # a change after the # alone would load nothing
            driver.get(page)
            time.sleep(DRAWN)
            for button in driver.find_elements("css selector", "button[aria-label='Hide banner']"):
                button.click()  # MLflow's note on shared views
            driver.execute_script("[...document.querySelectorAll('button')].find(b => b.textContent == 'Show more')?.click()")
            time.sleep(1)
            yield name, driver.get_screenshot_as_png()


def _runs(server: str, experiment: str) -> dict[str, str]:
    """{name: id} of an experiment's runs, the first one first."""
    body = json.dumps({"experiment_ids": [experiment], "order_by": ["attributes.start_time ASC"]}).encode()
    request = urllib.request.Request(f"{server}/api/2.0/mlflow/runs/search", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return {run["info"]["run_name"]: run["info"]["run_id"] for run in json.load(answer)["runs"]}


def html_page(store: Store, sweep: str, folder: Path) -> Named:
    """The HTML table on a phone, on a screen and on A4 paper."""
    page = folder / "table.html"
    page.write_text(render(Study(sweep, store.root).comparison, "html"), encoding="utf-8")
    with chromium(folder) as driver:
        for name, (width, height) in WIDTHS.items():
            _emulate(driver, width, height)
            driver.get(page.as_uri())
            yield f"html_{name}", driver.get_screenshot_as_png()
        printed = folder / "paper.pdf"
        printed.write_bytes(base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]))
    yield "html_paper", _first_page(printed)


def _emulate(driver: Any, width: int, height: int) -> None:
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def latex_tables(store: Store, sweep: str, folder: Path) -> Named:
    """The first page of the LaTeX tables."""
    geometry = f"\\usepackage[textwidth={WIDTH}pt,textheight=9in]{{geometry}}"
    text = f"\\documentclass{{article}}{geometry}{PACKAGES}\\begin{{document}}\n"
    text += render(Study(sweep, store.root).comparison, "tex") + "\\end{document}\n"
    (folder / "tables.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "tables.tex"]
    for _ in range(2):  # once more for references
        subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
    yield "latex", _first_page(folder / "tables.pdf")


def _first_page(pdf: Path) -> bytes:
    subprocess.run(["pdftoppm", "-png", "-r", "80", "-singlefile", str(pdf), str(pdf.with_suffix(""))], check=True)
    return pdf.with_suffix(".png").read_bytes()


def notebooks(store: Store, sweep: str, folder: Path) -> Named:
    """The beginnings of three notebooks, executed."""
    for name in NOTEBOOKS:
        page = render_notebook(sweep, store, name)
        with chromium(folder) as driver:
            _emulate(driver, 1100, 1400)
            driver.get(Path(page).resolve().as_uri())
            yield f"notebook_{name}", driver.get_screenshot_as_png()


KINDS = {"mlflow": mlflow_pages, "html": html_page, "latex": latex_tables, "notebooks": notebooks}

if __name__ == "__main__":
    main()
