"""The language: words that went do not come back, in code, help, messages, notebooks, YAML comments or documents."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
GONE = {
    r"rooms?": "package",
    r"trunks?": "shared prefix",
    r"forks?|forked": "branch point",
    r"told|tells?|telling|said|says?": "reports, records, writes, reads",
    r"beside": "an auxiliary stage; next to, with",
    r"mirror\w*": "sends to MLflow",
    r"successors?": "relauncher",
    r"orphans?": "adopted process",
    r"sheets?": "table, grid",
    r"could have shown": "min. detectable difference (80 % power)",
    r"while it gets on": "as long as it makes progress",
    r"his|him|whoever": "they, the process, the user",
}
STAYS = {
    "ctt/config.py": ("launch.trunk",),  # a setting's former name
    "ctt/execution/jobs/late_files.py": ('"beside"',),
    "ctt/execution/jobs/job_process.py": ('"beside"',),  # fields of files on disk
    "ctt/execution/jobs/spec.py": ('"fork_epochs"',),
    "CHANGELOG.md": ("(trunk, fork)", "auxiliary stage (side)", "`launch.trunk`"),
    "ctt/safeload/opcodes.py": ("quotation marks",),
}
FILES = [
    path
    for folder, pattern in (
        ("ctt", "*.py"),
        ("hydra_plugins", "*.py"),
        ("conf", "*.yaml"),
        ("sweeps", "*.yaml"),
        ("launch", "*.*"),
        ("analysis", "*.ipynb"),
        ("docs", "*.md"),
    )
    for path in sorted((ROOT / folder).rglob(pattern))
    if "__pycache__" not in path.parts
] + [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "Makefile")]


def words_of(text: str) -> str:
    """The text with the parts of identifiers as words of their own."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", text)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_that_went_stay_away(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for kept in (*STAYS.get(str(path.relative_to(ROOT)), ()), "fork_rng", "os.fork"):
        text = text.replace(kept, "")
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        for pattern, instead in GONE.items():
            if hit := re.search(rf"\b(?:{pattern})\b", words_of(line), re.IGNORECASE):
                found.append(f"line {number}: {hit[0]} ({instead})")
    assert found == []


def test_parts_of_identifiers_are_words() -> None:
    assert words_of("_tell_missing, SharedTrunk") == " tell missing, Shared Trunk"
