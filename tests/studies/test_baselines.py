"""The per-pixel baselines: parameters, the loss as a loop, void, one picture learnt by heart."""
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minimaskformer import Lakeland, build_model
from minimaskformer.config import get_config
from minimaskformer.studies.baselines import (
    PerPixelBaseline,
    PerPixelBaselinePlus,
    PixelOutput,
    label_map,
    per_pixel_loss,
)
from minimaskformer.targets import panoptic_to_semantic, semantic_to_target
from minimaskformer.training.optim import parameter_groups
from minimaskformer.training.recipes import TrainConfig

BOTH = pytest.mark.parametrize("baseline", [PerPixelBaseline, PerPixelBaselinePlus])
MINI = get_config("mini", short_side=64, long_side=128)


def build(baseline, config=MINI):
    torch.manual_seed(0)
    return baseline(config).eval()


def count(model):
    return sum(p.numel() for p in model.parameters())


def images(batch=2, height=64, width=96):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


@BOTH
def test_shapes_and_company(baseline):
    model = build(baseline)
    with torch.no_grad():
        output = model(images())
        assert output.pixel_logits.shape == (2, 11, 16, 24)
        assert [layer.pixel_logits.shape for layer in output.aux] == (
            [] if baseline is PerPixelBaseline else [(2, 11, 16, 24)] * 2)
        torch.testing.assert_close(model(images()[:1]).pixel_logits, output.pixel_logits[:1], rtol=1e-4, atol=1e-4)
        assert model(images(1, 50, 70)).pixel_logits.shape == (1, 11, 16, 24)  # padded to 64 x 96


def test_parameters_are_maskformers_less_what_is_not_needed():
    model = build_model(MINI, num_queries=11)
    shared = count(model.backbone) + count(model.pixel_decoder)
    assert count(build(PerPixelBaseline)) == shared + 11 * (MINI.mask_dim + 1)
    assert count(build(PerPixelBaselinePlus)) == count(model) - count(model.class_head)


def test_plus_is_maskformer_whose_masks_are_read_as_class_scores():
    plus = build(PerPixelBaselinePlus)
    model = build_model(MINI, num_queries=11).eval()
    own = {name.removeprefix("mask_former."): tensor for name, tensor in plus.state_dict().items()}
    assert set(model.state_dict()) - set(own) == {"class_head.weight", "class_head.bias"}
    model.load_state_dict(own, strict=False)
    with torch.no_grad():
        want, got = model(images()), plus(images())
    assert torch.equal(want.mask_logits, got.pixel_logits)
    assert all(torch.equal(a.mask_logits, b.pixel_logits) for a, b in zip(want.aux, got.aux))


def test_classifier_is_one_matrix_for_every_pixel():
    model = build(PerPixelBaseline)
    with torch.no_grad():
        padded, mask = model.pad(images())
        embeddings = model.pixel_decoder(model.backbone(padded), mask)[0] + model.positions(mask, model(images())[0][:, :1]
                                                                                            .expand(-1, 96, -1, -1))
        want = model.classifier.weight[:, :, 0, 0] @ embeddings[1, :, 3, 5] + model.classifier.bias
        torch.testing.assert_close(model(images()).pixel_logits[1, :, 3, 5], want, rtol=1e-4, atol=1e-4)


def test_loss_is_the_loop():
    g = torch.Generator().manual_seed(0)
    layers = [torch.randn(2, 3, 2, 3, generator=g) for _ in range(2)]
    truth = torch.randint(3, (2, 8, 12), generator=g)
    truth[0, 2:5, 1:9] = 255
    targets = [semantic_to_target(t, 3) for t in truth]
    losses = per_pixel_loss(PixelOutput(layers[1], (PixelOutput(layers[0]),)), targets)
    assert set(losses) == {"loss", "pixel", "pixel_0"}
    for name, layer in zip(("pixel_0", "pixel"), layers):
        up, total, known = F.interpolate(layer, size=(8, 12), mode="bilinear", align_corners=False), 0.0, 0
        for b, y, x in np.ndindex(2, 8, 12):
            if truth[b, y, x] != 255:
                scores = up[b, :, y, x].tolist()
                total += math.log(sum(map(math.exp, scores))) - scores[truth[b, y, x]]
                known += 1
        assert math.isclose(losses[name].item(), total / known, rel_tol=1e-5)
    torch.testing.assert_close(losses["loss"], losses["pixel"] + losses["pixel_0"])


def test_void_has_no_gradient_and_all_void_is_zero():
    logits = torch.randn(1, 3, 4, 4, requires_grad=True)
    target = semantic_to_target(torch.zeros(16, 16, dtype=torch.int64), 3)
    target["valid"][:, 8:] = False
    per_pixel_loss(PixelOutput(logits), [target])["loss"].backward()
    assert logits.grad[..., 3].abs().sum() == 0 and (logits.grad[..., :2] != 0).all()
    logits.grad = None
    nothing = semantic_to_target(torch.full((16, 16), 255), 3)
    loss = per_pixel_loss(PixelOutput(logits), [nothing])["loss"]
    loss.backward()
    assert loss == 0 and logits.grad.abs().sum() == 0


def test_label_map_of_a_panoptic_target_and_of_two_sizes():
    world = Lakeland("val", 64)
    for i in range(3):
        _, target = world[i]
        want = panoptic_to_semantic(target["segment_map"], target["segments_info"], ignore=-1)
        assert torch.equal(label_map(target, len(world.classes)), want)
    small, large = (semantic_to_target(torch.ones(s, s, dtype=torch.int64), 3) for s in (4, 8))
    del small["valid"]  # padding is in no mask, and that is enough
    logits = torch.randn(2, 3, 8, 8)
    losses = per_pixel_loss(PixelOutput(logits), [small, large])
    cross_entropy = -logits.log_softmax(1)[:, 1]
    want = (cross_entropy[0, :4, :4].sum() + cross_entropy[1].sum()) / (16 + 64)
    torch.testing.assert_close(losses["loss"], want)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="1 targets for a batch of 2 images"):
        per_pixel_loss(PixelOutput(torch.zeros(2, 3, 4, 4)), [semantic_to_target(torch.zeros(4, 4, dtype=torch.int64), 3)])
    with pytest.raises(ValueError, match=r"labels \[5\] are outside \[0, 3\)"):
        per_pixel_loss(PixelOutput(torch.zeros(1, 3, 4, 4)), [semantic_to_target(torch.full((4, 4), 5), 9)])
    with pytest.raises(ValueError, match="model.normalize"):
        build(PerPixelBaseline)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))


@BOTH
def test_one_picture_is_learnt_by_heart(baseline):
    """Three classes of one colour each, of which one comes in two pieces, and void."""
    truth = torch.zeros(64, 64, dtype=torch.int64)
    truth[:, 32:], truth[16:32, 16:48], truth[48:, :16] = 1, 2, 2
    image = torch.tensor([[200, 30, 60], [40, 180, 90], [20, 60, 220]], dtype=torch.uint8)[truth].permute(2, 0, 1)
    truth[:8] = 255
    target = semantic_to_target(truth, 3)
    model = build(baseline, get_config(MINI, num_classes=3, class_names=(), things=(), encoder_layers=0, dim=32, mask_dim=32, hidden_dim=32,
                                       feedforward=64)).train()
    optimizer, losses = torch.optim.AdamW(model.parameters(), 3e-3), []
    for _ in range(20):
        losses.append(per_pixel_loss(model(model.normalize(image).expand(2, -1, -1, -1)), [target] * 2)["loss"])
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 4
    assert (model.predict(image) == truth)[truth != 255].float().mean() > 0.9


@BOTH
@pytest.mark.parametrize("size", [(64, 64), (50, 90), (300, 200)])
def test_predict_is_the_forward_pass_by_hand(baseline, size):
    model = build(baseline).train()
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    classes = model.predict(picture)
    assert classes.shape == size and classes.dtype == torch.int64 and model.training
    together = model.predict([picture, picture[:, ::-1]])
    assert torch.equal(together[0], classes) and len(together) == 2
    if size == (64, 64):
        with torch.no_grad():
            logits = model.eval()(model.normalize(torch.from_numpy(picture).permute(2, 0, 1))[None]).pixel_logits
        want = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].argmax(0)
        assert torch.equal(classes, want)


@BOTH
def test_backbone_has_its_own_learning_rate(baseline):
    groups = parameter_groups(build(baseline), TrainConfig(learning_rate=1e-3, backbone_multiplier=0.1))
    slow = sum(p.numel() for group in groups if group["multiplier"] == 0.1 for p in group["params"])
    assert slow == count(build_model(MINI).backbone)
