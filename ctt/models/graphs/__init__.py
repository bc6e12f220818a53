"""Sources of the slot graph, and how a graph makes neighbours."""
