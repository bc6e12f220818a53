"""Answers without the video: by question form, and from the words alone."""
