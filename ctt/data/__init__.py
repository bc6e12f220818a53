"""Data sets: scenes, events, questions and slots, and how they are read. This package imports neither torch.nn nor Hydra."""
