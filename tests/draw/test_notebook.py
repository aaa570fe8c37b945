"""Figures as a notebook keeps them: sharp, with words, and beside a slider the picture itself."""
import base64
import io

import IPython.display
import ipywidgets
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from minimaskformer import draw
from minimaskformer.draw import notebook


def curve(value=1, layout="compressed"):
    figure = plt.figure(figsize=(4, 2), dpi=70, layout=layout)
    ax = figure.subplots()
    ax.plot([0, value], label="loss")
    ax.set(title="a curve", xlabel="step", ylabel="loss")
    ax.legend()
    return figure


@pytest.fixture(autouse=True)
def nothing_open():
    yield
    plt.close("all")


def opened(bundle):
    kind = next(key for key in bundle if key.startswith("image/"))
    return kind, Image.open(io.BytesIO(base64.b64decode(bundle[kind]))).convert("RGB")


def test_a_figure_has_twice_the_pixels_of_its_place_on_the_page():
    bundle, metadata = notebook.picture_of(curve(), dpi=80)
    kind, picture = opened(bundle)
    assert picture.size == (640, 320) and (metadata[kind]["width"], metadata[kind]["height"]) == (320, 160)


def test_it_looks_as_matplotlib_saves_it():
    figure = curve()
    _, picture = opened(notebook.picture_of(figure, dpi=80)[0])
    figure.savefig(file := io.BytesIO(), dpi=160)
    assert np.abs(np.asarray(picture, float) - np.asarray(Image.open(file).convert("RGB"), float)).mean() < 1.5
    assert figure.dpi == 70


def test_without_a_layout_nothing_is_cut_off():
    figure = curve(layout=None)
    figure.text(1.1, 0.5, "far out")
    assert opened(notebook.picture_of(figure, dpi=80)[0])[1].width > 640


def test_curves_are_png_and_textures_jpeg():
    assert opened(notebook.picture_of(curve())[0])[0] == "image/png"
    figure, ax = plt.subplots(layout="compressed")
    ax.imshow(np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8))
    assert opened(notebook.picture_of(figure)[0])[0] == "image/jpeg"


def test_a_figure_with_a_layout_is_drawn_once(monkeypatch):
    drawn, real = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda self, renderer: (drawn.append(type(renderer)), real(self, renderer)))
    notebook.picture_of(curve())
    assert len(drawn) == 1


def test_words_for_those_who_do_not_see_it():
    bundle, metadata = notebook.picture_of(curve())
    assert bundle["text/plain"] == "Figure: a curve loss over step with loss" == metadata[next(iter(metadata))]["alt"]
    figure, axes = plt.subplots(1, 3)
    figure.suptitle("three")
    for ax, title in zip(axes, ("left", "right\nhand", "")):
        ax.set_title(title)
    assert notebook.alt_text(figure) == "Figure with 2 panels: three; left; right hand"
    assert notebook.alt_text(plt.figure()) == "Figure"


class Handle:
    def __init__(self):
        self.updates = []

    def update(self, bundle, raw, metadata=None):
        self.updates.append(bundle)


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: (object, handle) in order."""
    shown = []

    def display(thing, raw=False, metadata=None, display_id=None):
        shown.append((thing, Handle()))
        return shown[-1][1] if display_id else None
    monkeypatch.setattr(IPython.display, "display", display)
    return shown


def test_a_slider_leaves_a_picture_and_replaces_it(shown):
    asked = []

    def show(value):
        asked.append(value)
        print("value", value)
        return curve(value)
    draw.slider(show, "moved by", 6, 0, 20)
    (control, _), (picture, handle), (words, below) = shown
    assert isinstance(control, ipywidgets.IntSlider) and (control.value, control.min, control.max) == (6, 0, 20)
    assert control.continuous_update is False and control.description == "moved by" and asked == [6]
    assert opened(picture)[1].width > 500 and words == {"text/plain": "value 6"}
    control.value = 9
    assert asked == [6, 9] and len(handle.updates) == 1 and below.updates == [{"text/plain": "value 9"}]
    assert opened(handle.updates[0])[1].tobytes() != opened(picture)[1].tobytes() and plt.get_fignums() == []


def test_a_slider_of_numbers_that_are_not_whole(shown):
    draw.slider(curve, "threshold", 0.5, 0, 1, 0.05)
    assert isinstance(shown[0][0], ipywidgets.FloatSlider) and shown[0][0].step == 0.05


def test_several_controls_share_a_picture(shown):
    asked = []

    def show(row, run):
        asked.append((row, run))
        return curve(row)
    draw.controls(show, {"row": (4, 0, 31), "run": ("b", ["a", "b"])})
    (row, _), (run, _), (_, picture), _ = shown
    assert isinstance(row, ipywidgets.IntSlider) and isinstance(run, ipywidgets.Dropdown)
    row.value = 7
    run.value = "a"
    assert asked == [(4, "b"), (7, "b"), (7, "a")] and len(picture.updates) == 2


def test_what_a_slider_is_not_given(shown):
    with pytest.raises(ValueError, match="24 letters"):
        draw.slider(curve, "the number of the scene to show", 1, 0, 2)
    with pytest.raises(TypeError, match="returns its figure, not a NoneType"):
        draw.slider(lambda value: None, "scene", 1, 0, 2)


def test_outside_a_notebook_nothing_happens():
    assert draw.in_notebook() is None


def test_inside_one_every_figure_is_shown_so(monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell()
    monkeypatch.setattr(notebook, "running_shell", lambda: shell)
    monkeypatch.setattr(shell, "run_line_magic", lambda *arguments: None)
    draw.in_notebook(dpi=50)
    figure = curve()
    FigureCanvasAgg(figure)
    bundle, metadata = shell.display_formatter.format(figure)
    assert opened(bundle)[1].size == (400, 200) and [key for key in bundle if key.startswith("image/")] == ["image/png"]
    assert metadata["image/png"]["width"] == 200 and bundle["text/plain"].startswith("Figure: a curve")
