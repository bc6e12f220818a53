"""LaTeX: tables that compile, fit the text width and are read back from the PDF."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ctt.report.tables.grid import Grid, Page
from ctt.report.tables.table import Table, build
from ctt.report.writers import draw, render
from ctt.report.writers.latex import PACKAGES, WIDTH
from tests.report import made_up_answers

DOCUMENT = (
    f"\\documentclass{{article}}\\usepackage[textwidth={WIDTH}pt,textheight=9in]{{geometry}}{PACKAGES}\\begin{{document}}\n%s"
)
BINARIES = ("pdflatex", "pdftotext")


@pytest.fixture(scope="module")
def table() -> Table:
    results = made_up_answers.results(videos=60, noise=[made_up_answers.noise(60)], quoted=["reported", "paper"])
    points = [replace(p, marks=("merged with inv=0 & suf=0_1",)) if i == 1 else p for i, p in enumerate(results.points)]
    runs = [replace(r, predictions=None) if (r.point, r.seed) == (2, 1) else r for r in results.runs]
    return build(replace(results, points=points[:4], runs=[r for r in runs if r.point < 4]))


def compiled(text: str, folder: Path) -> tuple[str, str]:
    """The words of the PDF as they stand on its pages, and LaTeX's log."""
    if not all(map(shutil.which, BINARIES)):
        if os.environ.get("CTT_REQUIRE_SYSTEM") == "1":
            pytest.fail("CTT_REQUIRE_SYSTEM=1, but pdflatex or pdftotext is not installed")
        pytest.skip("pdflatex or pdftotext is not installed")
    (folder / "table.tex").write_text(DOCUMENT % text + "\\end{document}\n", encoding="utf-8")
    for _ in range(2):  # once more for references
        command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "table.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=300)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    page = subprocess.run(["pdftotext", "-layout", "table.pdf", "-"], cwd=folder, capture_output=True, text=True, check=True)
    return page.stdout, (folder / "table.log").read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("chosen", [{"cost": True, "by_form": True}, {"transpose": True}, {"differences": True}])
def test_tables_compile_and_fit_the_text_width(table: Table, tmp_path: Path, chosen: dict[str, bool]) -> None:
    text = render(table, "tex", **chosen)
    words, log = compiled(text, tmp_path)
    assert "Overfull" not in log and "multiply defined" not in log and "undefined" not in log
    assert "resizebox" not in text and all(line.isascii() for line in text.splitlines())
    assert "Bold: the best" in words or chosen == {"differences": True}
    assert "C-JEPA M=4 (reported)" in " ".join(words.split()) or chosen != {"cost": True, "by_form": True}
    for body in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, flags=re.S):
        rows = [line for line in body.splitlines() if line.endswith("\\\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1


def test_numbers_stand_by_their_decimal_point_on_the_page(tmp_path: Path) -> None:
    lines = (("a", "9.5 ±1.2"), ("b", "10.25"), ("c", "−130.5*"), ("d", "–"), ("e", "70.1 −4+12"))
    words, _ = compiled(draw(Page("s", (Grid("t", ("point", "average"), (lines,)),)), "tex"), tmp_path)
    found = {line.split()[0]: line for line in words.splitlines() if re.match(r" *[abce] ", line)}
    assert len({found[name].index(".") for name in "abc"}) == 1, words


def test_the_best_are_bold_and_only_of_the_sweeps_points(table: Table) -> None:
    text = render(table, "tex")
    accuracy = text[: text.index("\\end{table}")]
    ours, theirs = accuracy.split("\\midrule")[1:3]
    for m, metric in enumerate(table.categories.metrics):
        written = [re.sub(r"\{.*\}", "", line.split(" & ")[m + 2]) for line in ours.strip().splitlines()]
        best = max(float(cell.removeprefix("\\bfseries ").strip(" \\")) for cell in written)
        bold = [cell for cell in written if cell.startswith("\\bfseries")]
        assert bold and all(float(cell.removeprefix("\\bfseries ").strip(" \\")) == best for cell in bold), metric
    assert "bfseries" not in theirs


def test_each_table_has_a_label_of_its_own_and_the_notes_are_its(table: Table) -> None:
    text = render(table, "tex", cost=True)
    labels = re.findall(r"\\label\{(.*)\}", text)
    assert labels[:2] == ["tab:weights-accuracy", "tab:weights-difference-to-the-baseline"]
    assert len(set(labels)) == len(labels) == text.count("\\begin{table}")
    notes = re.findall(r"\\begin\{tablenotes\}(.*?)\\end\{tablenotes\}", text, flags=re.S)
    assert "Seed noise" in notes[0] and text.count("Seed noise") == 1


def test_differences_alone_and_points_as_columns(table: Table) -> None:
    text = render(table, "tex", differences=True)
    assert text.count("\\begin{table}") == 1 and "Difference to the baseline" in text and "Accuracy" not in text
    turned = render(table, "md", differences=True, transpose=True)
    head = turned.splitlines()[next(i for i, line in enumerate(turned.splitlines()) if line.startswith("|"))]
    assert all(row.label in head for row in table.rows if not row.baseline)
    assert re.search(r"^\| counterfactual +\|", turned, flags=re.M)
