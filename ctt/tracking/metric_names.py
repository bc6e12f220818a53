"""What numbers are called: in MLflow curves as STAGE/NAME and the final numbers that people look for by short names; all others
are in the run's numbers.json, by the names that they have here."""

from __future__ import annotations

from collections.abc import Collection

from ctt.core.device_use import SYSTEM

ACCURACY = "accuracy/"
DIFFERENCE = "difference/"  # to the baseline's accuracy, in percentage points
ERROR = "error/"
BLIND = "blind_level/"  # the accuracy of the most frequent answer of each form of question
COST = "cost/"  # seconds of the stages that the run is made of, by whose work they were
ABOVE_BLIND = "above_blind/"  # 1 where the run's accuracy is shown to be above that level, else 0
LEVELS = "reader/levels/"  # what the position reader's accuracies are compared with, as LEVEL/per_question/CATEGORY

# Where a stage's metrics.json holds the numbers that head a run's page, and what they are called there.
HEADLINES = {
    ("vqa", "per_question/"): ACCURACY,
    ("vqa", "average"): f"{ACCURACY}average",
    ("vqa", "multiple_choice"): f"{ACCURACY}multiple_choice",
    ("vqa", "per_option/"): "accuracy_per_option/",
    ("world_model", "validation/"): "world_model_validation/",
    ("rollout", ""): "rollout/",
    ("probe", "levels/"): LEVELS,
}
ERRORS = {
    "world_model": "validation/error",
    "world_model_error": "validation/error",
    "rollout": "error",
}  # shown as error/KIND, of visible slots where these are known, and as error/KIND_all, of all slots

CURVE = "vqa/curve/"  # where ctt.training.curve stands among the final numbers

DETAILS = ("vqa/forms/", "vqa/questions/", "vqa/options/", "vqa/blind/")  # the tables hold them; a run's page need not


PEOPLES_NAMES = {"vqa": "aloe"}  # of kinds of stages
AGAINST = "vs_baseline_"


def curve(kind: str, name: str) -> str:
    """The MLflow name of a metric that a stage logs while it is built; those of the machine are under its tab "System metrics"."""
    return f"{'system/' if name in SYSTEM else ''}{PEOPLES_NAMES.get(kind, kind)}/{name}"


def shown(name: str, columns: Collection[str]) -> tuple[str, int] | None:
    """What MLflow calls a final number, and its decimals; None: it is in numbers.json alone.

    MLflow sorts names, and shows those with a / as charts before the others: final numbers have none, so that curves come first.
    columns: the names (KIND/NAME) of the columns of auxiliary stages that tables show.
    """
    if name.startswith(ACCURACY):
        return name.removeprefix(ACCURACY), 2
    if name.startswith(ERROR):
        return f"{name.removeprefix(ERROR)}_error", 6
    if name.startswith(COST):
        return name.removeprefix(COST), 1
    if name.startswith(DIFFERENCE):
        of = name.removeprefix(DIFFERENCE)
        found = shown(of if "/" in of else ACCURACY + of, columns)
        return None if found is None else (AGAINST + found[0], found[1])
    return (name.replace("/", "_"), 6) if name in columns else None


def headline(kind: str, path: str) -> str:
    """The MLflow name of a number at `path` of a stage's metrics.json."""
    for (of, start), name in HEADLINES.items():
        if of == kind and (path == start or (start.endswith("/") or not start) and path.startswith(start)):
            return name + path.removeprefix(start) if name.endswith("/") else name
    return f"{kind}/{path}"
