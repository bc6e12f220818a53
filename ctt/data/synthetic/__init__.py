"""The embedded data set: physics, scenes, events, slots and ground truth."""
