import os
import re
import sys
from pathlib import Path

from janelia_core import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
os.environ.setdefault("JANELIA_CORE_KERNELS", "wait")  # so that pictures and printed lines are those of every build

project = "janelia-core"
copyright = "the janelia-core authors"
version = release = __version__

extensions = ["myst_parser", "autoapi.extension", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery", "mathml"]
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "checks", "_extensions", "gallery", "tutorial", "auto/**/*.ipynb", "auto/**/*.py"]

# Programs whose pictures, printed lines and pages are made here, at every build.
sphinx_gallery_conf = {
    "examples_dirs": ["tutorial", "gallery"],
    "gallery_dirs": ["auto/tutorial", "auto/gallery"],
    "filename_pattern": r"\.py$",
    "within_subsection_order": "ExampleTitleSortKey",
    "abort_on_example_error": True,
    "reset_modules": ("night.reset",),
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
    "min_reported_time": 60,
    "capture_repr": (),
    "thumbnail_size": (480, 300),
}

autoapi_dirs = ["../src/janelia_core"]
autoapi_root = "api"
# Private modules are read, for what the public ones hand on, but get no page of their own.
autoapi_ignore = [f"*/src/janelia_core/{path}" for path in ("demo/*", "commands/*", "cli.py", "__main__.py")]
autoapi_options = ["members", "imported-members", "show-inheritance", "show-module-summary"]
autoapi_member_order = "bysource"
autoapi_add_toctree_entry = False
# A name that a package hands on is found in two places; both are right. Constants assigned together are in none.
suppress_warnings = ["ref.python", "autoapi.python_import_resolution"]

# In a docstring `x` is code, and |x| an absolute value: to Sphinx a substitution, as FILE::NAME would be a link.
default_role = "code"


def _escape_bars(app, what, name, obj, options, lines: list[str]) -> None:
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            line = re.sub(r"(`[^`]*`)|\|", lambda found: found[1] or r"\|", line)
            lines[number] = re.sub(r"(?<!`)\bFILE::NAME\b", "`FILE::NAME`", line)


def setup(app) -> None:
    app.connect("autodoc-process-docstring", _escape_bars)


# Sections of our docstrings beyond Google's own.
napoleon_use_ivar = True  # an attribute is described once, where its class is
napoleon_custom_sections = ["Exactness", "Memory", "Source", "Ways of PyTorch"]

REPOSITORY = "https://github.com/janelia-core/janelia-core"
MARK = (HERE / "_static" / "repository.svg").read_text(encoding="utf-8")

html_theme = "furo"
html_title = f"janelia-core {version}"
html_short_title = "janelia-core"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "source_repository": f"{REPOSITORY}/",
    "source_branch": "main",
    "source_directory": "docs/",
    "footer_icons": [{"name": "Repository", "url": REPOSITORY, "html": MARK, "class": ""}],
    "light_css_variables": {"color-brand-primary": "#0b6b63", "color-brand-content": "#0b6b63"},
    "dark_css_variables": {"color-brand-primary": "#58c9bb", "color-brand-content": "#58c9bb"},
}
