"""Candidate questions of a scene, each answered by running its program.

Enumeration needs the scene and runs in any number of processes; ctt.data.questions.sampling then chooses among the
candidates of all scenes in order, without the scenes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from ctt.data.questions.forms import FORMS, Description, Form, forms_of, unique_descriptions
from ctt.data.questions.programs import Unanswerable, answer, execute
from ctt.data.questions.vocab import ANSWERS
from ctt.data.scene import COLORS, GIVEN, MATERIALS, SHAPES, TOTAL, Scene
from ctt.data.synthetic.events import Event, World

Pair = tuple[int, int]
Places = dict[str, Description]
Names = tuple[Description, ...]


class DescriptiveQuestion(NamedTuple):
    """A descriptive question: the index of its form in FORMS, the descriptions in its places, its answer."""

    form: int
    places: Places
    answer: str


class Option(NamedTuple):
    """A possible cause of an outcome: kind is presence, entrance or collision; responsible is the executor's result."""

    kind: str
    objects: tuple[int, ...]
    responsible: bool


class Outcome(NamedTuple):
    """An event to explain (kind collision or exit) and its possible causes."""

    kind: str
    objects: tuple[int, ...]
    options: tuple[Option, ...]


class PossibleCollision(NamedTuple):
    """A pair of objects. happens: it collides in the future or, for a removal, without the removed object; seen: it
    collides in the given frames or, for a removal, at any time with nothing removed; extrapolated: the least distance of
    its centres on straight lines after the given frames (table units)."""

    pair: Pair
    happens: bool
    seen: bool
    extrapolated: float


@dataclass
class Candidates:
    """All candidate questions of one scene. `names[k]` are the unique descriptions of object k, the shortest first;
    `removals[k]` the pairs that could collide without object k."""

    index: int
    names: list[Names]
    descriptive: list[DescriptiveQuestion] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    future: list[PossibleCollision] = field(default_factory=list)
    removals: dict[int, list[PossibleCollision]] = field(default_factory=dict)


_FORM_NUMBER = {form: number for number, form in enumerate(FORMS)}
_ASKED = [form for form in FORMS if form.category == "descriptive" and form.generated]
_DESCRIPTIVE = [
    [form for form in _ASKED if form.program_template == program]
    for program in dict.fromkeys(form.program_template for form in _ASKED)
]
"""The generated descriptive forms, grouped by program."""
MANY = 4
"""Sets of objects ("red cubes") tried per form about several objects, in addition to the broad ones."""
LONGER = {"choices": 0.2, "questions": 0.03}
"""Share of names that are one word longer than necessary. Three words have 19 % of the names in CLEVRER's public explanatory
choices, and 3 % of those in its other public texts, about as many as need them."""
_BROAD = (Description(), *(Description(material=m) for m in MATERIALS), *(Description(shape=s) for s in SHAPES))


def enumerate_questions(scene: Scene, rng: np.random.Generator) -> Candidates:
    """All candidates of `scene`; `rng` only chooses the sets of objects that are tried. About 10 ms."""
    draw = random.Random(int(rng.integers(2**62)))
    world = World(scene)
    found = Candidates(scene.index, unique_descriptions(scene.things))
    found.descriptive = list(_descriptive(world, found.names, draw))
    found.outcomes = list(_outcomes(world, found.names))
    near = straight_line_approach(scene.position)
    seen = {e.objects for e in world.events if e.kind == "collision"}
    coming = {e.objects for e in world.unseen if e.kind == "collision"}
    if coming:
        found.future = list(_possible_collisions(world, found.names, seen, near, None))
    for k in sorted(scene.without):
        found.removals[k] = list(_possible_collisions(world, found.names, seen | coming, near, k))
    return found


def straight_line_approach(position: np.ndarray) -> dict[Pair, float]:
    """For each pair the least distance of centres over the future frames, if every object kept its mean velocity of
    the last five given frames. Positions (178, N, 2)."""
    last, step = position[GIVEN - 1].astype(np.float64), (position[GIVEN - 1] - position[GIVEN - 6]) / 5.0
    times = np.arange(1, TOTAL - GIVEN + 1)[:, None, None]
    guess = last + times * step
    return {
        (a, b): float(np.linalg.norm(guess[:, a] - guess[:, b], axis=-1).min())
        for a, b in combinations(range(position.shape[1]), 2)
    }


# ---- descriptive ----


def _descriptive(world: World, names: list[Names], draw: random.Random) -> Iterator[DescriptiveQuestion]:
    crossed = {kind: _crossed_once(world, kind) for kind in ("in", "out")}
    met = Counter(k for e in world.events if e.kind == "collision" for k in e.objects)
    sets = _sets_of_objects(world, draw)
    for wordings in _DESCRIPTIVE:
        form = draw.choice(wordings)
        program = form.program_template
        if form.name.endswith(":partner"):
            ordered = "filter_order" in program
            subjects = [k for k in world.objects if (met[k] > 1 if ordered else met[k] == 1)]
        elif "X" in form.places:
            subjects = crossed["in" if "{X} filter_in" in program else "out"]
        else:
            subjects = [-1]
            if "filter_order" in program and len(_of_kind(world, "in" if "filter_in" in program else "out")) < 2:
                continue
        for subject in subjects:
            base: Places = {} if subject < 0 else {"X": pick_name(names[subject], draw)}
            for places in _with_sets(form, base, world, sets, draw):
                try:
                    result = answer(form.program(places), world)
                except Unanswerable:
                    continue
                if result in ANSWERS:
                    yield DescriptiveQuestion(_FORM_NUMBER[form], places, result)


def _with_sets(form: Form, base: Places, world: World, sets: list[Description], draw: random.Random) -> Iterator[Places]:
    if "Z" in form.places:
        for described in (*_BROAD, *draw.sample(sets, min(MANY, len(sets)))):
            yield {**base, "Z": described}
    elif "S" in form.places:
        attribute = form.name.partition(":")[0].removeprefix("query_")
        # A set of one needs no motion to be identified, and the description must not name the queried attribute.
        several = [d for d in sets if getattr(d, attribute) is None and sum(d.fits(t) for t in world.things) > 1]
        for described in draw.sample(several, min(MANY, len(several))):
            yield {**base, "S": described}
    else:
        yield base


def _sets_of_objects(world: World, draw: random.Random) -> list[Description]:
    """Distinct descriptions of sets, mostly of objects of the scene."""
    sets = {Description(): None}
    for thing in world.things:
        for mask in ((0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 1, 1), (1, 0, 1)):
            sets[_partly(thing.color, thing.material, thing.shape, mask)] = None
    for _ in range(3):
        absent = draw.choice(COLORS), draw.choice(MATERIALS), draw.choice(SHAPES)
        sets[_partly(*absent, draw.choice(((0, 0, 1), (1, 0, 0), (0, 1, 1), (1, 0, 1))))] = None
    return list(sets)


def _partly(color: str, material: str, shape: str, mask: tuple[int, int, int]) -> Description:
    return Description(color if mask[0] else None, material if mask[1] else None, shape if mask[2] else None)


def pick_name(names: Names, draw: random.Random, where: str = "questions") -> Description:
    """A random one of an object's unique descriptions: mostly of the fewest words, sometimes one word longer (LONGER)."""
    shortest, longer = _by_length(names)
    chosen = longer if longer and draw.random() < LONGER[where] else shortest
    return chosen[int(len(chosen) * draw.random())]


@lru_cache(maxsize=4096)
def _by_length(names: Names) -> tuple[Names, Names]:
    """The descriptions of the fewest words, and those with one word more."""
    least = min(name.words for name in names)
    return tuple(d for d in names if d.words == least), tuple(d for d in names if d.words == least + 1)


def _of_kind(world: World, kind: str) -> list[Event]:
    return [e for e in world.events if e.kind == kind]


def _crossed_once(world: World, kind: str) -> list[int]:
    times = Counter(e.objects[0] for e in _of_kind(world, kind))
    return [k for k in world.objects if times[k] == 1]


# ---- multiple choice ----


def _places(objects: tuple[int, ...], names: list[Names]) -> Places:
    """{X} and {Y} by their shortest unique descriptions; the program's result does not depend on the choice."""
    return {place: names[k][0] for place, k in zip("XY", objects, strict=False)}


def _outcomes(world: World, names: list[Names]) -> Iterator[Outcome]:
    entered, left = _crossed_once(world, "in"), _crossed_once(world, "out")
    times = Counter(e.objects for e in _of_kind(world, "collision"))
    collisions = [pair for pair, count in times.items() if count == 1]
    explained: list[tuple[str, tuple[int, ...]]] = [("collision", pair) for pair in collisions] + [("exit", (k,)) for k in left]
    for kind, objects in explained:
        question = forms_of("explanatory", f"is:{kind}")[0].program(_places(objects, names))
        others = [k for k in world.objects if k not in objects]
        possible: list[tuple[str, tuple[int, ...]]] = [("presence", (k,)) for k in others]
        possible += [("entrance", (k,)) for k in others if k in entered]
        possible += [("collision", pair) for pair in collisions if pair != objects]
        options = []
        for cause, who in possible:
            choice = forms_of("explanatory", cause, choice=True)[0].program(_places(who, names))
            options.append(Option(cause, who, execute(choice + question, world) == "yes"))
        yield Outcome(kind, objects, tuple(options))


def _possible_collisions(
    world: World, names: list[Names], seen: set[tuple[int, ...]], near: dict[Pair, float], k: int | None
) -> Iterator[PossibleCollision]:
    """Every pair without object k, and whether it collides in the future or, if k is given, with k removed."""
    if k is None:
        question = forms_of("predictive", "next")[0].program({})
    else:
        question = forms_of("counterfactual", "is")[0].program({"X": names[k][0]})
    for pair in combinations(world.objects, 2):
        if k in pair:
            continue
        choice = forms_of("predictive", "collision", choice=True)[0].program(_places(pair, names))
        yield PossibleCollision(pair, execute(choice + question, world) == "yes", pair in seen, near[pair])
