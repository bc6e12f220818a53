"""Completion: the scripts as bash, zsh and fish themselves read them, with a real Tab."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ctt.cli import VERBS
from ctt.cli.completion import script
from ctt.cli.completion_words import SECOND, completion_words
from ctt.setting_names import known_keys

CASES = [
    ("ctt sw", {"sweep"}),
    ("ctt sweep dem", {"demo"}),
    ("ctt plan mi", {"mine.yaml"}),
    ("ctt plan sweeps/o", {"sweeps/own.yaml"}),
    ("ctt report reco", {"recorded"}),
    ("ctt sweep demo ctt_adj", {"ctt_adj_threshold="}),
    ("ctt run device=c", {"device=cpu", "device=cuda"}),
    ("ctt run world_model=re", {"world_model=reference"}),
    ("ctt run launch=l", {"launch=local"}),
    ("ctt run world_model.compile=", {"world_model.compile=true", "world_model.compile=false"}),
    ("ctt sweep demo --de", {"--detach"}),
    ("ctt data ", {"setup", "import", "fetch", "check", "show"}),
    ("ctt data check --que", {"--questions"}),
    ("ctt settings ctt_adj", {"ctt_adj_threshold"}),
    ("ctt status st", {"store="}),
    ("ctt completion ", {"bash", "zsh", "fish"}),
]
ASK = {
    "bash": """source {file}
while IFS= read -r line; do
  COMP_LINE="$line"; COMP_POINT=${{#line}}; COMPREPLY=(); _ctt
  word="${{line##* }}"; case "$word" in *=*) kept="${{word%%=*}}=" ;; *) kept="" ;; esac
  printf '%s\\t' "${{COMPREPLY[@]/#/$kept}}"; echo
done < {lines}""",
    "fish": """source {file}
while read -l line
  string join \\t -- (complete -C "$line")
  echo
end < {lines} | string match -v ''""",
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts, sweep files and a store that has recorded a sweep."""
    folder = tmp_path_factory.mktemp("completion")
    words = completion_words(VERBS)
    for shell in SECOND["completion"]:
        (folder / f"ctt.{shell}").write_text(script(shell, words), encoding="utf-8")
    for file in ("mine.yaml", "sweeps/own.yaml", "store/sweeps/recorded/0001/record.json"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def program(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        if os.environ.get("CTT_REQUIRE_SYSTEM") == "1":
            pytest.fail(f"{shell} is not installed")
        pytest.skip(f"{shell} is not installed")
    return found


def own(folder: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "LC_ALL": "C.UTF-8"}


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_candidates(shell: str, scripts: Path) -> None:
    (scripts / "lines").write_text("".join(f"{line}\n" for line, _ in CASES))
    (scripts / "ask").write_text(ASK[shell].format(file=f"ctt.{shell}", lines="lines"))
    plain = ["--norc"] if shell == "bash" else ["--no-config"]
    done = subprocess.run(
        [program(shell), *plain, "ask"], cwd=scripts, env=own(scripts), capture_output=True, text=True, timeout=120
    )
    found = [set(filter(None, line.split("\t"))) for line in done.stdout.splitlines()]
    assert done.stderr == "" and dict(zip((line for line, _ in CASES), found, strict=True)) == dict(CASES)


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("ctt swee", "ctt sweep "),
        ("ctt sweep dem", "ctt sweep demo "),
        ("ctt sweep demo ctt_adj", "ctt sweep demo ctt_adj_threshold="),
        ("ctt run world_model=re", "ctt run world_model=reference "),
        ("ctt report reco", "ctt report recorded "),
        ("ctt data check --que", "ctt data check --questions "),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_a_tab(shell: str, typed: str, completed: str, scripts: Path) -> None:
    """In an interactive shell: what stands on the line after a Tab, which Enter hands to a function that prints it."""
    begin = {
        "bash": f"PS1='READY>'; source {scripts}/ctt.bash",
        "zsh": f"PS1='READY>'; autoload -Uz compinit; compinit -u -d {scripts}/dump; source {scripts}/ctt.zsh",
    }[shell]
    show = "ctt() { printf '[%s]\\n' \"ctt $*\"; }"
    plain = ["--norc", "-i"] if shell == "bash" else ["-f", "-i"]
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(scripts)
        os.execve(program(shell), [shell, *plain], own(scripts))
    try:
        for line in (f"{begin}; {show}\n", f"{typed}\t", "END\n"):
            os.write(terminal, line.encode())
            time.sleep(0.3)
        assert f"[{completed}END]" in _until(terminal, "END]")
    finally:
        os.write(terminal, b"\nexit\n")
        os.close(terminal)
        os.waitpid(process, 0)


def _until(terminal: int, end: str, seconds: float = 30) -> str:
    text, deadline = "", time.monotonic() + seconds
    while end not in text and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.2)[0]:
            text += os.read(terminal, 4096).decode(errors="replace")
    return text


def test_every_command_and_setting_can_be_completed() -> None:
    words = completion_words(VERBS)
    groups = {key.rpartition(".")[0] for key in known_keys() if "." in key}
    assert set(known_keys()) - groups <= {*words.keys, "spec", "launch.settings"} and list(words.verbs) == list(VERBS)
    assert words.options["report"][:2] == ["--help", "--format"] and "--top" in words.options["promote"]
    assert set(words.values["tracking"]) == {"off", "server", "sqlite"} and words.values["sharing"] == ["on", "off"]
