"""A fork of tests/forking.py is as the process that it stands for."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forking
from tests.waiting import until

FOUND = """
import json, os, signal, sys, threading
streams = [(one.encoding, one.errors, one.fileno()) for one in (sys.stdin, sys.stdout, sys.stderr)]
streams += [(one.line_buffering, one.write_through) for one in (sys.stdout, sys.stderr)]
variables = {name: value for name, value in os.environ.items() if name not in ("CTT_TEST_FORKS", "PYTEST_CURRENT_TEST")}
handlers = [str(signal.getsignal(one)).split(" at ")[0] for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE)]
files = sorted(os.readlink(f"/proc/self/fd/{one}").partition(":")[0] for one in os.listdir("/proc/self/fd") if int(one) < 3)
main = [__name__, globals().get("__file__"), __spec__]
print(json.dumps([sys.argv, sys.path, os.getcwd(), variables, streams, handlers, files, main, threading.active_count()]))
print("to here", file=sys.stderr)
sys.exit(3)
"""


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a command in a folder of its own, with another PYTHONPATH."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CTT_TEST_FORKS", raising=False)
    return {**forking.BEGAN_WITH, "PYTHONPATH": os.pathsep.join([str(tmp_path / "more"), *sys.path[-1:]]), "HOME": str(tmp_path)}


def test_it_has_what_a_new_process_has(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert forking.forks(environment)
    fork = forking.run(["a b", "--c"], environment, 120, FOUND)
    monkeypatch.setenv("CTT_TEST_FORKS", "0")
    anew = forking.run(["a b", "--c"], environment, 120, FOUND)
    assert json.loads(fork.stdout) == json.loads(anew.stdout)
    assert (fork.returncode, fork.stderr) == (anew.returncode, anew.stderr) == (3, "to here\n")


def test_variables_that_python_reads_at_its_start_need_a_new_process(environment: dict[str, str]) -> None:
    for name in ("PYTHONHASHSEED", "OMP_NUM_THREADS", "LC_ALL", "LD_PRELOAD"):
        assert not forking.forks(environment | {name: "0"}), name
    done = forking.run([], environment | {"PYTHONOPTIMIZE": "1"}, 120, "import sys; print(sys.flags.optimize)")
    assert done.stdout == "1\n"


def test_it_runs_ctt_and_ends_with_a_signal_or_its_caller(environment: dict[str, str]) -> None:
    done = forking.run(["nonsense"], environment, 120)
    assert done.returncode == 2 and "nonsense is not a command" in done.stderr and not done.stdout
    assert forking.run([], environment, 120, "import os; os.kill(os.getpid(), 15)").returncode == -signal.SIGTERM
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(subprocess.TimeoutExpired):
        forking.run([], environment, 0.5, code)
    until(lambda: not Path("pid").exists() or not Path(f"/proc/{Path('pid').read_text()}").exists(), "its end", seconds=30)
    client = subprocess.run([*forking.command(environment), "--version"], env=environment, capture_output=True, text=True)
    assert client.returncode == 0 and client.stdout.startswith("ctt ")
