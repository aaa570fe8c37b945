"""A GPU's errors without a GPU: torch's fake tensors have a device and a shape but no values.

An operation on tensors of two devices is an error for them, as on a GPU; a value that the host asks for is one too,
and so is seen. (tests/test_losses_on_gpu.py does the same for matching and losses.)
"""
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from minimaskformer import SetCriterion, build_model, inference, load_checkpoint
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.predict import TASKS, Sizes, read_out
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


# largest: how often the host asks for values of one picture's answer; inference.py's docstring says why
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


# --- on a real one ----------------------------------------------------------------------------------------------------

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture
def exact():
    """Products in float32, not in TF32."""
    settings = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in settings]
    for each in settings:
        each.allow_tf32 = False
    yield
    for each, value in zip(settings, before):
        each.allow_tf32 = value


def on(device, tree):
    return tree_map(lambda x: x.to(device) if isinstance(x, torch.Tensor) else x, tree)


@gpu
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("preset", PRESETS)
@torch.no_grad()
def test_logits_are_the_cpus(preset, sizes, exact):
    torch.manual_seed(0)
    model = build_model(preset, **PRESETS[preset]).eval()
    images = torch.randn(2, 3, 64, 96)
    want, got = model(images, sizes), model.to("cuda")(images.to("cuda"), sizes)
    for a, b in zip(want[:2], got[:2]):
        torch.testing.assert_close(b.cpu(), a, rtol=1e-3, atol=1e-3 * a.abs().max().item())


@gpu
@pytest.mark.parametrize("mask_stride", [1, 2])
def test_losses_and_gradients_are_the_cpus(mask_stride, exact):
    model, scenes = load_checkpoint("mini"), [Lakeland("train", 64)[i] for i in range(3)]
    images, targets = torch.stack([image for image, _ in scenes]), [target for _, target in scenes]
    found = []
    for device in ("cpu", "cuda"):
        model.to(device).zero_grad()
        losses = SetCriterion(11, mask_stride=mask_stride)(model(model.normalize(images)), targets)
        losses["loss"].backward()
        found.append((on("cpu", losses), model.mask_head[4].weight.grad.cpu().clone()))
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@gpu
@pytest.mark.parametrize("task", TASKS)
@torch.no_grad()
def test_answers_are_the_cpus(task):
    """From the same logits; so nothing but the arithmetic of the answer differs."""
    model, image = load_checkpoint("mini"), Lakeland("val", 128)[3][0]
    output = model(model.normalize(image[None]))
    logits, sizes = (output.class_logits[0], output.mask_logits[0]), Sizes((100, 140), (128, 128))
    want, got = (read_out(model.config, task, *on(device, logits), sizes) for device in ("cpu", "cuda"))
    for a, b in zip(tree_leaves(want), tree_leaves(on("cpu", got))):
        if isinstance(a, torch.Tensor) and not a.is_floating_point():
            assert (a == b).float().mean() > 0.9999
        else:
            assert b == pytest.approx(a, rel=1e-4)
