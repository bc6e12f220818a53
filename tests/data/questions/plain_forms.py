"""The forms of CLEVRER's texts as patterns, independent of ctt.data.questions.forms."""

X = r"(?:(?:gray|red|blue|green|brown|cyan|purple|yellow) )?(?:(?:metal|rubber) )?(?:object|cube|sphere|cylinder)"
Z = X + "s"
STATE = "(?:moving|stationary)"
CROSSING = f"the {X} (?:enters|exits) the scene"
MOMENT = f"(?: when (?:the video begins|the video ends|{CROSSING}))?"
RELATION = f"(?: (?:before|after) {CROSSING})"
EVENTS = rf"(?:the collision between the {X} and the {X}|the {X}'s colliding with the {X})"
LEAVING = rf"(?:the {X}'s exit|the {X}'s exiting the scene)"
OPENING = "(What|Which event|Which of the following)"
COLLISIONS = (rf"The {X} and the {X} collide", rf"The {X} collides with the {X}")

QUESTIONS = {
    "descriptive": (
        rf"How many {Z} are {STATE}(?: when the video (?:begins|ends))?\?",
        rf"How many {STATE} {Z} are there(?: when (?:the video ends|{CROSSING}))?\?",
        rf"How many {Z} (?:enter|exit) the scene{RELATION}?\?",
        rf"How many collisions happen{RELATION}?\?",
        rf"Are there any {Z} that (?:enter|exit) the scene{RELATION}\?",
        rf"Are there any {STATE} {Z}{MOMENT}\?",
        r"What (?:color|material|shape) is (?P<who>.*)\?",
        r"What is the (?:color|material|shape) of (?P<who>.*)\?",
    ),
    "explanatory": (rf"Which of the following is (?:not )?responsible for (?:{EVENTS}|{LEAVING})\?",),
    "predictive": (r"(?:What|Which event) will happen next\?",),
    "counterfactual": (
        rf"(?P<opening>{OPENING}) will (?P<negated>not )?happen (?P<how>if the {X} is removed|without the {X})\?",
        rf"(?P<how>If the {X} is removed|Without the {X}), (?P<opening>{OPENING.lower()}) will (?P<negated>not )?happen\?",
    ),
}
WHO = (
    rf"the (?:(?:first|second|last) )?object to collide with the {X}",
    r"the (?:(?:first|last) )?object that (?:enters|exits) the scene",
    rf"the object that is {STATE}(?: when the video (?:begins|ends))?",
    rf"the {STATE} {X}{MOMENT}",
)
CHOICES = {
    "explanatory": (rf"the presence of the {X}", EVENTS, rf"the {X}'s entrance", rf"the {X}'s entering the scene"),
    "predictive": COLLISIONS,
    "counterfactual": COLLISIONS,
}
