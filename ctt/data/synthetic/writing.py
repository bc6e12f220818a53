"""Writes a synthetic data set: scenes, slots, questions and ground truth, independent of the number of workers.

Every scene has its own random streams, derived from (seed, split, number in the split, purpose), so that it depends
neither on the number of workers nor on the size of the set, nor on the noise of slots. Workers write their rows into
memory-mapped files; only questions and annotations pass through the main process, one chunk of videos at a time.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import zipfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import ExitStack
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ctt.core.build_context import BuildContext
from ctt.core.processes import without_main_module
from ctt.data.data_format import CLEVRER, SPLITS
from ctt.data.data_settings import DataSettings
from ctt.data.dataset import write_manifest
from ctt.data.mapped_arrays import mapped_array
from ctt.data.questions.sampling import Balancer, Candidates, enumerate_questions, strip_answers
from ctt.data.scene import GIVEN, TOTAL
from ctt.data.synthetic.annotation_writer import annotation
from ctt.data.synthetic.generator import make_scene
from ctt.data.synthetic.slot_encoder import SLOTS, WIDTH, encoder_of, render
from ctt.data.synthetic.truth import ARRAYS, path_of, rows

CHUNK = 10
"""Videos per chunk, the unit of work of a worker."""
AHEAD = 4
"""Chunks submitted ahead, per worker."""
PURPOSES = ("scene", "slots", "questions")


class Chunk(NamedTuple):
    """A chunk to generate: the videos `numbers` of a split whose first scene_index is `first_scene`."""

    settings: DataSettings
    folder: Path
    split: str
    numbers: range
    first_scene: int


class ChunkOutput(NamedTuple):
    """The part of a chunk for the main process, one entry per video; annotations only with data.annotations."""

    candidates: list[Candidates]
    annotations: list[str]


def stream(seed: int, split: str, number: int, purpose: str) -> np.random.Generator:
    """The random stream of one purpose in one scene (number: its index in the split)."""
    return np.random.default_rng(np.random.SeedSequence([seed, SPLITS.index(split), number, PURPOSES.index(purpose)]))


def generate(settings: DataSettings, context: BuildContext) -> None:
    """Writes the data set into context.folder with context.workers processes. Raises Interrupted on a stop signal."""
    counts, first = settings.counts(), settings.first_scene()
    done, total = 0, sum(counts.values())
    context.progress(0, total, "video")
    with ExitStack() as stack:
        pool: Executor | None = None
        if context.workers > 1:
            spawn = multiprocessing.get_context("spawn")
            ending = spawn.Event()
            pool = stack.enter_context(ProcessPoolExecutor(context.workers, spawn, _start_worker, (ending,)))
            stack.callback(ending.set)  # before the pool waits for the chunks that it has handed out
        for split, videos in counts.items():
            _allocate(context.folder, split, videos)
            chunks = [
                Chunk(settings, context.folder, split, range(start, min(start + CHUNK, videos)), first[split])
                for start in range(0, videos, CHUNK)
            ]
            with _Writer(settings, context.folder, split, first[split]) as writer:
                for made in _in_order(chunks, pool, context):
                    writer.add(made)
                    done += len(made.candidates)
                    context.progress(done, total, "video")
    write_manifest(context.folder, settings.kind, CLEVRER, counts, first)


_ended: Callable[[], bool] = bool
"""In a worker: whether nobody waits for its chunks any more."""


def _start_worker(ending: Event) -> None:
    """Makes a worker ignore signals, which its parent handles, exit with its parent, and break off its chunks once that ends."""
    global _ended
    _ended = ending.is_set
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _in_order(chunks: list[Chunk], pool: Executor | None, context: BuildContext) -> Iterator[ChunkOutput]:
    """The outputs in the order of the videos; the number of pending chunks is bounded to limit memory."""
    if pool is None:
        for chunk in chunks:
            if context.stopping:
                context.stop()
            yield make_chunk(chunk)
        return
    waiting: deque[Future[ChunkOutput]] = deque()
    left = iter(chunks)
    try:
        while True:
            for chunk in islice(left, AHEAD * context.workers - len(waiting)):
                with without_main_module():  # the first one starts the workers
                    waiting.append(pool.submit(make_chunk, chunk))
            if not waiting:
                return
            ready = False
            while not ready:  # asked at least once a chunk: this process may be slower than its workers
                ready = _ready(waiting[0])
                if context.stopping:
                    context.stop()
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _ready(future: Future[ChunkOutput]) -> bool:
    try:
        future.exception(timeout=0.5)
    except TimeoutError:
        return False
    return True


def make_chunk(chunk: Chunk) -> ChunkOutput:
    """Generates the videos of a chunk, unless nobody waits for it: writes their rows into the arrays and returns the rest."""
    settings, split = chunk.settings, chunk.split
    encoder = encoder_of(settings.encoder_seed)
    arrays = {name: np.load(path, mmap_mode="r+") for name, path in _paths(chunk.folder, split).items()}
    made = ChunkOutput([], [])
    for number in chunk.numbers:
        if _ended():
            break
        scene = make_scene(chunk.first_scene + number, stream(settings.seed, split, number, "scene"))
        slots, visible, slot_of = render(scene, encoder, settings, stream(settings.seed, split, number, "slots"))
        row = {"slots": slots[:GIVEN], "future": slots[GIVEN:], "visible": visible, **rows(scene, slot_of)}
        for name, array in arrays.items():
            array[number] = row[name]
        made.candidates.append(enumerate_questions(scene, stream(settings.seed, split, number, "questions")))
        if settings.annotations and split != "test":
            made.annotations.append(json.dumps(annotation(scene)))
    return made


def _paths(folder: Path, split: str) -> dict[str, Path]:
    own = {name: folder / f"{name}_{split}.npy" for name in ("slots", "future", "visible")}
    return own | {name: path_of(folder, split, name) for name in ARRAYS}


def _allocate(folder: Path, split: str, videos: int) -> None:
    """Creates the files of all arrays at full size; workers fill in the rows."""
    shapes: dict[str, tuple[tuple[int, ...], str]] = {
        "slots": ((GIVEN, SLOTS, WIDTH), "float32"),
        "future": ((TOTAL - GIVEN, SLOTS, WIDTH), "float32"),
        "visible": ((TOTAL, SLOTS), "bool"),
        **ARRAYS,
    }
    for name, path in _paths(folder, split).items():
        shape, dtype = shapes[name]
        mapped_array(path, dtype, (videos, *shape)).flush()


class _Writer:
    """Chooses and writes a split's questions, and writes its annotations, video by video."""

    def __init__(self, settings: DataSettings, folder: Path, split: str, first_scene: int) -> None:
        density = settings.density if split == "train" else 1
        self._balancer = Balancer(settings.seed, density)
        self._split, self._next = split, first_scene
        self._questions = open(folder / f"questions_{split}.json", "w", encoding="utf-8")  # noqa: SIM115
        self._separator = "["
        self._archive = None
        if settings.annotations and split != "test":
            self._archive = zipfile.ZipFile(folder / f"annotations_{split}.zip", "w")

    def __enter__(self) -> _Writer:
        return self

    def add(self, made: ChunkOutput) -> None:
        for candidates in made.candidates:
            official: dict[str, Any] = self._balancer.add(candidates)
            if self._split == "test":
                official = strip_answers([official])[0]
            self._questions.write(self._separator + "\n" + json.dumps(official))
            self._separator = ","
        for text in made.annotations:
            assert self._archive is not None
            member = zipfile.ZipInfo(f"annotation_{self._next:05d}.json")  # always dated 1980: same set, same bytes
            member.compress_type = zipfile.ZIP_DEFLATED
            self._archive.writestr(member, text)
            self._next += 1

    def __exit__(self, *_: object) -> None:
        self._questions.write("\n]\n")
        self._questions.close()
        if self._archive is not None:
            self._archive.close()
