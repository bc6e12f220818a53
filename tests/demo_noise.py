"""Writes ctt/report/demo_noise.py's numbers from a store with the finished sweep `demo`: python -m tests.demo_noise STORE"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from ctt.report import demo_noise
from ctt.store import Store
from ctt.study import record
from ctt.study.detectable_plan import measured_noise


def main(store: str) -> None:
    opened = Store.open(store)
    noise = measured_noise(record.load(record.newest(opened, "demo")), opened)
    videos = {float(one.spread.videos) for one in noise.values()}
    assert {one.spread.seeds for one in noise.values()} == {demo_noise.SEEDS} and max(videos) <= demo_noise.VIDEOS
    lines = [
        f'    "{metric}": ({float(one.spread.seed):.4f}, {float(one.spread.video):.4f}, {float(one.spread.rest):.1f}),'
        for metric, one in noise.items()
    ]
    path = Path(demo_noise.__file__)
    text = re.sub(r"(SPREADS: .* = )\{.*?\}\n", lambda m: m[1] + "{\n" + "\n".join(lines) + "\n}\n", path.read_text(), flags=re.S)
    path.write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])
