"""Registries: parts that can be added from outside, by name: those that come with ctt, and those of installed distributions.

A distribution offers a part as an entry point, `NAME = "package.module:object"`, in the registry's group. It is imported when the
part is used. One that cannot be imported is named with its distribution and the reason, and the others work; two of one name are
refused. What a plugin computes depends on its code, so its version and a digest of its code (`Plugin`) go into keys.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from ctt.core.errors import UsageError

T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """The distribution that a part comes from; code: 16 hex digits of sha256 over the source of its top-level package."""

    distribution: str
    version: str
    code: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


class Registry(Generic[T]):
    """The parts of one kind, by name.

    group: of the entry points; what: what a part is called in messages; builtin: name → "module:object" of ctt's own.
    """

    def __init__(self, group: str, what: str, builtin: Mapping[str, str]) -> None:
        self.group, self.what, self.builtin = group, what, dict(builtin)
        self._loaded: dict[str, T] = {}

    def names(self) -> tuple[str, ...]:
        """All names, ctt's own first, in their order. Raises UsageError if two parts have one name."""
        return (*self.builtin, *self._plugins)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self._plugins

    def get(self, name: str) -> T:
        """The part of that name. Raises UsageError if there is none, or if its plugin cannot be imported."""
        if name in self.builtin:
            if name not in self._loaded:
                module, _, attribute = self.builtin[name].partition(":")
                self._loaded[name] = getattr(importlib.import_module(module), attribute)
            return self._loaded[name]
        if name not in self._plugins:
            near = difflib.get_close_matches(name, self.names(), 1)
            hint = f"did you mean {near[0]}? there" if near else "there"
            raise UsageError(f"no {self.what} named {name}; {hint} are {', '.join(self.names())}")
        entry = self._plugins[name]
        try:
            return cast(T, entry.load())
        except Exception as error:  # the code of others may raise anything
            raise UsageError(
                f"the {self.what} {name} of {_distribution(entry)} cannot be imported: {type(error).__name__}: {error}"
            ) from error

    def usable(self) -> dict[str, T]:
        """The parts that can be imported, by name; see `broken` for the others."""
        found = {}
        for name in self.names():
            try:
                found[name] = self.get(name)
            except UsageError:
                if name in self.builtin:
                    raise
        return found

    def broken(self) -> dict[str, str]:
        """Why plugins cannot be imported, by the name of their part."""
        found = {}
        for name in self._plugins:
            try:
                self.get(name)
            except UsageError as error:
                found[name] = str(error)
        return found

    def plugin(self, name: str) -> Plugin | None:
        """Where the part of that name comes from; None: from ctt. Raises UsageError if there is no such part."""
        if name in self.builtin:
            return None
        if name not in self._plugins:
            self.get(name)
        entry = self._plugins[name]
        distribution: Any = entry.dist
        return Plugin(distribution.name, distribution.version, code_digest(entry.module))

    @cached_property
    def _plugins(self) -> dict[str, metadata.EntryPoint]:
        found: dict[str, metadata.EntryPoint] = {}
        for entry in sorted(metadata.entry_points(group=self.group), key=lambda entry: (entry.name, _distribution(entry))):
            if entry.name in self.builtin:
                raise UsageError(f"{_distribution(entry)} has a {self.what} named {entry.name}, as ctt has; uninstall it")
            other = found.setdefault(entry.name, entry)
            if (other.value, _distribution(other)) != (entry.value, _distribution(entry)):
                raise UsageError(
                    f"{_distribution(other)} and {_distribution(entry)} both have a {self.what} named {entry.name}; "
                    "uninstall one of them"
                )
        return found


def parts_in(package: str, attribute: str, but: Collection[str]) -> dict[str, str]:
    """The built-in parts of a registry: name → "package.name:attribute" of each module of `package`, those of `but` aside."""
    places = importlib.import_module(package).__path__
    names = sorted(module.name for module in pkgutil.iter_modules(places))
    return {name: f"{package}.{name}:{attribute}" for name in names if name not in but}


def _distribution(entry: metadata.EntryPoint) -> str:
    distribution: Any = entry.dist
    return f"{distribution.name} {distribution.version}"


def code_digest(module: str) -> str:
    """16 hex digits of sha256 over the Python files of the top-level package that `module` lies in; "" if it is not found."""
    top = module.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        return ""
    roots = [Path(place) for place in spec.submodule_search_locations or ()]
    files = [path for root in roots for path in sorted(root.rglob("*.py"))] if roots else [Path(spec.origin or "")]
    digest = hashlib.sha256()
    for path in files:
        base = next((root for root in roots if path.is_relative_to(root)), path.parent)
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(base).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]
