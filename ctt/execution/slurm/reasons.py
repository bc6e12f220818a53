"""Reasons: why SLURM's jobs wait, which of these do not clear by themselves, and what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping

USUAL = ("", "None", "Priority", "Resources", "Dependency", "BeginTime", "JobArrayTaskLimit", "Cleaning")
"""Reasons that need no word: the job waits for its turn, or for another job."""
_TIME = "it asks for more time than is allowed; set launch.timeout_min, or another launch.partition or launch.qos"
_DOWN = "the partition or its nodes are not in operation; ask an administrator, or set another launch.partition"
_BUDGET = "the budget of the account is used up; set launch.account or launch.qos, or ask for more"
_SIZE = "it asks for more than is allowed; set launch.nodes, launch.mem_gb or launch.gpus_per_node, or another launch.partition"
_NAME = "it names what this cluster does not have or you may not use; set launch.account, launch.qos or launch.partition"
_FEW = "it asks for less than the partition or the QOS demands; ask for more, or set another launch.partition or launch.qos"
_RESERVED = "it needs a reservation that it does not have; set launch.options=['--reservation=NAME'], or another launch.partition"
STUCK = {
    "AccountNotAllowed": _NAME,
    "AccountingPolicy": _SIZE,
    "AssocGrpWallLimit": _BUDGET,
    "AssociationResourceLimit": _SIZE,
    "AssociationTimeLimit": _TIME,
    "BadConstraints": "no node has what it asks for; set launch.constraint, launch.gres or launch.gpus_per_node",
    "DependencyNeverSatisfied": "a job it needs has failed; `ctt status` names it, and the sweep command submits it again",
    "DownNodes": _DOWN,
    "FrontEndDown": _DOWN,
    "InvalidAccount": _NAME,
    "InvalidQOS": _NAME,
    "JobHeldAdmin": "an administrator holds it; ask them, or `scontrol release` it where you may",
    "JobHeldUser": "it is held; `scontrol release` it",
    "MaxMemPerLimit": _SIZE,
    "NodeDown": _DOWN,
    "PartitionConfig": _SIZE,
    "PartitionDown": _DOWN,
    "PartitionInactive": _DOWN,
    "PartitionMaxNodes": _SIZE,
    "PartitionMinNodes": _FEW,
    "PartitionNodeLimit": _SIZE,
    "PartitionTimeLimit": _TIME,
    "QOSGrpWallLimit": _BUDGET,
    "QOSNotAllowed": _NAME,
    "QOSResourceLimit": _SIZE,
    "QOSTimeLimit": _TIME,
    "QOSUsageThreshold": _BUDGET,
    "RequiresReservation": _RESERVED,
    "ReservationDeleted": _RESERVED,
}
"""Reasons that last until somebody acts, and the remedy (squeue(1), JOB REASON CODES)."""
_KINDS = (
    (re.compile(r"(Assoc|QOS)Max(\w+Minutes|WallDuration)PerJob(Limit)?$"), _TIME),  # of what time and size amount to
    (re.compile(r"(Assoc|QOS)Max\w+Per(Job|Node)(Limit)?$"), _SIZE),
    (re.compile(r"QOSMin\w+$"), _FEW),
    (re.compile(r"(Assoc|QOS)Grp(?!\w+RunMinutes)\w+Minutes(Limit)?$"), _BUDGET),
)
"""Those of limits, one for each kind of resource. Limits of what runs at once (…RunMinutes, …PerUser, Grp…) clear as jobs end."""
_MAY_LAST = (
    (re.compile(r"ReqNodeNotAvail$|Nodes required for job are DOWN, DRAINED"),
     "nodes are down, drained or reserved; `sinfo -R` shows which and why; or set another launch.partition"),
)  # fmt: skip
"""Those that clear when the nodes are back, which SLURM does not know: a drained node waits for an administrator."""
_PROSE = re.compile(r"[^\s,]+[\s_](?!\w+:)\w+[\s_]\w+")
PATIENCE = 60.0  # seconds after which a reason of STUCK is reported as such: SLURM may be about to correct it


def name_of(reason: str) -> str:
    """ "ReqNodeNotAvail, UnavailableNodes:n1" and "(BadConstraints)" → their first word; a sentence, "Nodes required for job are
    DOWN, DRAINED or reserved …", as it is."""
    text = reason.strip("() ")
    if _PROSE.match(text):
        return text
    words = text.replace(",", " ").split()
    return words[0] if words else ""


def remedy(name: str) -> str | None:
    """What to do about a reason that does not clear by itself; None for others."""
    return STUCK.get(name) or next((what for kind, what in _KINDS if kind.match(name)), None)


def outlook(name: str) -> str | None:
    """What to do about a reason that may last long; None for others."""
    return next((what for kind, what in _MAY_LAST if kind.match(name)), None)


def message(state: str, reason: str) -> str:
    """A queued job in one line: "pending", "suspended", "pending: PartitionTimeLimit (it asks for …)"."""
    name = name_of(reason)
    if name in ("", "None"):
        return state.lower()
    what = f" ({found})" if (found := remedy(name) or outlook(name)) else ""
    return f"{state.lower()}: {reason.strip('() ')}{what}"


class WaitReasons:
    """What of the reasons has been reported, so that each is printed once, and once more if it does not clear."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        self._reported: set[str] = set()

    def report(self, waiting: Mapping[str, int], now: float) -> list[str]:
        """The lines to print. waiting: number of jobs by reason; now: seconds on any steady clock."""
        counts: dict[str, int] = {}
        for reason, count in waiting.items():
            name = name_of(reason)
            if name not in USUAL:
                counts[name] = counts.get(name, 0) + count
        self._since = {name: self._since.get(name, now) for name in counts}
        lines = []
        for name, count in counts.items():
            jobs = "1 job waits" if count == 1 else f"{count} jobs wait"
            if name not in self._reported:
                self._reported.add(name)
                lines.append(f"{jobs}: {name}")
            found, late = remedy(name) or outlook(name), f"{name} stuck"
            clears = "may last long" if remedy(name) is None else "does not clear by itself"
            if found and now - self._since[name] >= PATIENCE and late not in self._reported:
                self._reported.add(late)
                lines.append(f"{jobs}, and {name} {clears}: {found}")
        return lines
