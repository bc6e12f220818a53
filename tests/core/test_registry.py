"""Parts from other distributions: found by their entry points, refused by name, and known by their code."""

import sys
from pathlib import Path

import pytest

from ctt.core.errors import UsageError
from ctt.core.registry import Registry


def install(folder: Path, name: str, code: str, part: str = "mine", group: str = "ctt.test") -> None:
    """A distribution as an installer leaves it: its module, and a .dist-info with METADATA and entry_points.txt."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{part} = {name}:PART\n")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return tmp_path


def registry() -> Registry[object]:
    return Registry("ctt.test", "thing", {"pi": "math:pi"})


def test_own_parts_come_first_and_plugins_by_name(folder: Path) -> None:
    install(folder, "plugin_one", "PART = 'theirs'")
    found = registry()
    assert found.names() == ("pi", "mine") and "mine" in found and "other" not in found
    assert found.get("pi") == 3.141592653589793 and found.get("mine") == "theirs"
    assert found.plugin("pi") is None and str(found.plugin("mine")) == "plugin_one 1.5"
    with pytest.raises(UsageError, match="no thing named mime; did you mean mine. there are pi, mine"):
        found.get("mime")


def test_a_plugin_that_cannot_be_imported_is_named_and_the_rest_works(folder: Path) -> None:
    install(folder, "plugin_bad", "import nothing_of_that_name", part="bad")
    install(folder, "plugin_good", "PART = 1", part="good")
    found = registry()
    assert found.usable() == {"pi": 3.141592653589793, "good": 1}
    words = "the thing bad of plugin_bad 1.5 cannot be imported: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    assert found.broken() == {"bad": words}
    with pytest.raises(UsageError, match="plugin_bad 1.5 cannot be imported"):
        found.get("bad")


def test_two_parts_of_one_name_are_refused(folder: Path) -> None:
    install(folder, "plugin_a", "PART = 1")
    install(folder, "plugin_b", "PART = 2")
    with pytest.raises(UsageError, match="plugin_a 1.5 and plugin_b 1.5 both have a thing named mine"):
        registry().names()


def test_a_name_of_ours_is_refused(folder: Path) -> None:
    install(folder, "plugin_pi", "PART = 3", part="pi")
    with pytest.raises(UsageError, match="plugin_pi 1.5 has a thing named pi, as ctt has"):
        registry().names()


def test_edited_code_is_another_plugin(folder: Path) -> None:
    install(folder, "plugin_edit", "PART = 1")
    before = registry().plugin("mine")
    (folder / "plugin_edit.py").write_text("PART = 2")
    after = registry().plugin("mine")
    assert before is not None and after is not None and before.code != after.code and len(before.code) == 16
