"""Sweep: a sweep file and the command line become points and runs; those that compute the same merge.

The command line wins over the file, `seed=` over `seeds`. Settings that have no effect
(see their rules) are reset to their defaults, and equal points are merged.
"""

from ctt.sweep.checkpoints import with_checkpoints
from ctt.sweep.compiling import Composer, compile_sweep, compile_with
from ctt.sweep.merging import without_inactive
from ctt.sweep.overrides import CommandLine, quoted, read_overrides
from ctt.sweep.points import Merged, Point, Run, Sweep, run_name
from ctt.sweep.sweep_file import SweepFile, find, read, shipped

__all__ = [
    "CommandLine",
    "Composer",
    "Merged",
    "Point",
    "Run",
    "Sweep",
    "SweepFile",
    "with_checkpoints",
    "without_inactive",
    "compile_sweep",
    "compile_with",
    "find",
    "quoted",
    "read",
    "read_overrides",
    "run_name",
    "shipped",
]
