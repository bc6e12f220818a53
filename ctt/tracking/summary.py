"""What a run has come to: its status, its times and its final numbers, from the tails of its stages."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Mapping, Sequence

from ctt.core.atomic_files import read_json
from ctt.core.units import duration
from ctt.tracking.metric_names import (
    ABOVE_BLIND,
    ACCURACY,
    BLIND,
    COST,
    CURVE,
    DETAILS,
    DIFFERENCE,
    ERROR,
    ERRORS,
    LEVELS,
    headline,
)
from ctt.tracking.tail import Tail
from ctt.tracking.tracked_runs import TrackedRun, TrackedStage
from ctt.tracking.view import MetricPoint

LONGEST_LOG = 1 << 20  # bytes


def final_points(tails: Sequence[Tail]) -> list[MetricPoint]:
    """The final numbers of the last stage of each kind, at step 0: accuracies and errors under their headline names."""
    last = {tail.stage.kind: tail for tail in tails}
    points = []
    for kind, tail in last.items():
        curves = {f"{kind}/{name}" for of in tails if of.stage.kind == kind for line in of.lines for name in line.values}
        for path, value in tail.finals.items():
            name = headline(kind, path)
            if name not in curves and not name.startswith(DETAILS):  # else its last point is the same
                points.append(MetricPoint(name, value, tail.finals_time, 0))
        path = ERRORS.get(kind, "")
        of = kind.removesuffix("_error")
        for name, where in ((of, f"{path}_visible"), (f"{of}_all", path)):
            if (error := tail.finals.get(where)) is not None:
                points.append(MetricPoint(f"{ERROR}{name}", error, tail.finals_time, 0))
    return points


def blind_points(tails: Sequence[Tail]) -> list[MetricPoint]:
    """The levels of the most frequent answer of each question form, and whether the run's accuracies are above them.

    Above by more than chance at the number of questions (95 %, the two as independent shares): a run alone has no seeds.
    The sweep's table tests the seeds together, paired by question, and against a model of the words too.
    """
    points = []
    for tail in (tail for tail in tails if tail.stage.kind == "vqa"):
        counts = {name.removeprefix("questions/"): n for name, n in tail.finals.items() if name.startswith("questions/")}
        pools = {"average": counts, "multiple_choice": {name: n for name, n in counts.items() if name != "descriptive"}}
        for path in tail.finals:
            if not path.startswith("blind/") or not (name := path.removeprefix("blind/").removeprefix("per_question/")):
                continue
            own, level = tail.finals.get(path.removeprefix("blind/")), tail.finals[path]
            questions = sum(pools.get(name, {name: counts.get(name, 0)}).values())
            if "/" in name or own is None or not questions:
                continue
            spread = sum(share * (100 - share) for share in (own, level)) / questions
            points.append(MetricPoint(BLIND + name, level, tail.finals_time, 0))
            points.append(MetricPoint(ABOVE_BLIND + name, float(own - level > 1.96 * math.sqrt(spread)), tail.finals_time, 0))
    return points


def differences(run: TrackedRun, own: Sequence[MetricPoint], baseline: Sequence[MetricPoint]) -> list[MetricPoint]:
    """The run's numbers less the baseline's of the same seed: of accuracies, in percentage points, as difference/CATEGORY; of
    data without questions, of errors as difference/error/KIND; and of the columns of auxiliary stages as
    difference/KIND/COLUMN."""
    compared = ACCURACY if run.metrics else ERROR
    other = {point.name: point.value for point in baseline}
    named = {f"{stage.kind}/{column.name}" for stage in run.stages for column in stage.columns}
    found = []
    for point in own:
        if point.name in other and (point.name.startswith(compared) or point.name in named):
            name = DIFFERENCE + point.name.removeprefix(ACCURACY)
            found.append(MetricPoint(name, point.value - other[point.name], point.time, 0))
    return found


def note(run: TrackedRun, tails: Sequence[Tail], finals: Sequence[MetricPoint]) -> str:
    """A finished run's tables, in Markdown: its accuracies with their differences, and ALOE's last epoch next to its best
    one; "" before.

    The last epoch is the one that counts; the best one was chosen on the questions it is measured with. The two are
    compared on the same videos, which may be fewer than those of the accuracies.
    """
    value = {point.name: point.value for point in finals}
    names = [name.removeprefix(ACCURACY) for name in value if name.startswith(ACCURACY)]
    work = _work(tails, run.asked, value)
    if not run.metrics:
        return _errors_alone(run, value, work)
    if not names:
        return ""
    columns = [("accuracy", ACCURACY, "{:.1f}")]
    if any(name.startswith(BLIND) for name in value):
        columns.append(("most frequent answer of the form", BLIND, "{:.1f}"))
    if any(name.startswith(DIFFERENCE) for name in value):
        columns.append(("difference to the baseline", DIFFERENCE, "{:+.1f}"))
    lines = [
        f"**{run.point}**, seed {run.seed}, % of questions",
        "",
        *_grid(names, columns, value),
        *_not_above(value),
        *_epochs(value, run.metrics),
    ]
    errors = [f"{_error(name.removeprefix(ERROR))} {value[name]:.4f}" for name in value if name.startswith(ERROR)]
    lines += ["", f"Mean squared errors: {', '.join(errors)}"] if errors else []
    answers = [stage.key for stage in run.stages if stage.kind == "vqa"]
    lines += [text for stage in run.stages for text in _columns(stage, value)] + _levels(value) + work
    lines += ["", f"Answers: `artifacts/{answers[-1][:2]}/{answers[-1]}/predictions.parquet` of the store"] if answers else []
    return "\n".join(lines)


def _levels(value: Mapping[str, float]) -> list[str]:
    """The lines of the table of levels that the position reader's accuracies are compared with; [] without any."""
    found = {}
    for name, number in value.items():
        level, _, path = name.removeprefix(LEVELS).partition("/")
        if name.startswith(LEVELS) and path.startswith("per_question/"):
            found[f"{path.removeprefix('per_question/')}/{level}"] = number
    names, categories = (list(dict.fromkeys(key.split("/")[i] for key in found)) for i in (1, 0))
    columns = [(category, f"{category}/", "{:.1f}") for category in sorted(categories, reverse=True)]
    return ["", "Levels of the position reader, % of questions", "", *_grid(names, columns, found)] if found else []


def _error(name: str) -> str:
    """ "world model (visible slots)"."""
    return f"{name.removesuffix('_all').replace('_', ' ')} ({'all' if name.endswith('_all') else 'visible'} slots)"


def _not_above(value: Mapping[str, float]) -> list[str]:
    """The categories whose accuracy the most frequent answer may reach, as a paragraph; [] without any."""
    names = [name.removeprefix(ABOVE_BLIND).replace("_", " ") for name in value if name.startswith(ABOVE_BLIND) and not value[name]]
    return ["", f"Not shown to be above the most frequent answer of the form: {', '.join(names)}"] if names else []


def _errors_alone(run: TrackedRun, value: Mapping[str, float], work: Sequence[str]) -> str:
    """The tables of a run on data without questions: its errors with their differences; "" before they are known."""
    names = [name.removeprefix(ERROR) for name in value if name.startswith(ERROR)]
    if not names:
        return ""
    columns = [("mean squared error", ERROR, "{:.4f}")]
    if any(name.startswith(DIFFERENCE + ERROR) for name in value):
        columns.append(("difference to the baseline", DIFFERENCE + ERROR, "{:+.5f}"))
    lines = [f"**{run.point}**, seed {run.seed}", "", *_grid(names, columns, value)]
    return "\n".join([*lines, *(text for stage in run.stages for text in _columns(stage, value)), *work])


def _columns(stage: TrackedStage, value: Mapping[str, float]) -> list[str]:
    """The numbers of an auxiliary stage with their differences, as a paragraph; [] without any."""
    texts = []
    for column in stage.columns:
        if column.shown and not column.level and (name := f"{stage.kind}/{column.name}") in value:
            unit = f" {column.unit}" if column.unit else ""
            text = f"{column.heading} {value[name]:.{column.digits}f}{unit}"
            if (difference := value.get(DIFFERENCE + name)) is not None:
                text += f" ({difference:+.{column.digits}f} to the baseline)"
            texts.append(text)
    return ["", f"{stage.label[:1].upper()}{stage.label[1:]}: {', '.join(texts)}"] if texts else []


def _epochs(value: Mapping[str, float], metrics: Sequence[str]) -> list[str]:
    """ALOE's last and best epoch on the videos that training was validated on; [] where no ALOE was trained."""
    number = {name.removeprefix(CURVE): value[name] for name in value if name.startswith(CURVE)}
    if not number:
        return []
    on = f"On {number['videos']:.0f} of {number['of']:.0f} videos"
    if "best/epoch" not in number:
        lines = ["", f"{on}: no question, so no best epoch is known"]
    else:
        lines = ["", f"{on}:", "", *_compared(number, metrics)]
    if number["epochs"] < number["planned_epochs"]:
        lines += ["", f"ALOE stopped after {number['epochs']:.0f} of {number['planned_epochs']:.0f} epochs"]
    return lines


def _compared(number: Mapping[str, float], metrics: Sequence[str]) -> list[str]:
    """The lines of the table of the last epoch and the best one."""
    columns = [
        (f"epoch {number['last/epoch']:.0f}, the last", "last/", "{:.1f}"),
        (f"epoch {number['best/epoch']:.0f}, the best by validation", "best/", "{:.1f}"),
    ]
    names = [name for name in metrics if f"last/{name}" in number]
    return _grid(names, columns, number)


def _grid(names: Sequence[str], columns: Sequence[tuple[str, str, str]], value: Mapping[str, float]) -> list[str]:
    """The lines of a table: its columns by title, what their numbers' names begin with, and how they are written."""
    lines = [" | ".join(["|", *(title for title, _, _ in columns), ""]).strip(), "|---|" + "---:|" * len(columns)]
    for name in names:
        entries = [form.format(value[start + name]) if start + name in value else "–" for _, start, form in columns]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(entries)} |")
    return lines


def failure_text(tails: Sequence[Tail]) -> str:
    """Why the run failed: the last failure of each failed stage, with the end of its log; "" if none is recorded."""
    texts = []
    for tail in tails:
        records = sorted(tail.stage.failure.glob("*.json")) if tail.failed and tail.stage.failure is not None else []
        if records and (last := read_json(records[-1])):
            lines = (f"{tail.stage.label or tail.stage.kind}: {last.get('failure')}", last.get("message"), last.get("log"))
            texts.append("\n".join(str(line) for line in lines if line))
    return "\n\n".join(texts)


def log_text(tails: Sequence[Tail]) -> str:
    """The logs of the jobs that built the run's stages, each under its path; of a long one the end. "" without any."""
    texts = []
    for path in dict.fromkeys(path for tail in tails if (path := tail.stage.log()) is not None):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - LONGEST_LOG))
            texts.append(f"==> {path.parent.name}/{path.name} <==\n{file.read().decode('utf-8', 'replace')}")
    return "\n".join(texts)


def run_status(tails: Sequence[Tail]) -> str:
    """MLflow's word for the run: FINISHED when all its stages are, FAILED when one has failed, else RUNNING.

    An auxiliary stage that failed has ended, too.
    """
    if all(tail.finished or (tail.stage.auxiliary and tail.failed) for tail in tails):
        return "FINISHED"
    return "FAILED" if any(tail.failed and not tail.stage.auxiliary for tail in tails) else "RUNNING"


def own_work(tails: Sequence[Tail], asked: int) -> list[Tail]:
    """The stages that were not finished before the run was asked for."""
    return [tail for tail in tails if not 0 < tail.ended < asked]


def start_time(tails: Sequence[Tail], asked: int) -> int | None:
    """When the run's own work began, in ms; None before that. Where all had been done already, when it was asked for."""
    own = own_work(tails, asked)
    times = [next((line.time for line in tail.lines if line.time >= asked), 0) for tail in own]
    times += [tail.began or tail.finals_time for tail in own]
    if not own or any(tail.failed for tail in own):
        times.append(asked)
    return min(filter(None, times), default=None)


def end_time(tails: Sequence[Tail], asked: int) -> int:
    """When the run's own work ended, in ms."""
    own = own_work(tails, asked)
    return max([asked, *(tail.ended or tail.finals_time for tail in own), *(tail.lines[-1].time for tail in own if tail.lines)])


def cost_points(tails: Sequence[Tail], asked: int, shared: Collection[str]) -> list[MetricPoint]:
    """What a finished run took, in seconds: of its own stages, of those that other runs of its sweep have too (the keys
    `shared`), and of what was cached. [] where a stage's time is not known."""
    if run_status(tails) != "FINISHED" or any(tail.finished and tail.seconds is None for tail in tails):
        return []
    own = {tail.stage.key for tail in own_work(tails, asked)}
    seconds = dict.fromkeys(("own_seconds", "shared_seconds", "cached_seconds"), 0.0)
    for tail in tails:
        key = tail.stage.key
        whose = "cached_seconds" if key not in own else "shared_seconds" if key in shared else "own_seconds"
        seconds[whose] += tail.seconds or 0.0
    return [MetricPoint(COST + name, round(value, 3), end_time(tails, asked), 0) for name, value in seconds.items()]


def _work(tails: Sequence[Tail], asked: int, value: Mapping[str, float]) -> list[str]:
    """What the run took, and what of it was cached, as a paragraph; [] where that is not known."""
    if f"{COST}own_seconds" not in value:
        return []
    own = {tail.stage.key for tail in own_work(tails, asked)}
    cached = dict.fromkeys(tail.stage.label or tail.stage.kind for tail in tails if tail.stage.key not in own)
    parts = [f"{duration(value[f'{COST}own_seconds'])} of its own stages"]
    if shared := value[f"{COST}shared_seconds"]:
        parts.append(f"{duration(shared)} of stages shared with other runs of the sweep")
    if cached:
        parts.append(f"{duration(value[f'{COST}cached_seconds'])} cached from earlier work ({', '.join(cached)})")
    return ["", f"Device time: {', '.join(parts)}"]
