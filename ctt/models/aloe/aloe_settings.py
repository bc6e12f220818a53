"""ALOE's settings: the defaults are the published sizes and schedule; other values deviate (tokens, frames, speed)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ctt.core.errors import SettingError
from ctt.core.settings import FROM_FILE, Rule, Settings, setting
from ctt.models.compile_modes import MODE_HELP, MODES


@dataclass
class AloeSettings(Settings):
    """ALOE's architecture and training; its seed is the run's unless `aloe_seed` is set."""

    layers: int = setting(12, "transformer layers", minimum=1)
    heads: int = setting(8, "attention heads; must divide width", minimum=1)
    width: int = setting(144, "width of a token inside the transformer", minimum=1)
    ffn: int = setting(512, "hidden width of each layer's feed-forward part", minimum=1)
    head_hidden: int = setting(128, "hidden width of the two answer heads", minimum=1)
    word_width: int = setting(14, "width of a word's embedding before its projection to `width`", minimum=1)
    equal_layers: bool = setting(True, "all layers start from the same weights, as nn.TransformerEncoder's copies do")
    dropout: float = setting(0.1, "dropout in every layer: attention weights, feed-forward, both residuals", minimum=0, maximum=0.9)
    dropout_kind: str = setting(
        "exact",
        "exact: torch's dropout; cheap: masks from 16 random bits a decision (probability rounded to 2^-16)",
        choices=("exact", "cheap"),
    )

    tokens: str = setting(
        "frames",
        "frames: one token per slot and sampled frame (published); trajectory: one per slot",
        choices=("frames", "trajectory"),
    )
    words: str = setting(
        "tokens",
        "tokens: one token per word (published); vector: the words, each projected by its position, become one vector that is "
        "added to CLS and to every slot token; film: it also scales the slot tokens, and CLS after the last layer",
        choices=("tokens", "vector", "film"),
        old="tokens",
    )
    frames: int = setting(25, "given frames a question sees, at equal distances: a video's given frames // frames", minimum=1)
    frame_width: int = setting(24, "tokens=trajectory: width a slot of one frame is first projected to", minimum=1)
    eval_start: int | None = setting(4, "first sampled frame in evaluation; null = random per question, as published", minimum=0)
    rollout_frames: str = setting(
        "predictive",
        "which categories see predicted frames: predictive (published), those about the future; or all. counterfactual: as "
        "predictive, and counterfactual questions see the given frames of a video that the world model imagines without the "
        "removed object, by reader.reach",
        choices=("predictive", "all", "counterfactual"),
    )
    predicted_frames: int | None = setting(
        None,
        "predicted frames added to the given ones, at the same stride; null = the published rule: questions about the future "
        "see a window that starts 32 frames later (rollout_frames=all: as many as fit)",
        minimum=1,
    )

    epochs: int = setting(400, "passes over the training questions", minimum=1)
    schedule_epochs: int | None = setting(None, "length of the learning rate schedule; null = epochs", minimum=1)
    shares: list[float] = setting(
        lambda: [1.0, 1.0, 1.0, 1.0],
        "share of the training questions of each category in an epoch, in the data's order (CLEVRER: descriptive, explanatory, "
        "predictive, counterfactual)",
    )
    batch_size: int = setting(96, "questions per step (with all their choices)", minimum=1)
    buckets: int = setting(4, "groups of similar length in which a batch is computed; they do not change the batch", minimum=1)
    optimizer: str = setting("adam", "adam (published) or muon for the layers' matrices", choices=("adam", "muon"))
    learning_rate: float = setting(1e-3, "peak learning rate (Adam's)", above=0)
    muon_learning_rate: float = setting(0.02, "peak learning rate of the matrices under Muon", above=0)
    muon_precision: str = setting(
        "bf16",
        "Muon's orthogonalisation: bf16 (torch.optim.Muon's), or fp32, many times as fast on CPUs without bf16 instructions",
        choices=("bf16", "fp32"),
        old="bf16",
    )
    warmup: float = setting(0.1, "share of the schedule that warms up from a hundredth of the peak", minimum=0, maximum=1)
    average: float | None = setting(
        None,
        "decay per step of an exponential moving average of the weights, which answers the questions; null (published): "
        "the last weights",
        above=0,
        maximum=0.99999,
        old=None,
    )
    option_weight: float = setting(1.0, "weight of the multiple-choice loss; that of questions without choices is 1", minimum=0)
    precision: str = setting(
        "fp32",
        "fp32; tf32: as fp32 with a GPU's matrix products in TensorFloat-32 (on a CPU as fp32); bf16: autocast of the forward "
        "passes, weights and their gradients in float32; slower than fp32 on CPUs without bf16 instructions",
        choices=("fp32", "tf32", "bf16"),
    )
    compile: bool = setting(False, "torch.compile the encoder (takes minutes; CTT_COMPILE=1 includes it in the tests)")
    compile_mode: str = setting(
        "default",
        f"{MODE_HELP}. Sequences are then rounded up to sizes that recur, each with a graph of its own: other dropout masks",
        choices=MODES,
        old="default",
    )
    aloe_seed: int | None = setting(None, "seed of ALOE's weights, order and dropout; null = from the run's seed", minimum=0)
    protocol: str = setting(
        "train",
        "train: one ALOE per run; shared: one per seed, trained on the baseline's rollouts",
        choices=("train", "shared"),
    )
    threads: int = setting(1, "CPU threads of one training or evaluation", minimum=1, key=False)
    data_device: str = setting(
        "auto",
        "where a GPU finds given and predicted frames: device: in its memory; host: in main memory, from where a thread sends "
        "them one batch ahead; auto: device, if a split takes at most half of its free memory. Results do not change",
        choices=("auto", "device", "host"),
        key=False,
        old="auto",
    )
    eval_every: int = setting(1, "epochs between validations; the last epoch always has one", minimum=1)
    eval_videos: int | None = setting(
        None,
        "videos of the validations during training, the same each time, so that epochs are comparable; null = all. The "
        "final accuracy is measured after training, on all videos",
        minimum=1,
    )
    patience: int | None = setting(
        None,
        "training stops once this many validations in a row have not surpassed the best average; null (published): never. "
        "The length of the schedule does not change, and the last epoch counts, not the best",
        minimum=1,
        old=None,
    )

    checkpoint: str | None = setting(None, "a checkpoint's file, whose weights answer instead of a trained ALOE", key=False)
    tensors: str | None = setting(
        None, "digest of the checkpoint's weights, which is determined when a sweep is compiled; not to be set", old=None
    )

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            (
                "epochs",
                "schedule_epochs",
                "optimizer",
                "learning_rate",
                "muon_learning_rate",
                "muon_precision",
                "warmup",
                "average",
                "option_weight",
                "eval_every",
                "eval_videos",
                "patience",
                "equal_layers",
                "dropout",
                "dropout_kind",
                "protocol",
            ),  # fmt: skip
            FROM_FILE,
            lambda aloe: aloe.tensors is not None,
        ),
        Rule(("dropout_kind",), "ALOE's dropout is 0, so no mask is drawn", lambda aloe: aloe.dropout == 0),
        Rule(("compile_mode",), "ALOE is not compiled", lambda aloe: not aloe.compile),
        Rule(("equal_layers",), "ALOE has one layer", lambda aloe: aloe.layers == 1),
        Rule(("frame_width",), "only aloe.tokens=trajectory projects frames", lambda aloe: aloe.tokens != "trajectory"),
        Rule(("muon_learning_rate", "muon_precision"), "ALOE is not trained by Muon", lambda aloe: aloe.optimizer != "muon"),
        Rule(
            ("schedule_epochs",),
            "ALOE's schedule is as long as its training",
            lambda aloe: aloe.schedule_epochs in (None, aloe.epochs),
        ),
        Rule(
            ("eval_videos",),
            "ALOE is validated only after its last epoch, on all videos",
            lambda aloe: aloe.eval_every >= aloe.epochs,
        ),
        Rule(
            ("patience",),
            "ALOE has too few validations for its patience to end training before the last one",
            lambda aloe: not aloe.may_stop,
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise SettingError(f"aloe.width must be a multiple of aloe.heads; got {self.width} and {self.heads}")
        if self.schedule_epochs is not None and self.schedule_epochs < self.epochs:
            raise SettingError(f"aloe.schedule_epochs must be at least aloe.epochs; got {self.schedule_epochs} and {self.epochs}")

        if not all(0 <= share <= 1 for share in self.shares) or not any(self.shares):
            raise SettingError(f"aloe.shares must be numbers from 0 to 1, not all 0; got {list(self.shares)}")

    @property
    def may_stop(self) -> bool:
        """Whether `patience` can end training before its last validation; otherwise it has no effect."""
        return self.patience is not None and self.patience + 2 <= -(-self.epochs // self.eval_every)
