"""Verdicts on candidates by hand and by PQ's own counts, grids cell by cell, class maps as panoptic maps."""
import numpy as np
import pytest
import torch

from minimaskformer import ClassTable, PanopticQuality, panoptic_inference
from minimaskformer.studies.thresholds import judge_candidates, threshold_grid

CLASSES = ClassTable(("sheep", "duck", "grass"), (True, True, False), (1, 2, 3))


def queries(*rows):
    """(class, score, pixels of the mask out of 10) to logits; class 3 is no object."""
    class_logits = torch.full((len(rows), 4), -9.0)
    mask_logits = torch.full((len(rows), 1, 10), -4.0)
    for i, (c, score, pixels) in enumerate(rows):
        class_logits[i] = torch.tensor((1 - score) / 3).log()
        class_logits[i, c] = torch.tensor(score).log()
        mask_logits[i, 0, list(pixels)] = 3.0
    return class_logits, mask_logits


TRUTH = (torch.tensor([[1, 1, 1, 2, 2, 3, 3, 3, 0, 4]]),
         [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 0}, {"id": 3, "category_id": 2},
          {"id": 4, "category_id": 1, "iscrowd": 1}])


def test_every_verdict():
    rows = [(0, 0.95, range(3)), (0, 0.7, range(3)), (0, 0.75, (3, 4)), (2, 0.9, (5, 6, 7, 8)), (1, 0.6, (0, 1)),
            (1, 0.9, (9,)), (3, 0.9, range(10)), (2, 0.85, (3, 5, 6, 7))]
    judged = judge_candidates(*queries(*rows), TRUTH, CLASSES.things, score_threshold=0.8, overlap_threshold=0.8)
    assert [j.candidate.fate for j in judged] == ["segment", "score", "score", "segment", "score", "segment",
                                                  "no object", "overlap"]
    assert [j.verdict for j in judged] == ["found", "duplicate avoided", "missed", "found", "false alarm avoided",
                                           "false alarm", "", "false alarm avoided"]
    assert judged[3].iou == 1.0  # pixel 8 is void
    assert judged[5].iou == 0.0  # a crowd is no target
    assert judged[7].region.tolist() == [[False] * 3 + [True] + [False] * 6]  # what it won, not its mask


def test_a_segment_lost_to_the_overlap_test_is_missed():
    rows = [(0, 0.9, (0, 1, 2, 3)), (1, 0.95, (3,))]  # 3 of 4 pixels left, and right
    judged = judge_candidates(*queries(*rows), TRUTH, CLASSES.things, score_threshold=0.8, overlap_threshold=0.8)
    assert [j.verdict for j in judged] == ["missed", "false alarm"] and judged[0].iou == 1.0


@pytest.mark.parametrize("seed", range(6))
def test_found_and_false_alarms_are_the_counts_of_pq(seed):
    rng = np.random.default_rng(seed)
    truth = torch.tensor(rng.integers(1, 7, (4, 4)).repeat(4, 0).repeat(4, 1))
    info = [{"id": k, "category_id": (k - 1) % 3} for k in range(1, 7)]
    noise = torch.tensor(rng.normal(0, 1, (9, 16, 16)), dtype=torch.float32)
    mask_logits = torch.stack([4.0 * (truth == 1 + i % 6) - 2 for i in range(9)]) + noise
    class_logits = torch.tensor(rng.normal(0, 1, (9, 4)), dtype=torch.float32)
    class_logits[range(9), [i % 3 for i in range(9)]] += 3
    thresholds = {"score_threshold": 0.4, "overlap_threshold": 0.6}
    judged = judge_candidates(class_logits, mask_logits, (truth, info), CLASSES.things, **thresholds)
    pq = PanopticQuality(CLASSES)
    pq.update(panoptic_inference(class_logits, mask_logits, CLASSES.things, **thresholds), (truth, info))
    counts = pq.compute()["per_class"].values()
    assert sum(j.verdict == "found" for j in judged) == sum(c["tp"] for c in counts) > 0
    assert sum(j.verdict == "false alarm" for j in judged) == sum(c["fp"] for c in counts)


def test_grid_is_pq_cell_by_cell():
    predictions = [(*queries((0, 0.9, range(3)), (0, 0.7, (3, 4)), (2, 0.6, (4, 5, 6, 7))), TRUTH),
                   (*queries((2, 0.75, (5, 6, 7))), TRUTH)]
    grid = threshold_grid(predictions, CLASSES, (0.5, 0.8), (0.0, 0.5, 0.9))
    assert [len(row) for row in grid] == [3, 3]
    for score, row in zip((0.5, 0.8), grid):
        for overlap, cell in zip((0.0, 0.5, 0.9), row):
            pq = PanopticQuality(CLASSES)
            for c, m, truth in predictions:
                pq.update(panoptic_inference(c, m, CLASSES.things, score, overlap), truth)
            assert repr(cell) == repr(pq.compute())  # nan is not equal to itself
    assert len({row[0]["pq"] for row in grid}) == 2
