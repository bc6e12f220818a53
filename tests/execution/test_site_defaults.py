"""Site defaults override the presets, the command line overrides them, and errors name the file and the key."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctt.config import Config
from ctt.core.errors import SettingError
from ctt.core.resources import LaunchSettings, Resources
from ctt.execution.site_defaults import with_site

SLURM = Config(launch=LaunchSettings(kind="slurm", timeout_min=1440, cpus_per_task=1))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "ctt").mkdir()
    return tmp_path / "ctt" / "launch.yaml"


def test_without_the_file_nothing_changes(site: Path) -> None:
    assert with_site(SLURM, []) == SLURM


def test_only_the_command_line_overrides_site_defaults(site: Path) -> None:
    site.write_text(
        "slurm:\n  partition: gpu\n  account: lab\n  cpus_per_task: 8\n  setup: [module load cuda]\n"
        "  prefix: {timeout_min: 240}\nlocal: {jobs: 3}\n"
    )
    found = with_site(SLURM, ["launch.partition=debug", "seed=1"]).launch
    assert (found.partition, found.account, found.cpus_per_task) == (None, "lab", 8), "the override is applied elsewhere"
    assert found.setup == ["module load cuda"] and found.timeout_min == 1440 and found.jobs == 1
    assert found.of(prefix=True) == Resources(account="lab", cpus_per_task=8, timeout_min=240)
    assert found.of(prefix=False).timeout_min == 1440
    mine = Config(launch=LaunchSettings(kind="slurm", prefix=Resources(timeout_min=10)))
    own = with_site(mine, ["launch=slurm", "launch.prefix={timeout_min: 10}"]).launch
    assert own.prefix.timeout_min == 10 and own.partition == "gpu"
    local = with_site(Config(launch=LaunchSettings(kind="local")), [])
    assert local.launch.jobs == 3 and local.launch.partition is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("slurm: {partitoin: gpu}", "partitoin.*partition"),
        ("slurm: {cpus_per_task: many}", "launch.cpus_per_task"),
        ("slurm: {cpus_per_task: 0}", "cpus_per_task must be at least 1, got 0"),
        ("partition: gpu", "must map `local` and `slurm`"),
        ("slurm: [", "not readable YAML"),
        ("slurm: {account: a}\nslurm: {account: b}", "line 2: slurm stands twice"),
        ("slurm: {account: a, account: b}", "account stands twice"),
        ("slurm: {account: '${USER}'}", "not an interpolation"),
        ("slurm: {account: !!python/name:os.system ''}", "tags like"),
        ("slurm: {timeout_min: 4:00:00}", "launch.timeout_min.*4:00:00"),
        ("slurm: {cpus_per_task: 0o0}", "cpus_per_task must be at least 1, got 0"),
        ("slurm: {account: caf\xe9}", "byte 20 is not UTF-8"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(site: Path, text: str, message: str) -> None:
    site.write_bytes(text.encode("latin-1"))
    with pytest.raises(SettingError, match=message) as caught:
        with_site(SLURM, [])
    assert str(site) in str(caught.value)


def test_values_are_those_of_a_sweep_file(site: Path) -> None:
    """YAML 1.2: no octal 010, no boolean `on`, no number in base 60."""
    site.write_text("slurm: {cpus_per_task: 010, account: on, constraint: 1:30}")
    found = with_site(SLURM, []).launch
    assert (found.cpus_per_task, found.account, found.constraint) == (10, "on", "1:30")
