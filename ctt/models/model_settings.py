"""Settings of the world model's parts. They lie apart from the code that reads them, since that imports torch: every command
reads settings, and few need it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ctt.core.settings import Rule, Settings, setting


@dataclass
class PredictorSettings(Settings):
    """The world model's shape and dropout. A window has history_size + num_preds frames, `frameskip` apart."""

    history_size: int = setting(3, "given frames of a window (H)", minimum=1)
    num_preds: int = setting(1, "predicted frames of a window (P)", minimum=1)
    frameskip: int = setting(5, "video frames between two frames of a window", minimum=1)
    depth: int = setting(
        6, "transformer layers; attention of the last one is the slot graph of source=attention", minimum=1
    )
    heads: int = setting(
        16, "attention heads; the slot width (128) is divided among them, and the graph is their mean", minimum=1
    )
    mlp_width: int = setting(
        2048, "hidden width of each layer's feed-forward part, where three quarters of a step's time go", minimum=1
    )
    dropout: float = setting(
        0.1, "dropout probability of attention weights and feed-forward parts", minimum=0, maximum=0.9
    )
    dropout_kind: str = setting(
        "exact",
        "exact: p to ten digits; cheap: 16 random bits a decision (0.1 becomes 0.100006), faster",
        choices=("exact", "cheap"),
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("dropout_kind",), "dropout is 0, so no mask is drawn", lambda predictor: predictor.dropout == 0),
    )


@dataclass
class MaskingSettings(Settings):
    """How the masked slots of a step are chosen."""

    draw: str = setting(
        "batch",
        "fixed: the same slots in every step (the published code re-seeds its generator on every call, so that at M=2 "
        "slots 2 to 6 are never masked); batch: drawn each step, one choice for the batch; sample: one for each window",
        choices=("fixed", "batch", "sample"),
    )
    seed: int = setting(
        42,
        "the seed the published code restarts from; only draw=fixed reads it, otherwise the run's seed decides",
        minimum=0,
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("seed",),
            "only masking.draw=fixed restarts from a seed of its own",
            lambda masking: masking.draw != "fixed",
        ),
    )


# Of a training (`TrainingSettings`).
MASKING_RULES = (
    Rule(("world_model.masking",), "no slot is masked (num_masked_slots=0)", lambda t: t.num_masked_slots == 0),
)


@dataclass
class LearnedSettings(Settings):
    """The network of source=learned and its training."""

    width: int = setting(64, "hidden width; a wider one tells finer and costs more in every step", minimum=1)
    projected: int = setting(
        16, "numbers of each slot, chosen by a linear map, that a pair of slots is judged by", minimum=1
    )
    price: float = setting(
        0.05,
        "what others' parts cost: nats of a slot's likelihood for a part as large as the mean squared error",
        minimum=0,
    )
    learning_rate: float = setting(
        0.004, "its AdamW's learning rate: high, since it begins with the losses and they judge by it at once", above=0
    )
    windows: int = setting(64, "windows it learns from in a step, drawn for it among all", minimum=1)


READ = ("attention", "rollout_attention")
"""The sources that are read off the pass that predicts; the others are worked out beside it."""


@dataclass
class GraphSettings(Settings):
    """Where the slot graph comes from and how it is read."""

    source: str = setting(
        "attention",
        "attention: the last layer's attention; rollout_attention: attention composed over all layers with the "
        "residual path (Abnar and Zuidema, arXiv 2005.00928); jacobian: how strongly the predicted frames of a slot "
        "change with the given ones of another; learned: a small network beside the predictor, trained from the start "
        "epoch on to tell, from slots alone, which explain where another's own past fails to predict it; oracle: the slots whose "
        "objects touch within the window (synthetic data alone knows them)",
        choices=(*READ, "jacobian", "learned", "oracle"),
    )
    frames: str = setting(
        "sum",
        "how a slot's attention over the window's frames becomes one number. mean (published): rows of A sum to 1/T, "
        "so that at the published threshold the graph is empty; sum: rows sum to 1, uniform attention is 1/S",
        choices=("mean", "sum"),
    )
    scope: str = setting(
        "sample",
        "batch (published): one graph for the batch, its mean, and one drawn slot for each loss, though slots stand in "
        "another order in every scene, so that a mean tells little apart; sample: each window has its own graph and slots",
        choices=("batch", "sample"),
    )
    dropout: str = setting(
        "before",
        "whether attention is read after dropout (published; a tenth of it is zeros) or before it",
        choices=("after", "before"),
    )
    projections: int = setting(
        1,
        "random directions of a predicted slot whose derivatives the jacobian is estimated from; each costs about as "
        "much as a forward pass for every slot, and as many as a predicted slot has numbers make it exact",
        minimum=1,
        old=1,
    )
    learned: LearnedSettings = setting(
        LearnedSettings, "the network of source=learned, which trains beside the predictor"
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("frames", "dropout"), "no attention is read for this graph", lambda graph: graph.source not in READ),
        Rule(("projections",), "only graph.source=jacobian projects", lambda graph: graph.source != "jacobian"),
        Rule(("learned",), "only graph.source=learned has a network", lambda graph: graph.source != "learned"),
    )


@dataclass
class RolloutSettings(Settings):
    """How far and in what pieces the world model is rolled out."""

    frames: int = setting(32, "predicted video frames (32: from 128 to 160, what the question model reads)", minimum=1)
    batch: int = setting(
        8, "videos rolled out at a time, times frameskip offsets; larger ones leave a CPU's cache", minimum=1
    )
    dtype: str = setting(
        "float32", "number format of the stored frames; float16 halves their size", choices=("float32", "float16")
    )
