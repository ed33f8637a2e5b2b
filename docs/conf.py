"""The site: `sphinx-build -W docs build/docs`, from Markdown by MyST, with furo's theme."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent)]

import pipeline  # noqa: E402  # the checkout beside this page, whatever is installed

project = "defect-pipeline"
release = version = pipeline.__version__
html_title = f"{project} {release}"
html_theme = "furo"
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "_generate"]
myst_heading_anchors = 3  # #headings can be linked to, as on a repository's page
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
logging.getLogger("faiss").setLevel(logging.WARNING)  # it tells which CPU it was built for
