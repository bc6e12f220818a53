"""Positions read from slots, slots matched to objects, questions answered from positions, reference levels."""
