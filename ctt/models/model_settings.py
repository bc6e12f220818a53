"""Settings of the world model's parts. They are separate from the code that reads them because that code imports torch,
which most commands do not need."""

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
    depth: int = setting(6, "transformer layers; the attention of the last one is the slot graph of source=attention", minimum=1)
    heads: int = setting(
        16, "attention heads; the slot width (128) is divided among them, and the slot graph is their mean", minimum=1
    )
    mlp_width: int = setting(
        2048, "hidden width of each layer's feed-forward part, which takes three quarters of a step's time", minimum=1
    )
    dropout: float = setting(0.1, "dropout probability of attention weights and feed-forward parts", minimum=0, maximum=0.9)
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
        "slots 2 to 6 are never masked); batch: drawn each step, the same for the whole batch; sample: drawn for each window",
        choices=("fixed", "batch", "sample"),
    )
    seed: int = setting(
        42,
        "seed from which the published code restarts; only draw=fixed reads it, otherwise the run's seed decides",
        minimum=0,
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("seed",),
            "only masking.draw=fixed has a seed of its own",
            lambda masking: masking.draw != "fixed",
        ),
    )


# Rules of `TrainingSettings`.
MASKING_RULES = (Rule(("world_model.masking",), "no slot is masked (num_masked_slots=0)", lambda t: t.num_masked_slots == 0),)


@dataclass
class LearnedSettings(Settings):
    """The network of source=learned and its training."""

    width: int = setting(64, "hidden width; a larger one discriminates better and makes every step slower", minimum=1)
    projected: int = setting(16, "dimensions of the linear projection of each slot that a pair of slots is judged by", minimum=1)
    price: float = setting(
        0.05,
        "penalty on the parts of other slots, in nats of a slot's log-likelihood for a part as large as the mean squared error",
        minimum=0,
    )
    learning_rate: float = setting(
        0.004, "learning rate of its AdamW: high, since the losses use its graph from its first step on", above=0
    )
    windows: int = setting(64, "windows of its batch in each step, drawn from all windows", minimum=1)


ATTENTION_SOURCES = ("attention", "rollout_attention")
"""The sources that are read from the prediction pass; the others are computed separately."""


@dataclass
class GraphSettings(Settings):
    """The source of the slot graph and how it is read."""

    source: str = setting(
        "attention",
        "attention: the last layer's attention; rollout_attention: attention composed over all layers with the "
        "residual path (Abnar and Zuidema, arXiv 2005.00928); jacobian: how strongly the predicted frames of a slot "
        "change with the given ones of another; learned: a small separate network, trained from the start epoch on, that "
        "finds, from slots alone, which slots explain the error of predicting a slot from its own past; oracle: the slots whose "
        "objects touch within the window (known for synthetic data only)",
        choices=(*ATTENTION_SOURCES, "jacobian", "learned", "oracle"),
    )
    frames: str = setting(
        "sum",
        "how a slot's attention over the window's frames becomes one number. mean (published): rows of A sum to 1/T, "
        "so that the graph is empty at the published threshold; sum: rows sum to 1, uniform attention is 1/S",
        choices=("mean", "sum"),
    )
    scope: str = setting(
        "sample",
        "batch (published): one graph for the batch, its mean, and one drawn slot for each loss, although the order of slots "
        "differs between scenes, so that a mean is nearly uniform; sample: each window has its own graph and slots",
        choices=("batch", "sample"),
    )
    dropout: str = setting(
        "before",
        "whether attention is read after dropout (published; a tenth of it is zero) or before it",
        choices=("after", "before"),
    )
    projections: int = setting(
        1,
        "random directions of a predicted slot from whose derivatives the jacobian is estimated; each costs about as "
        "much as a forward pass for every slot; with as many as a predicted slot has dimensions it is exact",
        minimum=1,
        old=1,
    )
    learned: LearnedSettings = setting(LearnedSettings, "the network of source=learned, which is trained along with the predictor")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("frames", "dropout"), "its source reads no attention", lambda graph: graph.source not in ATTENTION_SOURCES),
        Rule(("projections",), "only graph.source=jacobian has projections", lambda graph: graph.source != "jacobian"),
        Rule(("learned",), "only graph.source=learned has a network", lambda graph: graph.source != "learned"),
    )


@dataclass
class RolloutSettings(Settings):
    """How far and in what batches the world model is rolled out."""

    frames: int = setting(32, "predicted video frames (32: frames 128 to 159, which ALOE reads)", minimum=1)
    batch: int = setting(8, "videos per batch, times frameskip offsets; larger batches exceed a CPU's cache", minimum=1)
    dtype: str = setting("float32", "number format of the stored frames; float16 halves their size", choices=("float32", "float16"))
