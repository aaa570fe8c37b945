"""A GPU's errors without a GPU: torch's fake tensors have a device and a shape and no values.

An operation on tensors of two devices is an error for them, as on a GPU; a value that the host asks for is one too,
and so is seen. (tests/test_losses_on_gpu.py does the same for matching and losses.)
"""
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minimaskformer import build_model, inference
from minimaskformer.predict import TASKS
from minimaskformer.studies.baselines import PerPixelBaseline

PRESETS = {"mini": {}, "r50": dict(decoder_layers=2), "r50_panoptic": dict(encoder_layers=1, decoder_layers=1),
           "swin_t": dict(decoder_layers=1)}
SIZES = [None, [(64, 96), (33, 50)]]


class AllFound(TorchDispatchMode):
    """Answers where the host asks for values, and counts the questions: all are 1, no flag is set, nothing is zero."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if name == "aten.nonzero.default":
            self.asked += 1
            return torch.arange(args[0].numel(), device=args[0].device)[:, None].expand(-1, args[0].ndim)
        if name == "aten._local_scalar_dense.default":
            self.asked += 1
            return args[0].dtype.is_floating_point or args[0].dtype != torch.bool
        return function(*args, **(kwargs or {}))


def fake_model(preset, device="cuda", **changes):
    with torch.device(device), AllFound():  # first weights ask for values too
        return build_model(preset, **changes)


def devices(tree):
    return {leaf.device.type for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)}


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_forward_stays_on_the_gpu_and_never_asks(preset, sizes):
    with FakeTensorMode():  # raises where a value is asked for
        model = fake_model(preset, **PRESETS[preset])
        images = model.normalize(torch.zeros(2, 3, 64, 96, dtype=torch.uint8))  # from the loader: on the CPU
        output = model(images, sizes)
        assert devices(output) == {"cuda"} and output.mask_logits.shape == (2, model.config.num_queries, 16, 24)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("preset", PRESETS)
def test_forward_and_backward_without_any_memory(preset, sizes):
    model = fake_model(preset, "meta", **PRESETS[preset])
    output = model(torch.empty(2, 3, 50, 96, device="meta"), sizes and [(50, 96), (33, 50)])
    height = 13 if preset == "r50_panoptic" else 16  # which does not pad to multiples of 32
    assert devices(output) == {"meta"} and output.mask_logits.shape[-2:] == (height, 24)
    output.mask_logits.sum().backward()
    assert devices([p.grad for p in model.mask_head.parameters()]) == {"meta"}


def test_the_baseline_stays_on_the_gpu():
    with FakeTensorMode():
        with torch.device("cuda"):
            model = PerPixelBaseline(build_model("mini").config)
        output = model(model.normalize(torch.zeros(2, 3, 64, 96, dtype=torch.uint8)), SIZES[1])
        assert devices(output) == {"cuda"} and output.pixel_logits.shape == (2, 11, 16, 24)


# largest: how often the host asks for values of one picture's answer; inference.py's docstring says what for
@pytest.mark.parametrize("task, largest", list(zip(TASKS, (1, 3, 3, 3))))
def test_a_picture_is_answered_on_the_gpu(task, largest, monkeypatch):
    found = AllFound()

    def tolist(tensor):
        found.asked += 1
        return np.ones(tensor.shape, int).tolist()

    monkeypatch.setattr(FakeTensor, "tolist", tolist)
    monkeypatch.setattr(inference, "check_numbers", lambda numbers: None)
    with FakeTensorMode(), found:
        model = fake_model("mini")
        answer = model.predict(torch.zeros(3, 64, 96, dtype=torch.uint8), task)
    assert devices(answer) == {"cuda"} and found.asked <= largest


def test_two_devices_are_an_error_here():
    with FakeTensorMode(), pytest.raises(RuntimeError, match="device"):
        fake_model("mini")(torch.zeros(1, 3, 64, 64))
