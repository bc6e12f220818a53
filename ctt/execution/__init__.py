"""Launching: frozen jobs, handing them to Hydra's launcher, and following them."""
