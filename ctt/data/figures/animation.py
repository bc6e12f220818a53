"""Animations of scenes, GIF files of 480 × 320 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctt.data.figures import event_figure as events
from ctt.data.figures.event_figure import INK, PAINT
from ctt.data.figures.scene_figure import SHOWN
from ctt.data.scene import FPS, GIVEN, VIEW, Scene, Thing
from ctt.data.synthetic.physics import RADIUS

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

SIZE = (480, 320)
STEP = 2
"""Every second frame is shown, for twice the duration."""
TRAIL = 24
FLASH = 8
"""Frames for which a collision is highlighted."""

CAMERA = np.array(
    [
        [-207.8461456298828, 525.0000610351562, -120.00001525878906, 1200.0003662109375],
        [123.93595886230469, 0.0, -534.663330078125, 799.9999389648438],
        [-0.866025447845459, 0.0, -0.4999999701976776, 5.000000476837158],
    ]
)
"""Projection of CLEVRER's camera: (u, v, w) = CAMERA (x, y, z, 1), pixel (u/w, v/w). Source: VRDP's simulator."""


@dataclass
class Film:
    """N objects over F frames in pixels: place (F, N, 2), radius (F, N), angle (F, N) in radians, inside (F, N) bool;
    hits (frame, a, b). `frame_box` is the camera's view, None if that is the whole picture."""

    title: str
    things: list[Thing]
    place: np.ndarray
    radius: np.ndarray
    angle: np.ndarray
    inside: np.ndarray
    hits: list[tuple[int, int, int]] = field(default_factory=list)
    frame_box: tuple[float, float, float, float] | None = None


def film_of(scene: Scene) -> Film:
    """A synthetic scene seen from above, including the future."""
    scale = SIZE[0] / (2 * SHOWN[0])
    middle = np.array(SIZE) / 2
    place = middle + scene.position * np.array([scale, -scale])
    radius = np.full(place.shape[:2], RADIUS * scale)
    box = (*(middle - np.array(VIEW) * scale), *(middle + np.array(VIEW) * scale))
    title = f"scene {scene.index}"
    return Film(title, scene.things, place, radius, -scene.orientation, scene.inside, scene.collisions, box)


def film_of_annotation(annotation: dict[str, Any]) -> Film:
    """An official annotation from the viewpoint of CLEVRER's camera."""
    ids = [thing["object_id"] for thing in annotation["object_property"]]
    frames = [{o["object_id"]: o for o in frame["objects"]} for frame in annotation["motion_trajectory"]]
    location = np.array([[frame[k]["location"] for k in ids] for frame in frames], dtype=np.float64)
    place, top = _pixels(location), _pixels(location + np.array([0, 0, 0.2]))
    angle = np.array([[(frame[k].get("orientation") or [0.0])[-1] for k in ids] for frame in frames], dtype=np.float64)
    inside = np.array([[frame[k]["inside_camera_view"] for k in ids] for frame in frames])
    hits = [(hit["frame_id"], *sorted(map(ids.index, hit["object_ids"]))) for hit in annotation["collision"]]
    things = [Thing(t["color"], t["material"], t["shape"]) for t in annotation["object_property"]]
    title = f"scene {annotation['scene_index']}"
    return Film(title, things, place, np.linalg.norm(place - top, axis=-1), -angle, inside, hits)


def _pixels(location: np.ndarray) -> np.ndarray:
    """Pixels (…, 2) of points in the world (…, 3)."""
    projected: np.ndarray = np.concatenate([location, np.ones((*location.shape[:-1], 1))], axis=-1) @ CAMERA.T
    depth = np.where(np.abs(projected[..., 2:]) < 1e-6, 1e-6, projected[..., 2:])
    return np.asarray(projected[..., :2] / depth)


def save_gif(film: Film, path: Path) -> None:
    """Writes the animation as an endlessly repeating GIF."""
    from PIL import Image

    pictures = [image.quantize(64, dither=Image.Dither.NONE) for image in _pictures(film)]
    wait = 1000 * STEP // FPS
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=wait, loop=0, optimize=False)


def save_trails(film: Film, path: Path) -> None:
    """Writes one picture: the last given frame with every object's trajectory, a time line and the collision graph."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    below, across = events.height(film.things), 0.8 * events.WIDTH
    tall = across * SIZE[1] / SIZE[0]
    total = below + tall + 0.2
    figure = Figure(figsize=(events.WIDTH, total), dpi=130)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.1, (below + 0.1) / total, 0.8, tall / total))
    axes.imshow(np.asarray(_picture(film, min(GIVEN, len(film.place)) - 1, trail=len(film.place))))
    axes.axis("off")
    events.draw_events(figure, film.things, film.inside, film.hits)
    figure.savefig(path, facecolor="white")


def _pictures(film: Film) -> Iterator[Any]:
    for frame in range(0, len(film.place), STEP):
        yield _picture(film, frame, TRAIL)


def _picture(film: Film, frame: int, trail: int) -> Any:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", SIZE, "#ffffff" if film.frame_box else "#e9e7e1")
    draw = ImageDraw.Draw(image)
    if film.frame_box:
        draw.rectangle(film.frame_box, fill="#f4f2ec", outline=INK)
    for k, thing in enumerate(film.things):
        path = film.place[max(0, frame - trail) : frame + 1, k]
        if len(path) > 1:
            draw.line([(float(x), float(y)) for x, y in path], fill=PAINT[thing.color], width=2)
    for k in np.argsort(film.place[frame, :, 1]):  # nearer objects are drawn last
        if film.inside[frame, k] or film.frame_box:
            _object(draw, film, frame, int(k))
    for start, a, b in film.hits:
        if start <= frame < start + FLASH:
            x, y = (film.place[frame, a] + film.place[frame, b]) / 2
            size = 14 + 2 * (frame - start)
            draw.ellipse((x - size, y - size, x + size, y + size), outline="#c98a00", width=3)
    when = f"frame {frame}" + ("  (future: not shown to a model)" if frame >= GIVEN else "")
    draw.text((8, 6), f"{film.title}   {when}", fill=INK)
    return image


def _object(draw: ImageDraw, film: Film, frame: int, k: int) -> None:
    thing, r = film.things[k], max(float(film.radius[frame, k]), 2.0)
    x, y = (float(value) for value in film.place[frame, k])
    style: dict[str, Any] = dict(fill=PAINT[thing.color], outline=INK if thing.material == "rubber" else "#ffffff")
    if thing.shape == "cube":
        turn = float(film.angle[frame, k]) + np.pi / 4 + np.arange(4) * np.pi / 2
        corners = [(x + 1.41 * r * float(np.cos(t)), y + 1.41 * r * float(np.sin(t))) for t in turn]
        draw.polygon(corners, **style)
    else:
        draw.ellipse((x - r, y - r, x + r, y + r), **style)
    if thing.shape == "cylinder":
        s = 0.6 * r
        draw.ellipse((x - s, y - s, x + s, y + s), outline=INK)
    draw.text((x - 3, y - 6), str(k), fill="#ffffff" if thing.color not in ("yellow", "cyan") else INK)
