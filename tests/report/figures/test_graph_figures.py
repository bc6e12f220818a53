"""Figures and grids of graph diagnoses show the measured numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ctt.report.figures.graph_figures import chosen_point, diagnosis_picture, mean_picture
from ctt.report.figures.loss_parts import loss_picture
from ctt.report.tables.graph_tables import chance_of, density_grid, losses_grid, recovery_grid
from ctt.training.graph_measures import measures

SLOTS = 7


def diagnosis(seed: int, acting: bool = True, truth: bool = True) -> dict:
    rng = np.random.default_rng(seed)
    contact = np.triu(rng.random((60, SLOTS, SLOTS)) < 0.05, 1)
    contact = contact | contact.transpose(0, 2, 1)
    masked = np.zeros((60, SLOTS), dtype=bool)
    graphs = {
        "oracle": (contact | np.eye(SLOTS, dtype=bool)) / 2,
        "published attention": np.full((60, SLOTS, SLOTS), 1 / 28),
        "attention": rng.dirichlet(np.ones(SLOTS), (60, SLOTS)) + 0.05 * contact,
    }
    losses = {
        "dropout": 0.1,
        "share_dropout": False,
        "terms": {"invariance": 0.08 + 0.001 * seed, "sufficiency": 0.06, "future": 0.02, "masked": 0.01},
        "gradient_norms": {"prediction": 1.0, "invariance": 0.5, "sufficiency": 0.25},
        "same_masks": 0.06,
        "remaining": 0.75,
    }
    return {
        "threshold": 0.15,
        "own": "attention",
        "acting": acting,
        "touching": float(contact.sum() / 120) if truth else None,
        "readings": {n: measures(n, g, 0.15, masked, contact if truth else None) for n, g in graphs.items()},
        "losses": {**losses, "share_dropout": True, "remaining": None},
        "published_losses": losses,
    }


@pytest.fixture(scope="module")
def found() -> dict:
    return {"baseline": [diagnosis(s, acting=False) for s in range(3)], "ctt": [diagnosis(s) for s in range(3)]}


def test_grids_show_means_over_seeds(found) -> None:
    (lines,) = density_grid(found["ctt"]).blocks
    by_name = {line[0]: line for line in lines}
    assert by_name["published attention"][1:3] == ("0.0", "0.00")
    own = by_name["attention (this run's)"]
    density = np.mean([run["readings"]["attention"]["density"] for run in found["ctt"]])
    assert float(own[1]) == pytest.approx(100 * density, abs=0.051)
    assert "attention" in {line[0] for line in density_grid(found["baseline"]).blocks[0]}  # no losses act there
    (lines,) = recovery_grid(found["ctt"]).blocks
    by_name = {line[0]: line for line in lines}
    assert "oracle" not in by_name and by_name["published attention"][1].startswith("0.500")
    auroc = np.mean([run["readings"]["attention"]["auroc"] for run in found["ctt"]])
    text = by_name["attention (this run's)"][1]
    assert float(text.split(" ±")[0]) == pytest.approx(auroc, abs=0.0006) and " ±" in text
    assert float(by_name["by chance"][2]) == pytest.approx(chance_of(found["ctt"]), abs=0.0006)
    (lines,) = losses_grid(found).blocks
    assert [line[:3] for line in lines][2:] == [
        ("ctt", "as trained", "0.1, shared"),
        ("ctt", "as published", "0.1, drawn anew"),
    ]
    assert lines[3][5].startswith("0.0810") and lines[2][7] == "–" and lines[3][7].startswith("75.0")
    assert lines[2][3:7] == ("0.0100 ±0.0000", "0.0200 ±0.0000", "0.081000 ±0.002484", "0.0600 ±0.0000")


def test_no_truth_no_recovery(found) -> None:
    runs = [diagnosis(0, truth=False)]
    (lines,) = recovery_grid(runs).blocks
    assert all(set(line[1:]) == {"–"} for line in lines[:-1]) and chance_of(runs) is None
    diagnosis_picture({"ctt": runs})


def test_the_point_whose_losses_act_is_drawn(found, tmp_path: Path) -> None:
    assert chosen_point(found) == "ctt" and chosen_point({"baseline": found["baseline"]}) == "baseline"
    assert chosen_point({}) is None
    fewer = [{**run, "readings": {"attention": run["readings"]["attention"]}} for run in found["ctt"]]
    assert chosen_point({**found, "more": found["ctt"], "fewer": fewer}) == "more"
    for name, figure in (
        ("graphs.png", diagnosis_picture(found, tmp_path / "graphs.png")),
        ("mean.png", mean_picture(found["ctt"], tmp_path / "mean.png")),
    ):
        assert (tmp_path / name).stat().st_size > 10_000 and len(figure.axes) >= 3
    density = diagnosis_picture(found).axes[0]
    line = next(line for line in density.lines if line.get_label() == "attention")
    entries, shares = line.get_xdata(), line.get_ydata()
    assert shares[np.searchsorted(entries, 0.15, side="right") - 1] == pytest.approx(
        100 * found["ctt"][0]["readings"]["attention"]["density"], abs=1.5
    )
    diagnosis_picture({}, tmp_path / "none.png")
    assert (tmp_path / "none.png").exists()


def test_a_source_has_one_colour_in_all_panels(found) -> None:
    density, _, entries, recovery = diagnosis_picture(found).axes
    named = {str(line.get_label()): line.get_color() for line in density.lines}
    for axis in (entries, recovery):
        names = [label.get_text() for label in axis.get_yticklabels()]
        flat = [line for line in axis.lines if len(set(line.get_ydata())) == 1 and line.get_color() != "black"]
        drawn = {names[int(line.get_ydata()[0])]: line.get_color() for line in flat}
        assert set(drawn) == set(names) and drawn.items() <= named.items()


def test_losses_are_drawn_seed_by_seed(found, tmp_path: Path) -> None:
    """Every number of the diagnoses is a dot in its panel; an unknown one is a dash."""
    figure = loss_picture(found, tmp_path / "losses.png")
    zero, left, terms, norms = figure.axes

    def drawn(axis) -> list[float]:
        return sorted(float(x) for line in axis.lines if line.get_linestyle() == "None" for x in line.get_xdata())

    def numbers(value_of) -> list[float]:
        return pytest.approx(sorted(value_of(run) for runs in found.values() for run in runs))

    kinds = ("invariance", "sufficiency")
    shares = [100 * r["zero"][kind] for run in found["ctt"] for r in run["readings"].values() for kind in kinds]
    assert drawn(zero) == pytest.approx(sorted(shares)) and len(shares) == 18
    assert drawn(left) == numbers(lambda run: 100 * run["published_losses"]["remaining"])
    assert [text.get_text() for text in left.texts] == ["–", "–"], "unknown with shared dropout"
    for axis, group in ((terms, "terms"), (norms, "gradient_norms")):
        names = found["ctt"][0]["losses"][group]
        every = [run["losses"][group][name] for runs in found.values() for run in runs for name in names]
        assert drawn(axis) == pytest.approx(sorted(every))
        assert {text.get_text() for text in axis.get_legend().get_texts()} == set(names)
    loss_picture({f"point {n}": found["ctt"] for n in range(12)}, tmp_path / "many.png")
    loss_picture({}, tmp_path / "none.png")
