"""Runs side by side: what is drawn is what the logs say."""
import numpy as np
import pytest
from matplotlib.figure import Figure

from minimaskformer.draw import curves
from minimaskformer.draw.canvas import new_figure


def log(n=12, scale=1.0, evaluated=True):
    rows = [{"step": 10 * i, "loss": scale * 9 / i, "class": scale * 2 / i, "focal": 0.04 / i, "dice": 0.9 / i,
             "class_0": 3 / i, "focal_0": 0.05 / i, "dice_0": 1 / i} for i in range(1, n + 1)]
    return rows + [{"step": 10 * n, "pq": 0.391, "miou": 0.554}] * evaluated


def test_gallery_draws_weighted_terms_over_the_right_run():
    figure = Figure(layout="compressed")
    axes = curves.draw_gallery(figure, {"one": log(), "two": log(scale=2.0, evaluated=False), "three": log()}, log(), columns=2)
    assert [ax.get_title() for ax in axes] == ["one\nPQ 39, mIoU 55", "two\nnot evaluated", "three\nPQ 39, mIoU 55"]
    lines = {line.get_label(): line.get_ydata() for line in axes[1].lines if not line.get_label().startswith("_")}
    assert set(lines) == {"class", "20 focal", "dice"} and len(axes[1].lines) == 6
    grey = [line for line in axes[1].lines if line.get_label().startswith("_")]
    np.testing.assert_allclose(lines["class"], 2 * grey[0].get_ydata())
    assert lines["20 focal"].max() <= 0.8 and not figure.axes[3].axison
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["class", "20 focal", "dice"]
    for runs, message in (({}, "at least one run"), ({"x": [{"step": 1}]}, "no term 'class'")):
        with pytest.raises(ValueError, match=message):
            curves.draw_gallery(Figure(), runs, log())


def test_layers_are_totals():
    ax = curves.draw_layers(new_figure()[1], log(60))
    assert [line.get_label() for line in ax.lines] == ["layer 0", "last layer"]
    assert ax.lines[0].get_ydata()[-1] > ax.lines[1].get_ydata()[-1]
    assert ax.lines[1].get_ydata()[30] == pytest.approx((2 + 0.8 + 0.9) / 31, rel=0.01)
    with pytest.raises(ValueError, match="no auxiliary losses"):
        curves.draw_layers(new_figure()[1], [{"step": 1, "class": 1.0}])


def test_scores_are_shares():
    ax = curves.draw_scores(new_figure()[1], [5, 0, 0, 0, 0, 0, 0, 0, 0, 15])
    heights = [bar.get_height() for bar in ax.patches]
    assert heights[0] == 0.25 and heights[9] == 0.75 and sum(heights) == 1
    with pytest.raises(ValueError, match="ten counts"):
        curves.draw_scores(new_figure()[1], [1, 2])
