"""TrackingSettings: where the MLflow view of the store lives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ctt.core.errors import SettingError
from ctt.core.settings import Settings, setting


@dataclass
class TrackingSettings(Settings):
    """Settings of the group `tracking`. None of them changes a result, so none is part of a key."""

    kind: str = setting(
        "sqlite",
        "where runs are shown: sqlite (a database in the store), server (an MLflow server at uri) or off",
        choices=("sqlite", "server", "off"),
        key=False,
    )
    uri: str | None = setting(None, "address of the MLflow server, http://host:port; only for kind=server", key=False)
    experiment: str = setting("{sweep}", "name of the MLflow experiment; {sweep} is the sweep's name", key=False)
    every: float = setting(2.0, "seconds between two looks at the metrics files", above=0, key=False)
    timeout: float = setting(10.0, "seconds after which a silent server counts as dead", minimum=1, key=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind == "server" and not (self.uri or "").startswith(("http://", "https://")):
            raise SettingError(f"tracking.uri must be an http(s) address with tracking.kind=server, got {self.uri!r}")
        if self.kind != "server" and self.uri:
            raise SettingError(f"tracking.uri is read only when tracking.kind is server, here it is {self.kind}")
        try:
            self.experiment_name("sweep")
        except (KeyError, IndexError, ValueError) as error:
            raise SettingError(f"tracking.experiment may use {{sweep}} only, got {self.experiment!r}") from error

    def experiment_name(self, sweep: str) -> str:
        """The MLflow experiment that shows the runs of `sweep`."""
        return self.experiment.format(sweep=sweep)

    def address(self, store_root: Path) -> str:
        """The MLflow tracking URI these settings mean for a store."""
        if self.kind == "server":
            return str(self.uri).rstrip("/")
        return database_address(store_root)


def database_path(store_root: Path) -> Path:
    """Where a store's MLflow database lies."""
    return Path(store_root).resolve() / "mlflow.db"


def database_address(store_root: Path) -> str:
    """The address of a store's database for SQLAlchemy, which reads % and ? in a path.

    It names the driver, as MLflow makes the folders of an address that begins with sqlite:/// as it is spelt."""
    path = str(database_path(store_root)).replace("%", "%25").replace("?", "%3F")
    return f"sqlite+pysqlite:///{path}"
