"""Every command and every line of Python that README, tutorial and how-to pages show, run in small; shown output is compared."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from ctt.cli import main
from ctt.planning import compile_plan
from ctt.store import Store
from ctt.sweep import compile_sweep
from tests import prepared
from tests.data.clevrer.official_files import slots_tree, write_pickle, write_questions
from tests.docs.examples import ROOT, RUN, Block, blocks, missing
from tests.made_store import fill, plausible
from tests.tiny import TINY, ctt, environment

PAGES = ["README.md", *sorted(str(p.relative_to(ROOT)) for f in ("tutorial", "how-to") for p in (ROOT / "docs" / f).glob("*.md"))]
OWN_TEST = ("how-to/add-", "your-clevrer-files")  # packages as examples, files of its own: each page has a test module of its own
DATA = [override for override in TINY if override.startswith("data")]
SMALL = [*TINY, "ctt_start_epoch=1", "tracking=off"]
MADE_UP = ["reader.enabled=false", "diagnostics.enabled=false"]  # sweeps other than `quick`: their artifacts are made up
GIVEN = ("launch=", "seed=", "ctt_", "aloe.protocol=")  # what stays of a sweep's own overrides
QUICK = ["sweep", "quick", *SMALL]
COUNTS = {"train": 3, "val": 2, "test": 1}  # videos of the official files


@pytest.fixture(scope="module")
def folder(tiny_sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working folder with small official files, and a store in which `ctt sweep quick` has run, from stages that have really been
    built, in small."""
    path = tmp_path_factory.mktemp("examples")
    write_questions(path / "clevrer", COUNTS)
    write_pickle(path / "clevrer" / "clevrer_videosaur_slots.pkl", slots_tree(COUNTS))
    prepared.copy_artifacts(tiny_sweep, path / "store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        for name, value in environment(path / "store").items():
            patch.setenv(name, value)
        code, printed = in_process(QUICK)
        assert code == 0, printed
        yield path


def in_process(arguments: list[str]) -> tuple[int, str]:
    """Exit code and output of a command, run in this process: a process of its own would import everything again."""
    out, signals = io.StringIO(), (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    before = {one: signal.getsignal(one) for one in signals}
    GlobalHydra.instance().clear()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), pytest.raises(SystemExit) as ended:
            main(arguments)
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    return int(ended.value.code or 0), out.getvalue()


def in_small(arguments: list[str]) -> list[str]:
    """The command with the smallest sizes. Of sweeps other than `quick` all but auxiliary stages is then in the store."""
    if arguments[:2] == ["data", "check"] and "data=quick" in arguments:
        return [*(a for a in arguments if a != "data=quick"), *DATA]
    if arguments[0] not in ("sweep", "-m") or any("wieght" in a for a in arguments):
        return arguments
    head = arguments[:2] if arguments[0] == "sweep" else arguments[:1]
    kept = [a for a in arguments[len(head) :] if a.startswith(GIVEN) and not a.startswith("launch=")]
    given = {a.partition("=")[0] for a in kept}
    small = [a for a in SMALL if a.partition("=")[0] not in given]
    if head == ["sweep", "quick"]:
        return [*head, *kept, *small]  # the one that has really run
    sweep = compile_sweep(head[1] if len(head) > 1 else None, [*kept, *small, *MADE_UP])
    plan = compile_plan(sweep)
    fill(Store(os.environ["CTT_STORE"]), plan, list(plan.stages.values()), plausible(plan))
    return [*head, *kept, *small, *MADE_UP]


def run(block: Block) -> None:
    for command, shown in block.commands:
        words = shlex.split(command)
        assert words[0] == "ctt", f"line {block.line}: {command} is not run by this test; mark it `not run: REASON`"
        code, printed = in_process(in_small(words[1:]))
        fine = (2,) if shown and shown[0].startswith("ctt: ") else block.codes
        assert code in fine, f"line {block.line}: {command} ended with {code}\n{printed}"
        line = missing(shown, printed, exact=block.mark == "exact")
        assert line is None, f"line {block.line}: {command} does not print\n{line}\nbut\n{printed}"


@pytest.mark.parametrize("page", PAGES)
def test_examples(page: str, folder: Path) -> None:
    if any(name in page for name in OWN_TEST):
        module = f"test_{Path(page).stem.replace('-', '_')}.py"
        assert (Path(__file__).parent / module).is_file(), f"{page} has no {module}"
        return
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.runs and block.language == "python":
            exec(compile(block.text, f"{page}:{block.line}", "exec"), {"__name__": "example"})
        elif block.runs:
            run(block)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_has_a_reason(page: str) -> None:
    for block in () if OWN_TEST[0] in page else blocks(page):
        assert block.language, f"{page}, line {block.line}: a block without a language"
        if block.language in RUN and block.mark.startswith("not run"):
            assert len(block.mark.removeprefix("not run").strip(": ")) > 10, f"{page}, line {block.line}: why is it not run?"


@pytest.mark.slurm
def test_the_page_on_slurm_on_slurm(cluster: object, tmp_path: Path) -> None:
    commands = [c for block in blocks("docs/tutorial/on-slurm.md") if block.mark == "slurm" for c, _ in block.commands]
    assert len(commands) > 1
    for command in commands:
        words = shlex.split(command)[1:]
        small = [*SMALL, *MADE_UP, "ctt_inv_weight=0.2", "launch.poll_s=1"] if words[0] == "sweep" else []
        done = ctt(tmp_path / "store", *words, *small)
        assert done.stdout


def test_comparison_finds_what_was_not_printed() -> None:
    printed = "a 1\n  b ─── 22\nc"
    assert missing(["a 7", "b ── 3", "c"], printed) is None
    assert missing(["a 7", "c"], printed) == "c"
    assert missing(["a 7", "…", "c"], printed) is None
    assert missing(["a 7"], printed, exact=True) == "a 7"
    assert missing(["b…"], "a\nb c") == "b…" and missing(["…", "b…"], "a\nb c") is None
