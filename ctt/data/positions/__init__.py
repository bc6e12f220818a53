"""Positions read from slots, slots matched to objects, and questions answered from positions."""
