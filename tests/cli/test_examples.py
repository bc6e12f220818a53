"""Every example that help shows runs, in their order, from an empty folder: in small, and otherwise as it is written."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from ctt.cli import VERBS, main
from ctt.cli.completion_words import SECOND
from ctt.cli.examples import EXAMPLES
from tests import forking
from tests.data.clevrer.official_files import slots_tree, write_pickle, write_questions
from tests.models.literal_world_model import LiteralPredictor
from tests.tiny import TINY, environment

SMALL = [one for one in TINY if not one.startswith(("data=", "world_model=", "aloe=", "data.workers="))] + ["ctt_start_epoch=1"]
COMPUTES = ("sweep", "run", "promote", "data check", "data show", "import-checkpoint")
"""What gets smaller numbers of videos and epochs, and nothing else: two workers simulate scenes, as in the examples."""
NETWORK = ("ctt data fetch", "ctt data setup --slots fetch")
"""Need a network; tests/data/clevrer/test_downloads.py has servers of its own."""
COUNTS = {"train": 2, "val": 1, "test": 1}


def test_each_command_has_two_examples_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    commands = [*VERBS, *(f"data {verb}" for verb in SECOND["data"])]
    assert set(EXAMPLES) == set(commands) and {len(shown) for shown in EXAMPLES.values()} == {2}
    for command in commands:
        with pytest.raises(SystemExit):
            main([*command.split(), "--help"])
        out = capsys.readouterr().out
        assert all(f"  {line}\n" in out and "ctt " in line for line, _ in EXAMPLES[command])


@pytest.mark.slow
def test_every_example_runs_in_their_order_from_an_empty_folder(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    own = environment(tmp_path / "unused") | {"HOME": str(place), "PATH": f"{_programs(tmp_path)}:{os.environ['PATH']}"}
    del own["CTT_STORE"]
    (place / ".config/fish/completions").mkdir(parents=True)
    failed = []
    for command, line in _lines(place):
        done = _served(line, place, own) if command == "ui" else _run(line, place, own)
        if done[0] != 0 or "Traceback" in done[1]:
            failed.append((line, *done))
    assert failed == []


def _lines(place: Path) -> list[tuple[str, str]]:
    """The examples and their commands, in small, with the files that they read."""
    write_pickle(place / "slots.pkl", slots_tree(COUNTS))
    write_questions(place / "questions", COUNTS)
    torch.save(dict(LiteralPredictor(3, 4, 2, 4, 256, 128).state_dict()), place / "model.ckpt")  # of world_model=mini's sizes
    lines = []
    for command, shown in EXAMPLES.items():
        for line, _ in (one for one in shown if not one[0].startswith(NETWORK)):
            words = [word for word in COMPUTES if line.startswith(f"ctt {word} ")]
            small = [one for one in SMALL if line.startswith(("ctt sweep", "ctt run", "ctt promote")) or one.startswith("data.")]
            added = shlex.join(small) if words and "--questions" not in line and "--cfg" not in line else ""
            added = "--yes" if line == "ctt gc" else added  # the examples before it leave something to remove
            lines.append((command, f"{line} {added}".rstrip()))
    return lines


def _programs(folder: Path) -> Path:
    """A folder with the command ctt, of this checkout; its processes are forks (tests/forking.py) but for those of `ctt ui`."""
    program = folder / "programs" / "ctt"
    anew, fork = (shlex.join(command) for command in ([sys.executable, "-m", "ctt"], forking.command(os.environ)))
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\ntest "$1" != ui || exec {anew} "$@"\nexec {fork} "$@"\n')
    program.chmod(0o755)
    return program.parent


def _run(line: str, place: Path, own: dict[str, str]) -> tuple[int | None, str]:
    """Exit status and output; a command that does not end is ended with all it has started, and its status is None."""
    with (place.parent / "output").open("w+") as output:
        done = subprocess.Popen(["bash", "-c", line], cwd=place, env=own, stdout=output, stderr=output, start_new_session=True)
        with suppress(subprocess.TimeoutExpired):
            done.wait(150)
        with suppress(ProcessLookupError):
            os.killpg(done.pid, signal.SIGKILL)
        return done.poll(), (place.parent / "output").read_text()[-2000:]


def _served(line: str, place: Path, own: dict[str, str]) -> tuple[int | None, str]:
    """`ctt ui` until it names its address, then Ctrl-C."""
    words = shlex.split(line)
    server = subprocess.Popen(words, cwd=place, env=own, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout is not None
    first = server.stdout.readline()
    os.killpg(server.pid, signal.SIGINT)
    return server.wait(60), first if first.startswith("MLflow: http") else f"Traceback? {first}"
