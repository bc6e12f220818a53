"""The embedded data set: simulated scenes with their true causes, futures and counterfactual runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctt.core.build_context import BuildContext
from ctt.data.data_format import CLEVRER
from ctt.data.sources.data_source import GENERATED, DataSource

if TYPE_CHECKING:
    from ctt.data.dataset import Split


class SyntheticSource(DataSource):
    """Simulated from its settings, with the same result for any number of workers."""

    name = "synthetic"
    help = "synthetic scenes"
    data_format = CLEVRER
    reads = (*GENERATED, "encoder_seed", "noise", "out_of_view", "swap_probability", "density", "annotations")
    unread = "synthetic scenes are identified by their settings"
    has_truth = True
    shows_view = True
    reported = ("reported",)

    def write(self, settings: Any, context: BuildContext) -> None:
        from ctt.data.synthetic.writing import generate

        generate(settings, context)

    def bytes_of_video(self, settings: Any) -> float:
        """Slots, truth and questions."""
        return 735e3

    def draw(self, split: Split, video: int, folder: Path) -> list[Path]:
        from ctt.data.figures.animation import film_of, save_gif
        from ctt.data.figures.scene_figure import draw_scene

        scene = int(split.scene_index[video])
        picture, animation = folder / f"scene_{scene:05d}.png", folder / f"scene_{scene:05d}.gif"
        draw_scene(split, video, picture)
        save_gif(film_of(split.truth.scene(video)), animation)
        return [picture, animation]


SOURCE = SyntheticSource()
