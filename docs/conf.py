"""Sphinx's settings: MyST pages, the furo theme, formulas as MathML, nothing fetched while building or reading."""

from __future__ import annotations

import inspect

import click
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

import mdtree

project = "mdtree"
author = "the mdtree maintainers"
copyright = "the mdtree maintainers, MIT licence"
release = version = mdtree.__version__
language = "en"
smartquotes = False  # they make a dash of the two in --option

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["dollarmath", "attrs_block", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # generated pages begin their parts where they like

autodoc_typehints = "none"  # the types stand in the docstrings
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_custom_sections = [("Attributes", "params_style")]  # "x, y : float" names two
napoleon_use_rtype = False
default_role = "literal"

html_theme = "furo"
html_title = f"mdtree {release}"
html_favicon = "_static/mark.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
copybutton_prompt_text = "$ "

_log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, bool]:
    """Formulas are MathML, which browsers show by themselves; examples of commands are code."""
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.connect("sphinx-click-process-epilog", _examples)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _visit_inline(translator: HTML5Translator, node: nodes.math) -> None:
    translator.body.append(_mathml(node, block=False))
    raise nodes.SkipNode


def _visit_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math">{_mathml(node, block=True)}</div>')
    raise nodes.SkipNode


def _mathml(node: nodes.math | nodes.math_block, *, block: bool) -> str:
    try:
        return str(tex2mathml(node.astext(), as_block=block))
    except MathError as error:
        _log.warning("formula %r: %s", node.astext(), error, location=node)
        return f"<code>{nodes.Text(node.astext())}</code>"


def _examples(_app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """What stands below a command's help, as it stands there."""
    if context.command.epilog:
        text = inspect.cleandoc(context.command.epilog.replace("\b", ""))
        lines[:] = [".. code-block:: text", "", *(f"   {line}".rstrip() for line in text.splitlines()), ""]
