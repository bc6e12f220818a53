"""GraphSource: where the slot graph comes from, and the registry of sources.

A source is read off the attention of the prediction pass, or computed separately: from the slots, by the world model, by a
network of its own that is trained along, or from the truth. Each module of this folder that holds a source is found by its
name; other distributions offer sources as entry points of the group `ctt.graphs` (docs/how-to/add-a-graph-source.md).

Commands that compute nothing import sources too: import torch where tensors are computed, not with the module.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ctt.core.errors import UsageError
from ctt.core.registry import Registry, parts_in

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

SOURCES: Registry[GraphSource] = Registry(
    "ctt.graphs",
    "graph source",
    parts_in("ctt.models.graphs", "SOURCE", ("graph_source", "slot_graph", "influence", "attention_reader")),
)


@dataclass(frozen=True)
class GraphInputs:
    """What a graph can be computed from, of B windows of S slots.

    predictor: the world model (`ctt.models.predictor.Predictor`); settings: the group world_model.graph; history (B,H,S,D);
    masked bool (B,S): the slots that the prediction pass hides; generator: makes the step's generator of the source's
    `purpose`; micro_batch: windows to compute at a time, None: all; network: the source's own; touching: reads the true
    interactions, bool (B,S,S), None where they are not known; drawn: what the source's `draw` gave, on the device of
    `history`, None where it was not called.
    """

    predictor: Any
    settings: Any
    history: Tensor
    masked: Tensor | None
    generator: Callable[[], torch.Generator]
    micro_batch: int | None = None
    network: nn.Module | None = None
    touching: Callable[[], Tensor] | None = None
    drawn: Tensor | None = None


class GraphSource:
    """A source. Subclasses set the first two attributes, and implement `rows` (read off the prediction pass) or `graph`."""

    name: ClassVar[str]
    """Under which it is registered and chosen: world_model.graph.source=NAME."""
    help: ClassVar[str]
    """What the graph is, for the help text of world_model.graph.source."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Its settings in the group world_model.graph: name → `ctt.core.settings.setting(…)`, also of a group of settings."""
    reads_attention: ClassVar[bool] = False
    """Whether it is read off the prediction pass, as graph.frames, graph.scope and graph.dropout set."""
    needs_truth: ClassVar[bool] = False
    """Whether it needs the true interactions, which synthetic data has."""
    is_truth: ClassVar[bool] = False
    """Whether the graph is the truth itself, so that finding it is no achievement."""
    purpose: ClassVar[str] = "graph"
    """Purpose of the random generator of `graph`."""
    network_purpose: ClassVar[str | None] = None
    """Set if the source trains a network of its own: the first word of the purposes of its generators, "NAME network" of the
    initial weights and "NAME windows" of what it learns from."""
    always_diagnosed: ClassVar[bool] = False
    """Whether it is diagnosed in runs with other graphs too: for sources that the stage `diagnostics` had from its first
    version on."""

    def check(self, settings: Any, numbers: int) -> None:
        """Raises SettingError if the group `settings` cannot be used; numbers: the dimensions P·D of a predicted slot."""

    # Read off the prediction pass

    def wants(self, layer: int, layers: int) -> bool:
        """Whether it reads the attention of layer `layer`; the last one is always read."""
        return False

    def heads(self, weights: Tensor) -> Tensor:
        """The attention (B,R,T·S) of a layer from that of its heads (B,heads,R,T·S)."""
        return weights.mean(1)

    def rows(self, last: Tensor, below: list[Tensor], first_row: int) -> Tensor:
        """How much each slot's token of frame t=H depends on each token of the window (B,S,T·S), from the rows of the last
        layer (B,S,T·S) and the layers below that it wants, each (B,T·S,T·S); first_row: the number of the first such token."""
        raise NotImplementedError

    # Computed separately

    def draw(self, settings: Any, numbers: int, generator: Callable[[], torch.Generator]) -> Tensor | None:
        """The random numbers of a step's `graph`, on the CPU; they are sent to the device with the step's windows, so that it
        waits for nothing. numbers: the dimensions P·D of a predicted slot. None: it draws none, or draws in `graph`."""
        return None

    def graph(self, given: GraphInputs) -> Tensor:
        """A (B,S,S), rows that sum to 1: how much each slot depends on each. Without gradients."""
        raise NotImplementedError

    # Trained along, where `network_purpose` is set

    def make_network(self, settings: Any, history: int, future: int, width: int) -> nn.Module:
        """Its network with initial weights from torch's default generator, for windows of `history` + `future` frames."""
        raise NotImplementedError

    def optimizer(self, settings: Any, network: nn.Module) -> torch.optim.Optimizer:
        """The optimizer of its network."""
        raise NotImplementedError

    def windows(self, settings: Any) -> int:
        """Windows of its batch in each step."""
        raise NotImplementedError

    def loss(self, settings: Any, network: nn.Module, window: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of its network on windows (B,T,S,D), and values to log."""
        raise NotImplementedError


@functools.cache
def graph_sources() -> dict[str, GraphSource]:
    """The sources that can be used, by name, ctt's own first. Raises UsageError if two have one name or one setting."""
    options: dict[str, str] = {}
    found = {}
    for name, source in SOURCES.usable().items():
        if not isinstance(source, GraphSource) or source.name != name:
            continue
        for key in source.options:
            if (other := options.setdefault(key, name)) != name:
                raise UsageError(f"the graph sources {other} and {name} ({SOURCES.plugin(name)}) both have a setting {key}")
        found[name] = source
    return found


def graph_source(name: str) -> GraphSource:
    """The source of that name. Raises UsageError if there is none, or if its plugin cannot be used."""
    if (found := graph_sources().get(name)) is not None:
        return found
    SOURCES.get(name)
    raise UsageError(f"{SOURCES.plugin(name)}: its graph source {name} is no GraphSource of that name")
