"""Sources of the slot graph, and which slots are neighbours in it."""
