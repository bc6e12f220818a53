"""OnDemand: things by name that are made when they are looked up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class OnDemand(Mapping[str, T], Generic[T]):
    """A mapping whose values are made by functions, each at its lookup. `what` names its kind in messages.

    remedies: for names that may be absent, what to do to have them.
    """

    def __init__(self, what: str, makers: Mapping[str, Callable[[], T]], remedies: Mapping[str, str] | None = None) -> None:
        self._what, self._makers, self._remedies = what, dict(makers), dict(remedies or {})

    def __getitem__(self, name: str) -> T:
        if name not in self._makers:
            rest = self._remedies.get(name) or f"there are {', '.join(self._makers) or 'none'}"
            raise KeyError(f"no {self._what} {name}; {rest}")
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)

    def __repr__(self) -> str:
        return f"{self._what}s on demand: {', '.join(self._makers)}"
