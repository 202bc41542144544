"""Formulas as MathML, which browsers draw by themselves: no script, and no network.

Drawn well they want a font with a table of mathematical measures, which not every system has. STIX Two (SIL Open
Font License) comes with the package ziamath; what formulas may use of it lies beside the pages.
"""

from __future__ import annotations

import html
import importlib.resources
import re
from pathlib import Path

from docutils import nodes
from fontTools import subset
from fontTools.ttLib import TTFont
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.math import get_node_equation_number
from sphinx.writers.html5 import HTML5Translator

FONT = "formulas.woff"
GLYPHS = [
    *range(0x20, 0x100),
    *range(0x2B0, 0x400),  # accents, Greek
    *range(0x2010, 0x2070),
    *range(0x2190, 0x2200),
    *range(0x2200, 0x2300),  # operators
    *range(0x27E6, 0x27F0),  # brackets
    *range(0x1D400, 0x1D7D0),  # italic and bold letters
]


def mathml(formula: str, display: str) -> str:
    """Return a formula of LaTeX as an element `math`, with its source beside it for those who hear it."""
    drawn = convert(formula, display=display)
    # A bar is a bracket more often than an operator, and browsers can't tell: no room on either side of it.
    drawn = re.sub(r"<mo([^>]*)>&#x0007C;</mo>", r'<mo\1 lspace="0.06em" rspace="0.06em">|</mo>', drawn)
    return drawn.replace("<math ", f'<math alttext="{html.escape(formula)}" ', 1)


def visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    number = f'<span class="eqno">({get_node_equation_number(translator, node)})</span>' if node["number"] else ""
    translator.body.append(f'<div class="math-block">{number}{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def write_font(app: Sphinx, error: Exception | None) -> None:
    """Write the font of formulas beside the built pages."""
    target = Path(app.outdir) / "_static" / FONT
    if error or app.builder.format != "html" or target.exists():
        return
    with importlib.resources.as_file(importlib.resources.files("ziamath") / "fonts") as fonts:
        font = TTFont(fonts / "STIXTwoMath-Regular.ttf")
    options = subset.Options(layout_features=["ssty", "dtls", "flac", "ccmp"], notdef_outline=True)
    few = subset.Subsetter(options)
    few.populate(unicodes=GLYPHS)
    few.subset(font)
    font.flavor = "woff"
    font.save(target)


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("build-finished", write_font)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
