"""Label maps and sets of (class, mask): round trips, void, crowd, split stuff, and wrong input."""
import pytest
import torch

from minimaskformer.data.classes import ClassTable
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.targets import (
    on_one_canvas,
    pad_target,
    panoptic_to_semantic,
    panoptic_to_target,
    semantic_to_panoptic,
    semantic_to_target,
    target_to_panoptic,
)

MAP = torch.tensor([[1, 1, 2, 2], [1, 3, 2, 0], [4, 4, 1, 1]])  # segment 1 comes in two pieces
INFO = [{"id": 1, "category_id": 0, "isthing": False, "iscrowd": 0, "area": 5},
        {"id": 2, "category_id": 2, "isthing": True, "iscrowd": 0, "area": 3},
        {"id": 3, "category_id": 2, "isthing": True, "iscrowd": 0, "area": 1},
        {"id": 4, "category_id": 2, "isthing": True, "iscrowd": 1, "area": 2}]


def test_panoptic_map_to_set():
    target = panoptic_to_target(MAP, INFO, 3)
    assert target["labels"].tolist() == [0, 2, 2] and target["labels"].dtype == torch.int64
    assert target["masks"].dtype == torch.bool and target["masks"].flatten(1).sum(1).tolist() == [5, 3, 1]
    assert target["valid"].tolist() == (~((MAP == 0) | (MAP == 4))).tolist()  # void and crowd
    for mask, i in zip(target["masks"], (1, 2, 3)):
        assert torch.equal(mask, MAP == i)


def test_round_trip_over_lakeland():
    data = Lakeland("train", 64, 1.0, 30)
    for _, target in data:
        segment_map, info = target_to_panoptic(target, data.classes.things)
        again = panoptic_to_target(segment_map, info, len(data.classes))
        assert torch.equal(again["masks"], target["masks"]) and torch.equal(again["labels"], target["labels"])
        assert torch.equal(again["valid"], target["valid"])
        assert [s["area"] for s in info] == target["masks"].flatten(1).sum(1).tolist()
        assert [s["isthing"] for s in info] == [k in data.classes.things for k in target["labels"].tolist()]


def test_semantic_map_to_set_and_back():
    labels = torch.tensor([[0, 0, 3], [255, 3, 1]], dtype=torch.uint8)
    target = semantic_to_target(labels, 4, things=(3,))
    assert target["labels"].tolist() == [0, 1, 3] and target["valid"].tolist() == (labels != 255).tolist()
    assert [s["isthing"] for s in target["segments_info"]] == [False, False, True]
    assert torch.equal(panoptic_to_semantic(target["segment_map"], target["segments_info"]), labels.long())


def test_crowd_is_void_in_the_semantic_map():
    assert panoptic_to_semantic(MAP, INFO).tolist() == [[0, 0, 2, 2], [0, 2, 2, 255], [255, 255, 0, 0]]


@pytest.mark.parametrize("value", [0, 255])
def test_nothing_labelled(value):
    empty = panoptic_to_target(torch.zeros(3, 4, dtype=torch.int64), [], 5)
    assert empty["labels"].shape == (0,) and empty["masks"].shape == (0, 3, 4) and not empty["valid"].any()
    target = semantic_to_target(torch.full((3, 4), value), 5)
    assert len(target["labels"]) == (value == 0)


def test_segments_without_pixels_are_dropped():
    target = panoptic_to_target(MAP, INFO + [{"id": 9, "category_id": 1, "isthing": False, "iscrowd": 0, "area": 0}], 3)
    assert target["labels"].tolist() == [0, 2, 2]


@pytest.mark.parametrize("change, message", [
    (lambda info: info[0].update(category_id=3), r"labels \[3\] are outside \[0, 3\)"),
    (lambda info: info[0].update(category_id=-1), r"labels \[-1\] are outside"),
    (lambda info: info[1].update(id=1), r"repeated segment ids \[1\]"),
    (lambda info: info.pop(2), r"ids \[3\] that no entry describes"),
    (lambda info: info[0].update(id=0), "reserved for void"),
])
def test_wrong_segments_are_named(change, message):
    info = [dict(s) for s in INFO]
    change(info)
    with pytest.raises(ValueError, match=message):
        panoptic_to_target(MAP, info, 3)


def test_wrong_label_value_and_shape():
    with pytest.raises(ValueError, match=r"labels \[4, 200\] are outside \[0, 4\)"):
        semantic_to_target(torch.tensor([[0, 4], [200, 255]]), 4)
    with pytest.raises(ValueError, match="a segment map is"):
        panoptic_to_target(torch.zeros(1, 3, 4), [], 5)


def test_padding():
    target = panoptic_to_target(MAP, INFO, 3)
    padded = pad_target(target, 5, 6)
    assert padded["masks"].shape == (3, 5, 6) and torch.equal(padded["masks"][:, :3, :4], target["masks"])
    assert not padded["masks"][:, 3:].any() and not padded["valid"][:, 4:].any()
    assert pad_target(target, 3, 4) is target
    assert [t["masks"].shape[-2:] for t in on_one_canvas([target, padded])] == [(5, 6)] * 2
    same = [target, target]
    assert on_one_canvas(same) is same


def test_class_table():
    table = ClassTable(("sky", "sheep"), (False, True), (7, 3))
    assert table.things == (1,) and table.stuff == (0,) and table.index(3) == 1 and len(table) == 2
    with pytest.raises(ValueError, match=r"category id 5 is not in the class table; known ids: \[7, 3\]"):
        table.index(5)
    for columns in (((), (), ()), (("a",), (True, False), (1,)), (("a", "b"), (True, False), (1, 1))):
        with pytest.raises(ValueError, match="class table"):
            ClassTable(*columns)


def test_a_label_map_becomes_one_segment_per_class():
    label_map = torch.tensor([[0, 2, -1], [2, 1, -1]])
    segment_map, info = semantic_to_panoptic(label_map, 3, things=(1,))
    assert segment_map.tolist() == [[1, 3, 0], [3, 2, 0]] and segment_map.dtype == torch.int32
    assert info == [{"id": k + 1, "category_id": k, "isthing": k == 1, "iscrowd": 0, "area": area}
                    for k, area in ((0, 1), (1, 1), (2, 2))]
    assert semantic_to_panoptic(torch.full((2, 2), -1), 3)[1] == []
    with pytest.raises(ValueError, match="labels \\[255\\] are outside"):
        semantic_to_panoptic(torch.full((2, 2), 255), 3)
