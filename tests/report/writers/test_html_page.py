"""The HTML page in a real browser: on a phone, on a screen and on paper; sticky heads, sorting, dark mode."""

from __future__ import annotations

import base64
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctt.report.results import Results
from ctt.report.tables.table import build
from ctt.report.writers import render
from tests.report import made_up_answers
from tests.tracking.chromium import BINARIES, chromium

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    if missing := [name for name in BINARIES if shutil.which(name) is None]:
        if os.environ.get("CTT_REQUIRE_SYSTEM") == "1":
            pytest.fail(f"CTT_REQUIRE_SYSTEM=1, but {', '.join(missing)} is not installed")
        pytest.skip(f"{', '.join(missing)} is not installed")
    folder: Path = tmp_path_factory.mktemp("page")
    table = build(wide())
    (folder / "table.html").write_text(render(table, "html", cost=True, by_form=True), encoding="utf-8")
    (folder / "transposed.html").write_text(render(table, "html", transpose=True), encoding="utf-8")
    with chromium(folder) as driver:
        driver.get((folder / "table.html").as_uri())
        yield driver


def wide() -> Results:
    """Results with labels of real sweeps, and errors of visible and of all slots."""
    made = made_up_answers.results(videos=20, quoted=["reported"])
    for run in made.runs:
        run.errors.update({f"{name}_all": 1.1 * error for name, error in run.errors.items()})
    points = [replace(p, label=re.sub(r"(inv|suf)=", r"ctt_\1_weight=", p.label)) for p in made.points]
    return replace(made, points=points)


def emulate(page: Any, width: int, height: int) -> None:
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    )


@pytest.mark.parametrize("width, height", [(390, 844), (1280, 800)])
def test_nothing_is_wider_than_the_window_but_tables_that_scroll(page: Any, width: int, height: int) -> None:
    emulate(page, width, height)
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    script = """const box = document.querySelector('.scroll'); box.scrollLeft = 1e6;
        const last = box.querySelector('thead th:last-child').getBoundingClientRect(), all = box.getBoundingClientRect();
        const first = box.querySelector('tbody td').getBoundingClientRect();
        box.scrollLeft = 0; return [last.right <= all.right + 1, first.left >= all.left - 1, first.width < innerWidth / 2,
            first.width > 120]"""
    assert page.execute_script(script) == [True] * 4, "the last column is reached, and the point stays in view, readable"


@pytest.mark.parametrize("name", ["table", "transposed"])
def test_on_a_screen_of_1280_pixels_no_table_scrolls_sideways(page: Any, name: str) -> None:
    emulate(page, 1280, 800)
    shown = page.current_url
    try:
        page.get(shown.replace("table.html", f"{name}.html"))
        script = "return [...document.querySelectorAll('.scroll')].map(box => [box.scrollWidth, box.clientWidth])"
        widths = page.execute_script(script)
        assert len(widths) > 5 and all(inner <= outer for inner, outer in widths), widths
    finally:
        page.get(shown)


def test_the_head_stays_in_view(page: Any) -> None:
    emulate(page, 1280, 300)
    script = """const box = document.querySelector('.scroll'); box.scrollTop = 120;
        const at = box.querySelector('thead th').getBoundingClientRect().top - box.getBoundingClientRect().top;
        const moved = box.scrollTop; box.scrollTop = 0; return [moved, at]"""
    moved, at = page.execute_script(script)
    assert moved == 120 and abs(at) < 1


def test_a_click_sorts_by_a_column_and_keeps_rules(page: Any) -> None:
    emulate(page, 1280, 800)

    def blocks() -> list[list[str]]:
        script = "return [...document.querySelector('table').tBodies].map(b => [...b.rows].map(r => r.cells[2].textContent))"
        found: list[list[str]] = page.execute_script(script)
        return found

    def value(text: str) -> float:
        match = re.match(r"[−-]?[\d.]+", text)
        return float(match[0].replace("−", "-")) if match else float("nan")

    before = blocks()
    head = page.find_element("css selector", "table thead th:nth-child(3)")
    head.click()
    up = blocks()
    head.click()
    down = blocks()
    assert [sorted(b) for b in up] == [sorted(b) for b in before] == [sorted(b) for b in down]
    numbers = [value(text) for text in up[0]]
    assert numbers == sorted(numbers) and len(set(numbers)) > 1
    assert [value(text) for text in down[0]] == sorted(numbers, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_it_is_dark_where_the_reader_wants_it_dark(page: Any) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        colours.append(page.execute_script("return getComputedStyle(document.querySelector('td')).backgroundColor"))
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert colours == ["rgb(255, 255, 255)", "rgb(22, 24, 28)"]


def test_a4_paper_holds_every_column(page: Any) -> None:
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    made = page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    pdf = base64.b64decode(made["data"])
    boxes = [tuple(float(n) for n in box.split()) for box in re.findall(rb"/MediaBox \[([\d. ]+)\]", pdf)]
    assert boxes and all((round(w), round(h)) == (842, 595) for *_, w, h in boxes), "A4, lying"
    emulate(page, 1046, 719)  # what its margins of 10 mm leave, at 96 dots an inch
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    widths = page.execute_script("return [...document.querySelectorAll('table')].map(t => t.getBoundingClientRect().right)")
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert max(widths) <= 1046
