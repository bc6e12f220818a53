"""DataSource: what makes a data set, and the registry of sources.

A source writes slots and questions into a folder, in the format that it declares; what it writes is checked against that
before it is published. Each module of this folder that holds a source is found by its name; other distributions offer
sources as entry points of the group `ctt.data` (docs/how-to/add-a-data-source.md).

Commands that make no data import sources too, for their settings: import what is large where it is used.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ctt.core.errors import CttError, UsageError
from ctt.core.registry import Registry, parts_in
from ctt.data.data_format import SPLITS, DataFormat

if TYPE_CHECKING:
    from ctt.core.build_context import BuildContext
    from ctt.data.dataset import Split

DATA_SOURCES: Registry[DataSource] = Registry("ctt.data", "data source", parts_in("ctt.data.sources", "SOURCE", ("data_source",)))
CONTENT = "content"
"""The setting that identifies data which is read from files: their digest."""
GENERATED = (*SPLITS, "seed")


class DataSource:
    """A source. Subclasses set `name`, `help` and `data_format`, and implement `write`. `settings` is the group `data` of a run."""

    name: ClassVar[str]
    """Under which it is registered and chosen: data.kind=NAME."""
    help: ClassVar[str]
    """What the data is, for the help text of data.kind."""
    data_format: ClassVar[DataFormat]
    """The format of the data; a source whose format depends on settings implements `format` instead."""
    options: ClassVar[Mapping[str, Any]] = {}
    """Its settings in the group data: name → `ctt.core.settings.setting(…)`. They have no effect with another source."""
    reads: ClassVar[tuple[str, ...]] = GENERATED
    """Which of the settings that sources share decide the data. With "content" the data is known by the digest of its files,
    which `resolved` finds, and the numbers of videos are those in the files."""
    unread: ClassVar[str] = ""
    """Why the others have no effect."""
    has_truth: ClassVar[bool] = False
    """Whether it writes the ground truth of simulated scenes (ctt/data/synthetic/truth.py)."""
    annotated: ClassVar[bool] = False
    """Whether data.annotation_files can name CLEVRER's annotations of its videos."""
    shows_view: ClassVar[bool] = False
    """Whether it writes which slots hold an object in view (visible_<split>.npy)."""
    reported: ClassVar[tuple[str, ...]] = ()
    """Published rows that tables show next to its runs (ctt/report/published.py)."""
    published_size: ClassVar[bool] = False
    """Whether it has the size of the published runs, so that their costs are estimates; otherwise it is taken to be small."""

    def format(self, settings: Any) -> DataFormat:
        """The format of the data of these settings."""
        return self.data_format

    def check_settings(self, settings: Any) -> None:
        """Raises SettingError if the settings cannot be used."""

    def resolved(self, settings: Any) -> Any:
        """The settings with what is in the files: their digest as `content`, and numbers of videos."""
        return settings

    def check(self, settings: Any) -> None:
        """Raises DataError if a file outside of the store that `write` reads is missing."""

    def write(self, settings: Any, context: BuildContext) -> Mapping[str, Any] | None:
        """Writes the data set into `context.folder` (ctt/data/dataset.py); returns facts for the manifest. dataset.json is
        written for it, unless it does that itself, as a source must whose numbers of videos are not those of the settings."""
        raise NotImplementedError

    def effort(self, settings: Any) -> dict[str, float]:
        """The amount of work by unit, for estimates of costs."""
        return {"videos": float(sum(settings.counts().values()))}

    def bytes_of_video(self, settings: Any) -> float:
        """Approximate size of a video, for estimates."""
        found = self.format(settings)
        return 4.0 * found.frames * found.slots * found.width

    def draw(self, split: Split, video: int, folder: Path) -> list[Path]:
        """Draws a video for `ctt data show`; returns the files written into `folder`. [] if there is nothing to draw."""
        return []


@functools.cache
def data_sources() -> dict[str, DataSource]:
    """The sources that can be used, by name, ctt's own first. Raises UsageError if two have one name or one setting."""
    options: dict[str, str] = {}
    found = {}
    for name, source in DATA_SOURCES.usable().items():
        if not isinstance(source, DataSource) or source.name != name:
            continue
        for key in source.options:
            if (other := options.setdefault(key, name)) != name:
                raise UsageError(f"the data sources {other} and {name} ({DATA_SOURCES.plugin(name)}) both have a setting {key}")
        found[name] = source
    return found


def data_source(name: str) -> DataSource:
    """The source of that name. Raises UsageError if there is none, or if its plugin cannot be used."""
    if (found := data_sources().get(name)) is not None:
        return found
    DATA_SOURCES.get(name)
    raise UsageError(f"{DATA_SOURCES.plugin(name)}: its data source {name} is no DataSource of that name")


def declared_format(settings: Any) -> DataFormat:
    """The format that a run's source declares for its settings. Raises UsageError that names the source if it cannot."""
    source = data_source(settings.kind)
    try:
        found = source.format(settings)
    except CttError as error:
        raise UsageError(f"the data source {_named(source)} declares a wrong format: {error}") from error
    except Exception as error:  # the code of others may raise anything
        raise UsageError(f"the data source {_named(source)} declares no format: {type(error).__name__}: {error}") from error
    if not isinstance(found, DataFormat):
        raise UsageError(f"the data source {_named(source)} declares no format: {found!r} is no DataFormat")
    return found


def _named(source: DataSource) -> str:
    return f"{source.name} of {DATA_SOURCES.plugin(source.name) or 'ctt'}"
