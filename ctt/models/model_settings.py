"""Settings of the world model's parts. They are separate from the code that reads them because that code imports torch,
which most commands do not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from ctt.core.errors import UsageError
from ctt.core.settings import Rule, Settings, setting
from ctt.models.graphs.graph_source import SOURCES, GraphSource, graph_source, graph_sources
from ctt.models.graphs.learned import LearnedSettings

T = TypeVar("T")


@dataclass
class PredictorSettings(Settings):
    """The world model's shape and dropout. A window has history_size + num_preds frames, `frameskip` apart."""

    history_size: int = setting(3, "given frames of a window (H)", minimum=1)
    num_preds: int = setting(1, "predicted frames of a window (P)", minimum=1)
    frameskip: int = setting(5, "video frames between two frames of a window", minimum=1)
    depth: int = setting(6, "transformer layers; the attention of the last one is the slot graph of source=attention", minimum=1)
    heads: int = setting(16, "attention heads; the slot width is divided among them, and the slot graph is their mean", minimum=1)
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
        maximum=2**32 - 1,
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


def with_settings_of_sources(cls: type[T]) -> type[T]:
    """Adds the settings of the sources that the class does not declare itself; applied before `dataclass`. Raises UsageError
    if a name is taken."""
    declared = dict(cls.__annotations__)
    for name, source in graph_sources().items():
        if SOURCES.plugin(name) is None and set(source.options) <= set(declared):
            continue
        for key, field in source.options.items():
            if key in declared:
                raise UsageError(f"the graph source {name} ({SOURCES.plugin(name) or 'ctt'}) has a setting {key}, as others have")
            made = field.default_factory
            cls.__annotations__[key] = made if isinstance(made, type) else type(field.default)
            setattr(cls, key, field)
    return cls


def _option(source: str, name: str) -> Any:
    """The field of a setting of a source of ctt."""
    return SOURCES.get(source).options[name]


def _rules_of_sources() -> tuple[Rule, ...]:
    return (
        Rule(("frames", "dropout"), "its source reads no attention", lambda graph: not graph_source(graph.source).reads_attention),
        *(_options_of(source) for source in graph_sources().values() if source.options),
    )


def _options_of(source: GraphSource) -> Rule:
    what = "a network" if source.network_purpose else " and ".join(source.options)
    return Rule(tuple(source.options), f"only graph.source={source.name} has {what}", lambda graph: graph.source != source.name)


@dataclass
@with_settings_of_sources
class GraphSettings(Settings):
    """The source of the slot graph and how it is read. Sources of other distributions add their settings."""

    source: str = setting(
        "attention",
        "; ".join(f"{name}: {source.help}" for name, source in graph_sources().items()),
        choices=SOURCES.names(),
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
    projections: int = _option("jacobian", "projections")
    learned: LearnedSettings = _option("learned", "learned")

    rules: ClassVar[tuple[Rule, ...]] = _rules_of_sources()

    def __post_init__(self) -> None:
        super().__post_init__()
        graph_source(self.source)


@dataclass
class RolloutSettings(Settings):
    """How far and in what batches the world model is rolled out."""

    frames: int = setting(32, "predicted video frames after the given ones (32: what ALOE reads)", minimum=1)
    batch: int = setting(8, "videos per batch, times frameskip offsets; larger batches exceed a CPU's cache", minimum=1)
    dtype: str = setting("float32", "number format of the stored frames; float16 halves their size", choices=("float32", "float16"))

    @property
    def number_bytes(self) -> int:
        """Bytes of a stored number."""
        return 2 if self.dtype == "float16" else 4
