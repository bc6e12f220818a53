"""Baselines that answer without the video: by question form, and from the question's words."""
