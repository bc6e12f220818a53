"""What a world model's training is set by: the group `world_model`, and with it the method's own flags, data and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ctt.core.errors import SettingError
from ctt.core.settings import Rule, Settings, in_force, setting
from ctt.data.data_settings import DataSettings
from ctt.data.synthetic.slot_encoder import WIDTH
from ctt.models.method import RULES as METHOD_RULES
from ctt.models.method import Method
from ctt.models.model_settings import MASKING_RULES, GraphSettings, MaskingSettings, PredictorSettings


@dataclass
class WindowSettings(Settings):
    """Which windows of the videos are trained and validated on."""

    all_starts: bool = setting(
        True,
        "false leaves out the last frameskip − 1 starts of every video, as the published code does by an off-by-one",
    )
    per_epoch: int | None = setting(None, "windows an epoch draws, without replacement; null = all of them", minimum=1)
    store: str = setting(
        "float32",
        "float32: batches are read from the memory-mapped file; bf16: the slots are held in memory rounded to bfloat16",
        choices=("float32", "bf16"),
        old="float32",
    )
    validation: int | None = setting(
        None, "validation windows measured, one fixed choice for all runs; null = all of them", minimum=1
    )


@dataclass
class WorldModelSettings(PredictorSettings):
    """The group `world_model`."""

    epochs: int = setting(30, "passes over the training windows", minimum=0)
    batch_size: int = setting(256, "windows an optimiser step sees", minimum=1)
    micro_batch: int | None = setting(
        None,
        "windows computed at a time (null = the whole batch); small ones fit a CPU's cache, gradients are summed",
        minimum=1,
    )
    optimizer: str = setting(
        "adamw",
        "adamw; muon: orthogonalised momentum (torch.optim.Muon) for the layers' matrices, adamw for the rest",
        choices=("adamw", "muon"),
    )
    learning_rate: float = setting(
        5e-4, "AdamW's learning rate; constant, as published, unless decay_steps says else", above=0
    )
    muon_rate: float = setting(
        0.02, "Muon's learning rate: the spectral norm of a step, about; adamw does not read it", above=0
    )
    decay_steps: int | None = setting(
        None,
        "null: the rate stays as it is; else it is divided by 1 + step / decay_steps. It depends on the steps done, "
        "never on how many are to come, so that longer trainings share their beginnings",
        minimum=1,
    )
    weight_decay: float = setting(
        0.01, "decoupled weight decay, which keeps small what training does not need; Muon's too", minimum=0
    )
    average: float | None = setting(
        None,
        "decay per step of an exponential moving average of the weights, which rollout and validation then use; null "
        "(published): the last weights, with the noise of the last steps",
        above=0,
        maximum=0.99999,
        old=None,
    )
    precision: str = setting(
        "fp32",
        "fp32 (published), or bf16: matrix products in bfloat16, weights and sums in float32, for speed",
        choices=("fp32", "bf16"),
    )
    compile: bool = setting(False, "torch.compile the predictor: minutes to start, then perhaps faster")
    loss_on: str = setting(
        "all",
        "all: every cell counts in the prediction and sufficiency losses; visible: only cells whose object is in view "
        "(data that knows it). The invariance loss, which compares two predictions and no truth, counts every slot",
        choices=("all", "visible"),
    )
    threads: int = setting(
        1, "CPU threads of a training or rollout; another count gives other bits", minimum=1, key=False
    )
    share_dropout: bool = setting(
        True,
        "the invariance view reuses the main pass's dropout masks; with false (published) it draws its own, and most "
        "of the loss measures dropout",
    )
    graph: GraphSettings = setting(GraphSettings, "the slot graph")
    masking: MaskingSettings = setting(MaskingSettings, "the masked slots")
    windows: WindowSettings = setting(WindowSettings, "the windows")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            ("share_dropout", "graph.dropout"),
            "dropout is 0, so all passes and both readings of attention are the same",
            lambda model: model.dropout == 0,
        ),
        Rule(("muon_rate",), "only Muon reads its rate", lambda model: model.optimizer != "muon"),
        Rule(
            ("micro_batch",),
            "the batch is computed in one piece",
            lambda model: model.micro_batch is None or model.micro_batch >= model.batch_size,
        ),
        Rule(
            ("windows.all_starts",),
            "with frameskip 1 every start is used either way",
            lambda model: model.frameskip == 1,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masking.draw == "sample" and self.graph.scope == "batch":
            raise SettingError(
                "world_model.masking.draw=sample needs world_model.graph.scope=sample: one slot for the whole batch "
                "can't be drawn among the unmasked ones of every window"
            )


@dataclass
class TrainingSettings(Settings):
    """All that decides a world model: what a training state is, if `world_model.epochs` is its epoch.

    The method's flags have the flat names of the published trainer.
    """

    ctt_inv_weight: float = setting(0.0, "weight of the invariance loss (Axiom 6); 0: not computed", minimum=0)
    ctt_suf_weight: float = setting(0.0, "weight of the sufficiency loss (Axiom 4); 0: not computed", minimum=0)
    ctt_adj_threshold: float = setting(
        0.15, "slot j is a neighbour of i where the graph's A[i, j] reaches this", minimum=0, maximum=1
    )
    ctt_start_epoch: int = setting(10, "completed epochs before the two losses act", minimum=0)
    num_masked_slots: int = setting(
        2,
        "slots hidden from the world model in training (M); frame 0 of each stays, so history_size=1 hides nothing",
        minimum=0,
        maximum=7,
    )
    seed: int = setting(0, "everything random in a run is derived from it", minimum=0)
    data: DataSettings = setting(DataSettings, "the data set")
    world_model: WorldModelSettings = setting(WorldModelSettings, "the masked slot predictor and its training")

    rules: ClassVar[tuple[Rule, ...]] = (
        *METHOD_RULES,
        *MASKING_RULES,
        Rule(
            ("world_model.loss_on",),
            "CLEVRER's files do not say which objects are in view",
            lambda training: training.data.kind == "clevrer",
        ),
    )

    def check(self) -> None:
        """Raises SettingError where values that are possible one by one are not together."""
        graph, rules = self.world_model.graph, in_force(self)
        if any("world_model.graph" in rule.silences for rule in rules):
            return
        if graph.source == "oracle" and self.data.kind == "clevrer":
            raise SettingError(
                "world_model.graph.source=oracle is the true interactions, and only synthetic data knows them "
                "(data=synthetic, data=mini); with data=clevrer choose another source"
            )
        if self.world_model.history_size == 1:
            raise SettingError(
                "ctt_inv_weight and ctt_suf_weight need world_model.history_size to be at least 2: a masked slot keeps its "
                "frame 0, so with one given frame both losses hide nothing; set both weights to 0 or give more frames"
            )
        numbers = self.world_model.num_preds * WIDTH
        if graph.source == "jacobian" and graph.projections > numbers:
            raise SettingError(
                f"world_model.graph.projections must be at most {numbers}, the numbers of a predicted slot, "
                f"got {graph.projections}"
            )

    def method(self) -> Method:
        """The causal losses as the world model's training takes them."""
        return Method(self.ctt_inv_weight, self.ctt_suf_weight, self.ctt_adj_threshold, self.ctt_start_epoch)
