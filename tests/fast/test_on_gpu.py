"""The criterion on a GPU, without one: torch's fake tensors have a device but no values, and show where a host waits."""
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minimaskformer import losses
from minimaskformer.fast.mask_losses import MatchedMaskLosses
from minimaskformer.losses import SetCriterion
from minimaskformer.matching import Truth, batched_cost, join_targets
from minimaskformer.model import Output

PAIRS = [[0, 0, 0, 1, 1, 1], [0, 0, 1, 0, 0, 1], [1, 3, 0, 0, 2, 5], [1, 0, 2, 0, 1, 2]]  # layer, image, query, target


class Waits(TorchDispatchMode):
    """Notes the operations for which a host waits: a copy between the devices that may not be late, a value asked for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result, late = function(*args, **(kwargs or {})), (kwargs or {}).get("non_blocking")
        taken, given = ({x.device.type for x in tree_leaves(tree) if isinstance(x, torch.Tensor)}
                        for tree in ((args, kwargs), result))
        down, up = "cuda" in taken and given == {"cpu"}, taken == {"cpu"} and "cuda" in given
        if down or up and not late or "local_scalar_dense" in str(function) or "nonzero" in str(function):
            self.found.append(str(function))
        return result


def prediction(device, layers=2):
    def layer():
        return Output(torch.zeros(2, 6, 5, device=device, requires_grad=True),
                      torch.zeros(2, 6, 8, 8, device=device, requires_grad=True), ())
    return layer()._replace(aux=tuple(layer() for _ in range(layers - 1)))


def truth_on(device):
    masks = [torch.zeros(t, 32, 32, dtype=torch.bool, device=device) for t in (2, 1)]
    return Truth(torch.zeros(3, dtype=torch.int64, device=device), masks, [mask[0] for mask in masks], [2, 1])


def test_the_notes_are_taken():
    with FakeTensorMode(), Waits() as waits:
        x = torch.zeros(3, device="cuda")
        x.cpu()
        torch.zeros(3).to("cuda")
        torch.zeros(3).to("cuda", non_blocking=True)
    assert len(waits.found) == 2


@pytest.mark.parametrize("points", [0, 16])
def test_costs_stay_on_the_gpu_until_their_one_transfer(points):
    with FakeTensorMode(), Waits() as waits:
        output = prediction("cuda")
        class_logits, mask_logits = zip(*((layer.class_logits, layer.mask_logits) for layer in (*output.aux, output)))
        costs = batched_cost(class_logits, mask_logits, truth_on("cuda"), points=points)
    assert costs.shape == (2, 6, 3) and costs.device.type == "cuda" and not waits.found


def test_targets_travel_without_a_wait(monkeypatch):
    monkeypatch.setattr(FakeTensor, "tolist", lambda self: [0] * len(self))  # the labels, read before they travel
    with FakeTensorMode(), Waits() as waits:
        target = {"labels": torch.zeros(2, dtype=torch.int64), "masks": torch.zeros(2, 8, 8, dtype=torch.bool)}
        truth = join_targets([target, target | {"valid": torch.zeros(8, 8, dtype=torch.bool)}], 4, "cuda")
    assert {x.device.type for x in (truth.labels, *truth.masks, *truth.valid)} == {"cuda"} and not waits.found


def with_a_match(monkeypatch, truth):
    """Everything but the match itself: fake tensors have no values to match by."""
    monkeypatch.setattr(losses, "join_targets", lambda *_: truth)
    monkeypatch.setattr(losses, "match_layers", lambda *_: [None, None])
    monkeypatch.setattr(losses, "flat_match", lambda *_: PAIRS)
    return [{"labels": range(t)} for t in truth.sizes]


@pytest.mark.parametrize("points", [0, 16])
def test_no_loss_makes_the_host_wait(monkeypatch, points):
    with FakeTensorMode(), Waits() as waits:
        targets = with_a_match(monkeypatch, truth_on("cuda"))
        terms = SetCriterion(4, mask_points=points)(prediction("cuda"), targets)
    assert {value.device.type for value in terms.values()} == {"cuda"} and not waits.found


@pytest.mark.parametrize("valid", [None, [torch.zeros(32, 32, dtype=torch.bool, device="meta")] * 3])
def test_the_hand_made_backward_works_on_another_device(valid):
    logits = torch.zeros(3, 8, 8, device="meta", requires_grad=True)
    focal, dice = MatchedMaskLosses.apply(logits, [torch.zeros(32, 32, dtype=torch.bool, device="meta")] * 3, valid)
    (focal.sum() + dice.sum()).backward()
    assert focal.shape == dice.shape == (3,) and logits.grad.shape == (3, 8, 8) and logits.grad.device.type == "meta"
