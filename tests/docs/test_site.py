"""The site: it builds without a warning, generated pages are up to date, links within the repository lead somewhere."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.docs.examples import ROOT

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MOST_LINES = 150  # of the README
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]


def script(name: str) -> ModuleType:
    """docs/NAME.py as a module; docs is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("sphinx")
    pytest.importorskip("furo")
    strict = ["-W", "--keep-going", "-n", "-q", "-b", "html", "-d", str(tmp_path / "doctrees")]
    command = [sys.executable, "-m", "sphinx", *strict, str(ROOT / "docs"), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "ctt_inv_weight" in (tmp_path / "html/reference/settings.html").read_text(encoding="utf-8")


def test_pages_from_the_code_are_up_to_date() -> None:
    reference = script("make_reference")
    stale = reference.stale()
    if sys.version_info[:2] != (3, 11):
        stale = [name for name in stale if name != "cli.md"]  # argparse breaks lines otherwise in other versions
    assert stale == [], "run `make reference`"
    assert "`.table`" in (ROOT / "docs/reference/python.md").read_text(encoding="utf-8")


def test_a_stale_page_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reference = script("make_reference")
    for name in reference.PAGES:
        (tmp_path / name).write_bytes((ROOT / "docs/reference" / name).read_bytes())
    page = tmp_path / "settings.md"
    page.write_text(page.read_text(encoding="utf-8").replace("`0.15`", "`0.16`", 1), encoding="utf-8")
    monkeypatch.setattr(reference, "FOLDER", tmp_path)
    assert reference.run(["--check"]) == 1 and "settings.md" in capsys.readouterr().err


def test_results_are_what_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = script("make_results")
    assert results.stale() == []
    for page, parts in results.RESULTS.items():
        for place in results.places(page):
            marks = set(re.findall(r"<!-- part: (\S+) -->", place.read_text(encoding="utf-8")))
            assert marks - {results.STATE} == set(parts) == set(results.record_of(page)), page
        for part in results.record_of(page).values():
            assert {"commands", "commit", "date", "processor", "text"} <= set(part)


def test_a_number_typed_into_a_page_of_results_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = script("make_results")
    (tmp_path / "records").mkdir()
    (tmp_path / "records/demo.json").write_bytes((ROOT / "docs/results/records/demo.json").read_bytes())
    text = (ROOT / "docs/results/demo.md").read_text(encoding="utf-8")
    (tmp_path / "demo.md").write_text(re.sub(r"at least 12\b", "at least 11", text), encoding="utf-8")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    assert results.stale(["demo"]) == ["demo"]
    (tmp_path / "demo.md").write_text(text, encoding="utf-8")
    assert results.stale(["demo"]) == []


def test_a_part_is_measured_recorded_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = script("make_results")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "commit", lambda: "abc1234")
    monkeypatch.setattr(results, "same_code", lambda since: since == "abc1234")
    monkeypatch.setattr(results, "RESULTS", {"page": {"one": results.Part(("echo 1", "echo 22"))}})
    (tmp_path / "records").mkdir()
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n<!-- part: state -->\n<!-- end of state -->\n\n<!-- part: one -->\nold\n<!-- end of one -->\n", encoding="utf-8"
    )
    assert results.main([]) == 0
    text = page.read_text(encoding="utf-8")
    assert "```text\n22\n```" in text and "old" not in text and "All numbers of this page are of commit" in text
    assert "abc1234" in text and "echo 1\necho 22" in text
    monkeypatch.setattr(results, "run", lambda command, **_: pytest.fail("it is of this code and was measured again"))
    assert results.main([]) == 0 and page.read_text(encoding="utf-8") == text


def test_a_part_is_due_when_its_artifacts_are_not_those_of_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = script("make_results")
    sweep, times = "ctt sweep demo launch=local", "python -m tests.benchmarks"
    keys = results.keys_of((sweep, "ctt report demo"))
    assert keys == results.keys_of((sweep,)) != results.keys_of((f"{sweep} seed=0",)) and results.keys_of((times,)) is None
    assert results.keys_made(results.RESULTS["aloe-study"]["tables"].commands[0])
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(results, "RESULTS", {"page": {"table": results.Part((sweep,)), "times": results.Part((times,))}})
    monkeypatch.setattr(results, "same_code", lambda since: since == "now")
    (tmp_path / "records").mkdir()

    def recorded(**tables: str) -> dict[str, dict[str, Any]]:
        common = {"commit": "before", "date": "2026-01-01", "processor": "a CPU", "text": ""}
        found = {"table": common | {"commands": [sweep]} | tables, "times": common | {"commands": [times]}}
        (tmp_path / "records/page.json").write_text(json.dumps(found), encoding="utf-8")
        return found

    recorded(keys=keys)
    monkeypatch.setattr(results, "in_store", lambda commands: False)
    assert not results.due("page", "table") and results.due("page", "times")
    monkeypatch.setattr(results, "in_store", lambda commands: True)
    assert results.due("page", "table"), "it is read again where that takes seconds"
    monkeypatch.setattr(results, "in_store", lambda commands: False)
    for other in ({"keys": "of other code"}, {}, {"keys": keys, "commands": [f"{sweep} seed=0"]}):
        recorded(**other)
        assert results.due("page", "table")
    recorded(keys=keys, commit="now")
    assert not results.due("page", "table")
    two = {"one": recorded(keys=keys)["table"], "two": recorded(keys=keys, commit="now")["table"]}
    assert "are of one state" in results._state(two)
    assert "not of this one (two)" in results._state(two | {"two": recorded(keys="of other code", commit="now")["table"]})


def test_sections_of_a_report() -> None:
    results = script("make_results")
    difference = "## Difference to the baseline\n\n| p |\n| - |\n| x |\n\n---\n\n| A/A: y |\n\n- Seed noise (A/A)\n"
    table = f"# demo\n\n## Accuracy\n\n| a |\n| - |\n\n{difference}"
    assert results.sections("Accuracy")(table) == "### Accuracy\n\n| a |\n| - |"
    assert results.noise(table) == "| p |\n| - |\n| A/A: y |\n\n- Seed noise (A/A)"


@pytest.mark.parametrize("path", [*TEXTS, *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: str(path.relative_to(ROOT)))
def test_links_within_the_repository(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [
        target.partition("#")[0] for target in LINK.findall(text) if not target.startswith(("http:", "https:", "#", "mailto:"))
    ]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES
