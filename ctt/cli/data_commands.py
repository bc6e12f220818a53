"""The verbs of `ctt data`: import, fetch, check, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctt.cli.parsing import checked, parse, verb_parser
from ctt.core.errors import UsageError


def data(arguments: Sequence[str]) -> int:
    """Import, fetch, check or show data: ctt data import|fetch|check|show

    import FILE    convert the reference's slots (a pickle or torch file) to memory-mapped files; executes nothing in it
    fetch          download slots, questions, annotations, checkpoints; continues an interrupted download
    check          compare a data set with CLEVRER's figures; --questions FILE: one official question file alone
    show SCENE     write a picture and an animation of a scene and print its questions
    """
    verbs = {"import": _data_import, "fetch": _data_fetch, "check": _data_check, "show": _data_show}
    if not arguments or arguments[0] in ("-h", "--help"):
        verb_parser("data", data, named="import, fetch, check or show", settings="").parse_args(["--help"])
    if arguments[0] not in verbs:
        raise UsageError(f"ctt data {arguments[0]} is not a command; choose one of {', '.join(verbs)}")
    return verbs[arguments[0]](arguments[1:])


def _data_import(arguments: Sequence[str]) -> int:
    """Convert a slots file to memory-mapped files.

    Only arrays are accepted; anything else is refused by name and nothing is executed. An interrupted import continues:
    finished videos are not written again, but the file is read again for its checksum.
    """
    parser = verb_parser("data import", _data_import, named="a pickle or torch file", settings="")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="target folder (default: the file without its suffix)")
    parsed = parser.parse_args(list(arguments))
    from ctt.app.data_import import import_file

    return import_file(Path(parsed.name), parsed.to)


def _data_fetch(arguments: Sequence[str]) -> int:
    """Download CLEVRER's files: slots, questions, annotations, checkpoints (default: slots and questions).

    checkpoints: the ten published world models, which the sweep `published` evaluates.

    Addresses and the folder are settings: data.fetch.folder, data.fetch.questions … A question file whose counts differ
    from the official one is renamed to SPLIT.other.json (exit code 1); to use it, rename it to SPLIT.json.
    """
    from ctt.data.clevrer.downloads import ENCODERS, KINDS

    parser = verb_parser("data fetch", _data_fetch, named=None, settings="")
    parser.add_argument("positional", nargs="*", metavar="KIND|KEY=VALUE", help=f"{', '.join(KINDS)}; Hydra overrides")
    parser.add_argument("--encoder", choices=ENCODERS, default=ENCODERS[0], help="encoder of the slots (default: videosaur)")
    parsed = parser.parse_intermixed_args(list(arguments))
    kinds = [argument for argument in parsed.positional if "=" not in argument]
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise UsageError(f"{unknown[0]} cannot be fetched; choose from {', '.join(KINDS)}")
    from ctt.app.data_fetch import fetch_files
    from ctt.config import compose

    config = compose(checked([argument for argument in parsed.positional if "=" in argument]))
    return fetch_files(config.data.fetch, list(dict.fromkeys(kinds)) or ["slots", "questions"], parsed.encoder)


def _data_check(arguments: Sequence[str]) -> int:
    """Show what is in a data set, compared with CLEVRER's figures, and what is missing or damaged.

    NAME is the key of a data set in the store; without it, the data set of the settings (data=…) is checked, and made
    first if it is missing.
    """
    parser = verb_parser("data check", _data_check, named="a data set's key, or its first letters", optional=True)
    parser.add_argument("--questions", type=Path, metavar="FILE", help="check this official question file alone")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parsed = parse(parser, arguments)
    from ctt.app import data_check

    if parsed.questions is not None:
        return data_check.check_questions(parsed.questions, parsed.json)
    from ctt.config import compose

    return data_check.check_data(compose(checked(parsed.overrides)), parsed.name, parsed.json)


def _data_show(arguments: Sequence[str]) -> int:
    """Write a picture and an animation (GIF) of a scene and print its questions.

    NAME is the scene's number (scene_index). data=clevrer needs data.questions, and data.annotation_files for pictures.
    """
    parser = verb_parser("data show", _data_show, named="a scene's number")
    parser.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="target folder (default: this one)")
    parsed = parse(parser, arguments)
    if not parsed.name.isdecimal():
        raise UsageError(f"{parsed.name} is not a scene's number")
    from ctt.app.data_show import show_scene
    from ctt.config import compose

    return show_scene(compose(checked(parsed.overrides)), int(parsed.name), parsed.to)
