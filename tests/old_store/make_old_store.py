"""Makes store.tar.xz and expected.json: a small complete store as ctt wrote it at commit 95dde7c, and its reports of it.

    python tests/old_store/make_old_store.py FOLDER      # with ctt at that commit first on PYTHONPATH

It has been run once, at 95dde7c (the last commit before the restructuring of ctt), and is kept to document what the
store holds; no later commit can make an old store. FOLDER is made, and stays.

Four sweeps run by the command line: `small` (three points, two seeds, every kind of stage, shared training), `noise` (A/A runs
of its baseline), `screened` (`small` under aloe.protocol=shared) and `failing` (one point diverges). Then what cannot be
compressed is thinned, as nothing that finds, shows or reports a run reads it:

- numbers of floating-point arrays (*.npy, *.safetensors) are zeros; shapes, types and whole numbers are as they were,
  and manifests are sealed anew over the new bytes. Training that continues from these states is meaningless;
- pictures among MLflow's artifacts are single pixels, those in sweeps/NAME/report are left out: `ctt sweep` draws them again;
- code/ is left out: it is that commit's own source, and every job has run.

Answers, metrics, facts, provenance, records, frozen jobs, logs, failures, leases and MLflow's database are untouched. FOLDER
stands as an absolute path in records, jobs, events, MLflow's database and what the syncer keeps in tracking/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
COMMIT = "95dde7c"
SWEEPS = {  # name: the words after `ctt sweep`
    "small": ["small.yaml", "device=cpu", "launch=local"],
    "noise": ["noise.yaml", "device=cpu", "launch=local"],
    "screened": ["small.yaml", "device=cpu", "launch=local", "name=screened", "aloe.protocol=shared"],
    "failing": ["failing.yaml", "device=cpu", "launch=local"],
}
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c4944415478da63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)
FLOATS = {"F64", "F32", "F16", "BF16"}  # as safetensors names them


def ctt(folder: Path, *words: str, codes: tuple[int, ...] = (0,)) -> str:
    """What the command line prints; fails unless it ends with one of `codes`."""
    own = {"CTT_LEASES": str(folder / "leases"), "XDG_CONFIG_HOME": str(folder / "config")}
    own |= {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "ctt", *words]
    done = subprocess.run(command, cwd=HERE, env={**os.environ, **own}, capture_output=True, text=True)
    if done.returncode not in codes:
        raise SystemExit(f"ctt {' '.join(words)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def thin(store: Path) -> None:
    """Replaces what cannot be compressed, see the module's text."""
    for manifest in store.glob("artifacts/*/*/manifest.json"):
        content = json.loads(manifest.read_text(encoding="utf-8"))
        for name, entry in content["files"].items():
            path = manifest.parent / name
            if path.suffix in (".npy", ".safetensors"):
                entry |= zeroed(path)
        content["seal"] = seal(content)
        manifest.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")
    for picture in store.glob("sweeps/*/report/*.png"):
        picture.unlink()
    for picture in store.glob("mlflow-artifacts/**/*.png"):
        picture.write_bytes(PIXEL)
    shutil.rmtree(store / "code")


def zeroed(path: Path) -> dict[str, Any]:
    """Sets the floating-point numbers of a file to 0; returns the manifest's new entry for it."""
    data = bytearray(path.read_bytes())
    parts = npy_floats(data) if path.suffix == ".npy" else safetensors_floats(data)
    for begin, end in parts:
        data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    os.utime(path, (seconds := int(path.stat().st_mtime), seconds))  # whole seconds: an archive keeps these exactly
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "mtime_ns": path.stat().st_mtime_ns}


def npy_floats(data: bytes) -> list[tuple[int, int]]:
    """Where the floating-point numbers of an .npy file of version 1 are."""
    first = 10 + int.from_bytes(data[8:10], "little")
    return [(first, len(data))] if b"'descr': '<f" in data[:first] else []


def safetensors_floats(data: bytes) -> list[tuple[int, int]]:
    """Where the floating-point numbers of a .safetensors file are."""
    first = 8 + int.from_bytes(data[:8], "little")
    tensors = json.loads(data[8:first])
    tensors.pop("__metadata__", None)
    places = [tensor["data_offsets"] for tensor in tensors.values() if tensor["dtype"] in FLOATS]
    return [(first + begin, first + end) for begin, end in places]


def seal(manifest: dict[str, Any]) -> str:
    """As ctt sealed a manifest at that commit."""
    rest = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def pack(store: Path, archive: Path) -> None:
    """Writes the archive, equal files next to each other, without owners."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        return entry

    files = sorted((path for path in store.rglob("*")), key=lambda path: (path.suffix, path.name, str(path)))
    with tarfile.open(archive, "w:xz", preset=9, format=tarfile.PAX_FORMAT) as out:
        for path in files:
            if path.is_file() or not any(path.iterdir()):
                out.add(path, Path("store", path.relative_to(store)), recursive=False, filter=plain)


def expectations(folder: Path, store: Path) -> dict[str, Any]:
    """What ctt reports of the store."""
    place = f"store={store}"
    status = json.loads(ctt(folder, "status", "--json", place, codes=(0, 1)))
    sweeps = {}
    for sweep in status:
        name = sweep["sweep"]
        plan = json.loads(ctt(folder, "plan", *planned(SWEEPS[name]), "--json", place))
        sweeps[name] = {
            "words": SWEEPS[name],
            "finished": all(stage["state"] == "done" for run in sweep["runs"] for stage in run["stages"].values()),
            "runs": [
                {
                    "run": run["run"],
                    "point": run["point"],
                    "seed": run["seed"],
                    "target": run["stages"]["vqa"]["key"],
                    "stages": {kind: stage["key"] for kind, stage in run["stages"].items()},
                    "states": {kind: stage["state"] for kind, stage in run["stages"].items()},
                }
                for run in sweep["runs"]
            ],
            "stages": {stage["key"]: stage["kind"] for stage in plan["stages"]},  # with the prefixes that runs share
            "report": {form: ctt(folder, "report", name, "--format", form, place) for form in ("json", "md")},
        }
    failed = sorted(path.name for path in store.glob("failures/*"))
    artifacts = sorted(path.parent.name for path in store.glob("artifacts/*/*/manifest.json"))
    return {"commit": COMMIT, "artifacts": artifacts, "failed": failed, "sweeps": sweeps}


def planned(words: list[str]) -> list[str]:
    """The words of `ctt sweep` as `ctt plan` takes them."""
    return [word for word in words if not word.startswith("launch=")]


def main() -> None:
    """Makes the store, thins and packs it, and records what ctt reports of it unpacked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    store = folder / "store"
    folder.mkdir(parents=True)
    for name, words in SWEEPS.items():
        print(f"ctt sweep {' '.join(words)}", flush=True)
        ctt(folder, "sweep", *words, f"store={store}", codes=(1,) if name == "failing" else (0,))
    ctt(folder, "sync", f"store={store}")
    before = {name: ctt(folder, "report", name, "--format", "json", f"store={store}") for name in SWEEPS}
    shutil.copytree(store, folder / "whole")
    thin(store)
    pack(store, HERE / "store.tar.xz")
    with tarfile.open(HERE / "store.tar.xz") as archive:
        archive.extractall(folder / "unpacked", filter="data")
    expected = expectations(folder, folder / "unpacked" / "store")
    assert {name: sweep["report"]["json"] for name, sweep in expected["sweeps"].items()} == before, "thinning changed a report"
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    size = (HERE / "store.tar.xz").stat().st_size
    print(f"{size / 1000:.0f} kB, {len(expected['artifacts'])} artifacts, {len(expected['failed'])} failed")


if __name__ == "__main__":
    main()
