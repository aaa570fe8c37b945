"""Evaluation in parts: how the pictures are shared out, and that merged parts equal the whole."""
import json
import re
import sys
from types import SimpleNamespace

import pytest
import torch

from minimaskformer import Lakeland, PanopticQuality, build_model, panoptic_inference
from minimaskformer.evaluation import deciding_figure, evaluate, in_order, share
from minimaskformer.predict import Sizes, bilinear
from minimaskformer.targets import panoptic_to_semantic

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


def test_thresholds_reach_panoptic_inference_and_nothing_else(monkeypatch):
    """With predictions made up, so that each threshold decides something."""
    generator = torch.Generator().manual_seed(0)
    config = build_model("mini", short_side=64).config
    found = [(2 * torch.randn(12, 12, generator=generator), 3 * torch.randn(12, 16, 16, generator=generator),
              Sizes((64, 64), (64, 64))) for _ in range(3)]
    monkeypatch.setattr(evaluate_module, "run", lambda model, images: found)
    data, panoptic, others = Lakeland("val", 64, 0.5, 3), [], []
    for options in ({}, {"overlap_threshold": 0.05}, {"score_threshold": 0.3, "overlap_threshold": 0.05}):
        results = evaluate(SimpleNamespace(config=config), data, progress=False, **options)
        quality, thresholds = PanopticQuality(LAKELAND), {"score_threshold": 0.8, "overlap_threshold": 0.8} | options
        for (class_logits, mask_logits, size), (_, target) in zip(found, data):
            large = bilinear(mask_logits, size.picture)
            quality.update(panoptic_inference(class_logits, large, LAKELAND.things, **thresholds),
                           (target["segment_map"], target["segments_info"]))
        assert json.dumps(results["panoptic"]) == json.dumps(quality.compute())
        panoptic.append(json.dumps(results["panoptic"]))
        others.append(json.dumps([results["semantic"], results["instance"]]))
    assert len(set(panoptic)) == 3 and len(set(others)) == 1


def test_a_prediction_that_is_not_finite_names_its_picture():
    model = build_model("mini", short_side=64)
    data = Lakeland("val", 64, 0.5, 3)
    plain, seen = model.forward, []

    def second_is_nan(images):
        output = plain(images)
        output.class_logits[1] = float("nan")
        seen.append(len(images))
        return output
    model.forward = second_is_nan
    with pytest.raises(FloatingPointError, match=re.escape(f"prediction for {data.name(1)} is not finite")):
        evaluate(model, data, progress=False)
    assert seen == [3]


def test_the_score_of_the_best_checkpoint():
    from minimaskformer import ClassTable
    stuff = ClassTable(("a", "b"), (False, False), (1, 2))
    results = {"pq": 0.3, "miou": 0.6}
    assert deciding_figure(results, LAKELAND) == 0.3 and deciding_figure(results, stuff) == 0.6
    assert deciding_figure({"pq": float("nan")}, LAKELAND) == -1  # no nan wins


def test_void_has_no_class_and_a_limit_is_kept(monkeypatch):
    config = build_model("mini", short_side=64).config
    sky = LAKELAND.names.index("sky")
    class_logits, mask_logits = torch.full((2, 12), -9.0), torch.full((2, 16, 16), 9.0)
    class_logits[:, sky] = 9.0  # everything is sky
    monkeypatch.setattr(evaluate_module, "run", lambda model, images: [(class_logits, mask_logits, Sizes((64, 64), (64, 64)))] * len(images))

    class HalfVoid(Lakeland):
        def __getitem__(self, index):
            image, target = super().__getitem__(index)
            segment_map = target["segment_map"].clone()
            segment_map[32:] = 0
            kept = [s | {"area": int((segment_map == s["id"]).sum())} for s in target["segments_info"] if (segment_map == s["id"]).any()]
            return image, target | {"segment_map": segment_map, "segments_info": kept}
    half = HalfVoid("val", 64, 0.5, 5)
    results = evaluate(SimpleNamespace(config=config), half, progress=False, limit=2)
    is_sky = [panoptic_to_semantic(t["segment_map"], t["segments_info"])[:32] == sky for _, t in (half[0], half[2])]  # spread evenly
    assert results["images"] == 2 and results["semantic"]["iou"][sky] == pytest.approx(torch.stack(is_sky).float().mean().item())


def test_figures_come_back_in_the_order_of_the_data_set():
    from minimaskformer import ClassTable
    every, some = ClassTable(("a", "b", "c"), (True,) * 3, (1, 2, 3)), ClassTable(("c", "a"), (True,) * 2, (1, 2))
    figures = {"per_class": {"a": 1, "b": 2, "c": 3}}
    found = in_order({"semantic": {"iou": [0.1, 0.2, 0.3]}, "panoptic": figures, "instance": figures}, every, some)
    assert found["semantic"]["iou"] == [0.3, 0.1] and list(found["panoptic"]["per_class"].items()) == [("c", 3), ("a", 1)]
