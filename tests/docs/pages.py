"""Examples of documentation pages: extracted as files, and installed as a user would install them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests import forking
from tests.tiny import environment

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```\w+\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 60
KEYS = """
import json
from ctt.config import compose
from ctt.planning import target_of
print(json.dumps({o: target_of(compose(["data=mini", *o.split()])).rollout.state.key for o in OVERRIDES}))
"""


def write_example(page: str, folder: Path) -> None:
    """Writes the files of the example of docs/PAGE: the blocks whose first line is a comment with a file's name."""
    blocks = BLOCK.findall((ROOT / "docs" / page).read_text(encoding="utf-8"))
    assert blocks, page
    assert sum(len(text.splitlines()) for _, text in blocks) <= MOST_LINES, f"the example of {page} is too long"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in blocks:
        (folder / name).write_text(text, encoding="utf-8")


def install(package: Path, target: Path) -> None:
    """Installs the package, without network, so that Python processes with `target` on their path find it."""
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--upgrade", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def path_with(target: Path) -> str:
    """PYTHONPATH of processes that see what is installed in `target`, beside this checkout."""
    return os.pathsep.join([str(target), str(ROOT)])


def keys(path: str, *overrides: str) -> dict[str, str]:
    """The keys of the world models of runs, as a process with that PYTHONPATH computes them."""
    code = KEYS.replace("OVERRIDES", repr(overrides))
    env = environment(Path("store")) | {"PYTHONPATH": path}
    done = forking.run([], env, 300, code)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found
