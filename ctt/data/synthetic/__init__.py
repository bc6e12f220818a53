"""The embedded data set: physics, scenes, events, slots and the truth about them."""
