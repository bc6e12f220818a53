"""The page "Your CLEVRER files" from an empty folder: files of the true names and layout, then its commands, one after another."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.docs.clevrer_files import COUNTS, FIRST, download
from tests.docs.examples import blocks, missing
from tests.docs.test_examples import in_process
from tests.tiny import TINY, environment

pytestmark = pytest.mark.slow

PAGE = "docs/tutorial/your-clevrer-files.md"
IN_SMALL = [*(override for override in TINY if not override.startswith("data")), "ctt_start_epoch=1", "seed=0", "tracking=off"]


def test_the_page_reaches_a_table_and_a_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in environment(tmp_path / "store").items():
        monkeypatch.setenv(name, value)
    download(tmp_path / "clevrer")
    printed, ran = {}, []
    for block in blocks(PAGE):
        if block.file:
            Path(block.file).write_text(block.text, encoding="utf-8")
        elif block.runs and block.language == "python":
            exec(compile(block.text, f"{PAGE}:{block.line}", "exec"), {"__name__": "example"})
            continue
        for command, shown in block.commands if block.runs else ():
            words = shlex.split(command)
            assert words[0] == "ctt"
            code, text = in_process([*words[1:], *(IN_SMALL if words[1] == "sweep" else ())])
            assert code == 0, f"line {block.line}: {command} ended with {code}\n{text}"
            line = missing(shown, text)
            assert line is None, f"line {block.line}: {command} does not print\n{line}\nbut\n{text}"
            ran.append(words[1:3])
            printed[words[1]] = text
    assert [words[0] for words in ran] == ["data", "data", "plan", "sweep", "status", "report", "report"]
    assert "1 cached" in printed["plan"] or "│ data                │      0 │      1 │" in printed["plan"], (
        "setup has checked the same data"
    )
    submitted = json.loads(Path("answers.json").read_text(encoding="utf-8"))
    assert [scene["scene_index"] for scene in submitted] == [FIRST["test"] + k for k in range(COUNTS["test"])]
    hidden = json.loads((tmp_path / "clevrer" / "test.json").read_text(encoding="utf-8"))
    asked = [[question["question_id"] for question in scene["questions"]] for scene in hidden]
    assert [[question["question_id"] for question in scene["questions"]] for scene in submitted] == asked
    assert "answer" not in json.dumps(hidden)
    other = in_process(["report", "real", "--evalai", "other.json", "--run", "baseline seed=0"])
    assert other == (0, "other.json: the test answers of baseline seed=0\n")
    code, text = in_process(["report", "real", "--evalai", "other.json", "--run", "baseline seed=9"])
    assert code == 2 and "has no run 'baseline seed=9'; its runs are called like 'baseline seed=0'" in text
    assert in_process(["report", "real", "--run", "baseline seed=0"])[0] == 2
