"""Cost matrices, curves and the picture of a matching: what is drawn is what was given."""
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from minimaskformer import draw
from minimaskformer.data.classes import ClassTable
from minimaskformer.draw.curves import read_curve, smooth
from minimaskformer.draw.matching import nearest
from minimaskformer.draw.palette import instance_colors

CLASSES = ClassTable(("grass", "sheep"), (False, True), (4, 8))
COST = np.array([[1.0, 2.5, 4.0], [0.25, 3.0, 9.0]])


def test_cost_matrix_shows_every_number_and_outlines_the_match():
    ax = draw.draw_cost(None, torch.from_numpy(COST), (torch.tensor([0, 1]), torch.tensor([2, 0])))
    assert [text.get_text() for text in ax.texts] == ["1.00", "2.50", "4.00", "0.25", "3.00", "9.00"]
    assert [text.get_position() for text in ax.texts] == [(x, y) for y in range(2) for x in range(3)]
    cells = [(patch.get_x() + 0.45, patch.get_y() + 0.45) for patch in ax.patches]
    assert np.allclose(cells, [(2, 0), (0, 1)])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["query 0", "query 1"]
    assert ax.texts[5].get_color() == "white" and ax.texts[3].get_color() != "white"  # dark cell, light cell
    ax = draw.draw_cost(None, [[1, np.inf], [np.nan, 2]], row_names="ab", col_names=["x", "y"], decimals=0)
    assert [text.get_text() for text in ax.texts] == ["1", "inf", "nan", "2"]
    FigureCanvasAgg(ax.figure).draw()
    assert len(draw.draw_cost(None, np.ones((100, 21))).texts) == 0  # too many to read


def test_numbers_stand_apart_from_their_cells():
    ax = draw.draw_cost(None, np.linspace(0, 1, 30).reshape(5, 6))
    for text, value in zip(ax.texts, np.linspace(0, 1, 30)):
        cell = np.array(ax.images[0].to_rgba(value)[:3]) @ [0.2126, 0.7152, 0.0722]
        assert abs(np.dot(to_rgb(text.get_color()), [0.2126, 0.7152, 0.0722]) - cell) > 0.35


@pytest.mark.parametrize("options, words", [
    (dict(cost=COST[0]), r"\[N, T\], got shape \[3\]"), (dict(row_names=["a"]), "2 row names"),
    (dict(match=([0, 1], [0])), "equal length, got 2 queries, 1 targets"),
    (dict(match=([0, 2], [0, 1])), r"2 queries and 3 targets cannot hold queries \[0, 2\]")])
def test_wrong_cost_input(options, words):
    with pytest.raises(ValueError, match=words):
        draw.draw_cost(None, **{"cost": COST, **options})


def test_curves_of_a_log(tmp_path):
    rows = [{"step": s, "loss": 4.0 / (s + 1), "class": 1.0, "focal": 0.1, "dice": 0.5, "lr": 1e-4, "seconds": 1.0}
            for s in range(10)] + [{"step": 9, "pq": 0.5, "pq_things": 0.4, "pq_stuff": 0.6, "miou": 0.7}]
    rows = [json.loads(json.dumps(row)) for row in rows]
    figure = draw.draw_curves(rows, tmp_path / "runs" / "curves.png")
    assert (tmp_path / "runs" / "curves.png").read_bytes()[:4] == b"\x89PNG" and plt.get_fignums() == []
    losses, metrics, rate = figure.axes
    assert losses.get_yscale() == "log"
    assert [line.get_label() for line in losses.lines] == ["loss", "class", "focal", "dice"]
    assert np.allclose(losses.lines[0].get_ydata(), [4.0 / (s + 1) for s in range(10)])
    assert [line.get_label() for line in metrics.lines] == ["PQ", "PQ things", "PQ stuff", "mIoU"]
    assert np.allclose(rate.lines[0].get_ydata(), 1e-4)
    assert len(draw.draw_curves([{"step": 0, "loss": 1.0}]).axes) == 1  # what the log lacks is not drawn
    for empty in ([], [{"loss": 1.0}], [{"step": 1, "seconds": 3}]):
        with pytest.raises(ValueError, match="no curves to draw"):
            draw.draw_curves(empty)


def test_after_a_resume_the_later_row_counts():
    steps, values = read_curve([{"step": s, "loss": v} for s, v in ((0, 9), (2, 8), (1, 7), (2, 3))] + [{"loss": 1}], "loss")
    assert steps.tolist() == [0, 1, 2] and values.tolist() == [9, 7, 3]


def test_smoothing_is_a_mean_of_what_is_finite():
    values = np.random.default_rng(0).random(200)
    values[17] = np.nan
    smoothed = smooth(values)
    assert np.isclose(smoothed[100], values[95:106].mean()) and np.isclose(smoothed[0], values[:6].mean())
    assert np.isclose(smoothed[15], np.delete(values, 17)[10:20].mean())
    assert np.isnan(smooth(np.full(50, np.inf))).all()


def scene():
    image = np.full((40, 60, 3), 128, np.uint8)
    masks = torch.zeros(3, 40, 60, dtype=torch.bool)
    masks[0, 20:], masks[1, 5:15, 5:20], masks[2, 5:15, 30:50] = True, True, True
    return image, {"labels": torch.tensor([0, 1, 1]), "masks": masks}


def test_matching_joins_the_pairs_in_their_colors():
    image, target = scene()
    probs = torch.zeros(6, 10, 15)
    probs[4, 5:], probs[5, :3] = 0.9, 0.9
    match = (torch.tensor([1, 4, 5]), torch.tensor([2, 0, 1]))
    figure = draw.draw_matching(Figure(figsize=(7.5, 4)), image, probs, target, match, CLASSES, max_queries=5,
                                cost=torch.arange(18.0).reshape(6, 3))
    FigureCanvasAgg(figure).draw()
    scene_ax, left, right = figure.axes[0], figure.axes[1:6], figure.axes[6:]
    assert [ax.get_ylabel() for ax in left] == ["query 0\nleft over", "query 1\ncost 5.00", "query 2\nleft over",
                                               "query 4\ncost 12.00", "query 5\ncost 16.00"]
    assert [ax.texts[0].get_text() for ax in right] == ["grass", "sheep 1", "sheep 2"]
    assert {text.get_text() for text in scene_ax.texts} == {"grass", "sheep 1", "sheep 2"}
    shown = left[3].images[0].get_array()[-5, 5] / 255  # query 4 at 0.9, over a grey picture
    assert np.abs(shown - instance_colors([0], CLASSES)[0]).max() < 0.15
    shown = left[4].images[0].get_array()[5, 5] / 255
    assert np.abs(shown - instance_colors([1], CLASSES)[0]).max() < 0.15
    assert np.ptp(left[0].images[0].get_array()[-5, 5]) == 0
    colors, lines = instance_colors([0, 1, 1], CLASSES), [a for a in figure.artists if isinstance(a, Line2D)]
    assert len(lines) == 3
    middle = [[(ax.get_position().y0 + ax.get_position().y1) / 2 for ax in column] for column in (left, right)]
    for line, (q, t) in zip(lines, ((1, 2), (3, 0), (4, 1))):  # rows of the two columns
        assert np.allclose(line.get_ydata(), [middle[0][q], middle[1][t]]) and np.allclose(line.get_color(), colors[t])
    spots = [ax.get_position() for ax in figure.axes]
    assert not any(a.overlaps(b) for i, a in enumerate(spots) for b in spots[:i])
    assert all(0 <= s.x0 and s.x1 <= 1 and 0 <= s.y0 and s.y1 <= 1 for s in spots)
    assert plt.get_fignums() == []


def test_matching_in_part_of_a_figure_and_without_targets():
    image, target = scene()
    part = Figure(figsize=(7.5, 8)).subfigures(2, 1)[0]
    draw.draw_matching(part, image, torch.zeros(6, 40, 60), target, ([0, 1, 2], [2, 0, 1]), CLASSES, max_queries=2)
    assert len(part.axes) == 5 and [ax.texts[0].get_text() for ax in part.axes[3:]] == ["grass", "sheep 2"]
    heights = [ax.get_position().y0 for ax in part.axes[3:]]
    ends = [line.get_ydata()[1] for line in part.artists]
    assert len(ends) == 2 and heights[0] < ends[1] and heights[1] < ends[0] < heights[0]  # query 0 goes to sheep 2
    FigureCanvasAgg(part.figure).draw()
    nothing = {"labels": target["labels"][:0], "masks": target["masks"][:0]}
    figure = draw.draw_matching(Figure(), image, torch.zeros(3, 10, 15), nothing, ([], []), CLASSES)
    assert len(figure.axes) == 4 and not figure.artists


def test_nearest_keeps_blocks():
    small = np.arange(6.0).reshape(2, 3)
    assert np.array_equal(nearest(small, (4, 6, 3)), small.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("change, words", [
    (dict(mask_probs=torch.full((6, 10, 15), 4.0)), "sigmoid"),
    (dict(mask_probs=torch.zeros(10, 15)), r"\[N, h, w\]"),
    (dict(image=np.zeros((40, 61, 3), np.uint8)), "picture of 40 x 61"),
    (dict(match=([9], [0])), "6 queries and 3 targets cannot hold"),
    (dict(target={"labels": torch.tensor([0, 1, 2]), "masks": scene()[1]["masks"]}), r"labels \[2\] are outside"),
    (dict(target={"labels": torch.tensor([0, 1]), "masks": scene()[1]["masks"]}), "2 labels")])
def test_wrong_matching_input(change, words):
    image, target = scene()
    right = dict(image=image, mask_probs=torch.zeros(6, 10, 15), target=target, match=([0, 1], [0, 1]), classes=CLASSES)
    with pytest.raises(ValueError, match=words):
        draw.draw_matching(Figure(), **{**right, **change})
