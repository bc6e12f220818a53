"""Sphinx's settings for the site. `make docs` builds it; every page can also be read as plain Markdown."""

from pathlib import Path

import ctt

ROOT = Path(__file__).resolve().parents[1]

project = "ctt"
author = "The ctt developers"
project_copyright = "The ctt developers, MIT license"
version = release = ctt.__version__

extensions = ["myst_parser"]
exclude_patterns = ["results/records"]
root_doc = "index"
nitpicky = True
show_warning_types = True
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
smartquotes = False  # pages show commands and Python

html_theme = "furo"
html_title = f"ctt {version}"
html_copy_source = False
html_static_path: list[str] = []
