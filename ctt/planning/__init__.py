"""Plan: runs → unique stages → jobs. No disk, no Hydra: what a store already holds is looked up by the reader of the plan."""

from ctt.planning.budget import Budget
from ctt.planning.compiled_plan import Plan, auxiliaries_of, compile_plan, parts, target_of
from ctt.planning.planned_jobs import PlannedJob
from ctt.stages.main_line import KINDS

__all__ = ["KINDS", "Budget", "PlannedJob", "Plan", "compile_plan", "parts", "auxiliaries_of", "target_of"]
