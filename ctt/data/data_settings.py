"""DataSettings: which data set, how many videos, and what a slot represents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeVar

from ctt.core.errors import UsageError
from ctt.core.settings import Rule, Settings, setting
from ctt.data.data_format import SPLITS, DataFormat
from ctt.data.sources.data_source import CONTENT, DATA_SOURCES, DataSource, data_source, data_sources, declared_format

T = TypeVar("T")
PROVISIONAL = "provisional"
"""Prefix of `data.content` while the files are missing: keys derived from it serve planning only."""
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
    """Where `ctt data fetch` finds the official files and where it saves them; `{split}` stands for a split's name."""

    folder: str = setting("clevrer", "folder for downloads", key=False)
    slots_videosaur: str | None = setting(
        None, "the VideoSAUR slots: OWNER/REPOSITORY/FILE of the hub, …@REVISION, or a URL", key=False
    )
    slots_savi: str | None = setting(None, "the SAVi slots, in the same notation", key=False)
    questions: str | None = setting(None, "URL of the question files, with {split}", key=False)
    annotations: str | None = setting(None, "URL of the annotation archives, with {split}", key=False)
    checkpoints: str | None = setting(None, "the published world models, with {encoder} and {masked}", key=False)
    hub: str = setting("https://huggingface.co", "host of the files without a URL: the hub or a copy of it", key=False)
    timeout: float = setting(30.0, "seconds without data, or below the minimum rate, before a retry", above=0, key=False)
    minimum_rate: float = setting(1000.0, "bytes per second below which a download is retried", minimum=0, key=False)
    most: float = setting(20e9, "bytes of the largest file that is downloaded", above=0, key=False)
    hosts: list[str] = setting(
        lambda: ["huggingface.co", "hf.co"],
        "hosts to which a server may redirect in addition to itself, with the hosts below them",
        key=False,
    )
    attempts: int = setting(5, "consecutive failures after which a download gives up", minimum=1, key=False)


def with_settings_of_data_sources(cls: type[T]) -> type[T]:
    """Adds the settings of the sources to the class; applied before `dataclass`. Raises UsageError if a name is taken."""
    declared = dict(cls.__annotations__)
    for name, source in data_sources().items():
        for key, field in source.options.items():
            if key in declared or hasattr(cls, key):
                raise UsageError(
                    f"the data source {name} ({DATA_SOURCES.plugin(name) or 'ctt'}) has a setting {key}, as others have"
                )
            made = field.default_factory
            cls.__annotations__[key] = made if isinstance(made, type) else type(field.default)
            setattr(cls, key, field)
    return cls


def _unread_of(source: DataSource) -> Rule:
    """What another source reads, or reads as an option, has no effect."""
    options = [key for other in data_sources().values() if other is not source for key in other.options]
    unread = (*(name for name in (*SPLITS, *SIMULATION, CONTENT) if name not in source.reads), *options)
    reason = source.unread or f"data.kind={source.name} does not read it"
    return Rule(unread, reason, lambda data: data.kind == source.name)


@dataclass
@with_settings_of_data_sources
class DataSettings(Settings):
    """The group `data`. `kind` chooses the source; those of other distributions add their settings."""

    kind: str = setting(
        "synthetic",
        "; ".join(f"{name}: {source.help}" for name, source in data_sources().items()),
        choices=DATA_SOURCES.names(),
    )
    train: int = setting(800, "training videos", minimum=1)
    validation: int = setting(200, "validation videos", minimum=1)
    test: int = setting(0, "test videos; their answers are left out, as in CLEVRER's test split", minimum=0)
    seed: int = setting(0, "seed of the scene generator", minimum=0)
    encoder_seed: int = setting(0, "seed of the random map from an object's visible features to its slot", minimum=0)
    noise: float = setting(0.1, "SD of the noise on slots, in units of the SD between objects", minimum=0.0)
    out_of_view: str = setting(
        "clamped",
        "slot of an object out of view: its attributes at the border of the view (clamped), an empty slot (hidden), "
        "or its true position (true)",
        choices=OUT_OF_VIEW,
    )
    swap_probability: float = setting(
        0.0, "share of videos in which two slots exchange their objects at a random frame", minimum=0.0, maximum=1.0
    )
    density: int = setting(
        1,
        "descriptive questions per training video, as a multiple of CLEVRER's eleven: with few videos, more questions "
        "about each help more than more epochs over the same ones; validation always has eleven",
        minimum=1,
        maximum=8,
        old=1,
    )
    annotations: bool = setting(False, "also write annotation files in the official format, one zip per split")
    workers: int = setting(2, "processes that simulate scenes", minimum=1, key=False)
    slots_file: str | None = setting(None, "clevrer: the imported slots", key=False)
    questions: str | None = setting(None, "clevrer: the folder with the official question files", key=False)
    annotation_files: str | None = setting(None, "clevrer: the folder with the annotations, for figures", key=False)
    missing: str = setting(
        "refuse",
        "clevrer: what becomes of questions on videos that have no slots: refuse to run, or skip the questions",
        choices=("refuse", "skip"),
        key=False,
    )
    content: str | None = setting(
        None, "clevrer: digest of slots and questions, computed from the files; identifies the data", old=None
    )
    fetch: FetchSettings = setting(FetchSettings, "where to download the official files", key=False)

    rules: ClassVar[tuple[Rule, ...]] = tuple(_unread_of(source) for source in data_sources().values())

    def __post_init__(self) -> None:
        super().__post_init__()
        self.source.check_settings(self)

    @property
    def source(self) -> DataSource:
        """What makes the data. Raises UsageError if its plugin cannot be used."""
        return data_source(self.kind)

    @property
    def format(self) -> DataFormat:
        """The format of the data, as its source declares it."""
        return declared_format(self)

    @property
    def from_files(self) -> bool:
        """Whether it is read from files, by whose content it is known."""
        return CONTENT in self.source.reads

    @property
    def counted(self) -> bool:
        """Whether `train`, `validation` and `test` are the numbers of videos; they are not where the source decides them."""
        return self.from_files or set(SPLITS) <= set(self.source.reads)

    def counts(self) -> dict[str, int]:
        """Videos per split, without empty splits."""
        return {split: getattr(self, split) for split in SPLITS if getattr(self, split)}

    def first_scene(self) -> dict[str, int]:
        """Each split's first scene_index: the official 0, 10,000 and 15,000 if the splits fit, else consecutive ranges."""
        if self.train <= 10_000 and self.validation <= 5_000:
            return {"train": 0, "validation": 10_000, "test": 15_000}
        return {"train": 0, "validation": self.train, "test": self.train + self.validation}
