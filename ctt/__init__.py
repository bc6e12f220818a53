"""ctt: the experiment orchestrator for causal world models on CLEVRER."""

__version__ = "0.2.0"
