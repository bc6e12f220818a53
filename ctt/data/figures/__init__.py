"""Figures and animations of scenes."""
