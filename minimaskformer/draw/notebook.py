"""Figures in a notebook: twice the pixels, with words for those who do not see them; and a slider whose picture stays.

`interact` keeps no picture in the file, and draws every figure twice. Here the picture is an output of its own, which
a slider replaces: a reader who runs nothing sees it.
"""
import base64
import contextlib
import io
import sys

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from .canvas import find_letters

SHARPNESS = 2  # pixels of the file for one of the page, as today's screens have
QUALITY = 30  # of JPEGs: at twice the pixels as good as 60
PAGE = 880  # pixels: a cell of JupyterLab beside its list of files, in a window of 1280


def in_notebook(dpi=90, sharpness=SHARPNESS):
    """Show figures in a notebook at twice the pixels, in whichever of PNG and JPEG is smaller: call once, at the top.

    dpi: pixels of the page for an inch. sharpness: pixels of the file for one of the page; less where many pictures
    would make the notebook large. Outside a notebook nothing happens.
    """
    shell = running_shell()
    if shell is None:
        return
    from IPython.core.pylabtools import select_figure_formats
    shell.run_line_magic("matplotlib", "inline")
    select_figure_formats(shell, set())
    shell.display_formatter.mimebundle_formatter.for_type(
        Figure, lambda figure, **_: picture_of(figure, dpi, sharpness))


def running_shell():
    """IPython's shell of this notebook, or None outside one."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if hasattr(shell, "kernel") else None


def slider(show, label, value, low, high, step=None):
    """Show the figure of `show(value)`, and a slider above it that shows another; both numbers or whole numbers.

    What `show` prints stands below its picture. While the slider is moved nothing is drawn, when it is let go one
    picture is. Outside a notebook only the figure is shown. Raises ValueError for a label of more than 24 letters, and
    TypeError if `show` returns no figure.
    """
    controls(show, {label: (value, low, high, step)})


def controls(show, choices):
    """`slider` with several: {label: (value, low, high) or (..., step)}, or {label: (value, [its options])} for a menu.

    `show` gets their values in this order.
    """
    from IPython.display import display
    made = [control(label, *choice) for label, choice in choices.items()]
    values = [widget.value for widget in made]
    for widget in made:
        display(widget)
    (bundle, metadata), words = drawn(show, values)
    picture = display(bundle, raw=True, metadata=metadata, display_id=True)
    below = display({"text/plain": words}, raw=True, display_id=True)
    shown = [words]

    def move(change):
        (bundle, metadata), words = drawn(show, [widget.value for widget in made])
        picture.update(bundle, raw=True, metadata=metadata)
        if words != shown[0]:
            below.update({"text/plain": words}, raw=True)
            shown[0] = words
    for widget in made:
        widget.observe(move, names="value")


def control(label, value, low, high=None, step=None):
    """The slider from low to high, or the menu of the options in `low`."""
    from ipywidgets import Dropdown, FloatSlider, IntSlider
    if len(label) > 24:
        raise ValueError(f"the label of a slider has room for 24 letters, {label!r} has {len(label)}")
    look = {"description": label, "style": {"description_width": "initial"}, "layout": {"width": "28em"}}
    if high is None:
        return Dropdown(value=value, options=low, **look)
    whole = all(isinstance(number, int) for number in (value, low, high, step or 1))
    step = step or (1 if whole else (high - low) / 100)
    make = IntSlider if whole else FloatSlider
    return make(value=value, min=low, max=high, step=step, continuous_update=False, **look)


def drawn(show, values):
    """((MIME bundle, metadata), what was printed) of `show(*values)`; the figure is closed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        figure = show(*values)
    if not isinstance(figure, Figure):
        raise TypeError(f"the function of a slider returns its figure, not a {type(figure).__name__}")
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close(figure)  # else it would be shown once more at the end of the cell
    return picture_of(figure), printed.getvalue().rstrip()


def picture_of(figure, dpi=90, sharpness=SHARPNESS):
    """(MIME bundle, metadata) of a figure: PNG with a table of colours or JPEG, and its words."""
    find_letters(figure.findobj(Text))
    dpi = min(dpi, PAGE / figure.get_size_inches()[0])  # what is wider would be shrunk by the browser, unevenly
    picture = drawn_once(figure, dpi * sharpness)
    kind, data = smaller(picture)
    words = alt_text(figure)
    size = {"width": int(picture.width / sharpness), "height": int(picture.height / sharpness)}
    return {kind: base64.b64encode(data).decode(), "text/plain": words}, {kind: {**size, "alt": words}}


def drawn_once(figure, dpi):
    """A figure as a Pillow picture. `savefig` would draw one with a layout twice, to find its margins."""
    if figure.get_layout_engine() is None:  # what stands outside the figure needs the room that savefig finds
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.04)
        return Image.open(file).convert("RGB")
    before, canvas = figure.dpi, FigureCanvasAgg(figure)
    try:
        figure.set_dpi(dpi)
        canvas.draw()
        return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    finally:
        figure.set_dpi(before)


def smaller(picture):
    """("image/png" or "image/jpeg", bytes) of a picture: the shorter one; few colours, as in a curve, suit PNG."""
    as_jpeg, as_png = io.BytesIO(), io.BytesIO()
    picture.save(as_jpeg, "jpeg", quality=QUALITY, optimize=True)
    if len(picture.resize((max(1, picture.width // 4), max(1, picture.height // 4)), 0).getcolors(10**7)) < 2000:
        picture.quantize(256, dither=Image.Dither.NONE).save(as_png, "png", optimize=True)
    files = [("image/jpeg", as_jpeg.getvalue()), ("image/png", as_png.getvalue())]
    return min((file for file in files if file[1]), key=lambda file: len(file[1]))


def alt_text(figure):
    """What a figure shows, in words: its title, and of each panel the title, the axes and the legend."""
    panels = [words for ax in figure.axes if (words := panel_text(ax))]
    title = figure.get_suptitle()
    head = f"Figure with {len(panels)} panels: " if len(panels) > 1 else "Figure: "
    return " ".join((head + "; ".join(filter(None, [title, *panels]))).split()) if title or panels else "Figure"


def panel_text(ax):
    """The words of one pair of axes."""
    parts = [ax.get_title() or ax.get_title("left")]
    if ax.get_xlabel() or ax.get_ylabel():
        parts.append(f"{ax.get_ylabel() or 'values'} over {ax.get_xlabel() or 'numbers'}")
    if ax.get_legend():
        parts.append("with " + ", ".join(text.get_text() for text in ax.get_legend().get_texts()))
    return " ".join(filter(None, parts))
