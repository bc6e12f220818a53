"""`ctt status` on a terminal of 80 columns: a pseudo-terminal, the command itself."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctt.app.job_lines import print_jobs
from ctt.core.plain_text import shortened
from ctt.execution.jobs.job_status import JobStatus
from tests import forking
from tests.made_store import made_store
from tests.tiny import environment

ROWS = 200


def on_terminal(store: Path, columns: int, *arguments: str, codes: bool = False, **variables: str) -> list[str]:
    """The lines that ctt shows on a terminal, with or without escape codes; variables: of its environment."""
    import pexpect

    own = {name: value for name, value in environment(store).items() if name not in ("COLUMNS", "NO_COLOR")}
    own |= {"TERM": "xterm-256color"} | variables
    python, *command = forking.command(own)
    terminal = pexpect.spawn(
        python,
        [*command, *arguments, f"store={store}"],
        env=own,
        dimensions=(ROWS, columns),
        encoding="utf-8",
        timeout=120,
    )
    terminal.expect(pexpect.EOF)
    text = terminal.before if codes else re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.before)
    return [line.rstrip() for line in text.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("plan", "demo"), ("show", "nothing of this name", "seed=0")], ids=" ".join)
def test_sentences_and_errors_are_broken_between_words(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    store = made_store(tmp_path / "store", "demo")[0].root
    wide, narrow = (on_terminal(store, columns, *arguments) for columns in (400, 60))
    sentences = [line for line in wide if len(line) > 60 and not set(line) & set("│┃━─┏┳")]
    assert sentences
    text = " ".join(" ".join(narrow).split())
    assert all(" ".join(sentence.split()) in text for sentence in sentences), "the same words"
    assert all(len(line) <= 60 or len(line.split()) == 1 for line in narrow if not set(line) & set("│┃━─┏┳")), narrow


@pytest.mark.slow
def test_a_terminal_without_escape_codes_gets_none(tmp_path: Path) -> None:
    store = made_store(tmp_path / "store", "demo")[0].root
    for command in ("report", "status"):
        lines = on_terminal(store, 80, command, "demo", codes=True, TERM="dumb")
        assert len(lines) > 5 and not any("\x1b" in line for line in lines)


@pytest.mark.slow
def test_a_run_is_one_line_of_80_columns_and_none_like_another(tmp_path: Path) -> None:
    store, plan = made_store(tmp_path / "store", "weights", "ctt_inv_weight=0,0.2", "ctt_suf_weight=0,0.1", "seed=0,1")
    lines = on_terminal(store.root, 80, "status", "weights")
    assert max(map(len, lines)) <= 80
    runs = [line for line in lines if re.search(r"seed=[01]\b", line)]
    assert len(runs) == len(plan.sweep.runs) + len(plan.prefixes)
    names = [line.split("  ")[0].strip() for line in runs]
    assert len(set(names)) == len(names)
    assert any(re.fullmatch(r"ctt_i\S*=0.2 ctt_s\S*=0.1 seed=1", name) for name in names), names


def test_a_name_loses_the_middles_of_its_keys_first_and_is_never_empty() -> None:
    name = "ctt_inv_weight=0.2 ctt_suf_weight=0.1 seed=0"
    assert shortened(name, 80) == name
    assert shortened(name, 40) == "ctt_inv_we…t=0.2 ctt_suf_we…t=0.1 seed=0"
    assert shortened(name, 30) == "ctt_i…t=0.2 ctt_s…t=0.1 seed=0"
    for width in range(1, 60):
        text = shortened(name, width)
        assert 0 < len(text) <= width
    assert shortened(name, 16) == "ctt_i…0.1 seed=0"


def test_jobs_are_shown_with_host_progress_rate_and_time_to_go_and_why_others_wait() -> None:
    from io import StringIO

    from rich.console import Console

    name = "world_model.graph.adjacency=attention ctt_inv_weight=0.25 seed="
    known = dict(rate=2.5, unit="epochs", left=750.0, message="12/30 epochs")
    found = [JobStatus(n, f"{name}{n}", "running", f"1234_{n}", "node07", **known) for n in (0, 1)]  # type: ignore[arg-type]
    why = "pending: PartitionTimeLimit (it asks for more time than is allowed)"
    found += [JobStatus(n, f"{name}{n}", "queued", f"1234_{n}", message=why) for n in (2, 3, 4)]
    out = StringIO()
    print_jobs(found, Console(file=out, width=80))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    for n in (0, 1):
        assert re.fullmatch(rf"\S.*seed={n}  +1234_{n} +node07 +12/30 epochs +2.5 epochs/s +12 min 30 s left", lines[n + 1])
    assert " ".join(lines[3:]).startswith(f"queued, {why}: 3 jobs")


@pytest.mark.slow
@pytest.mark.parametrize("command", [("status", "weights"), ("report", "weights"), ("plan", "weights"), ("ls",)], ids=str)
def test_no_color_means_no_escape_code(tmp_path: Path, command: tuple[str, ...]) -> None:
    store, _ = made_store(tmp_path / "store", "weights", "ctt_inv_weight=0,0.2", "ctt_suf_weight=0", "seed=0")
    styled = "\n".join(on_terminal(store.root, 80, *command, codes=True, NO_COLOR=""))
    plain = "\n".join(on_terminal(store.root, 80, *command, codes=True, NO_COLOR="1"))
    assert "\x1b[" in styled and "\x1b" not in plain and len(plain) > 100
