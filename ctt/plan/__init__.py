"""Plan: runs → unique stages → jobs. No disk, no Hydra: what a store already holds is asked by whoever reads the plan."""

from ctt.plan.budget import Budget
from ctt.plan.plan import KINDS, Plan, chain, compile_plan, parts, sides_of, target_of
from ctt.plan.planned_jobs import PlannedJob

__all__ = ["KINDS", "Budget", "PlannedJob", "Plan", "chain", "compile_plan", "parts", "sides_of", "target_of"]
