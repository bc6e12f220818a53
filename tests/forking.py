"""Commands of `ctt` as forks of a process that has imported PyTorch, MLflow and pandas: most of a small command's time is that.

    python tests/forking.py serve ADDRESS DESCRIPTOR PYTHONPATH MODULE ...  imports, and forks for each request
    python tests/forking.py ctt ADDRESS [ARGUMENT ...]  a fork with this process's files, variables and folder

A fork has its own arguments, environment, PYTHONPATH, folder and files, runs `python -m ctt` or `python -c CODE`, and ends as
every process of Python does, or is killed when its caller ends. The process that forks belongs to one process of pytest, has the
variables with which that began, and ends with it. A command with other variables of AT_START is a new process; with
CTT_TEST_FORKS=0, each is.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import subprocess

IMPORTED = ("torch", "pandas", "scipy.optimize", "scipy.stats", "hydra", "rich.table", "ctt.config")
COMPUTING = (
    "lightning.pytorch", "matplotlib.figure", "matplotlib.backends.backend_agg", "mlflow", "mlflow.store.tracking.sqlalchemy_store"
)  # fmt: skip
"""What is imported at the first command that may need it."""
SMALL = ("plan", "ls", "status", "logs", "cancel", "report", "show", "data", "gc", "settings", "completion")
AT_START = (
    "PYTHON", "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "LD_", "LC_", "LANG", "MALLOC_", "MPL", "TZ",
    "RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK",  # Lightning reads them when it is imported
)  # fmt: skip
"""How the names of variables begin that are read before `ctt` runs, which a fork cannot have of its own."""
BEGAN_WITH = dict(os.environ)
QUIET = {"MLFLOW_LOGGING_LEVEL": "CRITICAL", "MLFLOW_DISABLE_TELEMETRY": "true"}
"""What ctt sets before it imports MLflow."""


def fixed(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(AT_START) and name != "PYTHONPATH"}


def forks(environment: Mapping[str, str]) -> bool:
    """Whether a command with these variables can be a fork."""
    return os.environ.get("CTT_TEST_FORKS") != "0" and fixed(environment) == fixed(BEGAN_WITH)


def run(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    timeout: float,
    code: str = "",
    place: str = "",
    encoding: str = "utf-8",
) -> subprocess.CompletedProcess[str]:
    """`python -m ctt ARGUMENTS`, or `python -c CODE ARGUMENTS`, to its end; place: a fork of `start` with other variables."""
    import subprocess

    command = [sys.executable, *(["-c", code] if code else ["-m", "ctt"]), *arguments]
    if not place and not forks(environment):
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)
    with contextlib.ExitStack() as stack:
        pipes = [os.pipe(), os.pipe()]
        ends = [stack.enter_context(open(read, "rb", buffering=0)) for read, _ in pipes]
        files = [0, *(write for _, write in pipes)]
        connection = stack.enter_context(_ask(place or address(), code, arguments, environment, files))
        for file in files[1:]:
            os.close(file)
        texts = _read(ends, time.monotonic() + timeout)
        if texts is None:
            raise subprocess.TimeoutExpired(command, timeout)
        status = int(connection.recv(16))
    return subprocess.CompletedProcess(command, status, *(text.decode(encoding) for text in texts))


def command(environment: Mapping[str, str]) -> list[str]:
    """The start of a command line whose process runs `ctt` as a fork: with its files, variables and folder, but its signals do not
    reach the fork, except that the fork is killed when it ends."""
    if not forks(environment):
        return [sys.executable, "-m", "ctt"]
    return [sys.executable, "-I", "-S", __file__, "ctt", address()]


def _ask(place: str, code: str, arguments: Sequence[str], environment: Mapping[str, str], files: Sequence[int]) -> socket.socket:
    """Starts a fork. What is returned receives its exit code; when it is closed before, the fork is killed."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"\0{place}")
    request = json.dumps([code, [os.fspath(one) for one in arguments], dict(environment), os.getcwd()]).encode()
    socket.send_fds(connection, [len(request).to_bytes(8, "big")], files)
    connection.sendall(request)
    return connection


def _read(ends: Sequence[IO[bytes]], until: float) -> list[bytes] | None:
    """What comes from each end until all processes that write there have ended; None if that is too late."""
    found = {end.fileno(): b"" for end in ends}
    with selectors.DefaultSelector() as selector:
        for end in found:
            selector.register(end, selectors.EVENT_READ)
        while selector.get_map():
            if not (ready := selector.select(max(0.0, until - time.monotonic()))):
                return None
            for key, _ in ready:
                part = os.read(key.fd, 1 << 16)
                found[key.fd] += part
                if not part:
                    selector.unregister(key.fd)
    return list(found.values())


def address() -> str:
    """Where the process listens that forks for this one; the first call starts it."""
    return _address(os.getpid())


@cache
def _address(caller: int) -> str:
    return start(BEGAN_WITH | QUIET, IMPORTED)


def start(environment: Mapping[str, str], modules: Sequence[str]) -> str:
    """Starts a process that forks, until this one ends; its address."""
    import atexit
    import subprocess

    caller = os.getpid()
    place = f"ctt-forks-{caller}-{time.monotonic_ns()}"
    ours, its = socket.socketpair()
    own = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    command = [sys.executable, __file__, "serve", place, str(its.fileno()), environment.get("PYTHONPATH", ""), *modules]
    process = subprocess.Popen(command, env=own, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL)
    its.close()

    def end() -> None:
        if os.getpid() == caller:
            ours.close()
            process.wait()

    atexit.register(end)
    assert ours.recv(1), "it has ended"
    return place


def _serve(place: str, caller: socket.socket) -> tuple[str, list[str], dict[str, str], str, list[int]]:
    """Forks for each request, and returns the request in the fork."""
    import gc
    import importlib

    with socket.socket(socket.AF_UNIX) as listening, selectors.EpollSelector() as selector:
        listening.bind(f"\0{place}")
        listening.listen()
        selector.register(listening, selectors.EVENT_READ)
        selector.register(caller, selectors.EVENT_READ)
        caller.send(b"1")
        forks: dict[int, tuple[int, socket.socket]] = {}  # by the descriptor that becomes readable at its end
        while True:
            for key, _ in selector.select():
                if key.fileobj is caller:
                    os._exit(0)
                elif key.fd in forks:
                    process, connection = forks.pop(key.fd)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    _, status = os.waitpid(process, 0)
                    with connection, contextlib.suppress(OSError, KeyError):
                        connection.send(str(os.waitstatus_to_exitcode(status)).encode())
                        selector.unregister(connection)
                elif key.fileobj is listening:
                    connection, _ = listening.accept()
                    length, files, _, _ = socket.recv_fds(connection, 8, 3)
                    with connection.makefile("rb") as stream:
                        code, arguments, environment, folder = json.loads(stream.read(int.from_bytes(length, "big")))
                    if {*arguments[:1]}.isdisjoint(SMALL) and "--help" not in arguments:
                        for module in COMPUTING:
                            importlib.import_module(module)
                        gc.freeze()
                    if (process := os.fork()) == 0:
                        for end in forks:
                            os.close(end)
                        return code, arguments, environment, folder, files
                    for file in files:
                        os.close(file)
                    end = os.pidfd_open(process)
                    forks[end] = process, connection
                    selector.register(end, selectors.EVENT_READ)
                    selector.register(connection, selectors.EVENT_READ, process)
                elif any(connection is key.fileobj for _, connection in forks.values()):  # its caller has ended
                    selector.unregister(key.fileobj)
                    os.kill(key.data, signal.SIGKILL)


def _path(given: str, without: Sequence[str]) -> list[str]:
    """sys.path after a start with this PYTHONPATH; without: what it is without one. The first entry is left out."""
    entries = [os.path.abspath(entry) for entry in given.split(os.pathsep)] if given else []
    return entries + [entry for entry in without if entry not in entries]


def main(place: str, caller: int, before: str, modules: Sequence[str]) -> None:
    """Imports, then forks."""
    import gc
    import importlib
    import runpy
    import warnings

    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)  # PyArrow's allocator
    without = sys.path[1:]
    sys.path = [os.path.dirname(os.path.dirname(os.path.abspath(__file__))), *_path(before, without)]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in modules:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    code, arguments, environment, folder, files = _serve(place, socket.socket(fileno=caller))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # those of before may have been made for files, not for pipes
        old = getattr(sys, name)
        more: Any = dict(encoding=old.encoding, errors=old.errors, newline="\n", closefd=False)
        stream: Any = open(number, "w" if number else "r", **more)  # noqa: SIM115
        if number:
            lines = old.line_buffering if number == 2 else stream.line_buffering
            stream.reconfigure(line_buffering=lines, write_through=old.write_through)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c" if code else "-m", *arguments]
    given = os.environ.get("PYTHONPATH", "")
    sys.path = ["" if code else folder, *_path(given, without)]
    if given != before:  # ctt has found its plugins
        for name in [name for name in sys.modules if name.partition(".")[0] == "ctt"]:
            del sys.modules[name]
        importlib.invalidate_caches()
    if code:
        module = vars(sys.modules["__main__"])
        module.pop("__file__")
        module["__spec__"] = None
        exec(compile(code, "<string>", "exec"), module)
    else:
        runpy._run_module_as_main("ctt")  # type: ignore[attr-defined]


if __name__ == "__main__":
    what, where, *more = sys.argv[1:]
    if what == "serve":
        main(where, int(more[0]), more[1], more[2:])
    else:
        with _ask(where, "", more, os.environ, (0, 1, 2)) as asked:
            status = int(asked.recv(16))
        if status < 0:
            os.kill(os.getpid(), -status)
        sys.exit(status)
