"""The networks: the masked slot predictor, its losses and slot graphs, and ALOE."""
