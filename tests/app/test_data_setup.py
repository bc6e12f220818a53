"""`ctt data setup` on tiny files of the true layout: from an empty folder to a plan."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from rich.console import Console

from ctt.app.data.data_setup import Answers, set_up
from ctt.config import compose
from ctt.core.errors import DataError, SettingError, UsageError
from ctt.data.clevrer import official_figures
from ctt.data.clevrer.user_files import user_file
from tests.app.test_data_commands import COUNTS, ctt, place, web  # noqa: F401  # fixtures
from tests.data.clevrer.official_files import slots_tree, write_pickle, write_questions

QUIET = Console(quiet=True)


@pytest.fixture
def files(place: Path) -> Path:  # noqa: F811
    (place / "mine").mkdir()
    write_pickle(place / "mine" / "slots.pkl", slots_tree(COUNTS))
    write_questions(place / "mine" / "questions", COUNTS)
    return place / "mine"


def test_files_that_are_there_are_imported_checked_and_found_by_plan(ctt, files, place):  # noqa: F811
    code, out, err = ctt("data", "setup", "--slots", "mine/slots.pkl", "--questions", "mine/questions", "--annotations", "none")
    assert code == 0, err
    assert "train           3 videos" in out and "checked: 3 train videos, 2 validation videos, 1 test videos" in out
    assert out.splitlines()[-1] == "next: ctt plan weights"
    data = compose().data
    assert (data.slots_file, data.questions) == (str(place / "clevrer" / "slots"), str(files / "questions"))
    assert data.annotation_files is None and compose(["data=mini"]).data.slots_file is None
    code, out, err = ctt("plan", "weights", "seed=0")
    assert code == 0 and "provisional" not in out, err
    elsewhere = compose(["data.slots_file=elsewhere"]).data
    assert elsewhere.slots_file == "elsewhere" and elsewhere.questions is None, "the command line wins, as a whole"


def test_nothing_is_done_twice_and_answers_are_remembered(ctt, files, place, monkeypatch):  # noqa: F811
    path = files / "questions" / "train.json"
    whole = path.read_text()
    path.write_text(whole[:-9])
    code, _, err = ctt("data", "setup", "--slots", "mine/slots.pkl", "--questions", "mine/questions")
    assert code == 2 and "train.json is not valid JSON" in err and not user_file().exists()
    path.write_text(whole)
    monkeypatch.setattr("ctt.data.clevrer.slots_import._copy", None)
    code, out, err = ctt("data", "setup")
    assert code == 0 and "next: ctt plan weights" in out, err
    code, out, err = ctt("data", "setup")
    assert code == 0, err


def test_an_import_is_used_where_it_is_and_a_damaged_file_is_named(ctt, files, place):  # noqa: F811
    assert ctt("data", "import", "mine/slots.pkl", "--to", "imported")[0] == 0
    arguments = ("data", "setup", "--slots", "imported", "--questions", "mine/questions")
    assert ctt(*arguments)[0] == 0 and compose().data.slots_file == str(place / "imported")
    user_file().unlink()
    path = files / "questions" / "validation.json"
    path.write_text(path.read_text()[:-9])
    code, _, err = ctt(*arguments)
    assert code == 2 and "validation.json is not valid JSON" in err and not user_file().exists()


def test_what_is_fetched(ctt, web, place, monkeypatch):  # noqa: F811
    write_pickle(place / "web" / "s.pkl", slots_tree(COUNTS))
    write_questions(place / "web", COUNTS)
    for split, count in (("train", 3), ("validation", 2), ("test", 1)):
        figures = {"descriptive": count, "explanatory": 0, "predictive": count, "counterfactual": 0}
        monkeypatch.setitem(official_figures.QUESTIONS, split, figures)
    addresses = [f"data.fetch.slots_videosaur={web}/s.pkl", f"data.fetch.questions={web}/{{split}}.json"]
    code, out, err = ctt("data", "setup", "--slots", "fetch", "--questions", "fetch", *addresses)
    assert code == 0 and "fetched:" in out, err
    shutil.rmtree(place / "web")
    code, out, err = ctt("data", "setup", *addresses)
    assert code == 0 and out.count("already present") == 4, err


def test_missing_videos_can_be_skipped(ctt, files, place):  # noqa: F811
    tree = slots_tree(COUNTS)
    del tree["train"]["1_pixels.mp4"]
    write_pickle(files / "slots.pkl", tree)
    arguments = ("data", "setup", "--slots", "mine/slots.pkl", "--questions", "mine/questions")
    assert "to import the others, add data.missing=skip" in ctt(*arguments)[2]
    code, out, err = ctt(*arguments, "data.missing=skip")
    assert code == 0 and "train: 2 questions are left out" in out, err
    assert compose().data.missing == "skip"


def test_it_asks_for_what_is_not_given(files, place):  # noqa: F811
    asked = []

    def ask(question: str, default: str | None) -> str:
        asked.append((question.split(",")[0].split(":")[0], default))
        return {"slots": "mine/slots.pkl", "questions": "mine/questions"}.get(asked[-1][0], default or "")

    set_up("d", Answers(), ask=ask, console=QUIET)
    assert asked == [("slots", None), ("questions", None), ("annotations", "none")]
    asked.clear()
    set_up("d", Answers(annotations="none"), ask=ask, console=QUIET)
    assert asked == [("slots", str(files / "slots.pkl")), ("questions", str(files / "questions"))]


def test_what_is_wrong_is_refused_before_any_work(ctt, files, place):  # noqa: F811
    assert "where are the slots? Add --slots PATH, or --slots fetch" in ctt("data", "setup")[2]
    assert "gone is missing (--slots)" in ctt("data", "setup", "--slots", "gone")[2]
    assert "this command takes data.fetch" in ctt("data", "setup", "seed=1")[2]
    with pytest.raises(UsageError, match="where are the questions"):
        set_up("d", Answers("mine/slots.pkl"), console=QUIET)
    user_file().parent.mkdir(parents=True, exist_ok=True)
    user_file().write_text("slots: x\n")
    with pytest.raises(SettingError, match="clevrer.yaml must map some of slots_file"):
        compose()
    assert compose(["data=mini"]).data.kind == "synthetic"
    assert not list(place.glob("clevrer/slots*"))
    with pytest.raises(DataError, match="mine has no train.json .--questions"):
        set_up("d", Answers("mine/slots.pkl", "mine"), console=QUIET)
    assert not (place / "d" / "slots").exists(), "before 9 GB are imported"
