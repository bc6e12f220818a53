"""Sweeps: files and command lines become points; equal ones merge; mistakes name file and key before any work."""

import functools
import textwrap
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctt.cli.parsing import checked
from ctt.config import Config, compose
from ctt.core.errors import SettingError, SweepError, UsageError
from ctt.models.model_settings import GraphSettings
from ctt.setting_names import identity, with_value
from ctt.sweep import compile_sweep, read_overrides, shipped, without_inactive


def write(tmp_path, text: str):
    path = tmp_path / "mine.yaml"
    path.write_text(textwrap.dedent(text))
    return str(path)


# Points as written (the baseline among them), after merging, and seeds.
SHIPPED = {
    "demo": (2, 2, 3),
    "reported": (2, 2, 6),
    "reported_sound": (2, 2, 6),
    "soft": (2, 2, 6),
    "weights": (16, 16, 3),
    "threshold": (4, 4, 3),
    "start_epoch": (4, 4, 3),
    "masks": (10, 10, 3),
    "ablation": (144, 136, 3),
    "noise": (7, 7, 1),
}


@pytest.mark.parametrize("name", shipped())
def test_every_shipped_sweep_compiles_with_one_baseline(name: str) -> None:
    sweep = compile_sweep(name)
    assert sum(p.baseline for p in sweep.points) == 1
    assert sweep.baseline.config.ctt_inv_weight == sweep.baseline.config.ctt_suf_weight == 0
    assert len({p.label for p in sweep.points}) == len(sweep.points)
    if name in SHIPPED:
        assert (sweep.written, len(sweep.points), len(sweep.seeds)) == SHIPPED[name]


def test_demo_is_the_baseline_and_the_reported_weights_over_three_seeds() -> None:
    sweep = compile_sweep("demo")
    assert [(p.config.ctt_inv_weight, p.config.ctt_suf_weight) for p in sweep.points] == [(0, 0), (0.2, 0.1)]
    ctt = sweep.points[1].config
    assert sweep.seeds == (0, 1, 2) and ctt.ctt_start_epoch * 3 == ctt.world_model.epochs


def test_graph_has_every_source_and_refuses_what_the_data_cannot_know() -> None:
    sweep = compile_sweep("graph")
    sources = [p.config.world_model.graph.source for p in sweep.points[1:]]
    assert sorted(sources) == sorted(GraphSettings.__dataclass_fields__["source"].metadata["choices"])
    with pytest.raises(SweepError, match=r"source=oracle.*only synthetic data.*sweeps/graph.yaml: grid"):
        compile_sweep("graph", ["data=clevrer"])
    known = compile_sweep("graph", ["data=clevrer", "world_model.graph.source=attention,learned"])
    assert len(known.points) == 3
    silent = compile_sweep("demo", ["data=clevrer", "world_model.graph.source=oracle", "ctt_inv_weight=0", "ctt_suf_weight=0"])
    assert len(silent.points) == 1  # no loss reads the graph
    with pytest.raises(SweepError, match=r"graph.projections must be at most 128.*got 129"):
        compile_sweep("graph", ["world_model.graph.source=jacobian", "world_model.graph.projections=129"])
    one_frame = ["world_model.history_size=1", "ctt_suf_weight=0.1"]
    with pytest.raises(SweepError, match="need world_model.history_size to be at least 2: a masked slot keeps its frame 0"):
        compile_sweep("demo", one_frame)
    compile_sweep(None, ["data=mini", "world_model.history_size=1"])  # prediction alone hides nothing either, and needs not


@pytest.mark.parametrize(
    "source, key, value",
    [
        ("jacobian", "frames", "mean"),
        ("oracle", "dropout", "after"),
        ("attention", "projections", 4),
        ("jacobian", "learned.price", 0.5),
        ("rollout_attention", "learned.width", 8),
    ],
)
def test_what_only_another_source_reads_says_nothing(source, key, value) -> None:
    words = ["ctt_inv_weight=0.2", f"world_model.graph.source={source}", "data=mini"]
    one, other = (compile_sweep(None, [*words, *more]).points[1] for more in ([], [f"world_model.graph.{key}={value}"]))
    assert identity(one.config) == identity(other.config)
    reader = {"frames": "attention", "dropout": "attention", "projections": "jacobian"}.get(key, "learned")
    words[1] = f"world_model.graph.source={reader}"
    one, other = (compile_sweep(None, [*words, *more]).points[1] for more in ([], [f"world_model.graph.{key}={value}"]))
    assert identity(one.config) != identity(other.config)


def test_the_command_line_wins_over_the_file() -> None:
    sweep = compile_sweep("demo", ["seed=5,6", "ctt_inv_weight=0.05", "world_model.epochs=6", "name=other"])
    assert sweep.name == "other" and sweep.seeds == (5, 6)
    assert sweep.points[1].config.ctt_inv_weight == 0.05
    assert all(p.config.world_model.epochs == 6 for p in sweep.points)


def test_comma_lists_and_functions_sweep() -> None:
    sweep = compile_sweep(None, ["ctt_inv_weight=0,0.2", "ctt_suf_weight=choice(0,0.1)", "seed=range(3)", "data=mini"])
    assert sweep.seeds == (0, 1, 2)
    assert len(sweep.points) == 4 and sweep.points[0].baseline


def test_the_baseline_is_added_where_it_is_absent() -> None:
    sweep = compile_sweep(None, ["ctt_inv_weight=0.1,0.2", "data=mini"])
    assert [p.baseline for p in sweep.points] == [True, False, False]
    assert sweep.written == 3
    assert compile_sweep(None, ["ctt_inv_weight=0,0.2", "data=mini"]).written == 2


def test_points_that_mean_the_same_merge_and_say_why(tmp_path) -> None:
    path = write(
        tmp_path,
        """
        data: mini
        grid: {ctt_inv_weight: [0, 0.2], ctt_start_epoch: [5, 10], ctt_adj_threshold: [0.1, 0.2]}
    """,
    )
    sweep = compile_sweep(path)
    assert len(sweep.points) == 5 and sweep.written == 8
    assert len(sweep.merged) == 3 and all("both CTT weights are 0" in m.reason for m in sweep.merged)


def test_a_start_that_is_never_reached_is_the_baseline(tmp_path) -> None:
    sweep = compile_sweep(write(tmp_path, "data: mini\npoints: [{ctt_inv_weight: 0.2, ctt_start_epoch: 500}]"))
    assert len(sweep.points) == 1


def test_groups_can_be_chosen_and_swept(tmp_path) -> None:
    sweep = compile_sweep(write(tmp_path, "data: mini\nworld_model: reference\npoints: [{world_model: paper}]"))
    assert sweep.points[0].config.world_model.num_preds == 1
    assert sweep.points[1].config.world_model.num_preds == 10


@pytest.mark.parametrize(
    "text, words",
    [
        ("pionts: []", "pionts is not a key of a sweep file .*did you mean points"),
        ("ctt_inv_weight: 0.1", "ctt_inv_weight is not a key of a sweep file .*it is a setting: indent it below baseline"),
        ("baseline: {ctt_inv_weight:0}", "ctt_inv_weight:0 is not a setting; YAML wants a space after the colon"),
        ("baseline:\n\tctt_inv_weight: 0", "line 2: .*indent with spaces, not with tabs"),
        ("baseline:\n  ctt_inv_weight: 0\n   ctt_suf_weight: 0", "line 3: .*indented as far as its neighbours"),
        ("points: {ctt_inv_weight: 1}", "points must be a list of mappings, one a point, as in"),
        ("points: [{ctt_inv_wieght: 0.2}]", r"did you mean ctt_inv_weight.*points\[0\]"),
        ("points: [{ctt_inv_weight: -1}]", r"ctt_inv_weight must be at least 0, got -1.*points\[0\]"),
        ("points: [{ctt_start_epoch: soon}]", r"ctt_start_epoch.*points\[0\]"),
        ("grid: {ctt_inv_weight: 0.2}", "grid.ctt_inv_weight must be a list"),
        ("grid: [1]", "grid must be a mapping"),
        ("seeds: [a]", "seeds must be whole numbers"),
        ("seeds: 3", "seeds must be a list"),
        ("baseline: {world_model.epochs: x}", "epochs.*baseline"),
        ("world_model: nothing", "nothing"),
        ("launch: slurm", "belongs on the command line"),
        ("a: [", "not readable YAML"),
        ("[1, 2]", "must hold keys and values"),
        ("points: [{seed: 1}]", "list seeds under"),
    ],
)
def test_mistakes_in_a_file_name_file_and_key(tmp_path, text, words) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        compile_sweep(write(tmp_path, text))
    if text != "world_model: nothing":
        assert "mine.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "override, words",
    [
        ("ctt_inv_wieght=0.2", "did you mean ctt_inv_weight"),
        ("ctt_inv_weight=-3", "ctt_inv_weight must be at least 0, got -3.*command line"),
        ("~ctt_inv_weight", "every setting exists already"),
        ("+ctt_inv_weight=1", "every setting exists already"),
        ("seed=a,b", "seeds are whole numbers"),
        ("launch=local,slurm", "cannot be swept"),
        ("trainer.max_epochs=3", "here it is world_model.epochs"),
        ("ctt_start_epoch=${seed}", "not an interpolation"),
        ("ctt_inv_weight=range(0,1,1e-9)", "1,000,000,000 values; a range needs 1 to 10,000"),
        ("ctt_inv_weight=range(1,0,0.1)", "0 values; a range needs 1 to 10,000"),
        ("ctt_inv_weight=range(0,1,0)", "a step other than 0"),
        ("ctt_inv_weight=interval(0,1)", "write the values to sweep as a list"),
        ("ctt_inv_weight=shuffle(range(0,1,0.1))", "write the values to sweep as a list"),
        ("ctt_inv_weight=glob(*)", "glob"),
    ],
)
def test_mistakes_on_the_command_line_are_named(override, words) -> None:
    with pytest.raises((SettingError, SweepError), match=words):
        compile_sweep("demo", [override])


@pytest.mark.parametrize(
    "text, words",
    [
        ("grid: {ctt_inv_weight: [0.1]}\ngrid: {ctt_suf_weight: [0.1]}", "line 2: grid stands twice"),
        ("points: [{ctt_inv_weight: 0.1, ctt_inv_weight: 0.2}]", "ctt_inv_weight stands twice"),
        ("points: [{ctt_start_epoch: 3}, {ctt_inv_weight: '${ctt_suf_weight}'}]", "not an interpolation"),
        ("points: [{launch.timeout_min: 4:00:00}]", "4:00:00"),
        ("name:\ngrid: {ctt_inv_weight: [0.1]}", "name must be a text, got None"),
        ("name: 7\ngrid: {ctt_inv_weight: [0.1]}", "name must be a text, got 7"),
        ("grid: " + "[" * 20_000, "nested more than 16 deep"),
        ("seeds: [" + "1, " * 200_000 + "2]", "more than 20,000 values"),
    ],
)
def test_a_file_whose_values_would_be_others_than_written_is_refused(tmp_path, text, words) -> None:
    with pytest.raises(SweepError, match=f"mine.yaml.*{words}|{words}.*mine.yaml"):
        compile_sweep(write(tmp_path, text))


def test_a_sweep_too_large_to_plan_is_refused_at_once(tmp_path) -> None:
    with pytest.raises(SweepError, match="1,000,000 points × 6 seeds are 6,000,000 runs, and a sweep has at most 100,000"):
        compile_sweep("reported", ["ctt_inv_weight=range(0,1,0.001)", "ctt_suf_weight=range(0,1,0.001)"])


def test_numbers_are_those_of_yaml_1_2_and_floats_have_twelve_digits(tmp_path) -> None:
    path = write(tmp_path, "points: [{ctt_inv_weight: 0.30000000000000004, ctt_start_epoch: 010}]")
    point = compile_sweep(path, ["data=mini", "world_model.epochs=40"]).points[1]
    assert point.config.ctt_inv_weight == 0.3 and point.config.ctt_start_epoch == 10
    swept = compile_sweep(None, ["ctt_inv_weight=range(0.1,0.4,0.1)"])
    assert [p.config.ctt_inv_weight for p in swept.points[1:]] == [0.1, 0.2, 0.3], "the stop is left out"
    assert [
        p.config.ctt_start_epoch for p in compile_sweep(None, ["ctt_inv_weight=1", "ctt_start_epoch=range(1,4)"]).points[1:]
    ] == [1, 2, 3]
    whole = compile_sweep(None, ["ctt_inv_weight=sort(range(1,4),reverse=true)"])
    assert [p.config.ctt_inv_weight for p in whole.points[1:]] == [3, 2, 1]


def test_values_alike_in_many_digits_have_labels_of_their_own(tmp_path) -> None:
    values = "0.1, 0.10000001, 0.100000000001"
    labels = [p.label for p in compile_sweep(None, [f"ctt_inv_weight={values}".replace(" ", "")]).points[1:]]
    assert labels == [f"ctt_inv_weight={v}" for v in values.split(", ")]


LABELLED = """
    name: mine
    points:
      - {label: reported weights, ctt_inv_weight: 0.2, ctt_suf_weight: 0.1}
      - {ctt_inv_weight: 0.1}
    """


def test_a_point_is_called_as_its_file_says(tmp_path) -> None:
    sweep = compile_sweep(write(tmp_path, LABELLED))
    assert [p.label for p in sweep.points] == ["baseline", "reported weights", "ctt_inv_weight=0.1 ctt_suf_weight=0"]
    assert sweep.points[1].values == {"ctt_inv_weight": 0.2, "ctt_suf_weight": 0.1}, "the label is none of its values"
    unnamed = compile_sweep(write(tmp_path, LABELLED.replace("label: reported weights, ", "")))
    assert identity(sweep.points[1].config) == identity(unnamed.points[1].config)


def test_points_of_one_label_are_told_apart_by_what_the_command_line_sweeps(tmp_path) -> None:
    sweep = compile_sweep(write(tmp_path, LABELLED), ["ctt_start_epoch=4,8"])
    labels = [p.label for p in sweep.points[1:]]
    assert [label for label in labels if "reported" in label] == [f"reported weights ctt_start_epoch={k}" for k in (4, 8)]
    assert len(set(labels)) == 4


@pytest.mark.parametrize(
    ("label", "problem"),
    [
        ("baseline", "only the baseline is called so"),
        ("7", "must be a text, got 7"),
        ("a=1", "without '='"),
        ('"two\\nlines"', "in one line"),
        ("x" * 61, "at most 60 characters"),
        ("second", r"points\[1\] has the label 'second' too"),
    ],
)
def test_a_label_that_cannot_name_a_row_is_refused(tmp_path, label: str, problem: str) -> None:
    points = ("ctt_inv_weight: 0.3", "label: second, ctt_inv_weight: 0.2", f"label: {label}, ctt_inv_weight: 0.1")
    text = "points:\n" + "\n".join(f"  - {{{point}}}" for point in points)
    with pytest.raises(SweepError, match=rf"points\[2\].label.*{problem}.*mine.yaml"):
        compile_sweep(write(tmp_path, text))


def test_an_unknown_sweep_lists_the_known_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SweepError, match="no sweep named dmeo; did you mean demo\\? there are ablation"):
        compile_sweep("dmeo")
    with pytest.raises(SweepError, match=f"no sweep file .*none.yaml in {tmp_path}$"):
        compile_sweep(str(tmp_path / "none.yaml"))
    write(tmp_path, "seeds: [0]")
    with pytest.raises(SweepError, match="did you mean .*mine.yaml"):
        compile_sweep(str(tmp_path / "mine.yml"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match="a file is given with its ending: mine.yaml"):
        compile_sweep("mine")
    with pytest.raises(SweepError, match="there is no folder .*nowhere"):
        compile_sweep(str(tmp_path / "nowhere" / "mine.yaml"))


weight = st.sampled_from([0.0, 0.05, 0.2])


@functools.cache
def plain_mini() -> Config:
    return compose(["data=mini", "world_model=mini", "world_model.dropout=0.1"])


@settings(max_examples=60, deadline=None)
@given(
    weight,
    weight,
    st.sampled_from([0.05, 0.3]),
    st.sampled_from([0, 4, 40]),
    st.sampled_from(["sum", "mean"]),
    st.booleans(),
)
def test_canonical_is_idempotent_and_only_live_values_count(inv, suf, threshold, start, frames, share) -> None:
    config = plain_mini()
    for key, value in [
        ("ctt_inv_weight", inv),
        ("ctt_suf_weight", suf),
        ("ctt_adj_threshold", threshold),
        ("ctt_start_epoch", start),
        ("world_model.graph.frames", frames),
        ("world_model.share_dropout", share),
    ]:
        config = with_value(config, key, value)
    once = without_inactive(config)
    assert without_inactive(once) == once and identity(once) == identity(config)
    live = inv + suf > 0 and start < config.world_model.epochs
    other = with_value(config, "ctt_adj_threshold", 0.7)
    assert (identity(without_inactive(other)) == identity(once)) is not live
    other = with_value(config, "world_model.share_dropout", not share)
    assert (identity(without_inactive(other)) == identity(once)) is not (live and inv > 0)
    assert identity(without_inactive(with_value(config, "world_model.epochs", 41))) != identity(once)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("ctt_inv_weight=" + "[" * 20_000 + "]" * 20_000, "nested more than 16 deep|40,015 characters"),
        ("ctt_inv_weight=" + "[" * 17 + "]" * 17, "nested more than 16 deep"),
        ("ctt_inv_weight=" + ",".join(map(str, range(3_000_000))), r"characters of settings; .* into a sweep file"),
        ("ctt_inv_weight=range(0,1,1e-9)", "1,000,000,000 values; a range needs 1 to 10,000"),
    ],
)
def test_a_command_line_that_would_take_long_is_refused_at_once(override, message):
    began = time.monotonic()
    with pytest.raises(SweepError, match=message):
        compile_sweep("demo", [override])
    with pytest.raises(UsageError, match=message):
        read_overrides(checked([override]))
    assert time.monotonic() - began < 2
