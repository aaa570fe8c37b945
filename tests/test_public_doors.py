"""Every call of public_calls.py ends in a sentence of ours that names the argument and what to do, never in a number."""
import re

import pytest
import torch
from public_calls import CALLS, CLASS, MASK, outcome, target

from minimaskformer import SetCriterion, pairwise_cost, target_to_panoptic
from minimaskformer.system.arguments import check_mask, check_target, check_things


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.door}: {call.fault}")
def test_a_wrong_argument_is_refused_in_words(call):
    kind, text = outcome(call)
    assert kind == "sentence" and re.search(call.says, text, re.DOTALL), (kind, text)


def test_good_targets_pass():
    good = target()
    check_target(good)
    check_target({name: good[name] for name in ("labels", "masks")})  # valid may be missing
    for dtype in (torch.uint8, torch.int64, torch.float32):  # 0 and 1 of any dtype
        check_target(target(masks=good["masks"].to(dtype), valid=good["valid"].to(dtype)))
        assert torch.equal(target_to_panoptic(target(masks=good["masks"].to(dtype)), (2,))[0],
                           target_to_panoptic(good, (2,))[0])
    check_target(target(labels=torch.tensor([]), masks=torch.zeros(0, 8, 8, dtype=torch.bool)))  # [] is float32


def test_bool_masks_are_not_looked_at():
    class Unread(torch.Tensor):
        """A tensor that knows dtype and shape, and fails when an operation needs its values."""
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), options=None):
            name = getattr(function, "__name__", str(function))
            if name in ("__get__", "__len__", "numel", "size", "dim"):
                return super().__torch_function__(function, types, arguments, options or {})
            raise AssertionError(f"{name} looks at the values: a GPU would have to stop")

    good = target()
    unread = {name: value.as_subclass(Unread) for name, value in good.items()}
    check_target(unread)
    check_mask(unread["masks"])
    with pytest.raises(AssertionError, match="looks at the values"):
        check_mask(good["masks"].to(torch.uint8).as_subclass(Unread))


def test_masks_of_0_and_1_mean_what_bool_masks_mean():
    good, as_bytes = target(), target(masks=target()["masks"].to(torch.uint8))
    assert torch.equal(pairwise_cost(CLASS, MASK, good), pairwise_cost(CLASS, MASK, as_bytes))
    output = type("Output", (), {"class_logits": CLASS[None], "mask_logits": MASK[None], "aux": ()})()
    assert SetCriterion(3)(output, [good])["loss"] == SetCriterion(3)(output, [as_bytes])["loss"]


@pytest.mark.parametrize("things", [(1, 2), [1, 2], {1, 2}, range(1, 3), torch.tensor([1, 2]), (1.0, 2.0)])
def test_things_of_any_kind_of_list(things):
    assert check_things(things, 3) == check_things(things) == {1, 2}
    assert check_things([], 3) == set()
