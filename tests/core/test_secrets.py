"""No password and no token of an address, and no variable of the environment but a few, is written where others read it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctt.core.errors import SettingError, StoreError
from ctt.core.secrets import RECORDED, masked, masked_values, recorded_environment
from ctt.data.data_settings import DataSettings
from ctt.execution.jobs.spec import freeze
from ctt.planning import compile_plan
from ctt.stages.base import Stage, build
from ctt.stages.data import Data
from ctt.store import Store
from ctt.study import record
from ctt.sweep import compile_sweep
from tests.tiny import TINY

SECRET = "hunter2-9f8e7d6c"
ADDRESS = f"http://anna:{SECRET}@mlflow.example:5000"


@pytest.mark.parametrize(
    "text, shown",
    [
        (ADDRESS, "http://anna:***@mlflow.example:5000"),
        (f"tracking.uri={ADDRESS}/x and {ADDRESS}", "tracking.uri=http://anna:***@mlflow.example:5000/x and http://anna:***@mlflow.example:5000"),
        ("postgresql+psycopg://:pw@db/x", "postgresql+psycopg://:***@db/x"),
        ("https://ghp_0123456789abcdef@github.com/a/b.git", "https://***@github.com/a/b.git"),
        ("http://anna:p@ss@h:5000/x", "http://anna:***@h:5000/x"),
        ("postgresql://anna:pa/s?s#@db:5432/x", "postgresql://anna:***@db:5432/x"),
        ("http://anna:12345@h/x and http://h:5000?mail=a@b", "http://anna:***@h/x and http://h:5000?mail=a@b"),
        ("https://h/login#access_token=abc&x=2", "https://h/login#access_token=***&x=2"),
        ("ssh://git@github.com/a/b", "ssh://git@github.com/a/b"),
        ("https://h/f.pkl?download=1&token=abc&x=2", "https://h/f.pkl?download=1&token=***&x=2"),
        ("https://h/f?X-Amz-Signature=abc&X-Amz-Date=1", "https://h/f?X-Amz-Signature=***&X-Amz-Date=1"),
        ("http://h:5000/a@b: see http://h/keys?monkey=1", "http://h:5000/a@b: see http://h/keys?monkey=1"),
        ("ratio a:b@c is no address", "ratio a:b@c is no address"),
    ],
)  # fmt: skip
def test_what_is_masked_of_an_address(text: str, shown: str) -> None:
    assert masked(text) == shown and masked(shown) == shown
    assert masked_values({"a": [text, 1, None]}) == {"a": [shown, 1, None]}


def test_errors_mask_their_text_wherever_they_go() -> None:
    for kind in (SettingError, StoreError):
        assert SECRET not in str(kind(f"cannot reach {ADDRESS}")) and "anna:***@" in f"{kind(ADDRESS)}"


class Unreachable(Data):
    kind = "unreachable"

    def build(self, *_: object) -> dict[str, object]:
        raise RuntimeError(f"API request to {ADDRESS} failed")


def test_a_store_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a command line with a password, an environment with others, a stage that was built, and one whose error quotes it."""
    for name in ("AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "WANDB_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    store = Store(tmp_path / "s")
    own = ["tracking=server", f"tracking.uri={ADDRESS}", f"data.fetch.questions='{ADDRESS}/{{split}}.json?token={SECRET}'"]
    plan = compile_plan(compile_sweep("demo", [*TINY, *own]))
    assert plan.sweep.baseline.config.tracking.uri == ADDRESS, "what runs has the password"
    folder = record.write(plan, store)
    for number, job in enumerate(plan.jobs):
        freeze(job, store, folder / "jobs", number)
    assert record.load(folder).sweep.baseline.config.tracking.uri == "http://anna:***@mlflow.example:5000"
    data = DataSettings(train=2, validation=2, workers=1)
    artifact = build(Data(data), store)
    assert artifact.manifest["provenance"]["environment"]["OMP_NUM_THREADS"] == "1"
    failing: Stage = Unreachable(data)
    with pytest.raises(Exception, match=r"anna:\*\*\*@") as raised:
        build(failing, store)
    assert SECRET not in str(raised.value)
    assert len(store.failures(failing.key)) == 1
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) > 20 and [path for path in files if SECRET.encode() in path.read_bytes()] == []


def test_of_the_environment_a_list_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in (*RECORDED, "OMP_NUM_THREADS_TOKEN", "PASSWORD"):
        monkeypatch.setenv(name, "x")
    assert set(recorded_environment()) == set(RECORDED)
