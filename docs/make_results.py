"""Makes the numbers of docs/results: runs what gives them, records them with their provenance, writes them into the pages.

python docs/make_results.py                  every part that is due (see below); whatever is in the store is not run again
python docs/make_results.py demo/table …     these pages or parts alone
python docs/make_results.py --pages          writes the pages from the records; runs nothing
python docs/make_results.py --check          exit code 1, with their names, if a page is not what its record gives

docs/results/records/PAGE.json holds the parts of a page: command, commit, processor, date, text. In docs/results/PAGE.md (those of
`quick`: in README.md and the tutorial) a part stands between `<!-- part: NAME -->` and `<!-- end of NAME -->`; the text around it
is written by hand and holds no number of it.

Numbers of a sweep come from artifacts, and a key names all that determines an artifact. A part of sweeps therefore has the keys
of all their stages on record, in one digest, and is due when the code gives other keys; also when the code has changed otherwise
and the store holds the artifacts, since reading them again takes seconds. Parts of no sweep, which are times, are due when
the code has changed.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "results"
PART = re.compile(r"(<!-- part: (\S+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)
CODE = ("ctt", "conf", "sweeps", "launch", "hydra_plugins", "tests/benchmarks", "tests/learned.py")
UNKNOWN = "Not measured yet; `make results` does it."
WHERE = "WHERE"  # in the text of a part: commit, date and processor
STATE = "state"  # the part that every page has: which states of the code its numbers are of
LITTLE_ALOE = "aloe=mini aloe.protocol=shared aloe.epochs=1 aloe.layers=1 aloe.width=32 aloe.ffn=64"
GRAPH = f"data=mini world_model=mini world_model.epochs=8 {LITTLE_ALOE} seed=0,1,2"
PUBLISHED = (
    "data=mini data.train=100 data.validation=60 world_model.batch_size=64 world_model.micro_batch=32 world_model.epochs=2 "
    "world_model.windows.per_epoch=2560 world_model.windows.validation=512 ctt_start_epoch=1 reader.enabled=false "
    f"{LITTLE_ALOE} seed=0"
)
WEIGHTS = "data=mini world_model=mini aloe=mini seed=0 ctt_inv_weight=0,0.05 ctt_suf_weight=0,0.05,0.2 ctt_start_epoch=4"
CLOCK = "--rounds 5 --threads 1 --clock cpu"
TIMED = "aloe_train aloe_eval aloe_data attend step graph_sources plan rollout_reference rollout_paper windows"


def run(command: str, **environment: str) -> str:
    """What a command prints, run in the checkout with this Python; raises CalledProcessError."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "COLUMNS": "120", "NO_COLOR": "1", **environment}
    print(f"+ {command}", file=sys.stderr, flush=True)
    return subprocess.run(command, shell=True, check=True, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True).stdout


def plain(text: str) -> str:
    return f"```text\n{text.strip()}\n```"


def report(text: str) -> str:
    """A report in Markdown without its title, its headings a level below those of the page."""
    return re.sub(r"^##", "###", re.sub(r"^# .*\n", "", text), flags=re.MULTILINE).strip()


def sections(*starts: str) -> Callable[[str], str]:
    """Those grids of a report whose titles start so."""
    return lambda text: "\n\n".join(
        section.strip() for section in re.split(r"^(?=### )", report(text), flags=re.MULTILINE) if section[4:].startswith(starts)
    )


def noise(text: str) -> str:
    """The lines of a report on runs that differ by ALOE's seed alone."""
    grid = sections("Difference")(text).splitlines()
    lines = [line for line in grid if line.startswith("| A/A")]
    return "\n".join([*grid[2:4], *lines, "", *(line for line in text.splitlines() if line.startswith("- Seed noise"))])


def effects(name: str) -> Callable[[str], str]:
    """What a sweep's points change in the world models' errors and in what the position reader answers, measure by measure."""

    def table(_: str) -> str:
        from ctt.report.tables import layout
        from ctt.report.tables.grid import Grid, Page
        from ctt.report.writers import draw
        from ctt.study.study import Study

        found = Study(name).comparison
        tested = {row.label: layout.tests(row, found.auxiliary) for row in found.rows if not row.baseline}
        measures = list(dict.fromkeys(line[0] for grid in tested.values() for block in grid.blocks[1:] for line in block))
        blocks = [
            tuple(
                (measure, label, *line[1:])
                for label, grid in tested.items()
                for block in grid.blocks[1:]
                for line in block
                if line[0] == measure
            )
            for measure in measures
        ]
        header = next(iter(tested.values())).header
        grid = Grid("Differences to the baseline", ("measure", "point", *header[1:]), tuple(blocks), text_columns=2)
        means = [one for one in layout.grids(found) if one.title.startswith(("World model (mean squared error of vis", "Position"))]
        texts = draw(Page("", (grid, *means)), "md").partition("\n")[2].replace("\n## ", "\n### ").strip()
        seeds = " ".join(map(str, next(row.seeds for row in found.rows)))
        return f"Seeds {seeds}.\n\n{texts}"

    return table


def graphs(name: str) -> Callable[[str], str]:
    """How full the slot graphs of a sweep's points are, what they find, and what the losses measure."""

    def grids(_: str) -> str:
        from ctt.report.tables.graph_tables import density_grid, losses_grid, recovery_grid
        from ctt.report.tables.grid import Page
        from ctt.report.writers import draw
        from ctt.study.loading import diagnoses
        from ctt.study.study import Study

        study = Study(name)
        found = diagnoses(study.plan, study.store)
        pages = [Page(point, (density_grid(runs), recovery_grid(runs))) for point, runs in found.items()]
        texts = [
            f"### {page.title}\n\n" + draw(page, "md").partition("\n")[2].replace("\n## ", "\n#### ").strip() for page in pages
        ]
        losses = draw(Page("", (losses_grid(found),)), "md").partition("\n")[2].replace("\n## ", "\n### ").strip()
        return "\n\n".join([*texts, losses])

    return grids


def own_graphs(name: str) -> Callable[[str], str]:
    """The graph by which each point of a sweep was trained: how full it is, what it finds; and the world models' errors."""

    def grids(_: str) -> str:
        from ctt.report.tables import layout
        from ctt.report.tables.graph_tables import density_grid, recovery_grid
        from ctt.report.tables.grid import Grid, Page
        from ctt.report.writers import draw
        from ctt.study.loading import diagnoses
        from ctt.study.study import Study

        study = Study(name)
        lines, title, header = [], "", ("slot graph",)
        for point, runs in diagnoses(study.plan, study.store).items():
            density, found = density_grid(runs), recovery_grid(runs)
            title, header = density.title, (*density.header, *found.header[1:])
            truth = ("–",) * (len(found.header) - 1)
            for line in density.blocks[0]:
                if line[0].endswith("(this run's)") and point != study.comparison.rows[0].label:
                    more = next((other[1:] for other in found.blocks[0] if other[0] == line[0]), truth)
                    lines.append((line[0].removesuffix(" (this run's)"), *line[1:], *more))
        own = Grid(f"The graph by which each was trained: {title[0].lower()}{title[1:]}", header, (tuple(lines),))
        errors = [one for one in layout.grids(study.comparison) if one.title.startswith("World model (mean squared error of vis")]
        return draw(Page("", (own, *errors)), "md").partition("\n")[2].replace("\n## ", "\n### ").strip()

    return grids


def ratios(launching: bool) -> Callable[[str], str]:
    """Those of bench.json that are of launching, or all others, as a table."""

    def table(_: str) -> str:
        known = json.loads((ROOT / "bench.json").read_text(encoding="utf-8"))
        lines = ["| ratio | reached | smallest to largest | wanted | seconds (medians) |", "|---|---:|---:|---:|---|"]
        for name, one in known.items():
            if name.startswith("launch_") == launching:
                low, high = one["spread"]
                seconds = ", ".join(f"{way} {value:.3g}" for way, value in one["seconds"].items())
                lines.append(f"| `{name}` | {one['ratio']:.2f} | {low:.2f} to {high:.2f} | {one['target']} | {seconds} |")
        return "\n".join(lines)

    return table


@dataclass(frozen=True)
class Part:
    """Commands, run one after another in the checkout, and what is made of what the last one prints."""

    commands: tuple[str, ...]
    text: Callable[[str], str] = plain
    empty_stores: bool = False  # every command in an empty store; the text is what each took

    def make(self) -> str:
        if self.empty_stores:
            return "\n".join(["| command | processor time |", "|---|---:|", *map(_timed, self.commands)])
        printed = ""
        for command in self.commands:
            printed = run(command)
        return self.text(printed)


def _timed(command: str) -> str:
    """A line of a table: the processor seconds of a command in an empty store."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        _seconds(command, f"{folder}/store")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"| `{command}` | {seconds:.0f} s |"


def _seconds(command: str, store: str) -> float:
    began = time.monotonic()
    run(command, CTT_STORE=store)
    return time.monotonic() - began


class QuickStart(Part):
    """`ctt sweep quick` in an empty store: how long it takes, and the first lines of its table."""

    def make(self) -> str:
        with tempfile.TemporaryDirectory() as folder:
            store = f"{folder}/store"
            seconds = _seconds(self.commands[0], store)
            lines = run(self.commands[1], CTT_STORE=store, COLUMNS="105").splitlines()
        first = next(n for n, line in enumerate(lines) if line.startswith("Accuracy"))
        rows = next(n for n in range(first, len(lines)) if lines[n].startswith(" baseline"))
        end = next(n for n in range(rows, len(lines)) if not lines[n].strip())
        notes = [line for line in lines if "too few to test" in line]
        table = [line.rstrip() for line in lines[first:end] if line.strip()]
        shown = "\n".join([f"$ {self.commands[1]}", "…", *table, "…", *notes, "…"])
        return f"Without a GPU or a network it takes {seconds:.0f} s ({WHERE}). Its table begins:\n\n```console\n{shown}\n```"


LOSSES = "ctt sweep losses aloe=quick aloe.protocol=shared launch=local"
CHOSEN = "ctt sweep loss_chosen aloe=quick aloe.protocol=shared launch=local"
TRIES = "ctt sweep loss_tries aloe=quick aloe.protocol=shared launch=local"
DEMO = ("ctt sweep demo launch=local", "ctt report demo --format md")
ONE = f"{DEMO[0]} seed=0"  # a third of the demo
RESULTS: dict[str, dict[str, Part]] = {
    "quick": {"table": QuickStart(("ctt sweep quick launch=local", "ctt report quick"))},
    "demo": {
        "table": Part(
            (
                DEMO[0],
                "ctt report demo --picture docs/results/demo_table.png",
                "cp ${CTT_STORE:-store}/sweeps/demo/report/learning_curves.png docs/results/demo_curves.png",
                DEMO[1],
            ),
            report,
        ),
        "learned": Part((DEMO[0], "python -m tests.learned")),
        "reader": Part(DEMO, sections("Position reader")),
        "sharing": Part((f"{ONE} sharing=off", ONE, f"{ONE} aloe.protocol=shared"), empty_stores=True),
    },
    "do-the-losses-hurt": {
        "differences": Part(DEMO, sections("Difference", "Tests")),
        "losses": Part((LOSSES,), effects("losses")),
        "tries": Part((TRIES,), effects("loss_tries")),
        "chosen": Part((CHOSEN,), effects("loss_chosen")),
        "noise": Part(("ctt sweep noise data=mini world_model=mini aloe=mini launch=local", *DEMO), noise),
        "weights": Part(
            (
                f"ctt sweep weights {WEIGHTS} launch=local",
                "ctt report weights --pivot ctt_inv_weight ctt_suf_weight --picture docs/results/heat_map.png",
                "ctt report weights --pivot ctt_inv_weight ctt_suf_weight --format md",
            ),
            report,
        ),
    },
    "graphs": {
        "readings": Part((DEMO[0],), graphs("demo")),
        "learned": Part(
            ("ctt sweep demo name=demo-learned world_model.graph.source=learned launch=local",), graphs("demo-learned")
        ),
        "trained": Part((f"ctt sweep graph {GRAPH} launch=local",), own_graphs("graph")),
        "reached": Part((LOSSES, "python -m tests.benchmarks.who_is_reached losses")),
        "published": Part((f"ctt sweep reported {PUBLISHED} launch=local",), graphs("reported")),
    },
    "aloe-study": {
        "tables": Part(("python -m tests.benchmarks.aloe_study", "python -m tests.benchmarks.aloe_study --report"), str.strip)
    },
    "speed": {
        "ratios": Part((f"python -m tests.benchmarks {TIMED} {CLOCK}",), ratios(launching=False)),
        "same-loss": Part(("python -m tests.benchmarks.same_loss",)),
        "compiled": Part(("python -m tests.benchmarks.compiled_step",)),
        "launching": Part(
            ("python -m tests.benchmarks launch_overhead_local launch_overhead_slurm --rounds 5",), ratios(launching=True)
        ),
        "reports": Part(("python -m tests.benchmarks.report_scale",)),
        "scale": Part(("python -m tests.benchmarks.cost_at_scale",)),
        "import": Part(("python -m tests.benchmarks.data_at_size slots 10000",)),
    },
}


def commit() -> str:
    """The commit of the checkout; "+" where the code that gives the numbers differs from it."""
    name = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return name.strip() + ("" if same_code("HEAD") else "+")


def same_code(since: str) -> bool:
    """Whether the code that gives the numbers is that of a commit; False if it is unknown or was edited ("+")."""
    if not since or since.endswith("+"):
        return False
    return subprocess.run(["git", "diff", "--quiet", since, "--", *CODE], cwd=ROOT, capture_output=True).returncode == 0


def processor() -> str:
    """Model, cores that may be used, and the instruction set that torch uses."""
    import torch

    info = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.is_file() else []
    cores = len(os.sched_getaffinity(0))
    return f"{models[0] if models else 'CPU'}, {cores} cores, {torch.backends.cpu.get_cpu_capability()}"


def record_of(page: str) -> dict[str, dict[str, Any]]:
    path = FOLDER / "records" / f"{page}.json"
    found: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def places(page: str) -> tuple[Path, ...]:
    """The files that hold a page's parts."""
    quick = (ROOT / "README.md", ROOT / "docs" / "tutorial" / "first-sweep.md")
    return quick if page == "quick" else (FOLDER / f"{page}.md",)


def filled(page: str, place: Path) -> str:
    """The text of a file with the parts of a page as they are recorded."""
    record = record_of(page)

    def part(found: re.Match[str]) -> str:
        name = found[2]
        text = _state(record) if name == STATE else _shown(record[name]) if name in record else UNKNOWN
        return f"{found[1]}{text}\n{found[3]}"

    return PART.sub(part, place.read_text(encoding="utf-8"))


def _shown(part: dict[str, Any]) -> str:
    commands, of = "\n".join(part["commands"]), "From the README of commit" if part.get("quoted") else "Commit"
    if WHERE in part["text"]:
        return str(part["text"]).replace(WHERE, f"commit {part['commit']}, {part['date']}, {part['processor']}")
    return f"{part['text']}\n\n{of} {part['commit']}, {part['date']}, {part['processor']}:\n\n```text\n{commands}\n```"


def _state(record: dict[str, dict[str, Any]]) -> str:
    states = sorted({part["commit"] for part in record.values()})
    if len(states) == 1:
        one = next(iter(record.values()))
        return f"All numbers of this page are of commit {states[0]} ({one['date']}, {one['processor']})."
    if all(as_today(part) for part in record.values()):
        return (
            "All numbers of this page are of one state: each part names the commit at which its artifacts were made, and the keys "
            "of all of them are those that this code gives (`docs/make_results.py` compares them)."
        )
    other = ", ".join(name for name, part in record.items() if not as_today(part))
    return (
        "The numbers of this page are of several states of the code; each part names its own. "
        f"`make results` measures those again that are not of this one ({other})."
    )


@functools.cache
def keys_made(command: str) -> frozenset[str]:
    """The keys, in this code, of all that `ctt sweep NAME …` or `make study` makes; none for any other command."""
    from ctt.planning import compile_plan
    from ctt.sweep import compile_sweep
    from tests.benchmarks import aloe_study

    words = shlex.split(command)
    if words[:2] == ["ctt", "sweep"]:
        return frozenset(compile_plan(compile_sweep(words[2], words[3:])).stages)
    return frozenset(aloe_study.keys()) if words[-1] == aloe_study.__name__ else frozenset()


def keys_of(commands: Iterable[str]) -> str | None:
    """A digest of the keys of all stages of the sweeps among the commands; None if there is none."""
    from ctt.core.settings import digest

    keys = sorted({key for command in commands for key in keys_made(command)})
    return digest(keys) if keys else None


def in_store(commands: Iterable[str]) -> bool:
    """Whether the store holds all artifacts of the sweeps among the commands."""
    from ctt.config import Config
    from ctt.store import Store

    store = Store.open(Config().store)
    return all(store.has(key) for command in commands for key in keys_made(command))


def as_today(part: dict[str, Any]) -> bool | None:
    """Whether the artifacts that a recorded part is of are those of this code; None: it is of no sweep."""
    keys = keys_of(part["commands"])
    return None if keys is None else keys == part.get("keys")


def due(page: str, name: str) -> bool:
    """Whether a part has to be measured."""
    found = record_of(page).get(name)
    if found is None or found["commands"] != list(RESULTS[page][name].commands):
        return True
    if same_code(found["commit"]):
        return False
    return not as_today(found) or in_store(found["commands"])


def measure(page: str, name: str) -> None:
    """Runs one part and records it."""
    part = RESULTS[page][name]
    text = part.make()
    where = {"commit": commit(), "processor": processor(), "date": datetime.date.today().isoformat()}
    if (keys := keys_of(part.commands)) is not None:
        where["keys"] = keys
    record = record_of(page) | {name: {"commands": list(part.commands), **where, "text": text}}
    path = FOLDER / "records" / f"{page}.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def stale(pages: Iterable[str] = RESULTS) -> list[str]:
    """Pages that are not what their records give."""
    return [page for page in pages if any(filled(page, at) != at.read_text(encoding="utf-8") for at in places(page))]


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="PAGE[/PART]", help="pages or parts (default: all that are of other code)")
    parser.add_argument("--pages", action="store_true", help="run nothing")
    parser.add_argument("--check", action="store_true", help="run and write nothing")
    parsed = parser.parse_args(arguments)
    if parsed.check:
        if found := stale():
            print(f"not as recorded: {', '.join(found)}; run `python docs/make_results.py --pages`", file=sys.stderr)
        return 1 if found else 0
    names = {page: [name for name in parts if not parsed.only or {page, f"{page}/{name}"} & set(parsed.only)]
             for page, parts in RESULTS.items()}  # fmt: skip
    if parsed.only and not any(names.values()):
        parser.error(
            f"there is no {', '.join(parsed.only)}; known are {', '.join(f'{p}/{n}' for p in RESULTS for n in RESULTS[p])}"
        )
    for page, parts in names.items():
        for name in () if parsed.pages else parts:
            if parsed.only or due(page, name):
                measure(page, name)
        for place in places(page):
            place.write_text(filled(page, place), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
