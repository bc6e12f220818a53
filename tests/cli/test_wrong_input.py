"""Wrong input: one line on stderr and exit code 2, the same from every command that reads it, and nothing has run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctt.cli import main
from ctt.core.exit_codes import EXIT_CODES, ExitCode

WRONG = [
    (["nope"], "no sweep named nope"),
    (["demo", "data=nope"], "there is no data=nope; there are clevrer, mini, quick, synthetic ("),
    (["demo", "launch=nope"], "there is no launch=nope; there are inproc, local, slurm ("),
    (["demo", "launch.kind=nope"], "no launcher named nope; there are inproc, local, slurm"),
    (["demo", "launch=local", "launch.settings.x=1"], "launch.settings.x is not a setting of launch.kind=local"),
    (["demo", "tracking=nope"], "there is no tracking=nope; there are"),
    (["demo", "hydra.nope=1"], "Could not override 'hydra.nope'"),
    (["demo", "seed=x"], "seeds are whole numbers"),
    (["demo", "seed=1,,2"], "Error parsing override 'seed=1,,2'"),
    (["demo", "ctt_inv_weight=-1"], "ctt_inv_weight must be at least 0"),
    (["demo", "world_model.epochs=abc"], "'abc' of type 'str' could not be converted to Integer"),
    (["demo", "ctt_inv_wieght=1"], "did you mean ctt_inv_weight"),
    (["demo", "seed=0", "seed=1"], "seed stands twice, with 0 and with 1; give it once"),
    (["demo", "ctt_inv_weight=0.1", "++ctt_inv_weight=0.2,0.3"], "ctt_inv_weight stands twice"),
    (["demo", "ctt_inv_weight=range(0,1,0.5)", "ctt_inv_weight=0.2"], "ctt_inv_weight stands twice"),
    (["demo", "ctt_inv_weight=???"], "ctt_inv_weight=???: give a value; ??? is OmegaConf's mark"),
    (["demo", "aloe.shares=[0.1,???,0.1,0.1]"], "give a value; ??? is OmegaConf's mark"),
    (["demo", "launch.partition=???"], "launch.partition=???: give a value"),
    (["demo", "world_model.graph.source=jacobian,???"], "give a value; ??? is"),
    (["missing.yaml"], "world_model.graph.source: give a value; ??? is"),
    (["demo", "store="], "store must be the path of a folder"),
    (["demo", "store=/etc/passwd"], "the store /etc/passwd is a file"),
    (["demo", "store=/etc/passwd/a/b"], "the store /etc/passwd/a/b cannot be there: /etc/passwd is a file"),
    (["demo", f"store={'x' * 300}"], "File name too long; give a shorter path"),
    (["demo", "store=loop"], "loop is a link that leads nowhere"),
    (["demo", "store=nowhere/a"], "nowhere is a link that leads nowhere"),
    (["demo", "launch.setup=['source ${HOME}/x']"], "give a value, not an interpolation; a shell's variable is $NAME"),
    (["demo", "world_model={}"], "world_model={}: world_model names one of conf/world_model/*.yaml"),
    (["demo", "world_model=mini,{}"], "world_model names one of conf/world_model/*.yaml"),
    (["demo", "name=a/b"], "cannot name a folder"),
    (["demo", "--cfg", "job"], "unrecognized arguments: --cfg job"),
    (["it's.yaml"], "no sweep file it's.yaml"),
    (["demo", "launch=lokal"], "there is no launch=lokal; did you mean local? there are inproc, local, slurm"),
    (["demo", "data=none_such"], "there is no data=none_such; there are clevrer"),
    (["date=2026/x.yaml"], "NAME is missing"),
    (["broken.yaml"], "broken.yaml is not readable YAML"),
    ([], "NAME is missing"),
]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTT_STORE", raising=False)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("not there")
    (tmp_path / "broken.yaml").write_text("grid: {a: [1,}\n")
    (tmp_path / "missing.yaml").write_text("grid: {world_model.graph.source: ['???', jacobian]}\n")
    return tmp_path


def ended(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The exit code and what stands on stderr."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    captured = capsys.readouterr()
    return int(end.value.code or 0), captured.err


@pytest.mark.parametrize("verb", ["plan", "sweep"])
@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_sweep_and_its_plan_refuse_alike(
    verb: str, arguments: list[str], message: str, empty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, error = ended(capsys, verb, *arguments)
    assert code == ExitCode.WRONG_INPUT and message in error
    assert error.startswith("ctt: ") and error.count("\n") == 1, error
    assert not (empty / "store").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "data=nope"], "there is no data=nope; there are clevrer"),
        (["run", "seed=0", "seed=1"], "seed stands twice"),
        (["run", "seed=0,1"], "Ambiguous value for argument 'seed=0,1'"),
        (["run", "-m", "seed=0,1"], "ctt run runs one point with one seed"),
        (["run", "--resolve"], "--resolve flag can only be used"),
        (["-m", "seed=0", "--cfg", "job"], "Only one of --run, --multirun, --cfg"),
        (["-m", "data=nope"], "there is no data=nope; there are clevrer"),
        (["status"], "no store at"),
        (["plan", "demo", "--devices", "0"], "--devices must be at least 1, got 0"),
        (["run", "--cfg", "nope"], "--cfg shows one of job, hydra, all, got nope"),
        (["run", "-c"], "-c shows one of job, hydra, all, got nothing"),
        (["report", "demo", "--format", "docx"], "invalid choice: 'docx'"),
        (["logs"], "NAME is missing"),
        (["show", "--nope", "x"], "unrecognized arguments: --nope"),
        (["ui", "--port", "many"], "invalid int value: 'many'"),
        (["completion", "csh"], "no completion for csh; choose one of bash, zsh, fish"),
        (["settings", "ctt_inv_wieght"], "no setting is called ctt_inv_wieght"),
        (["data", "import", "nope.pkl"], "nope.pkl"),
        (["import-checkpoint", "nope.ckpt", "data=mini", "world_model=mini"], "nope.ckpt"),
        (["swep"], "did you mean sweep"),
        (["ui", "port=5001"], "write --port 5001"),
        (["report", "demo", "cost=true"], "--cost is an option of the command, not a setting; write --cost"),
        (["logs", "demo/baseline", "follow=1", "seed=0"], "write --follow"),
    ],
)
def test_other_commands(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, error = ended(capsys, *arguments)
    assert code == ExitCode.WRONG_INPUT and message in error and error.count("\n") == 1, error


@pytest.mark.parametrize("content", [None, "root:x:0:0", "{}", "[1]", '{"needs": 1}'])
def test_a_job_that_is_none_is_one_line(content: str | None, empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (empty / "0.json").write_text(content)
    code, error = ended(capsys, "run", "spec=0.json")
    assert code == ExitCode.FAILED and "0.json is no job of a sweep" in error and error.count("\n") == 1, error


def test_a_sweep_file_names_recipes_by_text(empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty / "own.yaml").write_text("data: mini\npoints: [{world_model: {depth: 3}}]\n")
    code, error = ended(capsys, "plan", "own.yaml")
    assert code == ExitCode.WRONG_INPUT and "world_model names one of conf/world_model/*.yaml" in error and "own.yaml" in error


def test_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    assert all(f"{code:3}  {meaning}" in out for code, meaning in EXIT_CODES.items())
    assert [int(code) for code in EXIT_CODES] == [0, 1, 2, 130]


@pytest.mark.parametrize("arguments", [["plan", "quick"], ["status"], ["ls"]])
def test_a_folder_that_is_gone_is_named(arguments: list[str], empty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (empty / "gone").mkdir()
    os.chdir(empty / "gone")
    (empty / "gone").rmdir()
    try:
        assert ended(capsys, *arguments) == (1, "ctt: the current folder has been removed; change to another one\n")
    finally:
        os.chdir(empty)
