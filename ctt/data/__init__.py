"""Scenes, events, questions, slots: the data sets and how they are read. No torch.nn and no Hydra in this room."""
