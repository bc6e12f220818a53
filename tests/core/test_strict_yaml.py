"""YAML 1.2 and nothing that changes a value in silence; what the ordinary loader would read otherwise is in the tests."""

import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ctt.core.strict_yaml import MOST_BYTES, YamlError, parse_yaml, read_yaml


@pytest.mark.parametrize(
    "text, value",
    [
        ("010", 10),
        ("0o17", 15),
        ("0xfF", 255),
        ("4:00:00", "4:00:00"),
        ("off", "off"),
        ("Yes", "Yes"),
        ("true", True),
        ("1e-3", 0.001),
        ("1_000", "1_000"),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("~", None),
        ("", None),
        ("2024-01-01", "2024-01-01"),
        ("'010'", "010"),
        ('"null"', "null"),
        ("a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}", {"a": {"b": 1, "c": 2}, "d": {"b": 1, "c": 3}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ("[1, 2.0, a]", [1, 2.0, "a"]),
        ("{a: {b: null}}", {"a": {"b": None}}),
    ],
)
def test_values_are_those_of_yaml_1_2(text: str, value: object) -> None:
    read = parse_yaml(text)
    assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: 1\nb: 2\na: 3", "line 3: a stands twice .first in line 1"),
        ("grid: {x: 1, x: 2}", "line 1: x stands twice"),
        ("1: a\n0x1: b", "line 2: 1 stands twice"),
        ("a: ${ctt_inv_weight}", r"line 1: \$\{ctt_inv_weight\}: give a value, not an interpolation"),
        ("a: 'x ${now:%Y}'", "not an interpolation"),
        ("${a}: 1", "not an interpolation"),
        (
            "a: &a [1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"{y}: &{y} [{f'*{x},' * 9}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)),
            "line 5: more than 20,000 values",
        ),
        ("d: {<<: {a: 1}, c: 3, c: 4}", "c stands twice"),
        ("a: *x", "line 1: found undefined alias"),
        ("a: !!python/object:os.system 1", "line 1: tags like"),
        ("a: !!int '1'", "tags like"),
        ("[" * 20_000, "nested more than 16 deep"),
        ("a: [" + "1," * 200_000 + "]", "more than 20,000 values"),
        ("a: 1\n b: 2", "line 2: mapping values are not allowed here"),
        ("a: 'open", "line 1: found unexpected end of stream"),
        ("a: 1\n---\nb: 2", "line 2: but found another document"),
        ("{[1]: 2}", "a key must be a single value"),
        ("a: " + "9" * 500, "a number of 500 digits"),
        ("a: \x00", "special characters are not allowed"),
    ],
)
def test_what_is_no_plain_value_is_named_with_its_line(text: str, words: str) -> None:
    with pytest.raises(YamlError, match=words):
        parse_yaml(text)


def test_files_that_are_no_settings_are_refused_unread(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    large.write_text("a: 1\n" + "#" * MOST_BYTES)
    with pytest.raises(YamlError, match="bytes; settings take less"):
        read_yaml(large)
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(YamlError, match="byte 3 is not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    for place in (Path("/dev/zero"), tmp_path):
        with pytest.raises(YamlError, match="not a regular file"):
            read_yaml(place)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abc xyz09"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abcdef", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(plain)
def test_what_pyyaml_writes_is_read_back(value: object) -> None:
    assert parse_yaml(yaml.safe_dump(value)) == value
