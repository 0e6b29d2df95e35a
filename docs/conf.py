"""Configuration of the documentation: `make docs` builds it into `docs/_build/html`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from olivine import __version__

project = "olivine"
author = "the olivine contributors"
project_copyright = "the olivine contributors"
version = release = __version__

extensions = ["myst_parser", "docstrings", "configuration", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_ext"]
default_role = "code"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autoclass_content = "class"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the docstrings say more: shapes, units, frames
napoleon_use_rtype = False
maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"olivine {version}"
html_show_sourcelink = False
