"""Inference rules measured against the truth: what each removed candidate was worth, and thresholds swept (lesson 08).

The model runs once per scene; only the reading out is repeated.
"""
from dataclasses import dataclass

import torch

from ..inference import Candidate, panoptic_candidates, panoptic_inference
from ..metrics import PanopticQuality

VERDICTS = ("found", "false alarm", "false alarm avoided", "duplicate avoided", "missed")


@dataclass(frozen=True)
class Judged:
    """A candidate, the pixels it stands for, and what the truth says about its fate."""
    candidate: Candidate
    region: torch.Tensor  # bool [H, W]
    mask: torch.Tensor  # bool [H, W]: its own mask, m_i >= 0.5
    iou: float  # with the best true segment of its class
    verdict: str  # one of VERDICTS; "" for "no object" and for stuff merged into an earlier segment


@torch.no_grad()
def judge_candidates(class_logits, mask_logits, truth, things, **thresholds):
    """What panoptic inference did with every query, and whether that was right: a list of N `Judged`.

    truth: (segment_map [H, W], segments_info). A candidate is right if its pixels have IoU > 0.5 with a true segment of
    its class, as in PQ (void left out, crowds not targets). Its pixels are its segment if it was kept, the pixels it
    had won if the overlap test removed it, and its own mask if it is below the score threshold. A removed candidate
    that is right was "missed", or is a "duplicate avoided" if a kept segment has that true segment already.
    """
    candidates = panoptic_candidates(class_logits, mask_logits, things, **thresholds)
    segment_map, _ = panoptic_inference(class_logits, mask_logits, things, **thresholds)
    # without overlap test and merging, every query that competed has a segment of its own: the pixels it won
    every, free = range(class_logits.shape[1] - 1), thresholds | {"overlap_threshold": 0.0}
    won_map, _ = panoptic_inference(class_logits, mask_logits, every, **free)
    won_ids = [c.segment_id for c in panoptic_candidates(class_logits, mask_logits, every, **free)]
    regions, masks, matches = [], [], []
    for c in candidates:
        masks.append(mask_logits[c.query].float().sigmoid() >= 0.5)
        if c.segment_id:
            regions.append(segment_map == c.segment_id)
        elif c.fate == "overlap":
            regions.append((won_map == won_ids[c.query]) & (won_map > 0))
        else:
            regions.append(masks[-1])
        matches.append(best_match(regions[-1], c.category_id, *truth))
    found = {segment for c, (segment, iou) in zip(candidates, matches) if c.fate == "segment" and iou > 0.5}
    return [Judged(c, region, mask, iou, verdict(c.fate, iou > 0.5, segment in found))
            for c, region, mask, (segment, iou) in zip(candidates, regions, masks, matches)]


def verdict(fate, right, already_found):
    """One of VERDICTS, "" where there is nothing to judge."""
    if fate in ("no object", "merged"):
        return ""
    if fate == "segment":
        return "found" if right else "false alarm"
    return "false alarm avoided" if not right else "duplicate avoided" if already_found else "missed"


def best_match(region, category_id, segment_map, segments_info):
    """(id of the true segment of this class with the largest IoU, that IoU); (0, 0.0) if there is none."""
    best, void = (0, 0.0), segment_map == 0
    for s in segments_info:
        if s["category_id"] == category_id and not s.get("iscrowd", 0):
            true = segment_map == s["id"]
            union = ((region & ~void) | true).sum()
            iou = float((region & true).sum() / union) if union else 0.0
            best = max(best, (s["id"], iou), key=lambda pair: pair[1])
    return best


def threshold_grid(predictions, classes, score_thresholds, overlap_thresholds):
    """PQ's `compute()` for every pair of thresholds: a nested list [score][overlap].

    predictions: a list of (class_logits [N, K+1], mask_logits [N, H, W], truth), truth = (segment_map, segments_info).
    """
    grid = []
    for score_threshold in score_thresholds:
        row = [PanopticQuality(classes) for _ in overlap_thresholds]
        for class_logits, mask_logits, truth in predictions:
            for metric, overlap_threshold in zip(row, overlap_thresholds):
                metric.update(panoptic_inference(class_logits, mask_logits, classes.things, score_threshold,
                                                 overlap_threshold), truth)
        grid.append([metric.compute() for metric in row])
    return grid


def tally(judged):
    """How often each fate met each verdict: {fate: {verdict: count}}, over any number of scenes."""
    table = {fate: dict.fromkeys(VERDICTS, 0) for fate in ("segment", "score", "overlap")}
    for j in judged:
        if j.verdict:
            table[j.candidate.fate][j.verdict] += 1
    return table
