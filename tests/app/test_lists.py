"""`ctt settings` and `ctt ls`: every setting is explained, every sweep is found."""

import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app.list_settings import all_settings, chosen, show_settings, with_cost
from ctt.app.ls import list_sweeps, sweeps
from ctt.config import Config, compose
from ctt.core.errors import UsageError
from ctt.core.units import duration
from ctt.planning import auxiliaries_of, parts, target_of
from ctt.planning.costs import Costs
from ctt.setting_names import known_keys
from ctt.stages.base import Stage
from ctt.sweep import compiling, shipped
from tests.app.test_status_width import on_terminal
from tests.made_store import made_store


def test_every_setting_is_listed_with_a_meaning() -> None:
    listed = {one.key: one for one in all_settings()}
    groups = {key.rpartition(".")[0] for key in known_keys() if "." in key}
    assert set(listed) == set(known_keys()) - groups - {""}
    assert [one.key for one in listed.values() if not one.help] == []
    threshold = listed["ctt_adj_threshold"]
    assert (threshold.type, threshold.default, threshold.allowed) == ("number", Config().ctt_adj_threshold, "≥ 0, ≤ 1")
    assert "both CTT weights are 0, so no slot graph is read" in threshold.inactive
    assert listed["device"].rebuilds.startswith("nothing") and listed["device"].allowed == "auto | cpu | cuda"
    assert listed["aloe.epochs"].rebuilds == "ALOE" and listed["launch.prefix.timeout_min"].rebuilds.startswith("nothing")


def test_what_several_sweeps_are_made_of_is_composed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []

    def counted(groups: list[str]) -> Config:
        composed.append(tuple(groups))
        return compose(groups)

    monkeypatch.setattr(compiling, "compose", counted)
    assert not [one.error for one in sweeps(None, tmp_path) if one.error]
    assert len(composed) == len(set(composed)) < len(shipped())


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_list_breaks_no_key(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    show_settings(None, False, console)
    words = console.export_text().split()
    assert [one.key for one in all_settings() if one.key not in words] == []


def test_a_group_and_a_part_of_a_name_are_found_and_a_typo_is_not() -> None:
    assert {one.key.rpartition(".")[0] for one in chosen("world_model.masking")} == {"world_model.masking"}
    assert "ctt_adj_threshold" in [one.key for one in chosen("threshold")]
    with pytest.raises(UsageError, match="no setting is called ctt_inv_wieght; did you mean ctt_inv_weight"):
        chosen("ctt_inv_wieght")


def test_one_setting_is_shown_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_settings("ctt_start_epoch", False, Console(width=80)) == 0
    out = capsys.readouterr().out
    assert "which costs a run" in out and "2 h 49 min as published for one H100" in " ".join(out.split())
    assert "a change builds anew" in out and "training ends before the CTT losses start" in " ".join(out.split())
    show_settings("ctt_start_epoch", True, Console())
    assert json.loads(capsys.readouterr().out)[0]["key"] == "ctt_start_epoch"


def test_what_a_change_costs_is_what_it_builds_anew() -> None:
    seconds = {group: Costs().of(stage, None).seconds for group, stage in _demo_stages().items()}
    demo = {key: with_cost(one)["cost"].rpartition("; ")[2] for key in COSTLY for one in chosen(key)[:1]}
    after = {
        "data.noise": seconds,
        "aloe.epochs": ["vqa"],
        "reader.stride": ["probe", "reader"],
        "diagnostics.windows": ["diagnostics"],
    }
    for key, kinds in after.items():
        assert demo[key] == f"{duration(sum(seconds[kind] for kind in kinds))} as the demo took on one CPU core"
    assert demo["device"] == "nothing" and demo["ctt_inv_weight"] == demo["world_model.epochs"] != demo["data.noise"]


COSTLY = ("data.noise", "aloe.epochs", "reader.stride", "diagnostics.windows", "device", "ctt_inv_weight", "world_model.epochs")


def _demo_stages() -> dict[str, Stage]:
    config = compose(["data=mini", "world_model=mini", "aloe=mini"])
    return {stage.kind: stage for stage in parts(target_of(config), auxiliaries_of(config, target_of(config)))}


@pytest.mark.slow
def test_sweeps_of_ctt_of_the_folder_and_of_the_store_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, _ = made_store(tmp_path / "store", "demo")
    made_store(tmp_path / "store", "demo", "name=other", "seed=7")
    mine = tmp_path / "mine.yaml"
    mine.write_text("# Two weights.\ndata: mini\ngrid: {ctt_inv_weight: [0, 0.1]}\nseeds: [1, 2]\n")
    (tmp_path / "broken.yaml").write_text("grid: {ctt_inv_wieght: [0]}\n")
    (tmp_path / "compose.yaml").write_text("services: {}\n")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    os.mkfifo(tmp_path / "pipe.yaml")
    found = {one.name: one for one in sweeps(store, tmp_path)}
    assert set(found) == {*shipped(), "mine", "broken", "other"}
    assert (found["demo"].points, found["demo"].seeds, found["demo"].done, found["demo"].runs) == (2, 3, 6, 6)
    assert (found["mine"].origin, found["mine"].about, found["mine"].points) == ("mine.yaml", "Two weights.", 2)
    assert "did you mean ctt_inv_weight" in (found["broken"].error or "") and found["other"].origin == "store"
    assert all(one.about.endswith((".", "?")) for one in found.values() if one.origin == "ctt"), "whole sentences"
    assert found["loss_chosen"].about.endswith("on twelve fresh seeds.") and "They are" not in found["loss_chosen"].about
    shown = {word for line in on_terminal(store.root, 80, "ls") for word in line.split()}
    assert {word for one in found.values() if one.origin == "ctt" for word in one.about.split()} <= shown, "whole words"
    assert list_sweeps(None, tmp_path, False, Console(width=120)) == 0
    assert "no store yet" in capsys.readouterr().out
