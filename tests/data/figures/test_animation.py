"""Animations show the objects at their positions; errors name missing and malformed annotations."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from ctt.core.errors import DataError
from ctt.data.clevrer.annotations import Annotations
from ctt.data.figures.animation import CAMERA, film_of, film_of_annotation, save_gif, save_trails
from ctt.data.figures.event_figure import PAINT
from ctt.data.synthetic.annotation_writer import annotation
from tests.data.synthetic.scenes import some_scenes
from tests.shared import SHARED, needs_shared


def colour_at(picture, place):
    return picture.convert("RGB").getpixel((int(place[0]), int(place[1])))


def test_the_animation_shows_every_object_where_it_is(tmp_path):
    scene = some_scenes()[0]
    film = film_of(scene)
    save_gif(film, tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as picture:
        assert (picture.n_frames, picture.size, picture.info["duration"]) == (89, (480, 320), 80)
        assert picture.info["loop"] == 0
        checked = 0
        for shown in (0, 30, 63, 88):
            picture.seek(shown)
            frame = 2 * shown
            for k, thing in enumerate(scene.things):
                place = film.place[frame, k] + np.array([0.55, 0]) * film.radius[frame, k]
                alone = all(
                    np.linalg.norm(film.place[frame, k] - film.place[frame, j]) > 45 for j in range(len(scene.things)) if j != k
                )
                if scene.inside[frame, k] and alone and thing.shape != "cylinder":
                    painted = np.array(ImageColor.getrgb(PAINT[thing.color]))
                    assert np.abs(painted - colour_at(picture, place)).max() < 40
                    checked += 1
        assert checked >= 2


def test_the_camera_sees_the_table():
    # the centre of the table lies below the centre of the picture; farther points are higher
    middle, far = film_place([0, 0, 0.2]), film_place([-3, 0, 0.2])
    assert 0 < middle[0] < 480 and 0 < middle[1] < 320 and far[1] < middle[1]


@needs_shared
def test_the_camera_equals_the_published_projection():
    facts = json.loads((SHARED / "clevrer" / "camera_projection.json").read_text())
    assert np.allclose(CAMERA, facts["projection_3x4"], atol=1e-4)


def film_place(location):
    u, v, w = CAMERA @ np.array([*location, 1.0])
    return u / w, v / w


def test_an_annotation_is_drawn_as_the_camera_sees_it(tmp_path):
    made = annotation(some_scenes()[1])
    film = film_of_annotation(made)
    assert film.place.shape == (128, len(made["object_property"]), 2)
    for k in range(film.place.shape[1]):
        location = made["motion_trajectory"][77]["objects"][k]["location"]
        assert film.place[77, k] == pytest.approx(film_place(location))
    assert film.hits == [(h["frame_id"], *h["object_ids"]) for h in made["collision"]] and len(film.hits) >= 2
    save_gif(film, tmp_path / "a.gif")
    save_trails(film, tmp_path / "a.png")
    with Image.open(tmp_path / "a.gif") as picture:
        assert picture.n_frames == 64
    with Image.open(tmp_path / "a.png") as picture:
        seen = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)
        for thing in film.things:  # on the time line and in the graph, wherever it is in the film
            assert (seen == int(PAINT[thing.color][1:], 16)).sum() > 300


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of unpacked annotations with an archive in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    inner = tmp_path / "train" / "video_00000-01000"
    inner.mkdir(parents=True)
    for index in (0, 1):
        (inner / f"annotation_{index:05d}.json").write_text(json.dumps(annotation(some_scenes()[index])))
    with zipfile.ZipFile(tmp_path / "annotation_validation.zip", "w") as archive:
        archive.writestr("video_10000-11000/annotation_10000.json", json.dumps(annotation(some_scenes()[2])))
    return tmp_path


def test_annotations_are_found_unpacked_and_in_archives(folder):
    found = Annotations(folder)
    assert (0 in found, 1 in found, 10_000 in found, 2 in found) == (True, True, True, False)
    assert found.missing(range(0, 4)) == [2, 3]
    assert found.read(10_000) == annotation(some_scenes()[2])
    with pytest.raises(DataError, match="no annotation of scene 2"):
        found.read(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("motion_trajectory"), "annotation_00001.json is not an annotation"),
        (lambda a: a["motion_trajectory"].pop(), "it needs 128 frames"),
        (lambda a: a["motion_trajectory"][5]["objects"].pop(), "it needs 128 frames with every object"),
        (
            lambda a: a["motion_trajectory"][5]["objects"].append(a["motion_trajectory"][5]["objects"][0]),
            "once; frame 5",
        ),
        (lambda a: a["motion_trajectory"][5].update(frame_id=6), "frame 5 has the frame_id 6"),
        (lambda a: a["motion_trajectory"][5]["objects"][0].update(location=[1]), "frame 5, object 0: location must be"),
        (
            lambda a: a["motion_trajectory"][5]["objects"][0].update(location=["a", "1", 0.2]),
            "location must be three numbers",
        ),
        (
            lambda a: a["motion_trajectory"][5]["objects"][0].update(location=[float("nan"), 0, 0]),
            "location must be three",
        ),
        (
            lambda a: a["motion_trajectory"][5]["objects"][0].update(orientation="up"),
            "orientation must be three numbers",
        ),
        (lambda a: a["motion_trajectory"][5]["objects"][0].update(inside_camera_view=1), "must be true or false"),
        (lambda a: a.pop("scene_index"), "annotation_00001.json is not an annotation: 'scene_index' is missing"),
        (lambda a: a["object_property"][1].update(color="pink"), "object 1: color must be one of gray, .*, got 'pink'"),
        (lambda a: a["object_property"][1].update(shape=["cube"]), "object 1: shape must be one of .*, got list"),
        (lambda a: a["object_property"][1].update(object_id=0), "an object_id occurs twice"),
        (lambda a: a["collision"][0].update(object_ids=[0, 77]), "is not between two of its objects"),
        (lambda a: a["collision"][0].update(object_ids=[0, 0]), "is not between two of its objects"),
        (lambda a: a["collision"][0].update(frame_id=128), "has the frame_id 128, outside of the video's 128 frames"),
        (lambda a: a.update(object_property=5), "is not an annotation"),
        (lambda a: a.update(collision=[{"object_ids": [1]}]), "is not an annotation"),
    ],
)
def test_a_malformed_annotation_is_named(change, message, folder):
    path = folder / "train" / "video_00000-01000" / "annotation_00001.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    with pytest.raises(DataError, match=message):
        Annotations(folder).read(1)
    assert [str(path) in text for text in Annotations(folder).damage()] == [True]
    for text in ("{", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(DataError, match=r"annotation_00001\.json is not valid JSON"):
            Annotations(folder).read(1)


def test_damage_in_an_archive_is_named(folder):
    archive, reported = folder / "annotation_validation.zip", []
    assert Annotations(folder).damage(lambda done, total: reported.append((done, total))) == []
    assert reported == [(1, 3), (2, 3), (3, 3)]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for index in (10_000, 10_001):
            packed.writestr(f"annotation_{index}.json", json.dumps(annotation(some_scenes()[2])))
    whole = archive.read_bytes()
    for at, wrong in ((60, b"\xff" * 9), (whole.find(b"annotation_10001") - 400, b"no" * 9)):
        archive.write_bytes(whole[:at] + wrong + whole[at + len(wrong) :])
        (text,) = Annotations(folder).damage()
        assert text.startswith(f"{archive}:annotation_1000") and "cannot be read" in text and "\n" not in text


def test_the_digest_depends_on_the_content_only(folder, monkeypatch):
    first = Annotations(folder).digest
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    assert Annotations(folder).digest == first
    monkeypatch.undo()
    with zipfile.ZipFile(folder / "annotation_validation.zip") as archive:
        archive.extractall(folder)
    (folder / "annotation_validation.zip").unlink()
    assert Annotations(folder).digest == first
    path = folder / "train" / "video_00000-01000" / "annotation_00001.json"
    text = path.read_text()
    digit = next(i for i, letter in enumerate(text) if letter == "3")
    path.write_text(text[:digit] + "4" + text[digit + 1 :])
    assert Annotations(folder).digest != first


def test_a_missing_folder_and_a_damaged_archive(tmp_path):
    with pytest.raises(DataError, match="is missing; run `ctt data fetch annotations`"):
        Annotations(tmp_path / "gone")
    (tmp_path / "a.zip").write_bytes(b"PK\3\4")
    with pytest.raises(DataError, match=r"a\.zip is not a complete zip"):
        Annotations(tmp_path)
