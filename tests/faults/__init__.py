"""Faults injected into the store: processes killed, stopped and cut short at every step."""
