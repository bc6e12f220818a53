"""A byte is flipped, or the end cut off, in every kind of file that ctt keeps: it is found, or it changes no result."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app import ls
from ctt.app.gc import survey
from ctt.app.status import print_status
from ctt.core.errors import CttError, Interrupted
from ctt.execution.jobs import event_log, spec
from ctt.execution.jobs.retries import Attempts
from ctt.planning.costs import Costs
from ctt.store import Store
from ctt.store.artifact import DamagedArtifact
from ctt.study import record
from ctt.study.blind_levels import blind_answers
from ctt.study.run_devices import device_of
from ctt.training import trainer
from ctt.training.trainer import Segment
from tests.faults.counting import ALL, CUT, FLIPPED, Fault, dice, some
from tests.faults.scenarios import Sources, linked, plan, table
from tests.training.small_world_model import bytes_of
from tests.training.test_any_settings import Interrupting, composed, train

pytestmark = pytest.mark.slow
NAME = "demo"


def damage(path: Path, how: str, *about: object) -> None:
    """Flips one bit of a file, or cuts off its end; other names of the file (hard links) keep what they had."""
    data, draw = bytearray(path.read_bytes()), dice(how, path.name, *about)
    if how == CUT:
        del data[draw.randrange(len(data)) :]
    else:
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    path.unlink()
    path.write_bytes(data)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(action="ignore", category=DamagedArtifact):
        yield


def of_artifacts(store: Path) -> dict[str, list[Path]]:
    """{kind of stage and name of file: the files} of all artifacts."""
    found = defaultdict(list)
    for manifest in sorted(store.glob("artifacts/*/*/manifest.json")):
        kind = json.loads(manifest.read_text())["kind"]
        for path in sorted(manifest.parent.iterdir()):
            found[f"{kind}/{re.sub('train|validation', 'SPLIT', path.name)}"].append(path)
    return found


@pytest.mark.parametrize("how", [FLIPPED, CUT])
def test_an_artifact_is_known_to_be_damaged(how: str, tiny_one_seed: Path, tmp_path: Path, fault: Fault) -> None:
    """Whatever reads it next finds that, and puts it away; the table then has the runs that are whole, or, once it is built
    again, the bytes of before."""
    sources = Sources(tiny_one_seed, tiny_one_seed, tiny_one_seed)
    kinds = of_artifacts(tiny_one_seed)
    assert len(kinds) > 30 and {name.partition("/")[0] for name in kinds} >= {"data", "world_model", "rollout", "vqa", "reader"}
    chosen = sorted(kinds) if ALL else dice(how).sample(sorted(kinds), 8)
    for name in chosen:
        original = dice(name).choice(kinds[name])
        store = Store(tmp_path / "store")
        linked(tiny_one_seed, store.root)
        key = original.parent.name
        damage(store.path(key) / original.name, how)
        with fault(how), quiet():
            assert store.get(key) is None and not store.has(key), name
            table(store.root)
            shutil.copytree(original.parent, store.path(key), copy_function=os.link)
            assert table(store.root) == sources.table()
        shutil.rmtree(store.root)


def commands(store: Store) -> None:
    """What reads the files beside artifacts; errors of ctt's own name what is wrong."""
    folder = store.root / "sweeps" / NAME
    out = io.StringIO()
    for read in (
        lambda: Costs(store.root),
        lambda: print_status(store, NAME, as_json=True),
        lambda: print_status(store, NAME, as_json=False),
        lambda: ls.list_sweeps(store, store.root, False, Console(file=out)),
        lambda: survey(store),
        lambda: [spec.read(jobs) for jobs in sorted(folder.glob("*/jobs"))],
        lambda: [Attempts(store).recall(event_log.read(jobs)) for jobs in sorted(folder.glob("*/jobs"))],
        lambda: [device_of(store, stage) for stage in plan().stages.values()],
        lambda: store.identity,
        lambda: [store.holder(path.name) for path in store.root.glob("leases/*")],
    ):
        with contextlib.suppress(CttError):
            read()


OTHER = (
    "blind/*.parquet", "blind/*.sha256", "id.json", "timings.jsonl", "sweeps/*/*/record.json", "sweeps/*/*/jobs/0003.json",
    "sweeps/*/*/jobs/0003.outcome.json", "sweeps/*/*/jobs/events.jsonl", "sweeps/*/*/jobs/0003.pid",
    "sweeps/*/*/jobs/disk_full.json", "leases/*/0*", "failures/*/*.json", "sweeps/*/report/table.json",
)  # fmt: skip


@pytest.fixture
def lived_in(tiny_one_seed: Path, tiny_sweep: Path, tmp_path: Path) -> Path:
    """A store with files of every kind: of jobs of a launcher, of a failure, and of a lease."""
    root = tmp_path / "lived in"
    linked(tiny_one_seed, root)
    store = Store(root)
    shutil.copytree(tiny_sweep / "sweeps" / NAME / "0001" / "jobs", root / "sweeps" / NAME / "0001" / "jobs", dirs_exist_ok=True)
    shutil.copy(tiny_sweep / "timings.jsonl", root)
    jobs = spec.read(root / "sweeps" / NAME / "0001" / "jobs")
    folder = jobs[0].path.parent
    for job in jobs:
        event_log.append(folder, job.number, job.label, job.target, "started", job_id="12")
        event_log.append(folder, job.number, job.label, job.target, "retried", failure="killed", progressed=True)
    (folder / "0003.pid").write_text(f"1 2 host {jobs[0].target} cpu")
    (folder / "disk_full.json").write_text('{"free": 1, "needed": 2.0}')
    with store.lease("ab" * 32):
        store.record_failure("ab" * 32, "killed", "killed")
    assert store.identity and table(root)
    return root


@pytest.mark.parametrize("how", [FLIPPED, CUT])
@pytest.mark.parametrize("pattern", OTHER)
def test_other_files_are_found_out_or_change_nothing(
    pattern: str, how: str, lived_in: Path, tiny_one_seed: Path, tmp_path: Path, fault: Fault, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = table(lived_in)
    for number in range(some(12, 1)):
        root = tmp_path / str(number)
        shutil.copytree(lived_in, root, copy_function=os.link)
        [path, *_] = sorted(root.glob(pattern))
        damage(path, how, number)
        with fault(how):
            commands(Store(root))
            try:
                found = table(root)
            except CttError as error:
                assert str(path) in str(error) or "no sweep" in str(error), error
                record.write(plan(), Store(root))  # as `ctt sweep` does
                found = table(root)
            assert found == expected
        shutil.rmtree(root)


def test_answers_without_the_video_are_made_again(lived_in: Path) -> None:
    """Also where the damage leaves a table that can be read."""
    [path] = lived_in.glob("blind/*.parquet")
    whole = path.read_bytes()
    frames = blind_answers(plan(), Store(lived_in))
    next(iter(frames.values())).assign(level="words").to_parquet(path)
    assert blind_answers(plan(), Store(lived_in)).keys() == frames.keys()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("how", [FLIPPED, CUT])
def test_a_damaged_checkpoint_is_no_start(how: str, tmp_path: Path, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its files it is, or the metrics that were logged up to it: training gives the bytes of an undisturbed one."""
    learned = {"world_model.graph.source": "learned", "ctt_inv_weight": 0.2, "ctt_start_epoch": 0}
    config = composed({"world_model.average": 0.9, **learned})
    train(config, tmp_path / "whole", Segment(3))
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(Interrupted):
        train(config, tmp_path / "part", Segment(3), Interrupting(tmp_path / "part", 8))
    [checkpoint] = (tmp_path / "part" / "checkpoint").iterdir()
    names = sorted(path.name for path in checkpoint.iterdir())
    assert names == [
        "model.safetensors",
        "optimizer.safetensors",
        "sha256.json",
        "side.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    names = [*names, "../../metrics.jsonl"]
    for name in names if ALL else dice(how).sample(names, 2):
        folder = tmp_path / "damaged"
        shutil.copytree(tmp_path / "part", folder)
        damage(folder / "checkpoint" / checkpoint.name / name, how)
        with fault(how):
            with pytest.warns(UserWarning, match="is damaged"):
                train(config, folder, Segment(3))
            assert bytes_of(folder) == bytes_of(tmp_path / "whole")
        shutil.rmtree(folder)
