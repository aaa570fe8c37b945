"""The pictures of lesson 09, read back from the axes: names, numbers of pixels, dots of the curve, dots of the table."""
import matplotlib.pyplot as plt
import numpy as np
import pytest

from minimaskformer.data.classes import ClassTable
from minimaskformer.draw import metrics

CLASSES = ClassTable(("sky", "duck", "boat"), (False, True, True), (1, 2, 3))


@pytest.fixture
def ax():
    figure, ax = plt.subplots()
    yield ax
    plt.close(figure)


def test_cells_carry_name_and_number_of_pixels(ax):
    segment_map = np.array([[1, 1, 1, 1], [1, 7, 7, 0], [1, 1, 7, 0]])
    info = [{"id": 1, "category_id": 0}, {"id": 7, "category_id": 1}]
    metrics.draw_cells(ax, segment_map, info, CLASSES, ["s", "d"], nothing="void")
    texts = {t.get_text(): t.get_position() for t in ax.texts}
    assert set(texts) == {"s 7", "d 3", "void 2"}
    for text, value in (("s 7", 1), ("d 3", 7), ("void 2", 0)):  # each stands on its own segment
        x, y = texts[text]
        assert {segment_map[int(y), int(np.floor(x))], segment_map[int(y), int(np.ceil(x))]} == {value}
    with pytest.raises(ValueError, match="2 segments need as many names, got 1"):
        metrics.draw_cells(ax, segment_map, info, CLASSES, ["s"])


def test_the_curve_has_a_dot_per_prediction_filled_where_it_is_right(ax):
    metrics.draw_precision_recall(ax, [0.2, 0.9, 0.5], [True, True, False], 4, "ducks")
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in dots] == [(0.25, 1), (0.25, 0.5), (0.5, 2 / 3)]
    assert [line.get_markerfacecolor() == "white" for line in dots] == [False, True, False]
    assert [t.get_text() for t in ax.texts] == ["0.9", "0.5", "0.2"]
    assert ax.get_title() == f"ducks: AP {(26 + 25 * 2 / 3) / 101:.3f}"
    with pytest.raises(ValueError, match="as many scores as verdicts"):
        metrics.draw_precision_recall(ax, [], [], 4)


def test_the_table_has_stuff_first_and_a_dot_per_known_figure(ax):
    results = {"semantic": {"iou": [0.9, 0.6, np.nan]}, "instance": {"per_class": {"duck": 0.2, "boat": np.nan}},
               "panoptic": {"per_class": {"sky": {"pq": 0.8}, "duck": {"pq": 0.4}}}}
    metrics.draw_class_metrics(ax, results, CLASSES)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["sky", "duck", "boat"]
    dots = {(line.get_color(), line.get_ydata()[0]): line.get_xdata()[0] for line in ax.lines
            if line.get_marker() in "soD" and np.isfinite(line.get_xdata()[0])}
    iou, pq, ap = (metrics.CLASS_METRICS[name][0] for name in ("IoU", "PQ", "AP"))
    assert dots == {(iou, 0): 0.9, (pq, 0): 0.8, (iou, 1): 0.6, (pq, 1): 0.4, (ap, 1): 0.2}
