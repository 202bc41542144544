import re

from janelia_core import __version__

project = "janelia-core"
copyright = "the janelia-core authors"
version = release = __version__

extensions = ["myst_parser", "autoapi.extension", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

autoapi_dirs = ["../src/janelia_core"]
autoapi_root = "api"
# Private modules are read, for what the public ones hand on, but get no page of their own.
autoapi_ignore = [f"*/src/janelia_core/{path}" for path in ("demo/*", "commands/*", "cli.py", "__main__.py")]
autoapi_options = ["members", "imported-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_add_toctree_entry = False
# A name that a package hands on is found in two places; both are right. Constants assigned together are in none.
suppress_warnings = ["ref.python", "autoapi.python_import_resolution"]

# In a docstring `x` is code, and |x| is an absolute value: to Sphinx it would be a substitution.
default_role = "code"


def _escape_bars(app, what, name, obj, options, lines: list[str]) -> None:
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", line)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _escape_bars)


# Sections of our docstrings beyond Google's own.
napoleon_use_ivar = True  # an attribute is described once, where its class is
napoleon_custom_sections = ["Exactness", "Memory", "Source", "Ways of PyTorch"]

html_theme = "furo"
html_title = "janelia-core"
html_static_path: list[str] = []
