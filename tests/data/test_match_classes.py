"""Classes by name: the same figures in any order, fewer are legal, others are an error that names them."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from minimaskformer import build_model, evaluate
from minimaskformer.commands import cli
from minimaskformer.commands.train import start_from
from minimaskformer.data.classes import ClassTable
from minimaskformer.data.combine import match_classes
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.evaluation import table
from minimaskformer.targets import panoptic_to_target
from minimaskformer.training.checked_data import check_data
from minimaskformer.weights.checkpoint import load_checkpoint, save_checkpoint

DATA = Lakeland("val", 128, 0.5, 6)
NAMES = DATA.classes.names


class Under:
    """Lakeland's scenes under another class table: its classes at other places, or some of them."""

    def __init__(self, order, data=DATA, rename=lambda name: name):
        old = data.classes
        self.data, self.old = data, {k: new for new, k in enumerate(order)}
        self.classes = ClassTable(tuple(rename(old.names[k]) for k in order), tuple(old.isthing[k] for k in order),
                                  tuple(old.ids[k] for k in order))

    def __len__(self):
        return len(self.data)

    def name(self, index):
        return self.data.name(index)

    def __getitem__(self, index):
        image, target = self.data[index]
        segment_map = target["segment_map"].clone()
        for s in target["segments_info"]:
            if s["category_id"] not in self.old:
                segment_map[segment_map == s["id"]] = 0
        info = [dict(s, category_id=self.old[s["category_id"]]) for s in target["segments_info"]
                if s["category_id"] in self.old]
        return image, panoptic_to_target(segment_map, info, len(self.classes))


ORDER = np.random.default_rng(1).permutation(len(NAMES)).tolist()


def test_targets_come_back_under_the_other_table():
    matched = match_classes(Under(ORDER), DATA.classes)
    assert matched.classes.names == NAMES and matched.classes.isthing == DATA.classes.isthing
    for i in range(3):
        (_, ours), (_, theirs) = matched[i], DATA[i]
        assert sorted(ours["labels"].tolist()) == sorted(theirs["labels"].tolist())
        for label, mask in zip(ours["labels"], ours["masks"]):
            assert any(torch.equal(mask, m) for m, k in zip(theirs["masks"], theirs["labels"]) if k == label)
        assert ours["segments_info"] == theirs["segments_info"] and matched.name(i) == DATA.name(i)
    assert match_classes(DATA, DATA.classes) is DATA


def test_the_order_of_the_classes_changes_no_figure():
    model = load_checkpoint("mini")
    straight, turned = evaluate(model, DATA, progress=False), evaluate(model, Under(ORDER), progress=False)
    for name in ("pq", "pq_things", "pq_stuff", "miou", "ap", "ap50"):
        assert turned[name] == pytest.approx(straight[name]) and straight[name] > 0.2
    assert turned["semantic"]["iou"] == pytest.approx([straight["semantic"]["iou"][k] for k in ORDER], nan_ok=True)
    rows = {line for line in table(straight, DATA.classes).splitlines()[6:]}
    assert rows == {line for line in table(turned, Under(ORDER).classes).splitlines()[6:]}


def test_fewer_classes_are_measured_under_the_model_s_indices():
    model, some = load_checkpoint("mini"), ORDER[:7]
    results, direct = (evaluate(model, data, progress=False)
                       for data in (Under(some), match_classes(Under(some), DATA.classes)))
    assert results["semantic"]["iou"] == pytest.approx([direct["semantic"]["iou"][k] for k in some], nan_ok=True)
    assert results["pq"] == pytest.approx(direct["pq"]) and len(results["semantic"]["iou"]) == 7


def test_spellings_that_differ_in_little_are_one_name():
    matched = match_classes(Under(range(11), rename=lambda name: f" {name.upper()} "), DATA.classes)
    assert matched.classes.names == NAMES
    one = ClassTable(("dining-table", "Cat"), (True, True), (1, 2))
    two = Under((5, 6), rename=lambda name: {NAMES[5]: "cat", NAMES[6]: "dining table"}[name])
    assert match_classes(two, one).new_class == [1, 0]
    with pytest.raises(ValueError, match="Only in the data set: dining table; only in the model: none"):
        match_classes(two, ClassTable(("cat", "CAT"), (True, True), (1, 2)))


@pytest.mark.parametrize("rename, words", [
    (lambda name: {"sheep": "goat"}.get(name, name), ["Only in the data set: goat; only in the model: sheep"]),
    (lambda name: {"sheep": "duck"}.get(name, name), ["several have the name duck"]),
    (lambda name: {"sheep": "a\n\x1b[31mb"}.get(name, name), ["a\\n\\x1b[31mb"])])
def test_other_classes_are_an_error_that_names_them(rename, words):
    with pytest.raises(ValueError) as caught:
        match_classes(Under(range(11), rename=rename), DATA.classes)
    assert all(word in str(caught.value) for word in words) and "\x1b" not in str(caught.value)


def test_training_takes_a_validation_split_in_any_order_and_no_other():
    model = build_model("mini")
    check_data(model, DATA, Under(ORDER))
    check_data(model, DATA, Under(ORDER[:5]))
    with pytest.raises(ValueError, match="Only in the validation data set: goat"):
        check_data(model, DATA, Under(range(11), rename=lambda name: {"sheep": "goat"}.get(name, name)))
    stuff = Under(range(11))
    stuff.classes = replace(stuff.classes, isthing=(False,) * 11)
    with pytest.raises(ValueError, match="house, tree.*thing in one"):
        check_data(model, DATA, stuff)


def test_a_class_head_starts_from_the_rows_of_its_names():
    other = build_model("mini", short_side=64)
    turned = tuple(NAMES[k] for k in ORDER)
    model = build_model("mini", 11, class_names=turned, things=())
    assert start_from(model, other, "x") is None
    assert torch.equal(model.class_head.weight, other.class_head.weight[[*ORDER, 11]])
    assert torch.equal(model.class_head.bias[-1], other.class_head.bias[-1])
    model = build_model("mini", 11, class_names=("goat", *NAMES[1:]), things=())
    before = model.class_head.weight.clone()
    assert "with other names" in start_from(model, other, "x") and torch.equal(model.class_head.weight, before)


def test_the_command_matches_by_name_or_says_which_names_differ(tmp_path, capsys):
    model = load_checkpoint("mini")
    head, turned = model.class_head, [*ORDER, 11]
    with torch.no_grad():
        head.weight.copy_(head.weight[turned].clone()), head.bias.copy_(head.bias[turned].clone())
    things = tuple(k for k, old in enumerate(ORDER) if DATA.classes.isthing[old])
    for name, names in (("turned", tuple(NAMES[k] for k in ORDER)), ("goats", ("goat", *NAMES[1:]))):
        model.config = replace(model.config, class_names=names, things=things)
        save_checkpoint(model, tmp_path / f"{name}.safetensors")
    arguments = ["--data", "lakeland:128,0.5", "--limit", "4"]
    assert cli.main(["evaluate", "mini", *arguments]) == 0
    want = capsys.readouterr().out.splitlines()[4]
    assert cli.main(["evaluate", str(tmp_path / "turned.safetensors"), *arguments]) == 0
    assert capsys.readouterr().out.splitlines()[4] == want
    assert cli.main(["evaluate", str(tmp_path / "turned.safetensors"), *arguments, "--by-index"]) == 0
    assert capsys.readouterr().out.splitlines()[4] != want  # as asked
    assert cli.main(["evaluate", str(tmp_path / "goats.safetensors"), *arguments]) == 1
    told = capsys.readouterr()
    assert "Only in the data set: sky; only in the model: goat" in told.err and "--by-index" in told.err
