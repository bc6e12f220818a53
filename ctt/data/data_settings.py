"""DataSettings: which data set, how many videos, and what a slot shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ctt.core.errors import SettingError
from ctt.core.settings import Rule, Settings, setting

SPLITS = ("train", "validation", "test")
PROVISIONAL = "provisional"
"""How `data.content` begins while the files are not there: keys made of it are for planning only."""
SIMULATION = (
    "seed",
    "encoder_seed",
    "noise",
    "out_of_view",
    "swap_probability",
    "density",
    "annotations",
)
OUT_OF_VIEW = ("clamped", "hidden", "true")


@dataclass
class FetchSettings(Settings):
    """Where `ctt data fetch` finds the official files and where it puts them; `{split}` stands for a split's name."""

    folder: str = setting("clevrer", "folder that downloads go to", key=False)
    slots_videosaur: str | None = setting(
        None, "the VideoSAUR slots: OWNER/REPOSITORY/FILE of the hub, …@REVISION, or a URL", key=False
    )
    slots_savi: str | None = setting(None, "the SAVi slots, likewise", key=False)
    questions: str | None = setting(None, "URL of the question files, with {split}", key=False)
    annotations: str | None = setting(None, "URL of the annotation archives, with {split}", key=False)
    hub: str = setting("https://huggingface.co", "where files without a URL are: the hub, or a mirror of it", key=False)
    timeout: float = setting(30.0, "seconds without a byte before a download is tried again", above=0, key=False)
    attempts: int = setting(5, "tries in a row that may fail before a download gives up", minimum=1, key=False)


@dataclass
class DataSettings(Settings):
    """The group `data`. `kind` synthetic makes its scenes; clevrer reads the official files at the given paths."""

    kind: str = setting("synthetic", "synthetic scenes, or official CLEVRER files", choices=("synthetic", "clevrer"))
    train: int = setting(800, "videos to train on", minimum=1)
    validation: int = setting(200, "videos to measure on", minimum=1)
    test: int = setting(0, "videos whose answers are left out, as in CLEVRER's test split", minimum=0)
    seed: int = setting(0, "the generator's own seed; another one gives other scenes", minimum=0)
    encoder_seed: int = setting(0, "seed of the random map from what is seen of an object to its slot", minimum=0)
    noise: float = setting(0.1, "SD of the noise on slots, in units of the SD between objects", minimum=0.0)
    out_of_view: str = setting(
        "clamped",
        "what a slot shows of an object out of view: its attributes at the border (clamped), an empty slot (hidden), "
        "or where it really is (true)",
        choices=OUT_OF_VIEW,
    )
    swap_probability: float = setting(
        0.0, "share of videos in which two slots trade their objects at some frame", minimum=0.0, maximum=1.0
    )
    density: int = setting(
        1,
        "how many times CLEVRER's eleven descriptive questions a training video is asked: with few videos, more questions "
        "about each teach more than more passes over the same ones; validation always has eleven",
        minimum=1,
        maximum=8,
        old=1,
    )
    annotations: bool = setting(False, "also write official annotation files, one zip a split")
    workers: int = setting(2, "processes that simulate", minimum=1, key=False)
    slots_file: str | None = setting(None, "clevrer: the imported slots", key=False)
    questions: str | None = setting(None, "clevrer: the folder with the official question files", key=False)
    annotation_files: str | None = setting(None, "clevrer: the folder with the annotations, for pictures", key=False)
    content: str | None = setting(
        None, "clevrer: digest of slots and questions, found from the files; what the data is known by", old=None
    )
    fetch: FetchSettings = setting(FetchSettings, "where the official files are found", key=False)

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(("content",), "synthetic scenes are known by their settings", lambda data: data.kind == "synthetic"),
        Rule(
            (*SPLITS, *SIMULATION),
            "CLEVRER's scenes are known by their files; nothing is simulated",
            lambda data: data.kind == "clevrer",
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "clevrer" and self.annotations:
            raise SettingError("annotations can be written for synthetic data only; CLEVRER's own are not rewritten")

    def counts(self) -> dict[str, int]:
        """Videos of each split that has any."""
        return {split: getattr(self, split) for split in SPLITS if getattr(self, split)}

    def first_scene(self) -> dict[str, int]:
        """Each split's first scene_index: the official 0, 10,000 and 15,000 where they fit, else one after another."""
        if self.train <= 10_000 and self.validation <= 5_000:
            return {"train": 0, "validation": 10_000, "test": 15_000}
        return {"train": 0, "validation": self.train, "test": self.train + self.validation}
