"""Method: the settings of the two CTT losses, and when they have no effect."""

from __future__ import annotations

from dataclasses import dataclass

from ctt.core.settings import Rule, Settings, setting


@dataclass
class Method(Settings):
    """The CTT losses: total = prediction + inv_weight · invariance + suf_weight · sufficiency, from an epoch on."""

    inv_weight: float = setting(0.0, "weight of the invariance loss; 0 leaves it out", minimum=0)
    suf_weight: float = setting(0.0, "weight of the sufficiency loss; 0 leaves it out", minimum=0)
    adj_threshold: float = setting(
        0.15,
        "a slot is a neighbour of another if their entry in the slot graph is at least this much",
        minimum=0,
        maximum=1,
    )
    start_epoch: int = setting(10, "the losses act in this epoch (counted from 0) and all later ones", minimum=0)

    def active(self, epoch: int) -> bool:
        """Whether a CTT loss acts in this epoch."""
        return epoch >= self.start_epoch and (self.inv_weight > 0 or self.suf_weight > 0)


# Rules of `TrainingSettings`; the names are those that users write.
_GRAPH_AND_VIEWS = ("ctt_adj_threshold", "world_model.graph", "world_model.share_dropout")
_LOSSES = ("ctt_inv_weight", "ctt_suf_weight", "ctt_start_epoch", *_GRAPH_AND_VIEWS)
RULES = (
    Rule(
        _LOSSES,
        "both CTT weights are 0, so no slot graph is read",
        lambda training: training.ctt_inv_weight == 0 and training.ctt_suf_weight == 0,
    ),
    Rule(
        _LOSSES,
        "training ends before the CTT losses start",
        lambda training: training.ctt_start_epoch >= training.world_model.epochs,
    ),
    Rule(
        ("world_model.share_dropout",),
        "only the invariance loss compares two passes, and its weight is 0",
        lambda training: training.ctt_inv_weight == 0,
    ),
)
