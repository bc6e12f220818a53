"""Method: the settings of the loss terms, and when they have no effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ctt.core.errors import UsageError
from ctt.core.settings import Rule, Settings, setting
from ctt.models.losses.loss_term import LOSSES, LossTerm, loss_terms

T = TypeVar("T")
TRAINED = ("scope", "dropout")
"""Settings of the slot graph that only training reads: elsewhere it is that of a window, without dropout."""
OWN = ("invariance", "sufficiency")
"""The terms whose weights are fields of `Method`; those of others are in `Method.others`."""


@dataclass
class Method(Settings):
    """The loss terms: total = prediction + inv_weight · invariance + suf_weight · sufficiency + others, from an epoch on."""

    inv_weight: float = setting(0.0, "weight of the invariance loss; 0 leaves it out", minimum=0)
    suf_weight: float = setting(0.0, "weight of the sufficiency loss; 0 leaves it out", minimum=0)
    adj_threshold: float = setting(
        0.15,
        "a slot is a neighbour of another if their entry in the slot graph is at least this much",
        minimum=0,
        maximum=1,
    )
    start_epoch: int = setting(10, "the losses act in this epoch (counted from 0) and all later ones", minimum=0)
    others: Mapping[str, Any] = setting(dict, "weights of further loss terms and values of their options, by their flat names")

    @property
    def flags(self) -> dict[str, Any]:
        """The values of all settings of the method, by the flat names that users write."""

        def made() -> dict[str, Any]:
            fields = (field.name for field in dataclasses.fields(self) if field.name != "others")
            return {f"ctt_{name}": getattr(self, name) for name in fields} | dict(self.others)

        return self.remembered("flags", made)

    @property
    def weights(self) -> dict[str, float]:
        """The weights of the terms that have one, by the terms' names, in the order of the registry."""
        flags = self.flags
        return {name: weight for name, term in loss_terms().items() if (weight := float(flags.get(term.flag, 0.0))) > 0}

    def active(self, epoch: int) -> bool:
        """Whether a loss term acts in this epoch."""
        return epoch >= self.start_epoch and bool(self.weights)


def with_settings_of_terms(cls: type[T]) -> type[T]:
    """Adds the settings of the terms that the class does not declare itself; applied before `dataclass`. Without further
    terms the class stays as it is. Raises UsageError if a name is taken."""
    declared = dict(cls.__annotations__)
    for name, term in loss_terms().items():
        if name in OWN:
            continue
        made = {term.flag: setting(0.0, term.help, minimum=0, old=0.0), **term.options}
        for key, field in made.items():
            if key in declared:
                raise UsageError(f"the loss term {name} ({LOSSES.plugin(name) or 'ctt'}) has a setting {key}, as others have")
            cls.__annotations__[key] = type(field.default)
            setattr(cls, key, field)
    return cls


def weight_of(name: str) -> Any:
    """The field of the weight of a term of ctt."""
    return setting(0.0, LOSSES.get(name).help, minimum=0)


def other_settings() -> list[str]:
    """The flat names of weights and options of the terms that are not fields of `Method`."""
    others = [term for name, term in loss_terms().items() if name not in OWN]
    return [key for term in others for key in (term.flag, *term.options)]


def _acts(training: Any, term: LossTerm) -> bool:
    return float(getattr(training, term.flag)) > 0


def _rules() -> tuple[Rule, ...]:
    """Rules of `TrainingSettings`; the names are those that users write."""
    terms = list(loss_terms().values())
    comparing = [term for term in terms if term.compares]
    flags = tuple(term.flag for term in terms)
    options = tuple(key for term in terms for key in term.options)
    losses = (*flags, "ctt_start_epoch", *options, "world_model.share_dropout", *(f"world_model.graph.{name}" for name in TRAINED))
    graph = ("ctt_adj_threshold", "world_model.graph")
    nothing = "both CTT weights are 0" if len(terms) == len(OWN) else "the weights of all loss terms are 0"
    which = " and ".join(term.name for term in comparing)
    alone = f"only the {which} loss compares two passes, and its weight is 0"
    several = f"only the losses {which} compare two passes, and their weights are 0"

    def none(training: Any) -> bool:
        return not any(_acts(training, term) for term in terms)

    def too_late(training: Any) -> bool:
        return bool(training.ctt_start_epoch >= training.world_model.epochs)

    return (
        Rule(losses, f"{nothing}, so no slot graph is read", none),
        Rule(graph, f"{nothing}, so no slot graph is read", lambda training: none(training) and not training.reads_graph),
        Rule(losses, "training ends before the CTT losses start", too_late),
        Rule(
            graph,
            "training ends before the CTT losses start",
            lambda training: too_late(training) and not training.reads_graph,
        ),
        Rule(
            ("world_model.share_dropout",),
            alone if len(comparing) == 1 else several,
            lambda training: not any(_acts(training, term) for term in comparing),
        ),
        *(_options_of(term) for term in terms if term.options),
        *(rule for term in terms for rule in term.rules),
    )


def _options_of(term: LossTerm) -> Rule:
    reason = f"only the {term.name} loss reads it, and its weight is 0"
    return Rule(tuple(term.options), reason, lambda training: not _acts(training, term))


RULES = _rules()
