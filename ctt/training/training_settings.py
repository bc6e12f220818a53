"""Settings of world model training: the group `world_model`, the method's flags, data and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ctt.core.errors import SettingError
from ctt.core.settings import FROM_FILE, Rule, Settings, active_rules, setting
from ctt.data.data_format import BOUNDS, window_starts
from ctt.data.data_settings import DataSettings
from ctt.models.compile_modes import MODE_HELP, MODES
from ctt.models.graphs.graph_source import graph_source
from ctt.models.losses.loss_term import loss_terms
from ctt.models.method import RULES as METHOD_RULES
from ctt.models.method import TRAINED, Method, other_settings, weight_of, with_settings_of_terms
from ctt.models.model_settings import MASKING_RULES, GraphSettings, MaskingSettings, PredictorSettings


@dataclass
class WindowSettings(Settings):
    """The windows of the videos used in training and validation."""

    all_starts: bool = setting(
        True,
        "false leaves out the last frameskip − 1 starts of every video, as the published code does (an off-by-one error)",
    )
    per_epoch: int | None = setting(None, "windows drawn per epoch, without replacement; null = all of them", minimum=1)
    store: str = setting(
        "float32",
        "float32: batches are read from the memory-mapped file; bf16: slots are held in memory, rounded to bfloat16",
        choices=("float32", "bf16"),
        old="float32",
    )
    device: str = setting(
        "auto",
        "where a GPU finds the slots: device: in its memory, where windows are gathered; host: in main memory, from where a "
        "thread sends windows one batch ahead; auto: device, if they take at most half of its free memory. Results do not change",
        choices=("auto", "device", "host"),
        key=False,
        old="auto",
    )
    validation: int | None = setting(None, "validation windows measured, the same for all runs; null = all of them", minimum=1)


@dataclass
class WorldModelSettings(PredictorSettings):
    """The group `world_model`."""

    epochs: int = setting(30, "passes over the training windows", minimum=0)
    batch_size: int = setting(256, "windows per optimiser step", minimum=1)
    micro_batch: int | None = setting(
        None,
        "windows computed at a time (null = the whole batch); small values fit a CPU's cache; gradients are summed",
        minimum=1,
    )
    optimizer: str = setting(
        "adamw",
        "adamw; muon: orthogonalised momentum (torch.optim.Muon) for the layers' matrices, adamw for the rest",
        choices=("adamw", "muon"),
    )
    learning_rate: float = setting(5e-4, "AdamW's learning rate; constant, as published, unless decay_steps is set", above=0)
    muon_rate: float = setting(0.02, "Muon's learning rate: about the spectral norm of a step; not used by adamw", above=0)
    muon_precision: str = setting(
        "bf16",
        "Muon's orthogonalisation: bf16 (torch.optim.Muon's), or fp32, many times as fast on CPUs without bf16 instructions",
        choices=("bf16", "fp32"),
        old="bf16",
    )
    decay_steps: int | None = setting(
        None,
        "null: the rate is constant; else it is divided by 1 + step / decay_steps. It depends on the steps done, not on "
        "their total, so that longer trainings share their first epochs",
        minimum=1,
    )
    weight_decay: float = setting(0.01, "decoupled weight decay, of Muon too", minimum=0)
    average: float | None = setting(
        None,
        "decay per step of an exponential moving average of the weights, which rollout and validation then use; null "
        "(published): the last weights",
        above=0,
        maximum=0.99999,
        old=None,
    )
    precision: str = setting(
        "fp32",
        "fp32 (published); tf32: as fp32 with a GPU's matrix products in TensorFloat-32, three digits at many times the speed (on "
        "a CPU as fp32); bf16: matrix products in bfloat16, weights, their gradients and sums in float32; faster, and "
        "slower than fp32 on CPUs without bf16 instructions. Rollout and validation are in fp32",
        choices=("fp32", "tf32", "bf16"),
    )
    compile: bool = setting(False, "torch.compile the predictor: takes minutes to start, may then be faster")
    compile_mode: str = setting("default", MODE_HELP, choices=MODES, old="default")
    loss_on: str = setting(
        "all",
        "all: every slot and frame counts in the prediction and sufficiency losses; visible: only those whose object is in "
        "view (where the data records that). The invariance loss, which compares two predictions, always counts every slot",
        choices=("all", "visible"),
    )
    threads: int = setting(
        1,
        "CPU threads of a training or rollout; another count can change the last bits of results",
        minimum=1,
        key=False,
    )
    share_dropout: bool = setting(
        True,
        "the invariance view reuses the main pass's dropout masks; false (published): it draws its own, and most of the "
        "loss measures dropout",
    )
    graph: GraphSettings = setting(GraphSettings, "the slot graph")
    masking: MaskingSettings = setting(MaskingSettings, "the masked slots")
    windows: WindowSettings = setting(WindowSettings, "the windows")
    checkpoint: str | None = setting(None, "a checkpoint's file, whose weights are used instead of a training", key=False)
    tensors: str | None = setting(
        None, "digest of the checkpoint's weights, which is determined when a sweep is compiled; not to be set", old=None
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            (
                "epochs",
                "batch_size",
                "micro_batch",
                "muon_precision",
                "optimizer",
                "learning_rate",
                "muon_rate",
                "decay_steps",
                "weight_decay",
                "average",
                "precision",
                "compile",
                "compile_mode",
                "loss_on",
                "share_dropout",
                "masking",
                "windows.per_epoch",
                "windows.store",
                "dropout",
                "dropout_kind",
            ),  # fmt: skip
            FROM_FILE,
            lambda model: model.tensors is not None,
        ),
        Rule(
            ("share_dropout", "graph.dropout"),
            "dropout is 0, so all passes and both readings of attention are equal",
            lambda model: model.dropout == 0,
        ),
        Rule(("compile_mode",), "nothing is compiled", lambda model: not model.compile),
        Rule(("muon_rate", "muon_precision"), "only Muon uses them", lambda model: model.optimizer != "muon"),
        Rule(
            ("micro_batch",),
            "the batch is computed in one piece",
            lambda model: model.micro_batch is None or model.micro_batch >= model.batch_size,
        ),
        Rule(
            ("windows.all_starts",),
            "with frameskip=1 every start is used in either case",
            lambda model: model.frameskip == 1,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.masking.draw == "sample" and self.graph.scope == "batch":
            raise SettingError(
                "world_model.masking.draw=sample needs world_model.graph.scope=sample: with scope=batch one slot is drawn "
                "for all windows, and it may be masked in some of them"
            )


@dataclass
@with_settings_of_terms
class TrainingSettings(Settings):
    """All settings that determine a world model; with `world_model.epochs` as its epoch, those of a training state.

    The method's flags keep the flat names of the published trainer. Loss terms of other distributions add theirs.
    """

    ctt_inv_weight: float = weight_of("invariance")
    ctt_suf_weight: float = weight_of("sufficiency")
    ctt_adj_threshold: float = setting(
        0.15, "slot j is a neighbour of i where the graph's A[i, j] reaches this", minimum=0, maximum=1
    )
    ctt_start_epoch: int = setting(10, "completed epochs before the two losses act", minimum=0)
    num_masked_slots: int = setting(
        2,
        "slots masked in training (M); frame 0 of each is kept, so with history_size=1 nothing is masked",
        minimum=0,
        maximum=BOUNDS["slots"][1],
    )
    seed: int = setting(0, "the seed of a run; everything random is derived from it", minimum=0)
    data: DataSettings = setting(DataSettings, "the data set")
    world_model: WorldModelSettings = setting(WorldModelSettings, "the masked slot predictor and its training")

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            (
                *("ctt_inv_weight", "ctt_suf_weight", "ctt_start_epoch", "num_masked_slots"),
                *(f"world_model.graph.{name}" for name in TRAINED),
            ),
            FROM_FILE,
            lambda training: training.world_model.tensors is not None,
        ),
        Rule(
            ("ctt_adj_threshold", "world_model.graph"),
            FROM_FILE,
            lambda training: training.world_model.tensors is not None and not training.reads_graph,
        ),
        *METHOD_RULES,
        *MASKING_RULES,
        Rule(
            ("world_model.loss_on",),
            "the data does not record which objects are in view",
            lambda training: not training.data.source.shows_view,
        ),
    )

    @property
    def reads_graph(self) -> bool:
        """Whether something besides the losses reads the slot graph."""
        return False

    @property
    def losses_act(self) -> bool:
        """Whether a loss term acts in some epoch of the training."""
        return not any("ctt_start_epoch" in rule.inactive for rule in active_rules(self))

    def check(self) -> None:
        """Raises SettingError for combinations of values that are not possible."""
        self._check_sizes()
        self._check_batch()
        graph = self.world_model.graph
        if not (self.losses_act or self.reads_graph):
            return
        source = graph_source(graph.source)
        if source.needs_truth and not self.data.source.has_truth:
            raise SettingError(
                f"world_model.graph.source={graph.source} needs the true interactions, which only synthetic data has "
                f"(data=synthetic, data=mini); with data={self.data.kind} choose another source"
            )
        if self.losses_act and self.world_model.history_size == 1:
            flags = " and ".join(term.flag for term in loss_terms().values())
            raise SettingError(
                f"{flags} need world_model.history_size to be at least 2: a masked slot keeps its frame 0, so with one given "
                "frame nothing is masked; set these weights to 0 or raise history_size"
            )
        source.check(graph, self.world_model.num_preds * self.data.format.width)
        drawn, every = source.windows(graph) if source.network_purpose else 0, self.every_window
        if every is not None and drawn > every:
            raise SettingError(
                f"world_model.graph.{source.name}.windows={drawn} is more than the {every} windows of {self.data.train} training "
                f"videos, from which each step draws them; set it to at most {every}, or take more videos"
            )

    def _check_sizes(self) -> None:
        """Raises SettingError if the world model does not fit the data's format."""
        sizes, model = self.data.format, self.world_model
        if self.num_masked_slots > sizes.slots:
            raise SettingError(
                f"num_masked_slots must be at most {sizes.slots}, the slots of the data; got {self.num_masked_slots}"
            )
        if sizes.width % model.heads:
            raise SettingError(f"world_model.heads must divide {sizes.width}, the width of the data's slots; got {model.heads}")
        length = model.history_size + model.num_preds
        needed = (length - 1) * model.frameskip + 1 if model.windows.all_starts else length * model.frameskip
        if max(needed, model.history_size * model.frameskip) > sizes.frames:
            raise SettingError(
                f"world_model.history_size={model.history_size}, num_preds={model.num_preds} and frameskip={model.frameskip} need "
                f"{max(needed, model.history_size * model.frameskip)} frames, and a video has {sizes.frames} given ones"
            )

    @property
    def every_window(self) -> int | None:
        """Windows of all training videos; None if the number of videos is not known."""
        model, data = self.world_model, self.data
        length = model.history_size + model.num_preds
        starts = window_starts(data.format.frames, length, model.frameskip, model.windows.all_starts)
        return data.train * starts if data.counted else None

    @property
    def drawn_windows(self) -> int | None:
        """Training windows of an epoch; None if the number of videos is not known."""
        every = self.every_window
        return every and min(self.world_model.windows.per_epoch or every, every)

    def _check_batch(self) -> None:
        """Raises SettingError if an epoch has no whole batch."""
        model, drawn = self.world_model, self.drawn_windows
        if model.tensors is not None or drawn is None or drawn >= model.batch_size:
            return
        few = model.windows.per_epoch == drawn
        why = f"world_model.windows.per_epoch={drawn}" if few else f"the windows of {self.data.train} training videos"
        raise SettingError(
            f"world_model.batch_size={model.batch_size} is more than an epoch's {drawn} windows ({why}); set it to at most "
            f"{drawn}, or {'raise world_model.windows.per_epoch' if few else 'take more videos'}"
        )

    def method(self) -> Method:
        """The settings of the loss terms, as training takes them."""
        others = {key: getattr(self, key) for key in other_settings()}
        return Method(self.ctt_inv_weight, self.ctt_suf_weight, self.ctt_adj_threshold, self.ctt_start_epoch, others)
