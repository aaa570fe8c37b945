"""Diagnosis: the shipped model broken on purpose, one way at a time, must be named; whole, it must not."""
import json
import re
from dataclasses import replace

import pytest
import torch

from minimaskformer.data.classes import ClassTable
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.diagnosis.measurements import VoidCount, agreement, measure, twins
from minimaskformer.diagnosis.run import CAUSES, diagnose, read_run, report
from minimaskformer.weights.checkpoint import load_checkpoint

DATA = Lakeland("val", 128, 0.5, 24)


def causes(evidence, rows=()):
    return [finding.cause for finding in diagnose(list(rows), evidence)]


def broken(change=lambda model: None, after=None):
    """The shipped model with a change of its weights, or of its output."""
    model = load_checkpoint("mini").eval()
    with torch.no_grad():
        change(model)
    if after:
        model.forward = lambda *args, inner=model.forward: after(inner(*args))
    return measure(model, DATA, 16)


def healthy_rows(n=40):
    return [{"step": 10 * i, "loss": 12 * 0.95 ** i + 1.5, "class": 2 * 0.95 ** i + 0.2, "class_0": 1.0, "focal": 0.01,
             "dice": 0.3} for i in range(1, n)]


def test_a_whole_model_has_nothing():
    evidence = broken()
    assert causes(evidence, healthy_rows()) == [] and evidence["classes_at_shift"]["0"] > 8
    assert evidence["images"] == 16 and evidence["targets_per_image"] > 5
    assert sum(evidence["score_histogram"]) == 16 * 32
    assert json.loads(json.dumps(evidence)) == evidence
    assert "None of the usual causes" in report([], evidence)


def roll_classes(model):
    for tensor in (model.class_head.weight, model.class_head.bias):
        tensor[:-1] = tensor[:-1].roll(1, 0).clone()


def all_nothing(model):
    model.class_head.bias[-1] += 12


def unsure(model):
    model.class_head.weight *= 0.25
    model.class_head.bias *= 0.25


def doubled(model):
    weight = model.decoder.query_positions.weight
    weight[16:] = weight[:16].clone()


def one_query(model):
    weight = model.decoder.query_positions.weight
    weight[:] = weight.mean(0) + 0.01 * weight


def mirrored(output):
    return output._replace(mask_logits=torch.maximum(output.mask_logits, output.mask_logits.flip(-1)))


@pytest.mark.parametrize("change, after, cause, number", [
    (roll_classes, None, "labels shifted by one", r"moved by -1"),
    (all_nothing, None, "nearly everything is predicted as no object", r"\d\.\d queries an image"),
    (unsure, None, "score threshold too high for this model", r"PQ is \d+\.\d with the score threshold at 0\.8"),
    (doubled, None, "duplicate queries", r"\d+% of the object queries"),
    (one_query, None, "the queries are all alike", r"differ by [0-4]\.\d% of their length"),
    (None, lambda output: output._replace(mask_logits=output.mask_logits.sigmoid()), "sigmoid applied twice",
     r"between 0\.\d\d and (0|1)\.\d\d"),
    (None, mirrored, "masks not moved with the flip", r"agree with \d+% of the truth")])
def test_each_break_is_named_with_its_number(change, after, cause, number):
    evidence = broken(change or (lambda model: None), after)
    rows = [dict(row, focal=0.2) for row in healthy_rows()] if after is mirrored else healthy_rows()
    findings = {finding.cause: finding for finding in diagnose(rows, evidence)}
    assert cause in findings
    assert re.search(number, findings[cause].shown_by), findings[cause].shown_by
    assert findings[cause].remedy and findings[cause].shown_by in report(list(findings.values()), evidence)


def test_logs():
    rows = healthy_rows()
    assert causes(None, rows) == []
    assert causes(None, [{k: v for k, v in row.items() if k != "class_0"} for row in rows]) == ["no auxiliary losses"]
    jump = rows + [dict(row, loss=9.0) for row in rows[-8:]]
    assert causes(None, jump) == ["learning rate too large"]
    flat = [dict(row, loss=11.5, **{"class": 2.4}) for row in rows]
    assert causes(None, flat) == ["learning rate too large"]
    assert not diagnose(flat, None, {"train": {"warmup": 200}})  # a fifth of the run, step 80, is inside the warm-up
    assert causes(None, [*rows, {"step": 500, "loss": float("nan"), "class_0": 1.0}])[0] == "the loss is not finite"


def test_no_object_weight():
    evidence = broken() | {"objects_per_image": 7.8, "targets_per_image": 9.7}
    for weight, named in ((1.0, True), (0.1, False)):
        found = diagnose(healthy_rows(), evidence, {"train": {"no_object_weight": weight}})
        assert [finding.cause for finding in found] == ["no-object weight too high"] * named


def test_more_segments_than_queries_are_no_missing_objects():
    """When every query sees an object and there are still more segments, training longer would not help."""
    model = load_checkpoint("mini").eval()
    with torch.no_grad():
        keep = model.decoder.query_positions.weight[:2].clone()
        model.decoder.query_positions.weight = torch.nn.Parameter(keep)
        model.class_head.bias[-1] -= 12  # whatever they see, they see something
    model.config = replace(model.config, num_queries=2)
    evidence = measure(model, DATA, 8)
    assert evidence["objects_per_image"] == 2 and evidence["queries"] == 2 and evidence["targets_per_image"] > 2 / 0.35
    assert evidence["segments_left_over"] == 8 * (evidence["targets_per_image"] - 2)
    found = {finding.cause: finding for finding in diagnose(healthy_rows(), evidence)}
    assert "more segments than queries" in found and "nearly everything is predicted as no object" not in found
    assert "2 queries" in found["more segments than queries"].shown_by
    assert "--queries" in found["more segments than queries"].remedy
    evidence["objects_per_image"] = 0.5  # and if they see nothing, that is said too
    assert "nearly everything is predicted as no object" in causes(evidence, healthy_rows())


def test_mirrored_masks_need_both_signs():
    evidence = broken(after=mirrored)
    assert causes(evidence, healthy_rows()) == []  # its own training data would be as hard
    assert causes(broken(), [dict(row, focal=0.05) for row in healthy_rows()]) == []  # left and right are told apart
    rows = [dict(row, focal=0.2) for row in healthy_rows()]
    assert causes(evidence, rows) == ["masks not moved with the flip"]
    assert causes(evidence, rows[:6]) == []  # too short to say
    assert causes(evidence, [dict(row, focal=10 * 0.9 ** i) for i, row in enumerate(rows)]) == []  # falling


def test_data_of_things_alone_have_no_void_to_ask_about():
    class Things:  # as COCO instances: the rest of the picture is 0 in the map
        classes = ClassTable(DATA.classes.names, (True,) * len(DATA.classes), DATA.classes.ids)
        __len__, __getitem__ = DATA.__len__, DATA.__getitem__
    model = load_checkpoint("mini").eval()
    assert measure(model, Things(), 16)["void"] is None and measure(model, DATA, 16)["void"] is not None


def test_twins_against_a_loop():
    generator = torch.Generator().manual_seed(0)
    masks = torch.randn(12, 6, 7, generator=generator)
    masks[5], masks[9], masks[11] = masks[2] + 0.1, masks[2] - 0.1, masks[7]
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 2, 1, 0])  # 5 and 9 are 2's class, 11 is not 7's
    count = 0
    for i in range(12):
        for j in range(i):
            a, b = masks[i] > 0, masks[j] > 0
            if labels[i] == labels[j] and (a & b).sum() / (a | b).sum() > 0.5:
                count += 1
                break
    assert twins(masks, labels) == count and count >= 2
    assert twins(masks[:0], labels[:0]) == 0


def test_agreement_and_void():
    assert agreement(torch.tensor([[1, 2, 1], [1, 1, 2]]), torch.tensor([[1, -1, 1], [1, 2, 2]])) == pytest.approx(4 / 5)
    assert agreement(torch.tensor([[1]]), torch.tensor([[-1]])) == 1.0
    classes = ClassTable(("a", "b"), (False, False), (1, 2))
    count = VoidCount(2, reach=1)
    truth = torch.tensor([[1, 1, 1, 1], [1, -1, -1, 1], [1, 1, 1, 0]])
    count.update(torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 0]]), truth)
    assert count.compute(classes) == {"share": pytest.approx(1 / 6), "class": "a", "predicted": 0.5, "around": 0.0, "elsewhere": pytest.approx(0.1)}
    assert VoidCount(2).compute(classes) is None
    evidence = broken()
    evidence["void"] = {"class": "sky", "predicted": 0.9, "around": 0.1}
    assert causes(evidence) == ["void treated as a class"]
    evidence["void"]["share"] = 0.002  # of so few pixels
    assert causes(evidence) == []


def test_one_class_that_meets_another_by_chance_is_no_shift():
    evidence = broken() | {"miou_at_shift": {"-1": 0.393, "0": 0.107, "1": 0.0}}
    assert causes(evidence | {"classes_at_shift": {"-1": 1, "0": 1, "1": 0}}) == []
    assert causes(evidence | {"classes_at_shift": {"-1": 2, "0": 1, "1": 0}}) == ["labels shifted by one"]


def test_reading_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="no log.jsonl"):
        read_run(tmp_path)
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2,')
    with pytest.warns(UserWarning, match="1 of 2 lines are damaged and left out: line 2"):
        assert read_run(tmp_path)[0] == [{"step": 1, "loss": 2.0}]
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "config.json").write_text('{"train": {"steps": 5}}')
    assert read_run(tmp_path) == ([{"step": 1, "loss": 2.0}], None, {"train": {"steps": 5}})
    (tmp_path / "log.jsonl").unlink()
    assert read_run(tmp_path) == ([], None, {"train": {"steps": 5}}) and diagnose([]) == []
    with pytest.raises(ValueError, match="nothing to diagnose on: 0 pictures"):
        measure(load_checkpoint("mini"), Lakeland("val", 64, 0.5, 1), 0)


def test_every_cause_can_be_named():
    names = [name for name, _ in CAUSES.values()]
    assert len(set(names)) == len(names) == 14


def test_merged_neighbours_are_named(tmp_path):
    """Two touching sheep of three lie in one predicted segment; a crowd, stuff and a duck on a sheep are no neighbours."""
    from minimaskformer.diagnosis.measurements import merged_neighbours
    classes = DATA.classes
    sheep, duck, grass = (classes.names.index(name) for name in ("sheep", "duck", "grass"))
    truth = torch.zeros(10, 40, dtype=torch.int32)
    for i in range(4):
        truth[:, 10 * i:10 * i + 10] = i + 1
    entries = [{"id": i + 1, "category_id": k, "iscrowd": crowd, "area": 100} for i, (k, crowd)
               in enumerate([(sheep, 0), (sheep, 0), (sheep, 1), (duck, 0)])]
    whole, half = torch.ones(10, 40, dtype=torch.int32), torch.ones(10, 40, dtype=torch.int32)
    half[:, 14:] = 2  # 40 % of the second sheep
    assert merged_neighbours((whole, [{"id": 1, "category_id": sheep}]), (truth, entries), classes) == [(sheep, 2)]
    assert merged_neighbours((whole, [{"id": 1, "category_id": grass}]), (truth, entries), classes) == []
    assert merged_neighbours((half, [{"id": n, "category_id": sheep} for n in (1, 2)]), (truth, entries), classes) == []
    evidence = {**broken(), "true_things": 20}
    assert "neighbours merged into one segment" in {f.cause for f in diagnose([], evidence | {"merged": [("a\x1bb", "sheep", 5)]})}
    shown = next(f.shown_by for f in diagnose([], evidence | {"merged": [("a\x1bb", "sheep", 3), ("c", "duck", 2)]})
                 if "merged" in f.cause)
    assert "5 of 20 true objects" in shown and "sheep 3, duck 2" in shown and "3 of them in one segment of a\\x1bb" in shown
    for merged in ([], [("a", "sheep", 4)]):  # four of twenty may happen
        assert "neighbours merged into one segment" not in {f.cause for f in diagnose([], evidence | {"merged": merged})}
