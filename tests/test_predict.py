"""Pictures of any kind and size in, answers of that size out; company in a batch changes nothing."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from minimaskformer import build_model, inference
from minimaskformer.predict import predict, resize_short_side, run


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = build_model("mini", short_side=64, long_side=128)
    with torch.no_grad():  # a fresh model says "no object" half-heartedly: make it sure of something
        model.class_head.weight.mul_(40)
    return model.eval()


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(64, 64), (50, 90), (100, 37), (1, 1), (300, 200)])
def test_every_task_answers_at_the_pictures_size(model, size):
    image = picture(*size)
    assert model.predict(image, "semantic").shape == size
    assert model.predict(image, "instance")["masks"].shape[1:] == size
    segment_map, info = model.predict(image, "panoptic", score_threshold=0.1)
    assert segment_map.shape == size and set(segment_map.unique().tolist()) - {0} == {s["id"] for s in info}
    query_map, class_map = model.predict(image, "general")
    assert query_map.shape == class_map.shape == size


def test_all_kinds_of_pictures_are_the_same_picture(model):
    array = picture(40, 60)
    want = model.predict(array, "semantic")
    for same in (Image.fromarray(array), torch.from_numpy(array).permute(2, 0, 1), np.asfortranarray(array)):
        assert torch.equal(model.predict(same, "semantic"), want)
    grey = array[..., 0]
    assert torch.equal(model.predict(grey, "semantic"), model.predict(Image.fromarray(grey), "semantic"))
    for mode in ("RGBA", "P", "CMYK", "LA"):
        assert model.predict(Image.fromarray(array).convert(mode), "semantic").shape == (40, 60)


def test_company_changes_nothing(model):
    pictures = [picture(64, 64, 1), picture(50, 90, 2), picture(64, 64, 3), picture(90, 50, 4)]
    together = predict(model, pictures, "panoptic", score_threshold=0.1)
    for image, (segment_map, info) in zip(pictures, together):
        alone, alone_info = model.predict(image, "panoptic", score_threshold=0.1)
        assert (alone != segment_map).float().mean() < 0.01 and len(alone_info) == len(info)
    logits = [r[1] for r in run(model, [torch.from_numpy(p).permute(2, 0, 1) for p in pictures])]
    for image, together in zip(pictures, logits):
        alone = run(model, [torch.from_numpy(image).permute(2, 0, 1)])[0][1]
        torch.testing.assert_close(alone, together, rtol=1e-3, atol=1e-3)


def test_predict_is_the_functions_by_hand(model):
    array = picture(50, 90)
    image = resize_short_side(torch.from_numpy(array).permute(2, 0, 1), 64, 128)  # 64 x 115
    assert image.shape == (3, 64, 115)
    with torch.no_grad():
        output = model(model.normalize(image)[None])
    masks = F.interpolate(output.mask_logits, (64, 128), mode="bilinear")[:, :, :, :115]
    scores = inference.semantic_scores(output.class_logits[0], masks[0])
    scores = F.interpolate(scores[None], (50, 90), mode="bilinear")[0]
    assert torch.equal(model.predict(array, "semantic"), scores.argmax(0))
    masks = F.interpolate(masks, (50, 90), mode="bilinear")[0]
    want = inference.panoptic_inference(output.class_logits[0], masks, model.config.things, 0.3, 0.5)
    got = model.predict(array, "panoptic", score_threshold=0.3, overlap_threshold=0.5)
    assert torch.equal(got[0], want[0]) and got[1] == want[1]


def test_short_and_long_side():
    assert resize_short_side(torch.zeros(3, 100, 50, dtype=torch.uint8), 64, 200).shape == (3, 128, 64)
    assert resize_short_side(torch.zeros(3, 1000, 50, dtype=torch.uint8), 64, 200).shape == (3, 200, 10)
    same = torch.zeros(3, 64, 90, dtype=torch.uint8)
    assert resize_short_side(same, 64, 200) is same


def test_mode_is_put_back_also_after_an_error(model):
    model.train()
    model.predict(picture(64, 64), "semantic")
    assert model.training
    model.eval()


def test_wrong_calls_are_explained(model):
    with pytest.raises(ValueError, match="unknown task 'depth'; known tasks: semantic, instance, panoptic, general"):
        model.predict(picture(8, 8), "depth")
    with pytest.raises(ValueError, match="uint8"):
        model.predict(picture(8, 8) / 255.0)
    with pytest.raises(ValueError, match="uint8 tensor|uint8 \\[3, H, W\\]"):
        model.predict(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match="uint8"):
        model.predict(np.zeros((0, 8, 3), np.uint8))
    with pytest.raises(TypeError, match="PIL.Image.open"):
        model.predict("picture.png")
    with pytest.raises(ValueError, match="thing classes"):
        build_model("mini", num_classes=2).predict(picture(8, 8), "instance")


def test_an_empty_list_is_an_empty_list(model):
    assert model.predict([], "semantic") == []
