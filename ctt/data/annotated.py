"""Annotations: the official annotation_%05d.json, in a folder as they were unpacked, or in the archives themselves."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

from ctt.data.scene import GIVEN
from ctt.errors import DataError
from ctt.settings import digest

_NAME = re.compile(r"(?:.*/)?annotation_(\d+)\.json")


class Annotations:
    """The annotations below `folder` by scene. Raises DataError if the folder is missing or an archive is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"the annotations' folder {self.folder} is missing; `ctt data fetch annotations` gets them")
        self._place: dict[int, tuple[Path, str]] = {}
        self._mark: dict[int, int] = {}
        for path in sorted(self.folder.rglob("annotation_*.json")):
            if match := _NAME.fullmatch(path.name):
                self._place[int(match[1])] = (path, "")
                self._mark[int(match[1])] = path.stat().st_size
        for path in sorted(self.folder.rglob("*.zip")):
            try:
                with zipfile.ZipFile(path) as archive:
                    members = archive.infolist()
            except (zipfile.BadZipFile, OSError) as error:
                raise DataError(f"{path} is not a whole zip file ({error})") from None
            for member in members:
                if (match := _NAME.fullmatch(member.filename)) and int(match[1]) not in self._place:
                    self._place[int(match[1])] = (path, member.filename)
                    self._mark[int(match[1])] = member.CRC

    def __contains__(self, scene: int) -> bool:
        return scene in self._place

    @property
    def digest(self) -> str:
        """Of which scenes there are annotations, and of their checksums in archives or their sizes as files."""
        return digest(sorted(self._mark.items()))

    def missing(self, scenes: range) -> list[int]:
        """Those of `scenes` that have none."""
        return [scene for scene in scenes if scene not in self._place]

    def read(self, scene: int) -> dict[str, Any]:
        """The annotation of a scene. Raises DataError if there is none or it is malformed."""
        if scene not in self._place:
            raise DataError(f"{self.folder} has no annotation of scene {scene} (CLEVRER's test split has none at all)")
        path, name = self._place[scene]
        where = f"{path}:{name}" if name else str(path)
        try:
            if name:
                with zipfile.ZipFile(path) as archive:
                    text = archive.read(name)
            else:
                text = path.read_bytes()
            found = json.loads(text)
        except (ValueError, OSError, zipfile.BadZipFile, KeyError) as error:
            raise DataError(f"{where} is not valid JSON ({error})") from None
        try:
            objects = {p["object_id"]: (p["color"], p["material"], p["shape"]) for p in found["object_property"]}
            frames = found["motion_trajectory"]
            whole = len(frames) == GIVEN and all(
                {o["object_id"] for o in frame["objects"]} == set(objects)
                and all(len(o["location"]) == 3 and isinstance(o["inside_camera_view"], bool) for o in frame["objects"])
                for frame in frames
            )
            hits = all(len(hit["object_ids"]) == 2 and isinstance(hit["frame_id"], int) for hit in found["collision"])
        except (KeyError, TypeError) as error:
            raise DataError(f"{where} is not an annotation ({error!r})") from None
        if not whole or not hits:
            raise DataError(f"{where} is not an annotation: it needs {GIVEN} frames with every object in each")
        return dict(found)
