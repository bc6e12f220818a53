"""Recorded sweeps: their record, and what the store holds of their results, for tables, figures and notebooks."""
