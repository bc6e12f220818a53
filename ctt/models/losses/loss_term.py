"""LossTerm: one term of the objective that is added to that of the prediction, and the registry of terms.

A step hides slots in one view for each term that acts and predicts all views as one batch. A term chooses which slots its view
hides, what counts in it, and what the loss of its prediction is. Each module of this folder that holds a term is found by
its name; other distributions offer terms as entry points of the group `ctt.losses` (docs/how-to/add-a-loss.md).

Commands that compute nothing import terms too: import torch where tensors are computed, not with the module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ctt.core.errors import UsageError
from ctt.core.registry import Registry, parts_in
from ctt.core.settings import Rule

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

LOSSES: Registry[LossTerm] = Registry(
    "ctt.losses", "loss term", parts_in("ctt.models.losses", "TERM", ("loss_term", "objective", "passes", "terms"))
)


@dataclass(frozen=True)
class ViewInputs:
    """What a view can depend on, of a batch of B windows of S slots.

    drawn: what the term drew, with B rows, or None; graph (B,S,S): the slot graph that each window is judged by, threshold:
    from which entry on a slot is a neighbour; masked bool (B,S): the slots that the prediction pass hides; counted (B,P,S):
    1 where a predicted slot counts in a loss against the truth, else 0; normalised: scales weights so that they sum to 1
    over the batch, all processes that share it included; options: the values of the term's `options`.
    """

    drawn: Tensor | None
    graph: Tensor
    threshold: float
    masked: Tensor
    counted: Tensor
    normalised: Callable[[Tensor], Tensor]
    options: Mapping[str, Any]


@dataclass(frozen=True)
class MaskedView:
    """A term's view of a batch: hidden bool (B,S), its hidden slots; weight (B,…): what counts in its loss, for means over the
    batch normalised; drawn: what the term drew. Where every weight is 0 the view is not computed on the CPU; elsewhere it is
    computed without looking, and its value is to be 0."""

    hidden: Tensor
    weight: Tensor
    drawn: Tensor | None = None

    def part(self, part: slice) -> MaskedView:
        """The view of the windows `part`."""
        return MaskedView(self.hidden[part], self.weight[part], None if self.drawn is None else self.drawn[part])


class LossTerm:
    """A term, weight · value. Subclasses set the first three attributes and implement `view` and `value`."""

    name: ClassVar[str]
    """Under which it is registered, logged, diagnosed and drawn."""
    flag: ClassVar[str]
    """The setting that is its weight: a flat name, like ctt_inv_weight; 0 leaves the term out."""
    help: ClassVar[str]
    """The flag's help text."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Its other settings: flat name → `ctt.core.settings.setting(…)`. They have no effect while the weight is 0."""
    rules: ClassVar[tuple[Rule, ...]] = ()
    """Further rules, of a run's settings: which of its options have no effect, and when."""
    purpose: ClassVar[str | None] = None
    """Purpose of its random generator; None: it draws nothing."""
    compares: ClassVar[bool] = False
    """Whether its view is compared with the prediction pass, whose dropout masks it then reuses (share_dropout)."""
    passes: ClassVar[float] = 1.0
    """Its cost, in passes over a batch (forward and backward), for estimates."""
    always_diagnosed: ClassVar[bool] = False
    """Whether it is diagnosed in runs without it too: for terms that the stage `diagnostics` had from its first version on."""
    digits: ClassVar[int] = 4
    """Digits of its value in tables."""

    def draw(self, masked: Tensor, scope: str, generator: torch.Generator) -> Tensor | None:
        """The random choices of a step with B rows, on the CPU; masked bool (B,S). scope=batch: the same choice for all rows.
        None: no choice is possible."""
        raise NotImplementedError

    def view(self, given: ViewInputs) -> MaskedView | None:
        """The term's view of a batch; None if it has none. Computed without gradients of the graph."""
        raise NotImplementedError

    def value(self, view: MaskedView, predicted: Tensor, clean: Tensor, truth: Tensor, options: Mapping[str, Any]) -> Tensor:
        """The unweighted loss of some of the windows, a sum over them. Of each (b,P,S,D): `predicted` from the view, `clean`
        by the prediction pass (a constant), and the truth. options: the values of the term's `options`."""
        raise NotImplementedError

    def zero(self, near: np.ndarray, masked: np.ndarray) -> float | None:
        """Share of samples in which the loss is 0 whatever is predicted, where slot k is a neighbour of row s if near[n,s,k],
        bool (N,S,S) with a False diagonal; masked bool (N,S). None: not known of this term."""
        return None


@functools.cache
def loss_terms() -> dict[str, LossTerm]:
    """The terms that can be used, by name, ctt's own first. Raises UsageError if two have one name or one flag."""
    flags: dict[str, str] = {}
    found = {}
    for name, term in LOSSES.usable().items():
        if not isinstance(term, LossTerm) or term.name != name:
            continue
        for key in (term.flag, *term.options):
            if (other := flags.setdefault(key, name)) != name:
                raise UsageError(f"the loss terms {other} and {name} ({LOSSES.plugin(name)}) both have a setting {key}")
        found[name] = term
    return found


def broken_terms() -> dict[str, str]:
    """Why terms of plugins cannot be used, by name."""
    others = [name for name in LOSSES.names() if name not in loss_terms()]
    broken = LOSSES.broken()
    return {name: broken.get(name, f"{LOSSES.plugin(name)}: its loss term {name} is no LossTerm of that name") for name in others}


def acting(weights: Mapping[str, float]) -> list[tuple[LossTerm, float]]:
    """The terms with a weight, in the order of the registry. Raises UsageError for a term that cannot be used."""
    return [(loss_terms().get(name) or LOSSES.get(name), weights[name]) for name in in_order(weights) if weights[name] > 0]


def diagnosed(weights: Collection[str] = ()) -> list[LossTerm]:
    """The terms that are measured of a state: those of every diagnosis, and those of the names in `weights`."""
    return [term for name, term in loss_terms().items() if term.always_diagnosed or name in weights]


def in_order(names: Iterable[str]) -> list[str]:
    """Names of terms, those of ctt first, then by name; also of terms that are not installed."""
    return sorted(names, key=lambda name: (name not in LOSSES.builtin, name))
