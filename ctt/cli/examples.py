"""Examples: what `ctt COMMAND --help` shows; a test runs all of them, in this order, beginning with an empty store."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "sweep": (
        ("ctt sweep quick", "two points, one seed, all stages: the whole path in a minute or two"),
        ("ctt sweep demo seed=0,1 launch=local", "the demo with other seeds, a job on each core or GPU"),
    ),
    "plan": (
        ("ctt plan ablation aloe.protocol=shared", "what screening saves of a large sweep"),
        ('ctt plan demo --why "baseline seed=0"', "which stages a run has, and which runs share them"),
    ),
    "run": (
        ("ctt run data=mini world_model=mini aloe=mini seed=3", "one point, one seed"),
        ("ctt run data=mini world_model=mini aloe=mini --cfg job", "its settings, without running it"),
    ),
    "ls": (
        ("ctt ls", "sweeps that come with ctt, yours, and what ./store holds of each"),
        ("ctt ls --json store=store", "for a program, of another store"),
    ),
    "status": (
        ("ctt status", "a line for each sweep"),
        ("ctt status demo --json", "one sweep, for a program"),
    ),
    "logs": (
        ("ctt logs demo", "the logs of all jobs of a sweep"),
        ("ctt logs demo/baseline seed=0 -f", "that of a run's job, until it ends"),
    ),
    "cancel": (
        ("ctt cancel demo", "end its jobs"),
        ("ctt cancel demo store=store", "those of another store"),
    ),
    "report": (
        ("ctt report demo --format md", "the table as Markdown"),
        ("ctt report quick --notebook", "a notebook over the sweep, rendered to HTML"),
    ),
    "show": (
        ("ctt show demo/baseline seed=0", "the answers of a run"),
        ("ctt show quick/baseline seed=0 --json", "for a program"),
    ),
    "promote": (
        ("ctt sweep demo aloe.protocol=shared name=screened seed=0", "first: a sweep that is screened"),
        ("ctt promote screened --top 1", "then: ALOE trained for its best point"),
    ),
    "data": (
        ("ctt data check data=mini", "what is in the data set of the demo"),
        ("ctt data show 10000 data=mini --to pictures", "a picture, an animation and the questions of a scene"),
    ),
    "data setup": (
        ("ctt data setup --slots slots.pkl --questions questions", "files that you have; what is missing it asks for"),
        ("ctt data setup --slots fetch --questions fetch --annotations none", "downloads them, to ./clevrer"),
    ),
    "data import": (
        ("ctt data import slots.pkl", "to the folder ./slots"),
        ("ctt data import slots.pkl --to clevrer/slots", "to another one"),
    ),
    "data fetch": (
        ("ctt data fetch data=clevrer", "slots and questions, to ./clevrer"),
        ("ctt data fetch annotations data=clevrer data.fetch.folder=files", "annotations, to another folder"),
    ),
    "data check": (
        ("ctt data check data=mini --json", "the data set of these settings, for a program"),
        ("ctt data check --questions questions/validation.json", "an official question file alone"),
    ),
    "data show": (
        ("ctt data show 0 data=mini", "the first training scene"),
        ("ctt data show 10003 data=mini --to pictures", "a validation scene, to another folder"),
    ),
    "import-checkpoint": (
        ("ctt import-checkpoint model.ckpt data=mini world_model=mini", "put a world model into the store"),
        ("ctt import-checkpoint model.ckpt --evaluate data=mini world_model=mini", "and measure its rollouts"),
    ),
    "gc": (
        ("ctt gc", "show what no sweep reaches, ask, remove"),
        ("ctt gc --rollouts --yes", "rollouts of finished runs too, without asking"),
    ),
    "ui": (
        ("ctt ui", "on this machine, at port 5000"),
        ("ctt ui --port 0", "at a free port"),
    ),
    "sync": (
        ("ctt sync", "send what is new"),
        ("ctt sync --rebuild", "compare all that MLflow has"),
    ),
    "settings": (
        ("ctt settings ctt_adj_threshold", "one in full"),
        ("ctt settings world_model.masking", "a group"),
    ),
    "completion": (
        ("source <(ctt completion bash)", "in ~/.bashrc; zsh the same in ~/.zshrc, after compinit"),
        ("ctt completion fish > ~/.config/fish/completions/ctt.fish", "once"),
    ),
}


def examples_of(command: str) -> str:
    """The examples of a command as its help shows them."""
    shown = EXAMPLES.get(command, ())
    lines = [f"  {line}\n      {what}\n" for line, what in shown]
    return f"examples:\n{''.join(lines)}" if lines else ""
