"""An independent answering of questions: matches a question's words, and counts in trajectories and collisions.

It shares no code with events, programs or language: words are matched here, entrances and exits are found frame by frame,
and causes by propagating, event by event, what has influenced each object so far.
"""

import math
import re

WHEN = "(?: when (?P<when>.+))?"
RELATION = "(?: (?P<side>before|after) (?P<event>.+))?"


def descriptive(text, scene):
    """The answer as the official files write it."""
    text = text.removesuffix("?")
    for pattern, answer in _DESCRIPTIVE:
        found = re.fullmatch(pattern, text)
        if found:
            return answer(scene, **found.groupdict())
    raise AssertionError(f"no pattern matches {text!r}")


def explanatory(question, choice, scene):
    found = re.fullmatch(r"Which of the following is (not )?responsible for (.+)\?", question)
    negated, outcome = found[1] is not None, _event(scene, found[2])
    influences, objects = _history(scene)
    if choice.startswith("the presence of the "):
        k = _the(scene, choice.removeprefix("the presence of the "))
        responsible = k in outcome[2] or any(k in cause[2] for cause in influences[outcome])
    else:
        responsible = _event(scene, choice) in influences[outcome]
    return responsible != negated


def predictive(choice, scene):
    return any(tuple(c[1:]) == _pair(scene, choice) for c in scene.collisions if c[0] >= 128)


def counterfactual(question, choice, scene):
    removed = re.search(r"(?:[iI]f the (.+?) is removed|[wW]ithout the (.+?)[,?])", question)
    k = _the(scene, removed[1] or removed[2])
    happens = any(tuple(c[1:]) == _pair(scene, choice) for c in scene.without[k])
    return happens != (" not " in question)


def _like(scene, phrase):
    words = phrase.split()
    noun = words[-1] if words[-1] in ("object", "cube", "sphere", "cylinder") else words[-1].removesuffix("s")
    wanted = [*words[:-1], *([noun] if noun != "object" else [])]
    return [k for k, t in enumerate(scene.things) if all(w in (t.color, t.material, t.shape) for w in wanted)]


def _the(scene, phrase):
    (only,) = _like(scene, phrase)
    return only


def _pair(scene, choice):
    found = re.fullmatch(r"The (.+) and the (.+) collide|The (.+) collides with the (.+)", choice)
    return tuple(sorted(_the(scene, phrase) for phrase in found.groups() if phrase))


def _crossing(scene, verb):
    """(frame, object) of all entrances (or exits) in the given frames, in time order."""
    enters = verb.startswith("enter")
    return [
        (f, k)
        for f in range(1, 128)
        for k in range(len(scene.things))
        if bool(scene.inside[f, k]) == enters and bool(scene.inside[f - 1, k]) != enters
    ]


def _frame(scene, clause):
    if clause.startswith("the video"):
        return {"the video begins": 0, "the video ends": 125}[clause]
    phrase, verb = re.fullmatch(r"the (.+) (enters|exits) the scene", clause).groups()
    (frame,) = [f for f, k in _crossing(scene, verb) if k == _the(scene, phrase)]
    return frame


def _in_state(scene, objects, state, clause):
    """Objects in the state at a moment; without one, those that are in view and move in some frame, or rest in every one."""
    if clause is None:
        seen = [k for k in objects if any(scene.inside[f, k] for f in range(128))]
        ever = {k for k in seen for f in range(128) if scene.inside[f, k] and _moves(scene, k, f)}
        return [k for k in seen if (k in ever) == (state == "moving")]
    frame = _frame(scene, clause)
    return [k for k in objects if scene.inside[frame, k] and _moves(scene, k, frame) == (state == "moving")]


def _moves(scene, k, frame):
    first, last = max(0, frame - 5), min(127, frame + 5)
    (x0, y0), (x1, y1) = scene.position[first, k].tolist(), scene.position[last, k].tolist()
    return math.hypot(x1 - x0, y1 - y0) / (last - first) * 480 / 6 > 0.1


def _related(scene, times, side, event):
    if side is None:
        return len(times)
    frame = _frame(scene, event)
    return sum(t < frame if side == "before" else t > frame for t in times)


def _crossings_of(scene, which, verb, side, event):
    return _related(scene, [f for f, k in _crossing(scene, verb) if k in _like(scene, which)], side, event)


def _attribute(scene, attribute, k):
    return getattr(scene.things[k], attribute)


def _partner(scene, attribute, order, subject):
    k = _the(scene, subject)
    met = [(set(c[1:]) - {k}).pop() for c in sorted(scene.collisions) if c[0] < 128 and k in c[1:]]
    return _attribute(scene, attribute, _pick(met, order))


def _crosser(scene, attribute, order, verb):
    return _attribute(scene, attribute, _pick([k for _, k in _crossing(scene, verb)], order))


def _pick(found, order):
    if order is None:
        (only,) = found
        return only
    return {"first": found[0], "second": found[1] if len(found) > 1 else None, "last": found[-1]}[order]


def _mover(scene, attribute, state, when, which="object"):
    (only,) = _in_state(scene, _like(scene, which), state, when)
    return _attribute(scene, attribute, only)


def _yes(truth):
    return "yes" if truth else "no"


_ASK = r"What (?:is the )?(?P<attribute>color|material|shape) (?:is|of) the "
_STATE = "(?P<state>moving|stationary)"
_DESCRIPTIVE = (
    (
        rf"How many (?P<which>.+) are {_STATE}{WHEN}",
        lambda s, which, state, when: str(len(_in_state(s, _like(s, which), state, when))),
    ),
    (
        rf"How many {_STATE} (?P<which>.+) are there{WHEN}",
        lambda s, which, state, when: str(len(_in_state(s, _like(s, which), state, when))),
    ),
    (
        rf"Are there any {_STATE} (?P<which>.+?){WHEN}",
        lambda s, which, state, when: _yes(_in_state(s, _like(s, which), state, when)),
    ),
    (
        rf"How many collisions happen{RELATION}",
        lambda s, side, event: str(_related(s, [c[0] for c in s.collisions if c[0] < 128], side, event)),
    ),
    (
        rf"How many (?P<which>.+) (?P<verb>enter|exit) the scene{RELATION}",
        lambda s, which, verb, side, event: str(_crossings_of(s, which, verb, side, event)),
    ),
    (
        rf"Are there any (?P<which>.+) that (?P<verb>enter|exit) the scene{RELATION}",
        lambda s, which, verb, side, event: _yes(_crossings_of(s, which, verb, side, event)),
    ),
    (_ASK + r"(?:(?P<order>first|second|last) )?object to collide with the (?P<subject>.+)", _partner),
    (_ASK + r"(?:(?P<order>first|second|last) )?object that (?P<verb>enters|exits) the scene", _crosser),
    (_ASK + rf"object that is {_STATE}{WHEN}", _mover),
    (_ASK + rf"{_STATE} (?P<which>.+?){WHEN}", _mover),
)


def _all_events(scene):
    """(frame, rank, objects): entrances, then collisions, then exits within a frame; given frames only."""
    events = [(f, 0, (k,)) for f, k in _crossing(scene, "enters")]
    events += [(c[0], 1, tuple(c[1:])) for c in scene.collisions if c[0] < 128]
    events += [(f, 2, (k,)) for f, k in _crossing(scene, "exits")]
    return sorted(events)


def _history(scene):
    """({event: events that influenced it}, for each object the events that influenced it by the end)."""
    objects = [frozenset() for _ in scene.things]
    influences = {}
    for event in _all_events(scene):
        before = frozenset().union(*(objects[k] for k in event[2]))
        influences[event] = before
        for k in event[2]:
            objects[k] = before | {event}
    return influences, objects


def _event(scene, text):
    pair = re.fullmatch(r"the collision between the (.+) and the (.+)|the (.+)'s colliding with the (.+)", text)
    if pair:
        rank, objects = 1, tuple(sorted(_the(scene, phrase) for phrase in pair.groups() if phrase))
    else:
        phrase, noun = re.fullmatch(r"the (.+)'s (exit|exiting the scene|entrance|entering the scene)", text).groups()
        rank, objects = (2 if noun.startswith("exit") else 0), (_the(scene, phrase),)
    (only,) = [e for e in _all_events(scene) if e[1:] == (rank, objects)]
    return only
