"""Writers: schema, bytes, alignment, and LaTeX that compiles."""

from __future__ import annotations

import csv
import html.parser
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.data.categories import CLEVRER_CATEGORIES
from ctt.report.published import QUOTED, quoted
from ctt.report.tables import layout
from ctt.report.tables.table import Table, build
from ctt.report.tables.tidy import tidy
from ctt.report.writers import FORMATS, render, terminal_text
from tests.report import made_up_answers
from tests.shared import SHARED, needs_shared

EVERYTHING = dict(quoted=["reported", "paper"])


@pytest.fixture(scope="module")
def table() -> Table:
    results = made_up_answers.results(videos=60, noise=[made_up_answers.noise(60)], **EVERYTHING)
    points = [replace(p, marks=("merged with inv=0 & suf=0_1",)) if i == 1 else p for i, p in enumerate(results.points)]
    runs = [replace(r, predictions=None) if (r.point, r.seed) == (2, 1) else r for r in results.runs]
    return build(replace(results, points=points[:4], runs=[r for r in runs if r.point < 4]))


def test_json_schema(table: Table) -> None:
    record = json.loads(render(table, "json"))
    assert record["sweep"] == "weights"
    assert [row["baseline"] for row in record["rows"]] == [True, False, False, False]
    for row in record["rows"]:
        assert {"point", "values", "seeds", "metrics", "errors"} <= set(row)
        assert list(row["metrics"]) == list(CLEVRER_CATEGORIES.metrics)
        for estimate in row["metrics"].values():
            assert {"mean", "low", "high", "delta", "delta_low", "delta_high"} <= set(estimate)
            assert 0 <= estimate["mean"] <= 100
            assert (estimate["delta"] is None) == row["baseline"]
        assert set(row["errors"]) == {"world_model", "rollout"}
        assert all(isinstance(value, float) for value in row["errors"].values())
    full, short = record["rows"][1], record["rows"][2]
    assert full["seeds"] == [0, 1, 2] and full["metrics"]["average"]["delta_low"] < full["metrics"]["average"]["delta_high"]
    assert short["seeds"] == [0, 2] and short["missing"] == [1]
    assert short["metrics"]["average"]["low"] is None and short["metrics"]["average"]["delta_low"] is None
    assert len(record["quoted"]) == 7 and len(record["noise"]) == 1
    assert record["noise"][0]["deviation"]["descriptive"] > 0


def test_json_holds_the_rounded_numbers_of_the_table(table: Table) -> None:
    record = json.loads(render(table, "json"))
    for row, printed in zip(table.rows, record["rows"], strict=True):
        assert printed["metrics"]["average"]["mean"] == round(row.estimates["average"].mean, 6)
    assert not re.search(r"\d\.\d{11}", render(table, "json")), "floats are rounded"
    assert "-0.0," not in render(table, "json")


@pytest.mark.parametrize("format", FORMATS)
def test_same_input_same_bytes(format: str) -> None:
    first = made_up_answers.results(**EVERYTHING)
    again = made_up_answers.results(**EVERYTHING)
    assert render(build(first), format) == render(build(replace(again, runs=again.runs[::-1])), format)


def test_bytes_do_not_depend_on_the_process(tmp_path: Path) -> None:
    """Another process, hash seed, locale, terminal and clock print the same."""
    code = (
        "from tests.report import made_up_answers as made_up; from ctt.report.tables.table import build;"
        "from ctt.report.writers import *;"
        "import sys; t = build(made_up.results(videos=10, quoted=['paper']));"
        "sys.stdout.buffer.write(''.join(render(t, f) for f in FORMATS).encode())"
    )
    outputs = set()
    for seed, columns, zone in (("1", "60", "UTC"), ("2", "200", "Asia/Tokyo")):
        variables = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "COLUMNS": columns,
            "TZ": zone,
            "TERM": "xterm",
            "FORCE_COLOR": seed,
        }
        root = Path(__file__).parents[3]
        outputs.add(subprocess.run([sys.executable, "-c", code], env=variables, cwd=root, check=True, capture_output=True).stdout)
    assert len(outputs) == 1


def test_cost_only_when_asked(table: Table) -> None:
    for format in FORMATS:
        assert not re.search("device.(hours|time)", render(table, format))
        assert re.search("device.(hours|time)", render(table, format, cost=True))


@pytest.mark.parametrize("format", ["terminal", "md", "tex", "html"])
def test_forms_only_when_asked(table: Table, format: str) -> None:
    assert "query_" not in render(table, format)
    text = render(table, format, by_form=True)
    assert re.search(r"query\\?_color", text) and "Counterfactual questions by form" in text


def test_a_tidy_frame_has_the_forms_too(table: Table) -> None:
    frame = tidy(table)
    row = frame[(frame.point == table.rows[3].label) & (frame.metric == "accuracy_by_form") & (frame.category == "predictive/next")]
    assert row.delta.item() == table.rows[3].forms["predictive/next"].delta


def test_unknown_format() -> None:
    with pytest.raises(UsageError, match="format must be one of terminal, md"):
        render(Table("none", ()), "pdf")


def test_markdown_columns_line_up(table: Table) -> None:
    text = render(table, "md")
    grids = re.findall(r"(?:^\|.*\n)+", text, flags=re.M)
    assert len(grids) >= 4
    for grid in grids:
        lines = grid.splitlines()
        bars = [[i for i, c in enumerate(line) if c == "|" and line[i - 1 : i] != "\\"] for line in lines]
        assert all(b == bars[0] for b in bars), grid
        assert re.fullmatch(r"\|( -+:? \|)+", lines[1])


def test_markdown_escapes(table: Table) -> None:
    label = "a|b_c*"
    text = render(replace(table, rows=(replace(table.rows[0], label=label),)), "md")
    assert r"a\|b_c\*" in text and label not in text


def test_published_rows_are_below_a_rule_and_labelled_as_reported(table: Table) -> None:
    markdown = render(table, "md")
    labels = ("cjepa README, CTT", "C-JEPA M=4")
    ours, _, theirs = markdown.partition("\n---\n")
    assert all(f"{label} (reported)" not in ours for label in labels)
    assert all(f"{label} (reported)" in theirs for label in labels)
    assert "arXiv 2602.11389" in markdown
    lines = render(table, "terminal").splitlines()
    assert any("cjepa README, CTT" in line and "49.4" in line and "89.8" in line for line in lines)


def test_terminal_is_readable_at_100_columns(table: Table) -> None:
    text = terminal_text(table)
    assert max(map(len, text.splitlines())) <= 100
    assert "\x1b" not in text and "\x1b" in terminal_text(table, colour=True)
    for row in table.rows:  # every estimate is on the row's line: nothing was cut or wrapped
        line = next(line for line in text.splitlines() if line.strip().startswith(row.label))
        for metric in CLEVRER_CATEGORIES.metrics:
            assert f"{row.estimates[metric].mean:.1f}" in line
    assert "…" not in text
    assert "2 of 3" in text and "warning: inv=0.0 suf=0.2: 1 of 3 runs missing (seed 1)" in text


def test_seed_noise_or_that_it_is_not_estimated(table: Table) -> None:
    assert "Seed noise (A/A: ALOE seeds, 6 runs): in 95 % of cases two single runs differ by at most" in render(table, "md")
    without = replace(table, noise=())
    command = {"html": "<code>ctt sweep noise</code>", "tex": "\\texttt{ctt sweep noise}"}
    for format in ("md", "terminal", "html", "tex"):
        note = f"Seed noise not estimated: run {command.get(format, '`ctt sweep noise`')}"
        assert note in render(without, format)


def test_csv_is_one_line_a_metric(table: Table) -> None:
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    wanted = [x for x in lines if x["point"] == table.rows[1].label and (x["kind"], x["metric"]) == ("metric", "predictive")]
    assert len(wanted) == 1
    assert float(wanted[0]["delta"]) == round(table.rows[1].estimates["predictive"].delta, 6)
    assert wanted[0]["ctt_suf_weight"] == "0.05"
    assert {x["kind"] for x in lines} == {"metric", "option", "form", "error", "quoted"}


def test_html_is_well_formed(table: Table) -> None:
    class Checker(html.parser.HTMLParser):
        stack: list[str] = []

        def handle_starttag(self, tag: str, attrs: list) -> None:
            if tag != "meta":
                self.stack.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.stack.pop() == tag

    page = render(replace(table, sweep="<b> & co"), "html")
    checker = Checker()
    checker.feed(page)
    assert checker.stack == [] and "&lt;b&gt; &amp; co" in page
    assert page.count("<tr>") > 20 and "http" not in page


@needs_shared
def test_published_rows_hold_the_published_numbers() -> None:
    facts = json.loads((SHARED / "clevrer" / "published_numbers.json").read_text())
    short = {
        "desc": "descriptive",
        "expl": "explanatory",
        "pred": "predictive",
        "cf": "counterfactual",
        "mc": "multiple_choice",
    }
    for name in ("baseline", "ctt"):
        published = facts["gerardcb_val_per_question"][name]["79"]
        ours = QUOTED[f"reported_{name}"].metrics
        assert ours == {short[key]: pytest.approx(100 * value) for key, value in published.items()}
    deltas = facts["gerardcb_val_per_question"]["delta_ctt_minus_baseline_pct"]["79"]
    assert QUOTED["reported_ctt"].deltas == {short[key]: value for key, value in deltas.items()}
    per_question = {
        "desc": "descriptive",
        "expl_que": "explanatory",
        "pred_que": "predictive",
        "cf_que": "counterfactual",
        "avg": "average",
    }
    for m, row in enumerate(quoted(["paper"])):
        published = facts["cjepa_A2"][f"{'C-JEPA(V)' if m else 'OC-JEPA(V)'} M{m}"]
        assert row.metrics == {ours: published[theirs] for theirs, ours in per_question.items()}


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_a_terminals_lines_are_no_longer_than_it_is_wide_and_no_cell_is_broken(table: Table, width: int) -> None:
    text = terminal_text(table, width=width)
    assert max(map(len, text.splitlines())) <= width
    written = set(re.findall(r"\S+", text))
    cells = {cell for grid in layout.page(table, narrow=True).grids for block in grid.blocks for line in block for cell in line[1:]}
    assert {word for cell in cells for word in cell.split()} <= written
    labels = {word for row in table.rows for word in row.label.split() if len(word) <= width // 4}
    assert labels <= written, "words of points stay whole"


def test_columns_that_do_not_fit_stand_below_with_the_points(table: Table) -> None:
    wide, narrow = (terminal_text(table, width=width) for width in (160, 60))
    heads = [sum(line.startswith(" point ") for line in text.splitlines()) for text in (wide, narrow)]
    assert 0 < heads[0] < heads[1]


def test_on_a_narrow_terminal_points_are_columns_where_that_is_shorter(table: Table) -> None:
    chosen = {}
    for width in (60, 80, 100, 120):
        lines, columns, shorter = (terminal_text(table, width=width, transpose=how) for how in (False, True, None))
        assert shorter == min(lines, columns, key=lambda text: text.count("\n"))
        assert max(map(len, columns.splitlines())) <= width
        chosen[width] = " point " not in shorter
    assert chosen[80] and not chosen[120], "both occur"
    assert terminal_text(table, width=200, transpose=None) == terminal_text(table, width=200), "lines fit"
