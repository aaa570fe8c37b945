"""Pictures of inference say what they show: every candidate once, its numbers and verdict, the grid's figures."""
import pytest
import torch
from matplotlib.figure import Figure
from studies.test_thresholds import CLASSES, TRUTH, queries

from minimaskformer import general_inference
from minimaskformer.draw import candidates
from minimaskformer.studies.thresholds import VERDICTS, judge_candidates, tally, threshold_grid

ROWS = [(0, 0.95, range(3)), (0, 0.7, range(3)), (0, 0.75, (3, 4)), (2, 0.9, (5, 6, 7, 8)), (1, 0.6, (0, 1)),
        (1, 0.9, (9,)), (3, 0.9, range(10)), (2, 0.85, (3, 5, 6, 7))]
THRESHOLDS = {"score_threshold": 0.8, "overlap_threshold": 0.8}


def judged(rows):
    return judge_candidates(*queries(*rows), TRUTH, CLASSES.things, **THRESHOLDS)


def image():
    return torch.full((3, 1, 10), 120, dtype=torch.uint8)


@pytest.mark.parametrize("columns", (1, 2, 10))
def test_every_candidate_once_with_its_fate(columns):
    figure = candidates.draw_candidates(Figure(figsize=(10, 3)), image(), judged(ROWS), CLASSES, columns)
    shown = {ax.get_title(): ax.get_xlabel() for ax in figure.axes if ax.get_title()}
    assert list(shown) == ["0: sheep 0.95", "3: grass 0.90", "5: duck 0.90", "1: sheep 0.70", "2: sheep 0.75",
                           "4: duck 0.60", "7: grass 0.85"]
    assert shown["0: sheep 0.95"] == "4/3 = 1.33\nfound" and shown["5: duck 0.90"].endswith("\nfalse alarm")
    assert shown["1: sheep 0.70"] == "mask: 3\nduplicate" and shown["2: sheep 0.75"] == "mask: 2\nMISSED"
    assert shown["7: grass 0.85"] == "1/4 = 0.25\nrightly removed"
    figure.draw_without_rendering()


def test_rows_without_candidates_say_so():
    figure = candidates.draw_candidates(Figure(figsize=(10, 3)), image(), judged([(3, 0.9, range(10))]), CLASSES)
    assert [t.get_text() for ax in figure.axes for t in ax.texts].count("none") == 3


def test_grid_shows_its_numbers_and_marks_one_cell():
    predictions = [(*queries(*ROWS), TRUTH)]
    grid = threshold_grid(predictions, CLASSES, (0.5, 0.8), (0.0, 0.8, 0.9))
    axes = Figure().subplots(1, 3)
    candidates.draw_grid(axes, grid, (0.5, 0.8), (0.0, 0.8, 0.9), mark=(0.8, 0.9))
    for ax, name in zip(axes, ("pq", "sq", "rq")):
        texts = {t.get_position(): t.get_text() for t in ax.texts}
        assert texts == {(j, i): f"{100 * grid[i][j][name]:.1f}" for i in range(2) for j in range(3)}
        assert ax.lines[0].get_xdata().mean() > 1.5 and ax.lines[0].get_ydata().min() == 0.5
    candidates.draw_grid(axes, grid, (0.5, 0.8), (0.0, 0.8, 0.9), mark=(0.7, 0.9))  # not in the grid: no frame


def test_winners_are_segments_per_query():
    query_map, class_map = general_inference(*queries(*ROWS))
    segment_map, info = candidates.winners(query_map, class_map, CLASSES)
    assert (segment_map == query_map.numpy() + 1).all() and {s["id"] - 1 for s in info} == set(query_map.unique().tolist())
    assert all((class_map[query_map == s["id"] - 1] == s["category_id"]).all() for s in info)
    assert candidates.winners(torch.full((2, 3), -1), torch.full((2, 3), -1), CLASSES)[1] == []


def test_tally_counts_fates_and_verdicts():
    table = tally(judged(ROWS) * 2)
    assert table["segment"] == dict.fromkeys(VERDICTS, 0) | {"found": 4, "false alarm": 2}
    assert table["score"] == dict.fromkeys(VERDICTS, 0) | {"missed": 2, "duplicate avoided": 2, "false alarm avoided": 2}
    assert table["overlap"]["false alarm avoided"] == 2
