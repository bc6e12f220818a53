"""RecordedJobs: the jobs of a record, and all that a launcher needs to run them or to look for them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TypeVar, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ctt.config import OPEN, Config
from ctt.core.errors import CttError, SettingError
from ctt.core.resources import JobLimits, LaunchSettings
from ctt.execution.jobs import spec
from ctt.execution.jobs.snapshot import CODE, environment
from ctt.execution.jobs.spec import JobSpec
from ctt.execution.site_defaults import with_site
from ctt.store import Store
from ctt.study import record

S = TypeVar("S", bound=JobLimits)

KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
    "MALLOC_TOP_PAD_": str(2**26),
}
"""Settings of glibc: memory that a training step frees is kept for the next one instead of being returned page by page.

On two cores world models with both losses trained at 9.9 steps/s instead of 8.1 (data=mini, four runs each). No result changes.
"""


class RecordedJobs:
    """The jobs in the folder `folder` of a record; what is not given is read from the record when it is needed.

    threads: CPU cores that a job uses.
    """

    def __init__(
        self,
        folder: Path,
        store: Store,
        jobs: Sequence[JobSpec] | None = None,
        config: Config | None = None,
        threads: int = 1,
    ) -> None:
        self.folder, self.store, self.threads = folder, store, threads
        self._jobs, self._config = jobs, config

    @cached_property
    def jobs(self) -> list[JobSpec]:
        return spec.read(self.folder) if self._jobs is None else list(self._jobs)

    @cached_property
    def config(self) -> Config:
        """The settings of the sweep's baseline with the site's defaults, of which those of how jobs run are of use.

        If the record or the site's file is damaged, the defaults: they are enough to look for jobs and to cancel them.
        """
        if self._config is not None:
            return self._config
        try:
            return with_site(*record.baseline_of(self.folder.parent))
        except CttError:
            return Config()

    @property
    def name(self) -> str:
        """A name for the jobs of all records of this sweep in this store, and no others, in the queue of a cluster."""
        return f"ctt-{self.folder.parent.parent.name}-{self.store.identity}"

    @cached_property
    def environment(self) -> Mapping[str, str]:
        """Environment variables of the jobs: the path of the submitted code, and glibc's settings of memory."""
        name = record.code_of(self.folder.parent)
        memory = {key: value for key, value in KEPT_MEMORY.items() if key not in os.environ}
        return {**memory, **(environment(self.store.root / CODE / name) if name else {})}

    def settings(self, kind: type[S]) -> S:
        """The launcher's own settings. Raises SettingError."""
        return own_settings(self.config.launch, kind)


def own_settings(launch: LaunchSettings, kind: type[S]) -> S:
    """The settings of class `kind` in `launch`: fields of ctt's own classes are the keys `launch.*`, all others the keys
    `launch.settings.*`. Raises SettingError, naming the key, for one that is unknown or has a wrong value."""
    shared = {
        field.name for base in kind.__mro__ if base in LaunchSettings.__mro__ and base is not object for field in _fields(base)
    }
    further = [field.name for field in dataclasses.fields(kind) if field.name not in shared]
    for name in launch.settings:
        if name not in further:
            there = f"its own settings are {', '.join(further)}" if further else "it has no settings of its own"
            raise SettingError(f"{OPEN}.{name} is not a setting of launch.kind={launch.kind}; {there}")
    values = {name: getattr(launch, name) for name in shared} | dict(launch.settings)
    try:
        return cast(S, OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(kind), values)))
    except OmegaConfBaseException as error:
        raise SettingError(f"{OPEN}: {str(error).strip().splitlines()[0]} (launch.kind={launch.kind})") from error
    except SettingError as error:
        raise SettingError(f"{error} ({OPEN}.*, launch.kind={launch.kind})") from error


def _fields(kind: type) -> tuple[dataclasses.Field[object], ...]:
    return dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ()
