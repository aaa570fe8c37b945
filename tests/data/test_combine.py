"""Classes put into groups: pixels, instances and areas are those of the data set itself."""
import pytest
import torch

from minimaskformer.data.combine import Regrouped
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.targets import panoptic_to_semantic

GROUPS = {"animal": ["sheep", "duck"], "made": ["house", "boat", "balloon"], "tree": ["tree"],
          "land": ["grass", "path", "mountain"], "blue": ["sky", "water"]}


def test_pixels_instances_and_areas():
    data = Lakeland("val", 96, 0.6, 12)
    grouped = Regrouped(data, GROUPS)
    assert grouped.classes.names == tuple(GROUPS) and grouped.classes.isthing == (True, True, True, False, False)
    assert len(grouped) == 12 and grouped.name(3) == data.name(3)
    for i in range(12):
        (image, old), (same, new) = data[i], grouped[i]
        assert torch.equal(image, same)
        old_classes = panoptic_to_semantic(old["segment_map"], old["segments_info"])
        new_classes = panoptic_to_semantic(new["segment_map"], new["segments_info"])
        for k, name in enumerate(data.classes.names):
            group = next(g for g, (_, names) in enumerate(GROUPS.items()) if name in names)
            assert (new_classes[old_classes == k] == group).all()
        assert torch.equal(new_classes == 255, old_classes == 255) and torch.equal(old["valid"], new["valid"])
        things = [s for s in old["segments_info"] if s["isthing"]]
        assert len([s for s in new["segments_info"] if s["isthing"]]) == len(things)
        stuff = [s["category_id"] for s in new["segments_info"] if not s["isthing"]]
        assert len(set(stuff)) == len(stuff)
        for s in new["segments_info"]:
            assert s["area"] == (new["segment_map"] == s["id"]).sum()
    assert data[0][1]["segments_info"] == Lakeland("val", 96, 0.6, 12)[0][1]["segments_info"]  # left as they were


@pytest.mark.parametrize("change, message", [
    ({"tree": []}, "1 classes are in no group: tree"), ({"blue": ["sky", "water", "duck"]}, "more than one group: duck"),
    ({"tree": ["tree", "bush"]}, "not in the data set: bush")])
def test_wrong_groups_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        Regrouped(Lakeland("val", 64, 0.5, 2), GROUPS | change)


def test_things_and_stuff_do_not_mix():
    with pytest.raises(ValueError, match="groups mix hold things and stuff"):
        Regrouped(Lakeland("val", 64, 0.5, 2), {"mix": GROUPS["tree"] + GROUPS["blue"], **{
            name: names for name, names in GROUPS.items() if name not in ("tree", "blue")}})


def test_a_data_set_that_keeps_its_items_is_left_as_it_was():
    data = Lakeland("val", 64, 0.6, 1)

    class Kept:
        classes, item = data.classes, data[0]

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return self.item
    kept, before = Kept(), data[0][1]
    Regrouped(kept, GROUPS)[0]
    assert torch.equal(kept[0][1]["segment_map"], before["segment_map"]) and kept[0][1]["segments_info"] == before["segments_info"]
