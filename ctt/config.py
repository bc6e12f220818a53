"""Config: everything one run is made of, typed; and how YAML and overrides become one.

The settings of each package live with its code; this file only assembles them. The method's flags keep the flat names of
the published trainer. Group files (conf/, launch/) hold values only; Hydra composes the groups, then `with_value`
applies single values with the types and bounds of the dataclasses.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ctt.core.error_text import one_line
from ctt.core.errors import SettingError
from ctt.core.resources import LAUNCHERS, LaunchSettings
from ctt.core.secrets import masked_values
from ctt.core.settings import Rule, check_below, old_values, setting
from ctt.core.strict_yaml import read_yaml
from ctt.data.clevrer.user_files import with_user_files
from ctt.data.positions.reader_settings import PositionReaderSettings, positions_known, resolved
from ctt.data.sources.data_source import DATA_SOURCES
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.aloe.frame_sampling import IMAGINED, FrameSampling
from ctt.models.graphs.graph_source import graph_source, graph_sources
from ctt.models.model_settings import RolloutSettings
from ctt.models.plugins import check_plugins, plugins_of, without_unused
from ctt.tracking.tracking_settings import TrackingSettings
from ctt.training.diagnostics_settings import DiagnosticsSettings
from ctt.training.training_settings import TrainingSettings

GROUPS = ("data", "world_model", "rollout", "aloe", "tracking", "launch")
RUN_GROUPS = GROUPS[:4]  # the groups a sweep file may choose: those that decide what a run computes
OPEN = "launch.settings"  # its keys are those of a launcher's own settings class, which checks them

# The published trainer's keys, and what they are called here.
FORMER = {"launch.trunk": "launch.prefix"}
"""Settings of ctt that have another name now; stored ones are read by either."""

RENAMED = {
    "embedding_dir": "data.slots_file (see `ctt data import`)",
    "batch_size": "world_model.batch_size or aloe.batch_size",
    "trainer.max_epochs": "world_model.epochs",
    "max_epochs": "world_model.epochs",
    "trainer.precision": "world_model.precision",
    "history_size": "world_model.history_size",
    "num_preds": "world_model.num_preds",
    "frameskip": "world_model.frameskip",
    "optimizer.lr": "world_model.learning_rate",
    "lr": "world_model.learning_rate",
    "predictor_lr": "world_model.learning_rate",
    "num_workers": "data.workers",
    "ctt_inv_w": "ctt_inv_weight",
    "ctt_suf_w": "ctt_suf_weight",
}


def config_root() -> Path:
    """Folder that holds conf/, sweeps/, launch/ and analysis/: inside an installed wheel, or the checkout."""
    packaged = Path(__file__).parent / "_config"
    return packaged if packaged.is_dir() else Path(__file__).resolve().parents[1]


def default_store() -> str:
    """The folder of the store where no setting names it. Raises SettingError for a text that OmegaConf would not take as it is."""
    path = os.environ.get("CTT_STORE") or "store"
    if "${" in path or path == MISSING:
        raise SettingError(f"CTT_STORE={path}: give the path of a folder, not an interpolation; a shell's variable is $NAME")
    return path


@dataclasses.dataclass
class Config(TrainingSettings):
    """One run: a world model's training and what follows. Fields with `key=False` do not change what is computed."""

    rollout: RolloutSettings = setting(RolloutSettings, "the frames after the given ones, as the world model predicts them")
    aloe: AloeSettings = setting(AloeSettings, "the question answering model and its training")
    diagnostics: DiagnosticsSettings = setting(DiagnosticsSettings, "what is measured of the slot graphs (an auxiliary stage)")
    reader: PositionReaderSettings = setting(PositionReaderSettings, "the position reader (an auxiliary stage)")
    auxiliary: list[str] = setting(
        list,
        'auxiliary stages of installed packages that every run has too; each is NAME, or "NAME {SETTING: VALUE, …}"',
        key=False,
    )
    device: str = setting("auto", "cpu, cuda, or auto: cuda where there is one", choices=("auto", "cpu", "cuda"), key=False)
    sharing: str = setting(
        "on",
        "off: every run trains alone from epoch 0, to measure what sharing saves; use a fresh store",
        choices=("on", "off"),
        key=False,
    )
    tracking: TrackingSettings = setting(TrackingSettings, "MLflow", key=False)
    launch: LaunchSettings = setting(LaunchSettings, "where jobs run", key=False)
    store: str = dataclasses.field(
        default_factory=default_store,
        metadata={"help": "folder of the store (environment: CTT_STORE)", "key": False},
    )
    sweep: str | None = setting(None, "a sweep: a name in sweeps/ or the path of a YAML file", key=False)
    name: str | None = setting(None, "name under which the sweep is recorded (default: the sweep's own)", key=False)
    spec: str | None = setting(None, "path of a frozen job; set by ctt for the jobs it submits", key=False)

    rules: ClassVar[tuple[Rule, ...]] = (
        *TrainingSettings.rules,
        Rule(
            ("reader.enabled", "reader.videos", "reader.stride", "reader.interventions", "reader.reach"),
            "CLEVRER without data.annotation_files has no positions of objects",
            lambda run: not positions_known(run.reader, run.data),
        ),
        Rule(
            ("reader.annotations",),
            "synthetic data knows where objects are without annotations",
            lambda run: run.data.source.has_truth,
        ),
        Rule(("aloe",), "the data has no questions", lambda run: not run.data.format.categories),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.store.strip():
            raise SettingError("store must be the path of a folder, got an empty text")

    def check(self) -> None:
        """Raises SettingError for combinations of values that are not possible, those of a run with its data included."""
        super().check()
        self._check_processes()
        if not (data_format := self.data.format).categories:
            return
        self._check_reach()
        self._check_imagined()
        sampling, frames = FrameSampling(self.aloe, data_format), self.rollout.frames
        if frames < sampling.frames_ahead:
            fewer = frames // sampling.stride
            remedy = f", or aloe.predicted_frames to at most {fewer} (they lie {sampling.stride} apart)" if fewer else ""
            raise SettingError(
                f"rollout.frames={frames} is too few: ALOE reads predicted frames 1 to {sampling.frames_ahead}; "
                f"set rollout.frames to at least {sampling.frames_ahead}{remedy}"
            )

    def _check_processes(self) -> None:
        """Raises SettingError if a job of SLURM has more processes than a batch has windows."""
        batch = self.world_model.batch_size
        if self.launch.kind != "slurm" or self.world_model.tensors is not None:
            return
        for resources in (self.launch.of(False), self.launch.of(True)):
            nodes, tasks = resources.nodes or 1, resources.tasks_per_node or 1
            if nodes * tasks > batch:
                raise SettingError(
                    f"world_model.batch_size={batch} cannot be shared by {nodes * tasks} processes "
                    f"(launch.nodes={nodes}, launch.tasks_per_node={tasks}); raise it, or take fewer processes"
                )

    def _check_reach(self) -> None:
        """Raises SettingError if it cannot be known whom a removed object reaches."""
        if self._imagines("oracle") and not self.data.source.has_truth:
            raise SettingError(f"reader.reach=oracle needs simulated data; with data={self.data.kind} choose touch or graph")
        if not self.reads_graph:
            return
        source = graph_source(self.world_model.graph.source)
        if source.needs_truth:
            raise SettingError(
                f"reader.reach=graph reads the graph of whole videos, which world_model.graph.source={source.name} does not "
                "have; reader.reach=oracle asks the simulator"
            )
        if source.network_purpose and not self.losses_act:
            others = " or ".join(
                name for name, other in graph_sources().items() if not (other.network_purpose or other.needs_truth)
            )
            raise SettingError(
                f"reader.reach=graph reads the run's own slot graph, and the network of world_model.graph.source={source.name} is "
                f"trained along with losses, of which none acts in this run; set world_model.graph.source to {others} for it, "
                "or reader.reach=touch"
            )

    def _check_imagined(self) -> None:
        """Raises SettingError if ALOE is to see videos without an object, and it is not known which slot holds that one."""
        if not self.imagines:
            return
        what, reader = "aloe.rollout_frames=counterfactual", self.reader
        if not self.data.format.like_clevrer:
            raise SettingError(
                f"{what} needs questions whose programs remove an object, as CLEVRER's do, and data.kind={self.data.kind} asks "
                "other ones; set aloe.rollout_frames to predictive or all"
            )
        if not positions_known(resolved(reader, self.data), self.data):
            remedy = (
                "set data.annotation_files (`ctt data fetch annotations`)" if self.data.source.annotated else "choose other data"
            )
            raise SettingError(
                f"{what} needs to know which slot holds the removed object: simulated data, or CLEVRER's annotations; {remedy}, "
                "or set aloe.rollout_frames=predictive"
            )
        if not (reader.enabled and reader.interventions):
            off = "reader.interventions" if reader.enabled else "reader.enabled"
            raise SettingError(f"{what} imagines videos as the position reader does, and {off}=false; set it to true")

    @property
    def imagines(self) -> bool:
        """Whether ALOE sees videos without the removed object."""
        return self.aloe.rollout_frames == IMAGINED

    @property
    def reads_graph(self) -> bool:
        return self._imagines("graph")

    def _imagines(self, reach: str) -> bool:
        """Whether counterfactual questions are answered with reader.reach=`reach`."""
        reader = self.reader
        return reader.enabled and reader.interventions and reader.reach == reach and positions_known(reader, self.data)


def register() -> None:
    """Makes the typed schema known to Hydra (`defaults: [ctt_schema, …]`), the presets of launch/, and the resolver that
    conf/config.yaml uses. Hydra searches conf/ and these alone: other folders next to them, like a store, are no groups."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="ctt_schema", node=Config)
    presets = {path.stem: read_yaml(path) for path in sorted((config_root() / "launch").glob("*.yaml"))}
    for name in LAUNCHERS:
        own = {"defaults": [{"override /hydra/launcher": "ctt"}], "launch": {"kind": name, "jobs": None}}
        presets.setdefault(name, own)
    for name, preset in presets.items():
        ConfigStore.instance().store(group="launch", name=name, node=preset, package="_global_")
    for name in DATA_SOURCES:
        if not (config_root() / "conf" / "data" / f"{name}.yaml").is_file():
            ConfigStore.instance().store(group="data", name=name, node={"kind": name})
    OmegaConf.register_new_resolver("ctt.hydra_dir", _hydra_dir, replace=True)


def _hydra_dir(store: str, sweep: str | None, name: str | None, spec: str | None) -> str:
    """Hydra's output folder: next to the spec for a job, else under the store's sweeps/NAME."""
    if spec:
        return str(Path(spec).resolve().parent / "hydra")
    folder = Path(os.path.expanduser(store)).resolve() / "sweeps"
    return str(folder / (name or (Path(sweep).stem if sweep else "multirun")) / "hydra")


def compose(overrides: Sequence[str] = ()) -> Config:
    """The Config that conf/config.yaml and Hydra `overrides` (no sweeps) make. Raises SettingError.

    Works inside a running Hydra application and outside of one.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    register()
    try:
        if GlobalHydra.instance().is_initialized():
            composed = hydra_compose("config", overrides=list(overrides))
        else:
            with initialize_config_dir(str(config_root() / "conf"), version_base="1.3", job_name="ctt"):
                composed = hydra_compose("config", overrides=list(overrides))
        return to_config(composed)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingError(f"{one_line(error)} (overrides: {' '.join(overrides) or 'none'})") from error


def check_hydras_own(overrides: Sequence[str]) -> None:
    """Raises SettingError if Hydra refuses its own settings (hydra.KEY=VALUE); inside a Hydra application it has done so."""
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    if GlobalHydra.instance().is_initialized():
        return
    register()
    try:
        with initialize_config_dir(str(config_root() / "conf"), version_base="1.3", job_name="ctt"):
            hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise SettingError(f"{one_line(error)} (overrides: {' '.join(overrides)})") from error


def to_config(composed: Any) -> Config:
    """The typed, checked Config of a composed DictConfig. Raises SettingError, or UsageError if there is no such launcher."""
    config = _to_object(composed)
    if (data := with_user_files(config.data)) is not config.data:
        config = dataclasses.replace(config, data=data)
    if config.launch.kind not in LAUNCHERS:
        LAUNCHERS.get(config.launch.kind)
    return config


def _to_object(composed: Any) -> Config:
    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise SettingError(one_line(error)) from error
    except SettingError:
        check_below(composed, Config)  # names the setting with its group, which the settings of a group do not know
        raise
    assert isinstance(config, Config)
    return config


def with_present_names(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as a record or a user's file holds them, those of an earlier name under the present one."""
    named = {}
    for name, value in values.items():
        key = FORMER.get(prefix + name, prefix + name)
        named[key.removeprefix(prefix)] = with_present_names(value, f"{key}.") if isinstance(value, Mapping) else value
    return named


PLUGINS = "plugins"
"""In a stored Config: where the settings of parts that are not ctt's come from."""


def as_dict(config: Config) -> dict[str, Any]:
    """`config` as it is stored: plain values, nested, passwords in addresses masked. Settings of plugins that it
    does not use are left out; of those that it uses, "plugins" holds `plugins_of`."""
    used = plugins_of(config)
    values = without_unused(dataclasses.asdict(config), used)
    values = masked_values(values)
    return {**values, PLUGINS: used} if used else values


def from_dict(values: Mapping[str, Any]) -> Config:
    """The Config whose `as_dict` is `values`, types checked; a setting that was not there when they were written has the value
    that means what ctt did then. Its launcher need not be installed any more. Raises SettingError, also where another
    plugin that it needs is gone."""
    check_plugins(values.get(PLUGINS, {}))
    values = {name: value for name, value in values.items() if name != PLUGINS}
    try:
        return _to_object(OmegaConf.merge(OmegaConf.structured(Config), old_values(Config), with_present_names(values)))
    except OmegaConfBaseException as error:
        raise SettingError(one_line(error)) from error
