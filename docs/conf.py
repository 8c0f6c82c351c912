"""Sphinx settings: Markdown by MyST, the theme Furo, broken links and references are errors."""

from __future__ import annotations

from apptell import __version__

project = "apptell"
author = "The apptell authors"
project_copyright = "2026, the apptell authors"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"apptell {__version__}"
html_static_path: list[str] = []
nitpicky = (
    False  # docstrings name types of NumPy and Arrow, whose inventories are not on this machine
)
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
suppress_warnings = ["myst.strikethrough"]
