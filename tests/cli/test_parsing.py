"""What of the command line is a name and what an override: runs' names hold "=" themselves and need not be quoted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctt.cli.parsing import checked, open_store, parse, parse_run, split_run, tracking_of, verb_parser
from ctt.config import compose
from ctt.core.errors import SettingError, UsageError

STORE = "store=/somewhere"


@pytest.mark.parametrize(
    ("arguments", "name", "overrides"),
    [
        (["demo/baseline", "seed=0"], "demo/baseline seed=0", []),
        (["demo/baseline seed=0"], "demo/baseline seed=0", []),
        (["demo/ctt_inv_weight=0.2", "seed=0"], "demo/ctt_inv_weight=0.2 seed=0", []),
        (["ctt_inv_weight=0.2", "ctt_start_epoch=4", "seed=1"], "ctt_inv_weight=0.2 ctt_start_epoch=4 seed=1", []),
        ([STORE, "demo/ctt_inv_weight=0.2", "seed=0"], "demo/ctt_inv_weight=0.2 seed=0", [STORE]),
        (["demo/ctt_inv_weight=0.2", STORE, "seed=0"], "demo/ctt_inv_weight=0.2 seed=0", [STORE]),
        (["demo/ctt_inv_weight=0.2", "seed=0", STORE], "demo/ctt_inv_weight=0.2 seed=0", [STORE]),
        (["demo/ctt_inv_weight=0.2 seed=0", STORE], "demo/ctt_inv_weight=0.2 seed=0", [STORE]),
        (["demo/shared", "prefix", "1000", "epochs", "seed=0"], "demo/shared prefix 1000 epochs seed=0", []),
        (["demo/baseline", "seed=0", "data=mini"], "demo/baseline seed=0", ["data=mini"]),
        (["0123abcd", STORE], "0123abcd", [STORE]),
        ([STORE, "0123abcd"], "0123abcd", [STORE]),
        (["0123abcd", "seed=0"], "0123abcd", ["seed=0"]),
        ([STORE], "", [STORE]),
        (["seed=0 baseline", STORE], "seed=0 baseline", [STORE]),
        (["demo/seed=0", "ctt_inv_weight=0.2", STORE], "demo/seed=0 ctt_inv_weight=0.2", [STORE]),
        (["seed=0", "ctt_inv_weight=0.2", "ctt_suf_weight=0.1"], "seed=0 ctt_inv_weight=0.2 ctt_suf_weight=0.1", []),
    ],
)
def test_the_name_of_a_run_ends_with_its_seed(arguments: list[str], name: str, overrides: list[str]) -> None:
    assert split_run(arguments, ("store",)) == (name, overrides)


def verb(arguments: object) -> int:
    """Do nothing."""
    raise AssertionError


def test_options_may_stand_between_the_parts_of_a_name() -> None:
    parser = verb_parser("logs", verb, named="a run")
    parser.add_argument("-f", "--follow", action="store_true")
    parsed = parse_run(parser, ["demo/ctt_inv_weight=0.2", "-f", "seed=0", STORE], "store")
    assert (parsed.name, parsed.overrides, parsed.follow) == ("demo/ctt_inv_weight=0.2 seed=0", [STORE], True)
    with pytest.raises(UsageError, match="NAME is missing"):
        parse_run(parser, [STORE], "store")


def test_an_option_whose_value_is_left_out_takes_no_setting() -> None:
    parser = verb_parser("report", verb, named="a sweep")
    parser.add_argument("--notebook", nargs="?", const="")
    for arguments, notebook in (
        (["demo", "--notebook", STORE], ""),
        (["--notebook", STORE, "demo"], ""),
        (["demo", "--notebook", "graphs", STORE], "graphs"),
        (["demo", STORE], None),
    ):
        parsed = parse(parser, arguments)
        assert (parsed.name, parsed.overrides, parsed.notebook) == ("demo", [STORE], notebook)


def test_a_sweeps_name_may_stand_after_overrides(tmp_path: Path) -> None:
    parser = verb_parser("report", verb, named="a sweep")
    for arguments in (["demo", STORE], [STORE, "demo"]):
        parsed = parse(parser, arguments)
        assert (parsed.name, parsed.overrides) == ("demo", [STORE])
    file = tmp_path / "rate=0.1.ckpt"
    file.touch()
    parsed = parse(parser, [STORE, str(file)])
    assert (parsed.name, parsed.overrides) == (str(file), [STORE])
    for none in ([STORE], []):
        with pytest.raises(UsageError, match="NAME is missing"):
            parse(parser, none)
    parsed = parse(verb_parser("status", verb, named="a sweep", optional=True), [STORE])
    assert (parsed.name, parsed.overrides) == (None, [STORE])


def test_verbs_that_read_the_store_take_no_other_setting(tmp_path: Path) -> None:
    assert open_store([f"store={tmp_path}"]).root == tmp_path
    for wrong in ("data=mini", "demo", "store"):
        with pytest.raises(UsageError, match=f"{wrong}: this command takes store=VALUE"):
            open_store([f"store={tmp_path}", wrong])
    with pytest.raises(UsageError, match="no store at"):
        open_store([f"store={tmp_path / 'none'}"])
    with pytest.raises(UsageError, match="store must be the path of a folder"):
        open_store(["store="])


def test_a_home_folder_in_the_stores_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "it's" / "store").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "it's"))
    assert open_store(["store=~/store"]).root == tmp_path / "it's" / "store"
    assert checked(["aloe.shares=[1,1,1,1]", "aloe.shares=[1,0,0,0]", "world_model.epochs=3", "world_model.epochs=2"])[-1].endswith(
        "=2"
    )
    assert compose(checked(["store=~/store"])).store == str(tmp_path / "it's" / "store")
    monkeypatch.setenv("CTT_STORE", "~/store")
    assert open_store([]).root == tmp_path / "it's" / "store"
    monkeypatch.setenv("CTT_STORE", "~nobody-of-this-name/store")
    with pytest.raises(UsageError, match="nobody of that name has a home folder"):
        open_store([])


def test_an_empty_variable_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    monkeypatch.setenv("CTT_STORE", "")
    assert open_store([]).root == tmp_path / "store" and compose().store == "store"


@pytest.mark.parametrize("path", ["/data/${seed}", "${oc.env:HOME}/store", "???"])
def test_the_variables_text_is_not_evaluated(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CTT_STORE", path)
    for read in (lambda: open_store([]), compose):
        with pytest.raises(SettingError, match=re.escape(f"CTT_STORE={path}: give the path of a folder")):
            read()


def test_an_address_alone_means_a_server() -> None:
    tracking, others = tracking_of(["tracking.uri=http://host:5000", STORE])
    assert (tracking.kind, tracking.uri, others) == ("server", "http://host:5000", [STORE])
