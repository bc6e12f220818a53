"""The verb import-checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctt.cli.parsing import checked, parse, verb_parser


def import_checkpoint(arguments: Sequence[str]) -> int:
    """Put a published checkpoint into the store and evaluate it on a data set.

    NAME is the file of a world model with the published tensor names. It becomes an artifact like a trained state, so
    that reported figures can be compared with one's own on the same data and by the same evaluation.
    Shapes are settings: world_model=paper is the official C-JEPA recipe, world_model=reference that of the reported CTT
    numbers. State dicts are read as trainers save them; nothing in the files is executed. ctt gc offers to remove what was
    imported by this command, as no sweep reaches it: in a sweep file, world_model.checkpoint=FILE and aloe.checkpoint=FILE
    are points like any other (sweep published).
    """
    parser = verb_parser("import-checkpoint", import_checkpoint, named="the checkpoint of a world model")
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="also its validation error, the rollout, diagnostics and the position reader, each as the settings have it",
    )
    parser.add_argument("--aloe", type=Path, metavar="FILE", help="a checkpoint of ALOE that answers from the rollouts")
    parsed = parse(parser, arguments)
    from ctt.app.import_checkpoint import import_checkpoint as run
    from ctt.config import compose
    from ctt.core.terminal_console import terminal

    config = compose(checked(parsed.overrides))
    return run(Path(parsed.name), parsed.aloe, parsed.evaluate, config, terminal())
