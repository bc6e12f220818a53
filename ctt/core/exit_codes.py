"""Exit codes: what each one that a command ends with means; help prints this table and the documentation quotes it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, the same for all of them."""

    DONE = 0
    FAILED = 1
    WRONG_INPUT = 2
    INTERRUPTED = 130


EXIT_CODES: dict[ExitCode, str] = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "something failed or is missing: a run, a job, an artifact, a server, the disk",
    ExitCode.WRONG_INPUT: "what was given is wrong, found before any work: an option, a setting, a sweep file, a data file",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C); finished stages are kept, the same command continues",
}
