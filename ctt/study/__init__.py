"""Recorded sweeps: what was asked for, and what the store holds of it, as tables, pictures and notebooks show it."""
