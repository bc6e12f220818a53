"""ALOE: the transformer that answers questions from slots."""
