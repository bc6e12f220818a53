"""The verbs of `ctt data`: import, fetch, check, show."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctt.cli.parsing import checked, parse, verb_parser
from ctt.core.errors import UsageError


def data(arguments: Sequence[str]) -> int:
    """Set up, import, fetch, check or show data: ctt data setup|import|fetch|check|show

    setup          from CLEVRER's files, here or downloaded, to a checked clevrer.yaml that data=clevrer uses
    import FILE    convert slots of any form (pickle, torch, safetensors, npz, npy, HDF5) to memory-mapped files
    fetch          download slots, questions, annotations, checkpoints; continues an interrupted download
    check          compare a data set with CLEVRER's figures; --questions FILE: one official question file alone
    show SCENE     write a picture and an animation of a scene and print its questions
    """
    verbs = {"setup": _data_setup, "import": _data_import, "fetch": _data_fetch, "check": _data_check, "show": _data_show}
    if not arguments or arguments[0] in ("-h", "--help"):
        verb_parser("data", data, named="setup, import, fetch, check or show", settings="").parse_args(["--help"])
    if arguments[0] not in verbs:
        raise UsageError(f"ctt data {arguments[0]} is not a command; choose one of {', '.join(verbs)}")
    return verbs[arguments[0]](arguments[1:])


def _data_setup(arguments: Sequence[str]) -> int:
    """Set up CLEVRER: asks where slots, questions and annotations are, or downloads them; imports, checks, remembers.

    On a terminal it asks for what no option gives. Where the files are is written to clevrer.yaml in the folder of your settings
    (~/.config/ctt), and data=clevrer finds them there. The same command again continues: nothing is downloaded or imported twice.
    Other settings: data.fetch.… (addresses) and data.missing=skip (videos may lack slots).
    """
    from ctt.data.clevrer.downloads import ENCODERS

    parser = verb_parser("data setup", _data_setup, named=None, settings=" ")
    parser.add_argument("--folder", type=Path, default=Path("clevrer"), help="for downloads and imports (default: clevrer)")
    parser.add_argument("--slots", metavar="PATH|fetch", help="a file or folder of slots, or an import")
    parser.add_argument("--questions", metavar="PATH|fetch", help="the folder of the official question files")
    parser.add_argument("--annotations", metavar="PATH|fetch|none", help="the folder of the annotations (default: none)")
    parser.add_argument("--encoder", choices=ENCODERS, default=ENCODERS[0], help="encoder of fetched slots (default: videosaur)")
    parsed = parse(parser, arguments)
    from ctt.app.data.data_setup import Answers, data_setup
    from ctt.config import compose

    if others := [one for one in parsed.overrides if not one.startswith(("data.fetch.", "data.missing="))]:
        raise UsageError(f"{others[0]}: this command takes data.fetch.…=VALUE and data.missing=VALUE (command line)")
    settings = compose(["data=clevrer", *checked(parsed.overrides)]).data
    answers = Answers(parsed.slots, parsed.questions, parsed.annotations)
    return data_setup(parsed.folder, answers, settings.fetch, parsed.encoder, settings.missing == "skip")


def _data_import(arguments: Sequence[str]) -> int:
    """Convert slots to memory-mapped files.

    NAME is a pickle or torch file of the reference's form, {split: {video: array}}, or holds the same as safetensors, npz, npy or
    HDF5; or a folder of such files (train/0_pixels.npy, val.h5 …). They may be compressed (gzip, xz, bzip2, zstandard).
    float16, bfloat16 and float64 become float32. Nothing in a file is executed: only arrays are accepted, anything else is
    refused by name. An interrupted import continues: finished videos are not written again, but the file is read again for its
    checksum. With data.missing=skip videos may be missing; their questions are left out of runs.
    """
    parser = verb_parser("data import", _data_import, named="a file or folder of slots", settings=" ")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="target folder (default: NAME without its suffix)")
    parsed = parse(parser, arguments)
    from ctt.app.data.data_import import import_file
    from ctt.config import compose

    if others := [override for override in parsed.overrides if not override.startswith("data.missing=")]:
        raise UsageError(f"{others[0]}: this command takes data.missing=VALUE (command line)")
    return import_file(Path(parsed.name), parsed.to, compose(checked(parsed.overrides)).data.missing == "skip")


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
    from ctt.app.data.data_fetch import fetch_files
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
    from ctt.app.data import data_check

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
    from ctt.app.data.data_show import show_scene
    from ctt.config import compose

    return show_scene(compose(checked(parsed.overrides)), int(parsed.name), parsed.to)
