"""Sphinx's settings for the static site; tools/build_site.py copies this file beside the pages as conf.py."""
import inspect
import os
import re

project = "minimaskformer"
copyright = "the minimaskformer authors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx.ext.mathjax"]
html_theme = "furo"  # dark and light, and made for a telephone's width too
html_title = "minimaskformer"
html_static_path = ["_static"]
html_css_files = ["course.css"]
html_show_sphinx = False
exclude_patterns = ["data/sample"]
suppress_warnings = ["myst.header", "misc.highlighting_failure", "mystnb.unknown_mime_type"]

nb_execution_mode = "off"  # the lessons as they were executed
nb_ipywidgets_js = {}  # would come from the network; the pictures beside the sliders are in the notebooks
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 3
mathjax_path = "mathjax/tex-svg-full.js"  # in _static: no network
mathjax3_config = {"tex": {"inlineMath": [["\\(", "\\)"]]}, "svg": {"fontCache": "global"}}

html_copy_source = False  # the notebooks themselves are in the repository

viewcode_follow_imported_members = False  # else a page of "builtins" would be linked, which is not made
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
autodoc_inherit_docstrings = False
autodoc_preserve_defaults = True
autodoc_typehints = "none"
os.environ.setdefault("OMP_NUM_THREADS", "1")


CODE_OR_STRESS = re.compile(r"(`[^`]+`|(?<![\w*])\*[A-Za-z][^*`\n]*[A-Za-z]\*(?!\w))")
DIAGRAM = re.compile(r"(?<=\n\n)( +\S.*\n(?:(?: .*)?\n)*)")  # indented after an empty line: formulas, tables, drawings


def as_restructured_text(app, what, name, obj, options, lines):
    """Our docstrings are plain text: `name` is code, *word* is stressed, indented paragraphs are kept as they are."""
    parts = DIAGRAM.split("\n".join(lines) + "\n")  # every second one is a diagram
    parts[1::2] = [f"::\n\n{part}\n" for part in parts[1::2]]
    parts[::2] = [escaped(part) for part in parts[::2]]
    lines[:] = "".join(parts).split("\n")


def escaped(text):
    """Text in which only code and stress keep their signs."""
    parts = CODE_OR_STRESS.split(text)  # every second one is code, or *stressed*
    parts[1::2] = [rf"\ `{part}`\ " if part[0] == "`" else part for part in parts[1::2]]
    parts[::2] = [re.sub(r"([\\*|_])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def leave_out(app, what, name, obj, skip, options):
    """What a parent wrote into our classes, and the fields of a NamedTuple, which stand in its signature."""
    foreign = inspect.isfunction(obj) and not obj.__module__.startswith("minimaskformer")
    return True if foreign or (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app):
    app.connect("autodoc-process-docstring", as_restructured_text)
    app.connect("autodoc-skip-member", leave_out)
