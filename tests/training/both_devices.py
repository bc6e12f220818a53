"""`python -m tests.training.both_devices FOLDER`: every training and evaluation on the other device and on the CPU; prints
digests of their files as JSON. It needs a process of its own: see tests/other_device.py."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from ctt.core.build_context import BuildContext
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import Dataset
from ctt.data.positions import reference_levels
from ctt.data.positions.reader_settings import PositionReaderSettings
from ctt.data.synthetic.writing import generate
from ctt.models.aloe import encoder
from ctt.models.aloe.aloe_settings import AloeSettings
from ctt.models.method import Method
from ctt.models.model_settings import GraphSettings, RolloutSettings
from ctt.training import vqa, world_model
from ctt.training.diagnostics import diagnose
from ctt.training.diagnostics_settings import DiagnosticsSettings
from ctt.training.imagined_frames import ImaginedFrames
from ctt.training.positions import position_reader
from ctt.training.rollout import roll_out
from ctt.training.slot_graphs import SlotGraph
from ctt.training.trainer import Segment
from ctt.training.training_settings import WindowSettings, WorldModelSettings
from tests.other_device import other_device
from tests.training import toy_questions
from tests.training.small_aloe import SMALL
from tests.training.standin import StandIn
from tests.training.test_diagnostics import with_truth

BOTH = Method(inv_weight=0.2, suf_weight=0.1, adj_threshold=0.14, start_epoch=1)
WORLD: dict[str, Any] = dict(depth=2, heads=2, mlp_width=24, frameskip=2, batch_size=16, micro_batch=8, dropout=0.0, epochs=2)
ON_HOST = WindowSettings(per_epoch=32, validation=20, device="host")
WORLDS: dict[str, dict[str, Any]] = {
    **{source: {"graph": GraphSettings(source=source)} for source in ("attention", "rollout_attention", "jacobian")},
    "learned": {"graph": GraphSettings(source="learned")},
    "oracle": {"graph": GraphSettings(source="oracle")},
    "published scope": {"graph": GraphSettings(scope="batch"), "num_preds": 3},
    "averaged": {"average": 0.9, "optimizer": "muon"},
    "visible": {"loss_on": "visible"},
    "rounded": {"windows": WindowSettings(per_epoch=32, validation=20, store="bf16")},
    "slots on the host": {"loss_on": "visible", "graph": GraphSettings(source="learned"), "windows": ON_HOST},
}
ALOES: dict[str, dict[str, Any]] = {
    "trajectories": {"average": 0.9},
    "published tokens": {"tokens": "frames", "words": "tokens", "width": 16, "heads": 2, "ffn": 16, "epochs": 1},
    "film": {"words": "film"},
    "all frames": {"rollout_frames": "all", "epochs": 1},
    **{f"{kind} dropout": {"dropout": 0.1, "dropout_kind": kind, "epochs": 1} for kind in ("exact", "cheap")},
    "imagined frames": {"rollout_frames": "counterfactual", "epochs": 1},
    "imagined frames on the host": {"rollout_frames": "counterfactual", "epochs": 1, "data_device": "host"},
    "frames on the host": {"data_device": "host", "batch_size": 8},
    "a random first frame": {"eval_start": None, "predicted_frames": None, "frames": 25, "epochs": 1, "batch_size": 8},
}
OWN_DRAWS = {
    **{f"world model, {kind} dropout": {"dropout": 0.1, "dropout_kind": kind} for kind in ("exact", "cheap")},
    "ALOE, fused attention": {"epochs": 1, "fused": True, "words": "vector"},
}
"""Cases in which the devices may differ: other dropout masks, another kernel."""
Case = Callable[[Path, str], Any]


def world_settings(**changes: Any) -> WorldModelSettings:
    return WorldModelSettings(**{**WORLD, "windows": WindowSettings(per_epoch=32, validation=20), **changes})


def trained(folder: Path, device: str, **changes: Any) -> None:
    """Trains two segments; the second starts from the first one's state."""
    start = None
    for epoch in range(2):
        state = folder / str(epoch)
        state.mkdir(parents=True)
        segment, context = Segment(epoch + 1, epoch, start), BuildContext(state, device=device)
        data = with_truth(StandIn())
        world_model.train(world_settings(**changes), BOTH, 2, 3, data, segment, context=context)  # type: ignore[arg-type]
        start = state


def imagined_of(dataset: Dataset, split: str) -> ImaginedFrames:
    """Two imagined videos, which every third question of the split sees."""
    table = dataset.split(split).questions
    questions = np.unique(np.stack([table.scene, table.question_id], 1), axis=0)[::3]
    slots = np.random.default_rng(5).normal(size=(2, 128, 7, 128)).astype(np.float16)
    return ImaginedFrames(slots, questions, np.arange(len(questions)) % 2)


def answered(folder: Path, device: str, fused: bool = False, **changes: Any) -> None:
    dataset, rollouts = toy_questions.make(folder.parent.parent / "toy", 12, 6)
    imagined = None
    if changes.get("rollout_frames") == "counterfactual":
        imagined = {split: imagined_of(dataset, split) for split in dataset.splits}
    folder.mkdir()
    with contextlib.nullcontext() if fused else mock.patch.object(encoder, "fused_is_faster", lambda *_: False):
        context = BuildContext(folder, device=device)
        vqa.train(AloeSettings(**(SMALL | changes)), 3, dataset, rollouts, imagined, context=context)


def read(folder: Path, device: str) -> None:
    """A world model's rollout, diagnostics and position reader on simulated scenes."""
    shared = folder.parent.parent
    if not (shared / "set").exists():
        for name in ("set", "probe"):
            (shared / name).mkdir()
        generate(DataSettings(train=16, validation=6, seed=3, workers=1), BuildContext(shared / "set"))
        reference_levels.make(
            PositionReaderSettings(videos=16), Dataset.open(shared / "set"), None, 32, BuildContext(shared / "probe")
        )
    dataset, settings = Dataset.open(shared / "set"), world_settings(epochs=1, graph=GraphSettings(source="learned"))
    names = ("state", "rollout", "diagnostics", "touch", "graph", "all")
    contexts = {name: BuildContext(folder / name, device=device) for name in names}
    for context in contexts.values():
        context.folder.mkdir(parents=True)
    method = Method(inv_weight=0.2, suf_weight=0.1, adj_threshold=0.14, start_epoch=0)
    world_model.train(settings, method, 2, 3, dataset, Segment(1), context=contexts["state"])
    state = folder / "state"
    roll_out(settings, RolloutSettings(), state, dataset, context=contexts["rollout"])
    diagnose(settings, method, 2, 3, DiagnosticsSettings(windows=40), state, dataset, context=contexts["diagnostics"])
    predicted = np.load(folder / "rollout" / "rollout_validation.npy")
    for reach in ("touch", "graph", "all"):
        position_reader.read(
            PositionReaderSettings(videos=16, reach=reach),
            settings,
            SlotGraph(settings.graph, method.adj_threshold) if reach == "graph" else None,
            RolloutSettings(),
            shared / "probe",
            state,
            predicted,
            dataset,
            context=contexts[reach],
        )


def cases() -> Iterator[tuple[str, Case]]:
    for name, changes in WORLDS.items():
        yield f"world model, {name}", functools.partial(trained, **changes)
    for name, changes in ALOES.items():
        yield f"ALOE, {name}", functools.partial(answered, **changes)
    yield "rollout, diagnostics, reader", read
    for name, changes in OWN_DRAWS.items():
        yield name, functools.partial(trained if name.startswith("world model") else answered, **changes)


def bytes_of(folder: Path) -> dict[str, str]:
    """Digests of the files of a run, without its times."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    compared = (path for path in files if path.name not in ("metrics.jsonl", "progress.json"))
    return {str(path.relative_to(folder)): hashlib.sha256(content(path)).hexdigest() for path in compared}


def content(path: Path) -> bytes:
    """The file's bytes; of metrics.json, the values that are comparable."""
    if path.name != "metrics.json":
        return path.read_bytes()
    values = json.loads(path.read_text(encoding="utf-8"))
    for name in ("cost", "curve", "published_losses"):  # the last one uses dropout
        values.pop(name, None)
    return json.dumps(values).encode()


def main(root: Path) -> None:
    found: dict[str, dict[str, Any]] = {}
    with other_device() as other:  # first, since autograd counts the devices once
        for number, (name, run) in enumerate(cases()):
            folder = root / "other" / str(number)
            folder.parent.mkdir(exist_ok=True)
            try:
                run(folder, other)
                found[name] = {"other": bytes_of(folder)}
            except Exception:
                found[name] = {"other": None, "error": traceback.format_exc()}
    (root / "cpu").mkdir()
    for number, (name, run) in enumerate(cases()):
        folder = root / "cpu" / str(number)
        run(folder, "cpu")
        found[name]["cpu"] = bytes_of(folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
