"""`ctt data …` on the command line: output, files and exit codes."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from ctt.cli import main
from ctt.cli.parsing import quoted_address
from ctt.core.errors import DataError, Interrupted
from ctt.data.clevrer import official_figures, question_file, source_files
from ctt.data.questions.question_table import read_scenes
from ctt.data.synthetic.annotation_writer import annotation
from tests.data.clevrer.official_files import scene, slots_tree, write_pickle, write_questions
from tests.data.synthetic.scenes import some_scenes
from tests.shared import SHARED, needs_shared

COUNTS = {"train": 3, "val": 2, "test": 1}
MINI = ["data=mini", "data.train=4", "data.validation=2", "data.workers=1"]


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr("ctt.app.data.data_setup.stop_on_signals", lambda *_: None)
    monkeypatch.setattr("ctt.core.build_context.stop_on_signals", lambda *_: None)
    source_files._known_hash.cache_clear()
    return tmp_path


@pytest.fixture
def ctt(capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        """Exit code, what was printed, and the errors."""
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def real(ctt, place):
    """Overrides for a small data set of official files, imported by the command line."""
    write_pickle(place / "slots.pkl", slots_tree(COUNTS))
    assert ctt("data", "import", "slots.pkl")[0] == 0
    write_questions(place / "questions", COUNTS)
    return ["data=clevrer", f"data.slots_file={place}/slots", f"data.questions={place}/questions"]


def test_import_prints_what_it_holds_and_how_to_use_it(ctt, place):
    write_pickle(place / "s.pkl", slots_tree({"train": 2, "val": 1}, frames=160))
    code, out, _ = ctt("data", "import", "s.pkl", "--to", "elsewhere")
    assert code == 0 and "train" in out and "2 videos, scenes 0 to 1" in out and "the first 128 are taken" in out
    assert f"data.slots_file={place}/elsewhere" in out
    assert (place / "elsewhere" / "slots_train.npy").is_file()


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_hostile_import_is_refused_by_name(ctt, place):
    write_pickle(place / "s.pkl", {"train": Evil()})
    code, out, err = ctt("data", "import", "s.pkl")
    assert code == 2 and "posix.system" in err and err.count("\n") == 1
    assert not (place / "executed").exists() and not (place / "s").exists()


def test_check_of_a_question_file(ctt, place):
    (place / "q.json").write_text(json.dumps([scene(70), scene(3)]))
    code, out, err = ctt("data", "check", "--questions", "q.json", "--json")
    found = json.loads(out)
    assert (code, err, found["scenes"], found["questions"]["predictive"]) == (0, "", 2, 2)
    assert set(found) == {
        "scenes", "questions", "without_program", "other_forms",
        "unknown_words", "unknown_program_tokens", "ill_typed_programs", "errors",
    }  # fmt: skip
    code, out, _ = ctt("data", "check", "--questions", "q.json")
    assert code == 0 and "2 scenes: 2 descriptive" in out


def test_check_of_a_question_file_with_mistakes(ctt, place):
    wrong = scene(70)
    wrong["questions"][0]["question"] = "How many zebras happen?"
    (place / "q.json").write_text(json.dumps([wrong]))
    code, out, err = ctt("data", "check", "--questions", "q.json", "--json")
    assert code == 2 and json.loads(out)["unknown_words"] == ["zebras"] and "1 thing is wrong" in err
    assert "unknown word: zebras" in ctt("data", "check", "--questions", "q.json")[1]


def test_texts_of_no_known_form_are_counted_and_listed_and_are_no_error(ctt, place, real):
    odd = scene(0)
    odd["questions"][0]["question"] = "How many objects of the scene are red?"
    odd["questions"][1]["question"] = "What is next?"
    odd["questions"][1]["choices"][0]["choice"] = "The red cube"
    (place / "q.json").write_text(json.dumps([odd, {**odd, "scene_index": 1}, scene(2)]))
    code, out, _ = ctt("data", "check", "--questions", "q.json")
    assert code == 0 and "6 questions and options have none of the known forms" in out
    assert "2  descriptive:count:other: How many objects of the scene are red?" in out
    assert "2  predictive:other: What is next?" in out and "2  predictive:option:other: The red cube" in out
    found = json.loads(ctt("data", "check", "--questions", "q.json", "--json")[1])
    assert [entry["count"] for entry in found["other_forms"]] == [2, 2, 2] and found["errors"] == []
    (place / "q.json").rename(place / "questions" / "train.json")
    code, out, err = ctt("data", "check", *real)
    assert code == 0 and "train: 6 questions and options have none of the known forms" in out, err
    assert len(json.loads(ctt("data", "check", *real, "--json")[1])["splits"]["train"]["other_forms"]) == 3


def test_text_of_files_is_printed_literally(ctt, place):
    """Brackets in texts and paths are no markup, and control characters do not reach the terminal."""
    wrong = scene(70)
    wrong["questions"][0]["question"] = "How [/]many [bold]\ud800 \x1b[31mhappen?"
    (place / "[a]").mkdir()
    (place / "[a]" / "train.json").write_text(json.dumps([wrong]))
    code, out, err = ctt("data", "check", "--questions", "[a]/train.json")
    assert code == 2 and "[a]/train.json" in err
    for word in ("[/]many", "[bold]\\ud800", "\\x1b[31mhappen"):
        assert f"unknown word: {word}\n" in out
    write_pickle(place / "[a]" / "{0}.pkl", slots_tree({"train": 1}))
    assert f"data.slots_file={place}/[a]/{{0}}" in ctt("data", "import", "[a]/{0}.pkl")[1]
    code, _, err = ctt("data", "show", "70", "data=clevrer", "data.questions='[a]'")
    assert code == 2 and "[a]/train.json, scene 70, question 0: the word '[/]many' is not" in err


@pytest.mark.parametrize("text", ["", "[{", "{}", None])
def test_check_of_what_is_no_question_file(text, ctt, place):
    if text is not None:
        (place / "q.json").write_text(text)
    code, out, err = ctt("data", "check", "--questions", "q.json", "--json")
    assert code == 2 and err.count("\n") == 1 and "q.json" in err
    assert len(json.loads(out)["errors"]) == 1
    assert ctt("data", "check", "--questions", "q.json")[0] == 2


@needs_shared
def test_check_of_the_real_questions(ctt):
    code, out, _ = ctt("data", "check", "--questions", str(SHARED / "clevrer" / "real_questions_train.json"), "--json")
    found = json.loads(out)
    assert code == 0 and found["scenes"] > 600 and found["without_program"] > 0
    assert not any(found[name] for name in ("unknown_words", "unknown_program_tokens", "ill_typed_programs", "errors"))


def test_check_of_a_synthetic_set(ctt):
    code, out, _ = ctt("data", "check", *MINI)
    assert code == 0 and "train: 4 videos" in out and "CLEVRER %" in out and "answered without the video" in out
    code, out, _ = ctt("data", "check", *MINI, "--json")
    found = json.loads(out)
    assert code == 0 and found["splits"]["validation"]["videos"] == 2 and found["damage"] == []
    for level in ("form", "words"):
        four = {"descriptive", "explanatory", "predictive", "counterfactual"}
        assert set(found["blind"][level]["per_question"]) == four
    key = found["key"]
    assert ctt("data", "check", key[:10])[1].startswith(f"data {key}")
    slots = next(Path("store").glob(f"artifacts/*/{key}/slots_train.npy"))
    stat = slots.stat()
    with open(slots, "r+b") as file:
        file.seek(70_000)
        file.write(b"other")
    os.utime(slots, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.warns(UserWarning, match="damaged"):
        code, out, err = ctt("data", "check", *MINI)
    assert code == 2 and "slots_train.npy is damaged" in out and "the same command makes it again" in err
    assert ctt("data", "check", *MINI)[0] == 0


def test_check_of_real_files(ctt, real, place):
    code, out, err = ctt("data", "check", *real)
    assert code == 0 and "clevrer, every byte" in out and "validation: 2 videos, 4 questions" in out, err
    (place / "questions" / "test.json").unlink()
    assert "test is left out: it has no questions" in ctt("data", "check", *real)[1]


def test_check_names_what_is_damaged(ctt, real, place):
    slots = place / "slots" / "slots_train.npy"
    stat = slots.stat()
    with open(slots, "r+b") as file:
        file.seek(70_000)
        file.write(b"other")
    os.utime(slots, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path = place / "questions" / "train.json"
    path.write_text(path.read_text().replace("What will", "What shall"))
    code, out, err = ctt("data", "check", *real)
    assert code == 2 and "slots_train.npy is damaged" in out and "train.json: shall" in out + err
    path.unlink()
    validation = place / "questions" / "validation.json"
    scenes = json.loads(validation.read_text())
    del scenes[1]["questions"][1]["choices"][1]["answer"]
    validation.write_text(json.dumps(scenes))
    (place / "questions" / "test.json").write_text("[")
    (place / "slots" / "slots_test.npy").unlink()
    code, out, err = ctt("data", "check", *real, "--json", "data.annotation_files=gone")
    damage = json.loads(out)["damage"]
    expected = (
        "has no train.json",
        "slots_train.npy is damaged",
        "slots_test.npy is missing",
        "validation.json, scene 10001, question 1, choice 1: answer is missing; validation needs answers",
        "test.json is not valid JSON",
        "the annotations' folder gone is missing",
    )
    assert code == 2 and len(damage) == len(expected), damage
    assert all(any(text in line for line in damage) for text in expected), damage
    code, out, err = ctt("data", "check", "data=clevrer", f"data.questions={place}/questions")
    assert code == 2 and "needs data.slots_file" in out and "validation.json, scene" not in out + err
    assert "has no train.json" in out and "test.json is not valid JSON" in err


def test_check_of_a_question_file_with_many_mistakes_names_some(ctt, real, place):
    path = place / "questions" / "train.json"
    path.write_text(json.dumps([{**scene(i % 3), "questions": 5} for i in range(30)]))
    out, err = ctt("data", "check", *real)[1:]
    assert out.count("train.json: entry") + out.count("train.json: scene") == 10
    assert f"and 20 more; `ctt data check --questions {path}` lists them all" in out + err


def test_check_reads_every_annotation(ctt, real, place):
    (place / "a").mkdir()
    path = place / "a" / "annotation_00001.json"
    path.write_text(json.dumps({**annotation(some_scenes()[0]), "scene_index": 1}))
    code, out, _ = ctt("data", "check", *real, "data.annotation_files=a")
    assert code == 0 and "annotations of 1 of 3 train videos; missing: scenes 0, 2" in out
    assert "annotations of 0 of 2 validation videos" in out
    path.write_text("{}")
    (place / "a" / "annotation_10001.json").write_text("[")
    code, out, err = ctt("data", "check", *real, "data.annotation_files=a")
    assert code == 2 and "annotation_00001.json is not an annotation: 'scene_index' is missing" in out
    assert "annotation_10001.json is not valid JSON" in err


def test_show_of_a_synthetic_scene(ctt, place):
    code, out, _ = ctt("data", "show", "10001", *MINI, "--to", "pictures")
    assert code == 0 and "descriptive" in out and "✓" in out
    assert sorted(p.name for p in (place / "pictures").iterdir()) == ["scene_10001.gif", "scene_10001.png"]
    code, _, err = ctt("data", "show", "4", *MINI)
    assert code == 2 and "no scene 4; the data set has train 0 to 3, validation 10000 to 10001" in err


def test_show_of_a_real_scene(ctt, real, place):
    code, out, _ = ctt("data", "show", "10001", *real)
    assert code == 0 and "What will happen next?" in out and "no picture: data.annotation_files" in out
    (place / "a").mkdir()
    made = {**annotation(some_scenes()[0]), "scene_index": 10_001}
    (place / "a" / "annotation_10001.json").write_text(json.dumps(made))
    code, out, _ = ctt("data", "show", "10001", *real, "data.annotation_files=a")
    assert code == 0 and (place / "scene_10001.gif").is_file() and (place / "scene_10001.png").is_file()
    code, _, err = ctt("data", "show", "10000", *real, "data.annotation_files=a")
    assert code == 2 and "no annotation of scene 10000" in err
    assert "has no questions on scene 77" in ctt("data", "show", "77", *real)[2]
    assert "needs data.slots_file" in ctt("data", "show", "77")[2]


@pytest.fixture
def web(place):
    """A server of the files below web/."""
    (place / "web").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(place / "web")))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_fetch_checks_counts_and_prints_the_next_command(ctt, web, place, monkeypatch):
    write_pickle(place / "web" / "s.pkl", slots_tree({"train": 1}))
    write_questions(place / "web", COUNTS)
    arguments = [f"data.fetch.slots_savi={web}/s.pkl", f"data.fetch.questions={web}/{{split}}.json"]
    counts = {"descriptive": 3, "explanatory": 0, "predictive": 3, "counterfactual": 0}
    monkeypatch.setitem(official_figures.QUESTIONS, "train", counts)
    code, out, err = ctt("data", "fetch", "--encoder", "savi", *arguments)
    assert code == 1 and "next: ctt data import clevrer/clevrer_savi_slots.pkl" in out
    assert "questions/train.json (6 questions, the official counts)" in out
    for split, count in (("validation", 2), ("test", 1)):
        line = next(line for line in err.splitlines() if f"{split}.json is not" in line)
        assert f"{count} descriptive questions instead of 54,9".replace(",", "") in line
        assert f"renamed to clevrer/questions/{split}.other.json" in line and f"rename it to {split}.json" in line
    folder = place / "clevrer" / "questions"
    assert sorted(p.name for p in folder.iterdir()) == ["test.other.json", "train.json", "validation.other.json"]
    for split in ("validation", "test"):
        (folder / f"{split}.other.json").rename(folder / f"{split}.json")
    code, out, err = ctt("data", "fetch", "questions", *arguments)
    assert (code, err) == (0, "") and out.count("already present") == 3 and "2 descriptive questions instead" in out
    (place / "web" / "odd.json").write_text('[{"questions": [{}]}]')
    code, _, err = ctt("data", "fetch", "questions", f"data.fetch.questions='{web}/odd.json?{{split}}'", "data.fetch.folder=b")
    assert code == 2 and "train.json is no official question file (KeyError: 'question_type'). It came from" in err
    assert not list((place / "b" / "questions").iterdir())
    code, _, err = ctt("data", "fetch", "annotations", f"data.fetch.annotations='{web}/{{split}}.zip'")
    assert code == 2 and "answers 404" in err


def test_addresses_need_no_quotes_of_hydras(ctt, web, place):
    for text in ("{split}.json?a=b,c&d=(e)~*", "{split}.json?a='b'"):
        plain = f"data.fetch.questions={web}/{text}"
        assert "answers 404" in ctt("data", "fetch", "questions", plain)[2]
    assert quoted_address("a.b='http://x'") == "a.b='http://x'" and quoted_address("a=b://x,y'") == "a='b://x,y\\''"
    assert quoted_address("seed=0,1") == "seed=0,1"


FETCH = """
import sys
from ctt.cli import main
main(["data", "fetch", "questions", f"data.fetch.questions={sys.argv[1]}/{{split}}.json"])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_fetch_ends_at_a_signal_while_a_server_is_silent(number, place):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        process = subprocess.Popen(
            [sys.executable, "-c", FETCH, address], env=environment, stderr=subprocess.PIPE, text=True, cwd=place
        )
        with silent.accept()[0]:
            time.sleep(0.2)
            process.send_signal(number)
            began = time.monotonic()
            _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 2 and process.returncode == 1
    assert err.startswith("ctt: stopped at 0 bytes of clevrer/questions/train.json.part") and err.count("\n") == 1


def test_a_question_file_is_read_until_a_signal(place, monkeypatch):
    (place / "q.json").write_text(json.dumps([scene(70), scene(71)]))
    entries = question_file.scenes_of(place / "q.json")
    assert next(entries)["scene_index"] == 70
    monkeypatch.setattr(question_file, "stopping", lambda: True)
    with pytest.raises(Interrupted):
        next(entries)


@pytest.mark.parametrize(
    "text", ["[]", " [ ] ", '[1,{"a":[2]}, 4 ]\n', "[1,]", "[1 2]", "[1]x", "", "{}", "[", "[1", "[,1]", "]", "[[]]", "[1]]"]
)
def test_entries_read_one_by_one_are_those_of_the_whole_file(text, place):
    (place / "q.json").write_text(text)
    try:
        expected = read_scenes(place / "q.json")
    except DataError as error:
        with pytest.raises(DataError, match=re.escape(str(error))):
            list(question_file.scenes_of(place / "q.json"))
    else:
        assert list(question_file.scenes_of(place / "q.json")) == expected


def test_wrong_arguments_are_refused(ctt):
    assert "ctt data eat is not a command" in ctt("data", "eat")[2]
    assert "videos cannot be fetched" in ctt("data", "fetch", "videos")[2]
    assert "x is not a scene's number" in ctt("data", "show", "x", "data=mini")[2]
    assert ctt("data", "import", "gone.pkl")[0] == 2
    assert "is not a setting" in ctt("data", "check", "data.slot_file=x")[2]
    for arguments in (
        [],
        ["--help"],
        ["import", "--help"],
        ["fetch", "--help"],
        ["check", "--help"],
        ["show", "--help"],
    ):
        assert ctt("data", *arguments)[0] == 0


def test_a_sweep_without_its_files_is_refused_before_any_work(ctt, place):
    code, _, err = ctt("sweep", "weights", "seed=0")
    assert code == 2 and "data=clevrer needs data.slots_file" in err
    assert not (place / "store" / "work").exists() and not (place / "store" / "sweeps" / "weights" / "0001").exists()
    code, out, _ = ctt("plan", "weights", "seed=0")
    assert code == 0 and "keys are provisional" in out
    assert json.loads(ctt("plan", "weights", "seed=0", "--json")[1])["runs"] > 1
