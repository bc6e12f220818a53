"""Training, segment by segment: what Lightning runs, what a state holds, and what is measured of trained models."""
