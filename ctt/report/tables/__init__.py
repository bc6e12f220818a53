"""The tables of a sweep: rows, estimates, and the grids of text that the writers draw."""
