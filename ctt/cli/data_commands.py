"""The verbs of `ctt data`: import, fetch, check, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctt.cli.parsing import checked, parse, verb_parser
from ctt.core.errors import UsageError


def data(arguments: Sequence[str]) -> int:
    """bring CLEVRER's files in and look at data sets: ctt data import|fetch|check|show

    import FILE    slots of the reference (a pickle or torch file) to memory-mapped files; nothing in it is executed
    fetch          download slots, questions, annotations; continues where it broke off
    check          a data set beside CLEVRER's own figures; --questions FILE: one official question file alone
    show SCENE     picture, animation and questions of a scene
    """
    verbs = {"import": _data_import, "fetch": _data_fetch, "check": _data_check, "show": _data_show}
    if not arguments or arguments[0] in ("-h", "--help"):
        verb_parser("data", data, named="import, fetch, check or show", overrides=False).parse_args(["--help"])
    if arguments[0] not in verbs:
        raise UsageError(f"ctt data {arguments[0]} is not a command; there are {', '.join(verbs)}")
    return verbs[arguments[0]](arguments[1:])


def _data_import(arguments: Sequence[str]) -> int:
    """import a slots file to memory-mapped files: a folder beside it, of its name

    Arrays alone are admitted; anything else is refused by name and nothing is executed. An interrupted import continues:
    finished videos are not written again, the file is read again for its checksum.
    """
    parser = verb_parser("data import", _data_import, named="a pickle or torch file", overrides=False)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where to (default: the file without its ending)")
    parsed = parser.parse_args(list(arguments))
    from ctt.app.data_files import import_file

    return import_file(Path(parsed.name), parsed.to)


def _data_fetch(arguments: Sequence[str]) -> int:
    """download CLEVRER's files: slots, questions, annotations (default: slots and questions)

    Addresses and the folder are settings: data.fetch.folder, data.fetch.questions … A question file with other counts than the
    official one is put aside as SPLIT.other.json (exit code 1); rename it to SPLIT.json if it is the one you want.
    """
    from ctt.data.clevrer.fetch import ENCODERS, KINDS

    parser = verb_parser("data fetch", _data_fetch, named=None, overrides=False)
    parser.add_argument("words", nargs="*", metavar="KIND|KEY=VALUE", help=f"{', '.join(KINDS)}; Hydra overrides")
    parser.add_argument("--encoder", choices=ENCODERS, default=ENCODERS[0], help="whose slots (default: videosaur)")
    parsed = parser.parse_intermixed_args(list(arguments))
    kinds = [w for w in parsed.arguments if "=" not in w]
    if unknown := [k for k in kinds if k not in KINDS]:
        raise UsageError(f"{unknown[0]} is nothing that can be fetched; there are {', '.join(KINDS)}")
    from ctt.app.data_files import fetch_files
    from ctt.config import compose

    config = compose(checked([w for w in parsed.arguments if "=" in w]))
    return fetch_files(config.data.fetch, list(dict.fromkeys(kinds)) or ["slots", "questions"], parsed.encoder)


def _data_check(arguments: Sequence[str]) -> int:
    """say what is in a data set beside CLEVRER's own figures, and what is missing or damaged

    NAME is the key of a data set in the store; without it, the one that the settings (data=…) mean, made if need be.
    """
    parser = verb_parser("data check", _data_check, named="?a data set's key, or its first letters")
    parser.add_argument("--questions", type=Path, metavar="FILE", help="check this official question file alone")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parsed = parse(parser, arguments)
    from ctt.app import data_check

    if parsed.questions is not None:
        return data_check.check_questions(parsed.questions, parsed.json)
    from ctt.config import compose

    return data_check.check_data(compose(checked(parsed.overrides)), parsed.name, parsed.json)


def _data_show(arguments: Sequence[str]) -> int:
    """write a picture and an animation (GIF) of a scene and print its questions

    NAME is the scene's number (scene_index). data=clevrer needs data.questions, and data.annotation_files for pictures.
    """
    parser = verb_parser("data show", _data_show, named="a scene's number")
    parser.add_argument("--to", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)")
    parsed = parse(parser, arguments)
    if not parsed.name.isdecimal():
        raise UsageError(f"{parsed.name} is not a scene's number")
    from ctt.app.data_show import show_scene
    from ctt.config import compose

    return show_scene(compose(checked(parsed.overrides)), int(parsed.name), parsed.to)
