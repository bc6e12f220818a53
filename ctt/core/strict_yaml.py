"""YAML 1.2 for files that people write: what YAML 1.1 or a hasty edit turns into another value in silence is an error.

Numbers, booleans and null are those of the core schema of YAML 1.2 (section 10.3.2): `010` is ten, `4:00:00` and `off` are
texts. Refused are a key that stands twice, interpolations (`${…}`), tags, and files that are too large or too deep to be
settings, aliases counted at their full size. The merge key `<<` is read, as in YAML 1.1.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20
MOST_DEPTH = 16
MOST_VALUES = 20_000


MERGE = "tag:yaml.org,2002:merge"


class YamlError(ValueError):
    """A file that is no plain YAML; the message names the line."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the resolvers of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.values = 0
        self.sizes: dict[int, int] = {}  # id of a node → the values in it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        loader: Any = self  # PyYAML's stubs leave this method without annotations
        event = loader.peek_event()
        if isinstance(event, yaml.AliasEvent):
            node = super().compose_node(parent, index)
            self._count(event, self.sizes.get(id(node), 1))
            return node
        if getattr(event, "tag", None) not in (None, "!"):
            raise _error(event.start_mark, f"tags like {event.tag} are not read")
        before = self.values
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise _error(event.start_mark, f"nested more than {MOST_DEPTH} deep")
        self._count(event, 1)
        node = super().compose_node(parent, index)
        self.depth -= 1
        self.sizes[id(node)] = self.values - before
        return node

    def _count(self, event: Any, values: int) -> None:
        self.values += values
        if self.values > MOST_VALUES:
            raise _error(event.start_mark, f"more than {MOST_VALUES:,} values")

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[Any, int] = {}
        for name, _ in node.value:
            if name.tag == MERGE:
                continue
            key = self.construct_object(name, deep=True)
            if isinstance(key, (list, dict)):
                raise _error(name.start_mark, "a key must be a single value")
            line = name.start_mark.line + 1
            if key in seen:
                raise _error(name.start_mark, f"{key} stands twice (first in line {seen[key]})")
            seen[key] = line
        return super().construct_mapping(node, deep=deep)


def _error(mark: Any, message: str) -> YamlError:
    return YamlError(f"line {mark.line + 1}: {message}")


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    if "${" in node.value:
        raise _error(node.start_mark, f"{node.value}: give a value, not an interpolation")
    return str(node.value)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    base = {"0x": 16, "0o": 8}.get(text[:2], 10)
    if len(text) > 400:
        raise _error(node.start_mark, f"a number of {len(text)} digits")
    return int(text if base == 10 else text[2:], base)


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"^([-+]?)\.(inf|nan)$", r"\1\2", node.value, flags=re.IGNORECASE))


for _tag, _pattern, _first in (
    ("merge", "<<", ["<"]),
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)
_Loader.add_constructor("tag:yaml.org,2002:str", _text)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _number)


def _remedy(problem: str) -> str:
    """What usually is behind a problem of PyYAML's parser."""
    if "\\t" in problem:
        return "; indent with spaces, not with tabs"
    if "<block end>" in problem or "mapping values are not allowed" in problem:
        return "; is the line indented as far as its neighbours?"
    if "could not find expected ':'" in problem:
        return "; a key needs a colon and a space before its value"
    return ""


def read_yaml(path: Path) -> Any:
    """The value that a file holds. Raises YamlError if it is no plain YAML in UTF-8, OSError if it cannot be read."""
    if not path.is_file():
        raise YamlError("not a regular file")
    if path.stat().st_size > MOST_BYTES:
        raise YamlError(f"a file of {path.stat().st_size:,} bytes; settings take less than {MOST_BYTES:,}")
    try:
        return parse_yaml(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise YamlError(f"byte {error.start} is not UTF-8") from None


def parse_yaml(text: str) -> Any:
    """`read_yaml` of a text."""
    try:
        return _Loader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        place = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise YamlError(f"{place}{error.problem or error}{_remedy(error.problem or '')}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise YamlError(" ".join(str(error).split())) from None
