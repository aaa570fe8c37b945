"""Test-time augmentation: the mean made by hand, mirror symmetry, and one plain scale is `predict`."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import resize

from minimaskformer import build_model
from minimaskformer.config import get_config
from minimaskformer.model import MaskFormer, Output
from minimaskformer.predict import SCALES, predict_semantic_tta, semantic_scores_tta


class Toy(torch.nn.Module):
    """Six queries that look at colours through one lopsided convolution: answers vary over a picture, unlike those of
    a MaskFormer without training."""
    normalize, pad, predict = MaskFormer.normalize, MaskFormer.pad, MaskFormer.predict

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.config = get_config("mini", num_classes=4, short_side=64, long_side=128)
        self.conv = torch.nn.Conv2d(3, 6, 8, stride=4, padding=2, bias=False)
        self.conv.weight.data.mul_(3)
        self.class_logits = 2 * torch.randn(6, 5)
        for name in ("pixel_mean", "pixel_std"):
            self.register_buffer(name, torch.tensor(getattr(self.config, name))[:, None, None])

    def forward(self, images):
        images, _ = self.pad(images)
        return Output(self.class_logits.expand(len(images), -1, -1), self.conv(images))


@pytest.fixture
def model():
    return Toy().eval()


def picture(height=50, width=70, seed=0):
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed)) * 255
    return F.interpolate(coarse, (height, width), mode="bilinear")[0].to(torch.uint8)


@torch.no_grad()
def scores_by_hand(model, image, short_side):
    """One version, without the library's resizing, padding and inference."""
    height, width = image.shape[-2:]
    ratio = short_side / min(height, width)
    size = [round(height * ratio), round(width * ratio)]
    x = (resize(image, size, antialias=True).float() - model.pixel_mean) / model.pixel_std
    x = F.pad(x, (0, -size[1] % 32, 0, -size[0] % 32))[None]
    output = model(x)
    masks = F.interpolate(output.mask_logits, x.shape[-2:], mode="bilinear")[..., :size[0], :size[1]].sigmoid()
    probs = output.class_logits.softmax(-1)[0, :, :-1]
    scores = sum(probs[q, :, None, None] * masks[0, q] for q in range(len(probs)))
    return F.interpolate(scores[None], (height, width), mode="bilinear")[0]


def test_scores_are_the_mean_by_hand(model):
    image = picture()
    want = []
    for short_side in (48, 64, 96):
        want.append(scores_by_hand(model, image, short_side))
        want.append(torch.from_numpy(scores_by_hand(model, image.flip(2), short_side).numpy()[:, :, ::-1].copy()))
    got = semantic_scores_tta(model, image, (0.75, 1.0, 1.5))
    torch.testing.assert_close(got, torch.stack(want).mean(0), rtol=1e-4, atol=1e-4)
    assert got.shape == (4, 50, 70) and got.dtype == torch.float32
    classes = predict_semantic_tta(model, image, (0.75, 1.0, 1.5))
    assert torch.equal(classes, got.argmax(0)) and len(classes.unique()) > 1
    assert (want[0] - want[-1]).abs().max() > 0.1, "the versions must differ, or the test sees nothing"


def test_a_mirrored_picture_gives_the_mirrored_answer(model):
    image = picture(64, 96)
    scores = semantic_scores_tta(model, image, (0.5, 1.0))
    mirrored = semantic_scores_tta(model, image.flip(-1), (0.5, 1.0)).flip(-1)
    torch.testing.assert_close(mirrored, scores, rtol=1e-4, atol=1e-4)
    plain, other = (semantic_scores_tta(model, x, [1], flip=False) for x in (image, image.flip(-1)))
    assert (other.flip(-1) - plain).abs().max() > 0.01, "the model itself must not be symmetric"


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (90, 40), (200, 30)])
def test_one_scale_without_flip_is_predict(model, size):
    image = picture(*size)
    assert torch.equal(predict_semantic_tta(model, image, (1.0,), flip=False), model.predict(image, "semantic"))


def test_through_predict_and_lists(model):
    pictures = [picture(seed=1), picture(40, 40, seed=2).permute(1, 2, 0).numpy()]
    want = [predict_semantic_tta(model, image, (0.5, 1)) for image in pictures]
    for got in (model.predict(pictures, "semantic", tta=True, scales=(0.5, 1)), predict_semantic_tta(model, pictures, (0.5, 1))):
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    assert build_model("r18", short_side=32).predict(pictures[1], "semantic", tta=True, scales=(2, 3)).shape == (40, 40)


def test_a_batch_holds_one_scale_and_the_mode_is_put_back(model, monkeypatch):
    seen, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda images: seen.append(tuple(images.shape)) or forward(images))
    model.train()
    semantic_scores_tta(model, picture(64, 64))
    assert model.training
    model.eval()
    assert seen == [(2, 3, round(64 * s), round(64 * s)) for s in SCALES]


def test_wrong_calls_are_explained(model):
    for scales in ((), (1, 0), (-1,), (float("nan"),), (float("inf"),)):
        with pytest.raises(ValueError, match="scales are positive numbers"):
            predict_semantic_tta(model, picture(), scales)
    with pytest.raises(ValueError, match="only the semantic task has; the task is 'panoptic'"):
        model.predict(picture(), tta=True)
    with pytest.raises(TypeError, match="an image is a PIL image"):
        predict_semantic_tta(model, "picture.png")
    assert predict_semantic_tta(model, np.zeros((8, 8), np.uint8), (1,)).shape == (8, 8)
