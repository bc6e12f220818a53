"""Importing slots: the result equals the source, in bounded memory and after interruptions; errors name their place."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from ctt.core.errors import DataError, Interrupted
from ctt.data.clevrer import slots_import
from ctt.data.clevrer.imported_slots import ImportedSlots, write_json
from ctt.data.clevrer.slots_import import import_slots
from tests.data.clevrer.official_files import FIRST, slots_tree, write_pickle

OURS = {"train": "train", "val": "validation", "test": "test"}


def matches(imported, tree):
    """Asserts that every video of the tree is in the row of its scene."""
    for split, videos in tree.items():
        part = imported.parts[OURS[split]]
        slots = np.load(imported.path(part), mmap_mode="r")
        assert slots.shape == (len(videos), 128, 7, 128) and slots.dtype == np.float32
        for name, frames in videos.items():
            scene = int("".join(c for c in name.split(".")[0] if c.isdigit()))
            assert (slots[scene - part.first] == np.asarray(frames)[:128]).all(), name
    return True


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_gives_the_same_import(protocol, tmp_path):
    tree = slots_tree({"train": 3, "val": 2, "test": 1})
    source = write_pickle(tmp_path / "slots.pkl", tree, protocol)
    imported = import_slots(source, tmp_path / "slots")
    assert matches(imported, tree)
    assert {s: (p.videos, p.first) for s, p in imported.parts.items()} == {OURS[s]: (len(v), FIRST[s]) for s, v in tree.items()}
    assert imported.source["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
    assert imported.source["size"] == source.stat().st_size
    other = import_slots(write_pickle(tmp_path / "again.pkl", tree, 2), tmp_path / "again")
    assert other.digest == imported.digest
    assert sorted(os.listdir(imported.folder)) == [
        "import.json",
        *sorted(f"slots_{s}.npy" for s in ("test", "train", "validation")),
    ]


def test_tensors_videos_in_other_orders_and_a_shared_array(tmp_path):
    tree = slots_tree({"train": 4})
    batch = torch.from_numpy(np.stack([tree["train"][f"{i}_pixels.mp4"] for i in range(4)]))
    shared = {"train": {f"{i}_pixels.mp4": batch[i] for i in (2, 0, 3, 1)}}
    torch.save(shared, tmp_path / "zip.pkl")
    assert matches(import_slots(tmp_path / "zip.pkl", tmp_path / "zip"), tree)
    twice = tree["train"]["0_pixels.mp4"]
    same = {"train": {"0": twice, "video_00001.mp4": twice}}
    assert matches(import_slots(write_pickle(tmp_path / "same.pkl", same), tmp_path / "same"), same)


def test_rollouts_are_cut_to_the_given_frames(tmp_path):
    tree = slots_tree({"train": 2, "val": 1}, frames=160)
    imported = import_slots(write_pickle(tmp_path / "r.pkl", tree), tmp_path / "r")
    assert matches(imported, tree) and imported.frames == 160


IMPORT = """
import resource, sys
from pathlib import Path
from ctt.data.clevrer.slots_import import import_slots
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
import_slots(Path(sys.argv[1]), Path(sys.argv[2]))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units there")
def test_resident_memory_stays_small(tmp_path):
    """Including pages of mapped files: of 29 MB, at most a few are in memory at a time."""
    source = write_pickle(tmp_path / "s.pkl", slots_tree({"train": 64}))
    command = [sys.executable, "-c", IMPORT, str(source), str(tmp_path / "s")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 16_000  # KiB; a block of 4 MiB, a video and its copy


@pytest.mark.parametrize("order", [">f4", "F"])
def test_other_byte_and_axis_orders_are_converted(order, tmp_path):
    tree = slots_tree({"train": 2})
    turned = {n: a.astype(">f4") if order == ">f4" else np.asfortranarray(a) for n, a in tree["train"].items()}
    assert matches(import_slots(write_pickle(tmp_path / "s.pkl", {"train": turned}), tmp_path / "s"), tree)


def stop_after(monkeypatch, videos):
    """Interrupts the import after `videos` videos; returns the list of written ones."""
    written = []
    real = slots_import._frames

    def counted(source, video):
        if len(written) == videos:
            raise KeyboardInterrupt
        written.append(video.name)
        return real(source, video)

    monkeypatch.setattr(slots_import, "_frames", counted)
    return written


def test_an_interrupted_import_continues(tmp_path, monkeypatch):
    tree = slots_tree({"train": 6, "val": 3})
    source, folder = write_pickle(tmp_path / "s.pkl", tree), tmp_path / "s"
    monkeypatch.setattr(slots_import, "EVERY", 0.0)
    stop_after(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        import_slots(source, folder)
    with pytest.raises(DataError, match="was interrupted; the same"):
        ImportedSlots.open(folder)
    monkeypatch.undo()
    written = stop_after(monkeypatch, 99)
    imported = import_slots(source, folder)
    assert len(written) == 5 and matches(imported, tree)
    assert imported.source["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_a_signal_stops_an_import_and_written_videos_are_kept(tmp_path, monkeypatch):
    tree = slots_tree({"train": 4})
    source, folder = write_pickle(tmp_path / "s.pkl", tree), tmp_path / "s"
    monkeypatch.setattr(slots_import, "stopping", lambda: True)
    with pytest.raises(Interrupted, match="stopped at video 1; the same command continues"):
        import_slots(source, folder)
    monkeypatch.undo()
    written = stop_after(monkeypatch, 99)
    assert matches(import_slots(source, folder), tree) and len(written) == 3


def test_a_changed_source_starts_the_import_anew(tmp_path, monkeypatch):
    source, folder = write_pickle(tmp_path / "s.pkl", slots_tree({"train": 4})), tmp_path / "s"
    monkeypatch.setattr(slots_import, "EVERY", 0.0)
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        import_slots(source, folder)
    monkeypatch.undo()
    tree = slots_tree({"train": 4}, seed=1)
    write_pickle(source, tree)
    os.utime(source, (1, 1))
    assert matches(import_slots(source, folder), tree)


def test_a_finished_import_is_not_repeated(tmp_path, monkeypatch):
    source, folder = write_pickle(tmp_path / "s.pkl", slots_tree({"train": 2})), tmp_path / "s"
    first = import_slots(source, folder)
    stop_after(monkeypatch, 0)
    assert import_slots(source, folder).digest == first.digest
    other = write_pickle(tmp_path / "o.pkl", slots_tree({"train": 2}, seed=1))
    with pytest.raises(DataError, match=r"holds the import of another file \(s.pkl\); name another folder"):
        import_slots(other, folder)


def test_progress_reaches_the_end(tmp_path):
    source = write_pickle(tmp_path / "s.pkl", slots_tree({"train": 3}))
    reports = []
    import_slots(source, tmp_path / "s", lambda done, total: reports.append((done, total)))
    size = source.stat().st_size
    assert reports[-1] == (size, size) and reports == sorted(reports) and len(reports) >= 3


def changed(split, name, value):
    def change(tree):
        tree[split][name] = value(tree[split][name]) if callable(value) else value

    return change


def nan(frames):
    return np.where(np.arange(128)[:, None, None] == 77, np.float32(np.nan), frames)


EMPTY = np.zeros((128, 7, 128), np.float32)
WRONG = {
    "whole numbers": (
        changed("val", "video_10001.mp4", lambda a: a.astype(np.int32)),
        r"float32 \(or float16, bfloat16, float64\), not int32",
    ),
    "fewer frames": (
        changed("train", "1_pixels.mp4", lambda a: a[:100]),
        r"split train, video 1_pixels.mp4: must have the shape .*, not \(100, 7, 128\)",
    ),
    "other slots": (
        changed("train", "1_pixels.mp4", lambda a: a[:, :6].copy()),
        "video 1_pixels.mp4: has 6 slots, others have 7",
    ),
    "no frames axis": (
        changed("train", "1_pixels.mp4", lambda a: a[0]),
        r"video 1_pixels.mp4: must have .*not \(7, 128\)",
    ),
    "NaN": (
        changed("val", "video_10001.mp4", nan),
        "split validation, video video_10001.mp4: frame 77, slot 0 is not finite",
    ),
    "infinite both ways": (
        changed("train", "2_pixels.mp4", lambda a: a * np.float32([np.inf, -np.inf] * 64)),
        "split train, video 2_pixels.mp4: frame 0, slot 0 is not finite",
    ),
    "infinite": (
        changed("train", "2_pixels.mp4", lambda a: a + np.float32(np.inf)),
        "split train, video 2_pixels.mp4: frame 0, slot 0 is not finite",
    ),
    "a text": (changed("train", "1_pixels.mp4", "x"), "split train, video 1_pixels.mp4: must be an array, not str"),
    "one rollout": (
        changed("train", "1_pixels.mp4", np.zeros((160, 7, 128), np.float32)),
        "video 1_pixels.mp4: has 160 frames, others have 128",
    ),
    "a video twice": (
        changed("train", "video_00001.mp4", EMPTY),
        "split train: video 1 occurs twice, as 1_pixels.mp4 and as video_00001.mp4",
    ),
    "a video missing": (
        lambda tree: tree["train"].pop("1_pixels.mp4"),
        "split train: 1 videos are missing between 0 and 3: 1; to import the others, add data.missing=skip",
    ),
    "a stray name": (changed("train", "readme.txt", EMPTY), "split train: 'readme.txt' is no video's name"),
    "a huge number": (changed("train", "99999999_pixels.mp4", EMPTY), "is no video's name"),
    "a stray split": (lambda tree: tree.update(dev={}), "'dev' is no split"),
    "a split twice": (lambda tree: tree.update(validation=dict(tree["val"])), "split validation occurs twice"),
    "an empty split": (lambda tree: tree.update(test={}), "split test: must hold a dict of videos, not nothing"),
    "a split that is a list": (lambda tree: tree.update(test=[1]), "split test: must hold a dict of videos, not list"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_split_and_video(case, tmp_path):
    change, message = WRONG[case]
    tree = slots_tree({"train": 4, "val": 2})
    change(tree)
    source = write_pickle(tmp_path / "s.pkl", tree)
    with pytest.raises(DataError, match=message) as refused:
        import_slots(source, tmp_path / "s")
    assert "s.pkl" in str(refused.value)
    if "not finite" not in message:  # all but that is found before a byte is written
        assert not (tmp_path / "s").exists()


def test_large_numbers_whose_sum_is_not_finite_are_kept(tmp_path):
    tree = slots_tree({"train": 2})
    changed("train", "1_pixels.mp4", lambda a: np.full_like(a, np.finfo(np.float32).max))(tree)
    assert matches(import_slots(write_pickle(tmp_path / "s.pkl", tree), tmp_path / "s"), tree)


@pytest.mark.parametrize("size", [0, 1, 1000, 500_000, -1])
def test_a_truncated_source_is_refused_before_anything_is_written(size, tmp_path):
    source = write_pickle(tmp_path / "s.pkl", slots_tree({"train": 2}))
    source.write_bytes(source.read_bytes()[:size])
    with pytest.raises(DataError, match="cut off|malformed pickle|is an empty file"):
        import_slots(source, tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_bare_array_is_no_slots_file(tmp_path):
    source = write_pickle(tmp_path / "s.pkl", EMPTY)
    with pytest.raises(DataError, match="must hold a dict of splits, not an array"):
        import_slots(source, tmp_path / "s")


def an_import(tmp_path):
    return import_slots(write_pickle(tmp_path / "s.pkl", slots_tree({"train": 3})), tmp_path / "s")


def test_opening_is_fast_and_checks_sizes(tmp_path):
    imported = an_import(tmp_path)
    began = time.perf_counter()
    assert ImportedSlots.open(imported.folder) == imported
    assert time.perf_counter() - began < 0.5
    path = imported.path(imported.parts["train"])
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(DataError, match=r"slots_train\.npy has \d+ bytes instead of"):
        ImportedSlots.open(imported.folder)


def flip(path, keep_time):
    stat = path.stat()
    with open(path, "r+b") as file:
        file.seek(900_000)
        byte = file.read(1)
        file.seek(900_000)
        file.write(bytes([byte[0] ^ 1]))
    if keep_time:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_flipped_bit_is_found_by_its_time_or_by_a_full_check(tmp_path):
    imported = an_import(tmp_path)
    path = imported.path(imported.parts["train"])
    assert imported.damage() == []
    os.utime(path, (5, 5))
    assert ImportedSlots.open(imported.folder).digest == imported.digest  # copied elsewhere: other time, same bytes
    flip(path, keep_time=False)
    with pytest.raises(DataError, match="is damaged: its bytes differ"):
        ImportedSlots.open(imported.folder)


def test_damage_that_keeps_size_and_time_is_found_by_a_full_check(tmp_path):
    imported = an_import(tmp_path)
    flip(imported.path(imported.parts["train"]), keep_time=True)
    ImportedSlots.open(imported.folder)
    assert [text.split(" is ")[0] for text in imported.damage()] == [str(tmp_path / "s" / "slots_train.npy")]


def test_a_deeply_nested_manifest_is_refused(tmp_path):
    imported = an_import(tmp_path)
    (imported.folder / "import.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match="is not the manifest of an import"):
        ImportedSlots.open(imported.folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.pop("splits"), "is not the manifest of an import"),
        (lambda found: found.update(format=9), "another version"),
        (lambda found: found["splits"]["train"].update(videos=2), "is damaged"),
        (lambda found: found["splits"]["train"].update(sha256="0" * 64), "is damaged"),
        (lambda found: found["splits"].update(train=7), "is not the manifest"),
    ],
)
def test_a_manifest_that_was_changed_is_refused(change, message, tmp_path):
    imported = an_import(tmp_path)
    path = imported.folder / "import.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match=message):
        ImportedSlots.open(imported.folder)


def test_a_file_instead_of_a_folder_is_refused_with_the_remedy(tmp_path):
    source = write_pickle(tmp_path / "s.pkl", {})
    with pytest.raises(DataError, match="import it with `ctt data import"):
        ImportedSlots.open(source)
    with pytest.raises(DataError, match="no import"):
        ImportedSlots.open(tmp_path)


def test_a_full_disk_is_reported(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match="No space left on device; the same command continues"):
        an_import(tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.json").write_text("[]")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "a.json", {"a": 1})
    assert os.listdir(tmp_path) == ["a.json"] and (tmp_path / "a.json").read_text() == "[]"


def test_a_source_that_changes_during_the_import_is_detected(tmp_path):
    source = write_pickle(tmp_path / "s.pkl", slots_tree({"train": 2}))

    def touch(done, total):
        os.utime(source, (1, 1))

    with pytest.raises(DataError, match="was changed while it was imported"):
        import_slots(source, tmp_path / "s", touch)


def test_paths_in_the_pickle_are_refused(tmp_path):
    tree = {"train": {"../../0_pixels.mp4": EMPTY}}
    with pytest.raises(DataError, match="is no video's name"):
        import_slots(write_pickle(tmp_path / "s.pkl", pickle.loads(pickle.dumps(tree))), tmp_path / "s")
