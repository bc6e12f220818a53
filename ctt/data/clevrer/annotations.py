"""The official annotation files annotation_%05d.json, unpacked in a folder or in their zip archives."""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ctt.core.errors import DataError
from ctt.core.regular_files import check_regular, read_regular
from ctt.core.settings import digest
from ctt.data.clevrer.checksums import checksums
from ctt.data.scene import COLORS, GIVEN, MATERIALS, SHAPES, Thing
from ctt.safeload.rebuild import shown

LARGEST = 64 << 20
"""Maximum bytes of one annotation; the official ones have about a third of a megabyte."""
FURTHEST = 1e6
"""Bound on the absolute value of a coordinate or an angle."""
_NAME = re.compile(r"(?:.*/)?annotation_(\d{1,12})\.json")
_KINDS = {"color": COLORS, "material": MATERIALS, "shape": SHAPES}
_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError, OverflowError)
"""Exceptions for damaged archives; RuntimeError is raised for encrypted ones and for unknown compression methods."""


class Annotations:
    """The annotations below `folder` by scene. Raises DataError if the folder is missing or an archive is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"the annotations' folder {self.folder} is missing; run `ctt data fetch annotations`")
        self._files: dict[int, Path] = {}
        self._members: dict[int, tuple[Path, zipfile.ZipInfo]] = {}
        self._open: dict[Path, zipfile.ZipFile] = {}
        for path in sorted(self.folder.rglob("annotation_*.json")):
            if match := _NAME.fullmatch(path.name):
                self._files[int(match[1])] = path
        for path in sorted(self.folder.rglob("*.zip")):
            check_regular(path)
            try:
                with zipfile.ZipFile(path) as archive:
                    members = archive.infolist()
            except _ERRORS as error:
                raise DataError(f"{path} is not a complete zip file ({error})") from None
            for member in members:
                if (match := _NAME.fullmatch(member.filename)) and int(match[1]) not in self._files:
                    self._members[int(match[1])] = (path, member)

    def __contains__(self, scene: int) -> bool:
        return scene in self._files or scene in self._members

    @property
    def scenes(self) -> list[int]:
        return sorted({*self._files, *self._members})

    @property
    def digest(self) -> str:
        """Digest of the annotated scenes and the CRC-32 of each annotation; unpacking an archive does not change it.

        Archives state the CRC-32; of unpacked files it is computed once, and again if their size or time changed."""
        name = f"annotations-{digest(str(self.folder.resolve()))[:16]}.json"
        computed = checksums(self._files.values(), name, lambda path: zlib.crc32(read_regular(path, LARGEST)))
        stated = {scene: member.CRC for scene, (_, member) in self._members.items()}
        return digest(sorted((stated | {scene: computed[path] for scene, path in self._files.items()}).items()))

    def missing(self, scenes: Iterable[int]) -> list[int]:
        """Those of `scenes` that have no annotation."""
        return [scene for scene in scenes if scene not in self]

    def read(self, scene: int) -> dict[str, Any]:
        """The annotation of a scene. Raises DataError, naming file and reason, if it is missing or malformed."""
        if scene not in self:
            raise DataError(f"{self.folder} has no annotation of scene {scene} (CLEVRER's test split has no annotations)")
        if scene in self._files:
            where = str(self._files[scene])
        else:
            path, member = self._members[scene]
            where = f"{path}:{member.filename}"
        try:
            text = self._bytes(scene)
        except _ERRORS as error:
            raise DataError(f"{where} cannot be read ({error})") from None
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where} is not valid JSON ({error})") from None
        try:
            _check(found)
        except DataError as error:
            raise DataError(f"{where} is not an annotation: {error}") from None
        except (KeyError, TypeError, AttributeError) as error:
            missing = f"{error} is missing" if isinstance(error, KeyError) else error
            raise DataError(f"{where} is not an annotation: {missing}") from None
        return dict(found)

    def things(self, scene: int) -> list[Thing]:
        """The objects of a scene, in the order of its annotation. Raises DataError as `read` does."""
        return [Thing(thing["color"], thing["material"], thing["shape"]) for thing in self.read(scene)["object_property"]]

    def damage(self, progress: Callable[[int, int], None] = lambda done, total: None) -> list[str]:
        """Error messages of all malformed annotations; progress: called with the number read so far and the total."""
        wrong = []
        scenes = self.scenes
        for done, scene in enumerate(scenes, start=1):
            try:
                self.read(scene)
            except DataError as error:
                wrong.append(str(error))
            progress(done, len(scenes))
        return wrong

    def _bytes(self, scene: int) -> bytes:
        if scene in self._files:
            path = self._files[scene]
            size = path.stat().st_size
        else:
            path, member = self._members[scene]
            size = member.file_size
        if size > LARGEST:
            raise ValueError(f"it has {size} bytes, more than {LARGEST >> 20} MiB")
        if scene in self._files:
            return read_regular(path, LARGEST)
        if path not in self._open:  # kept open: reading the member list takes longer than reading a member
            self._open[path] = zipfile.ZipFile(path)
        return self._open[path].read(member)


def _check(found: dict[str, Any]) -> None:
    """Raises DataError, KeyError or TypeError, with the reason, if an annotation is malformed."""
    _whole(found["scene_index"], "scene_index")
    things = [_whole(thing["object_id"], "object_id") for thing in found["object_property"]]
    if not things or len(set(things)) != len(things):
        raise DataError("an object_id occurs twice" if things else "it has no objects")
    for thing in found["object_property"]:
        for kind, known in _KINDS.items():
            if thing[kind] not in known:
                raise DataError(f"object {thing['object_id']}: {kind} must be one of {', '.join(known)}, got {shown(thing[kind])}")
    frames = found["motion_trajectory"]
    if len(frames) != GIVEN:
        raise DataError(f"it needs {GIVEN} frames, got {len(frames)}")
    for number, frame in enumerate(frames):
        if frame.get("frame_id", number) != number:
            raise DataError(f"frame {number} has the frame_id {shown(frame['frame_id'])}")
        if sorted(entry["object_id"] for entry in frame["objects"]) != sorted(things):
            raise DataError(f"it needs {GIVEN} frames with every object exactly once; frame {number} differs")
        for entry in frame["objects"]:
            at = f"frame {number}, object {entry['object_id']}"
            _numbers(entry["location"], f"{at}: location")
            if entry.get("orientation") is not None:
                _numbers(entry["orientation"], f"{at}: orientation")
            if type(entry["inside_camera_view"]) is not bool:
                raise DataError(f"{at}: inside_camera_view must be true or false")
    for hit in found["collision"]:
        pair, number = hit["object_ids"], _whole(hit["frame_id"], "a collision's frame_id")
        if len(pair) != 2 or pair[0] == pair[1] or any(one not in things for one in pair):
            raise DataError(f"a collision in frame {number} is not between two of its objects")
        if not 0 <= number < GIVEN:
            raise DataError(f"a collision has the frame_id {number}, outside of the video's {GIVEN} frames")


def _whole(value: Any, what: str) -> int:
    if type(value) is not int:
        raise DataError(f"{what} must be a whole number")
    return value


def _numbers(values: Any, what: str) -> None:
    triple = isinstance(values, list) and len(values) == 3
    if not triple or not all(type(x) in (int, float) and -FURTHEST < x < FURTHEST for x in values):
        raise DataError(f"{what} must be three numbers")
