"""Data at its full size: seconds and peak memory of making scenes in one go, and of importing a pickle of slots (and copying it).

    python -m tests.benchmarks.data_at_size scenes 20000     # 12 GB of disk, a quarter of an hour on two cores
    python -m tests.benchmarks.data_at_size slots 20000      # 36 GB of disk, minutes

Everything is written to a temporary folder (--folder: of another disk) and removed again. Memory is the private one (USS) of all
processes together, looked at once a second.
"""

from __future__ import annotations

import argparse
import contextlib
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from ctt.core.build_context import BuildContext
from ctt.data.data_settings import DataSettings
from ctt.data.synthetic.writing import generate

FIRST = {"train": 0, "val": 10_000, "test": 15_000}  # CLEVRER's scenes by split


@contextlib.contextmanager
def peak_memory() -> Iterator[list[int]]:
    """[bytes]: the most that this process and those below it held together, so far."""
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(1.0):
            held = 0
            for process in (own := psutil.Process(), *own.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    held += process.memory_full_info().uss
            peak[0] = max(peak[0], held)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield peak
    finally:
        ended.set()
        watching.join()


def scenes(count: int, folder: Path) -> None:
    """Makes `count` scenes, half of them for training, with two workers."""
    quarter = count // 4
    generate(
        DataSettings(kind="synthetic", train=count - 2 * quarter, validation=quarter, test=quarter), BuildContext(folder, workers=2)
    )


def slots(count: int, folder: Path) -> None:
    """Imports a pickle of `count` videos, half of them for training, in the reference's form, by the command."""
    path = folder / "clevrer_videosaur_slots.pkl"
    arrays = [np.random.default_rng(k).standard_normal((128, 7, 128), np.float32) for k in range(16)]
    counts = {"train": count - 2 * (count // 4), "val": count // 4, "test": count // 4}
    name = {"train": "{}_pixels.mp4", "val": "video_{:05d}.mp4", "test": "video_{:05d}.mp4"}
    tree = {s: {name[s].format(FIRST[s] + k): arrays[k % 16].view() for k in range(n)} for s, n in counts.items()}
    with open(path, "wb") as file:
        pickler = pickle.Pickler(file, protocol=4)
        pickler.fast = True  # keeps nothing of what it has written
        pickler.dump(tree)
    size = path.stat().st_size / 1e9
    commands = {
        "a copy of the file": ["cp", str(path), str(folder / "copy")],
        "the import": [sys.executable, "-m", "ctt", "data", "import", str(path), "--to", str(folder / "imported")],
    }
    for name, command in commands.items():
        began = time.monotonic()
        subprocess.run(command, check=True, stdout=sys.stderr)
        subprocess.run(["sync", "--file-system", str(folder)], check=True)
        print(f"{name}, until it is on the disk: {time.monotonic() - began:.0f} s for {size:.1f} GB", flush=True)
        (folder / "copy").unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("scenes", "slots"))
    parser.add_argument("count", type=int)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder, peak_memory() as peak:
        began = time.monotonic()
        {"scenes": scenes, "slots": slots}[given.what](given.count, Path(folder))
        seconds = time.monotonic() - began
    print(f"{given.count:,} {given.what}: {seconds:.0f} s, peak {peak[0] / 1e6:.0f} MB over all processes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
