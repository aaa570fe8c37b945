"""Evaluation in parts: how the pictures are shared out, and that merged parts are the whole."""
import json
import sys

import pytest
import torch

from minimaskformer import Lakeland, build_model
from minimaskformer.evaluation import deciding_figure, evaluate, share

LAKELAND = Lakeland.classes
evaluate_module = sys.modules["minimaskformer.evaluation"]  # the package's attribute of that name is the function


def be_process(monkeypatch, rank, world_size):
    monkeypatch.setattr(evaluate_module, "rank", lambda: rank)
    monkeypatch.setattr(evaluate_module, "world_size", lambda: world_size)


@pytest.mark.parametrize("items, world", [(13, 4), (3, 8), (1, 2), (64, 64), (10, 3)])
def test_shares_are_consecutive_complete_and_even(monkeypatch, items, world):
    shares = []
    for rank in range(world):
        be_process(monkeypatch, rank, world)
        shares.append(list(share(range(items))))
    assert sum(shares, []) == list(range(items))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_merged_parts_are_the_whole_to_the_last_digit(monkeypatch):
    """Three processes, one after the other; the first merges what the others hand it."""
    torch.manual_seed(0)
    model = build_model("mini", dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=1, encoder_layers=0,
                        num_queries=12, short_side=64)
    with torch.no_grad():
        model.class_head.weight.mul_(40)  # sure of something
    data = Lakeland("val", 64, 0.5, 50)  # chunks of 16, 16, 16 and 2
    whole, parts = evaluate(model, data, progress=False), []
    for rank in (2, 1):
        be_process(monkeypatch, rank, 3)
        monkeypatch.setattr(evaluate_module, "gather", lambda metrics: parts.insert(0, metrics))
        assert evaluate(model, data, progress=False) is None
    be_process(monkeypatch, 0, 3)
    monkeypatch.setattr(evaluate_module, "gather", lambda metrics: [metrics, *parts])
    assert json.dumps(evaluate(model, data, progress=False)) == json.dumps(whole) and whole["images"] == 50
    assert whole["miou"] > 0 and whole["panoptic"]["per_class"]


def test_the_score_of_the_best_checkpoint():
    from minimaskformer import ClassTable
    stuff = ClassTable(("a", "b"), (False, False), (1, 2))
    results = {"pq": 0.3, "miou": 0.6}
    assert deciding_figure(results, LAKELAND) == 0.3 and deciding_figure(results, stuff) == 0.6
    assert deciding_figure({"pq": float("nan")}, LAKELAND) == -1  # no nan wins
