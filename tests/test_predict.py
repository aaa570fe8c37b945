"""Pictures of any kind and size in, answers of that size out; other pictures in the batch change nothing."""
import copy
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from minimaskformer import build_model, inference
from minimaskformer.data.images import open_picture
from minimaskformer.fast import large_maps as maps
from minimaskformer.predict import (
    Sizes,
    bilinear,
    predict,
    read_out,
    resize_short_side,
    run,
    semantic_map,
    to_input_size,
)

predict_module = sys.modules["minimaskformer.predict"]


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


# the last two: an input of the stride-4 size of its own padding, which must not pass for an enlarged one
ODD = [((13, 22), (30, 51)), ((61, 87), (40, 57)), ((33, 65), (33, 65)), ((8, 8), (19, 7)), ((16, 16), (16, 16))]


@pytest.mark.parametrize("network, size", ODD)
@pytest.mark.parametrize("chunk", (1, 20_000, 2**24))
def test_semantic_in_pieces_is_semantic_at_once(monkeypatch, network, size, chunk):
    generator = torch.Generator().manual_seed(0)
    padded = [side + -side % 32 for side in network]
    class_logits = 2 * torch.randn(19, 14, generator=generator)
    mask_logits = 3 * torch.randn(19, padded[0] // 4, padded[1] // 4, generator=generator)
    large = to_input_size(mask_logits, network, 32)
    assert large.shape == (19, *network)
    scores = bilinear(inference.semantic_scores(class_logits, large), size)  # all classes, all pixels
    monkeypatch.setattr(maps, "CHUNK", chunk)
    monkeypatch.setattr(predict_module, "GROUP", chunk)
    got = semantic_map(class_logits, mask_logits, padded, network, size)
    assert got.shape == size and got.dtype == torch.int64
    reached = scores.gather(0, got[None])[0]  # the score of the chosen class: the largest, up to rounding
    torch.testing.assert_close(reached, scores.amax(0), rtol=0, atol=1e-6)
    assert (got == scores.argmax(0)).float().mean() > 0.999
    config = build_model("mini", num_classes=13).config
    for task in ("semantic", "general", "panoptic"):
        options = {"things": (0, 2, 3)} if task == "panoptic" else {}
        a = read_out(config, task, class_logits, mask_logits, Sizes(size, network), **options)
        b = read_out(config, task, class_logits, large, size, **options)
        assert torch.equal(a if task == "semantic" else a[0], b if task == "semantic" else b[0])


def test_a_tie_between_pieces_goes_to_the_first_class(monkeypatch):
    monkeypatch.setattr(predict_module, "GROUP", 1)  # one class at a time
    got = semantic_map(torch.zeros(3, 6), torch.randn(3, 4, 5), (4, 5), (4, 5), (5, 7))
    assert not got.any()


def test_predictions_wait_at_stride_4(model):
    pictures = [torch.from_numpy(picture(50, 90)).permute(2, 0, 1), torch.from_numpy(picture(64, 64)).permute(2, 0, 1)]
    for (_, mask_logits, sizes), image in zip(run(model, pictures), pictures):
        assert sizes.picture == image.shape[-2:] == (sizes.picture[0], sizes.picture[1])
        assert mask_logits.shape[1:] == tuple((side + -side % 32) // 4 for side in sizes.network)
    assert sizes.network == (64, 64)


def test_panoptic_reads_only_the_masks_it_keeps(model):
    """Masks of queries that are not sure may hold anything: they are never looked at."""
    class_logits = torch.full((4, 12), -9.0)
    class_logits[range(4), [0, 3, 11, 2]] = torch.tensor([9.0, 9.0, 9.0, -8.0])
    mask_logits = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(1))
    sizes = Sizes((40, 50), (60, 64))
    want = read_out(model.config, "panoptic", class_logits, mask_logits, sizes)
    mask_logits[2:] = float("nan")
    got = read_out(model.config, "panoptic", class_logits, mask_logits, sizes)
    assert torch.equal(got[0], want[0]) and got[1] == want[1] and len(want[1]) == 2
    nothing = read_out(model.config, "panoptic", class_logits[2:3], mask_logits[2:3], sizes)
    assert nothing[0].shape == (40, 50) and not nothing[0].any() and nothing[1] == []


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


# ---- the answers of `read_out`, map by map, are those of the rules written for all pixels at once

def plain(task, class_logits, mask_logits, padded, network, size, things):
    """The four rules, short and slow: every mask enlarged in two steps, every probability made."""
    large = F.interpolate(mask_logits[None], padded, mode="bilinear")[..., :network[0], :network[1]]
    probs = class_logits.softmax(-1)
    scores, classes = probs.max(-1)
    K = probs.shape[1] - 1
    if task == "semantic":
        maps = torch.einsum("nk,nhw->khw", probs[:, :-1], large[0].sigmoid())
        return F.interpolate(maps[None], size, mode="bilinear")[0].argmax(0)
    logits = F.interpolate(large, size, mode="bilinear")[0]
    if task == "instance":
        found = [((probs[i, c] * logits[i][logits[i] > 0].sigmoid().mean()).item(), c, logits[i] > 0)
                 for i, c in ((n // K, n % K) for n in probs[:, :-1].flatten().topk(min(100, K * len(probs)))[1].tolist())
                 if c in things and (logits[i] > 0).any()]
        return sorted(found, key=lambda row: -row[0])
    kept = [i for i in range(len(probs)) if classes[i] != K and (task == "general" or scores[i] > 0.4)]
    winner = (scores[kept, None, None] * logits[kept].sigmoid()).argmax(0)
    if task == "general":
        return torch.tensor(kept)[winner], classes[kept][winner]
    segment_map, stuff, areas = torch.zeros(size, dtype=torch.int32), {}, {}
    for place, i in enumerate(kept):
        won, own = winner == place, logits[i].sigmoid() >= 0.5
        if won.any() and own.any() and won.sum() / own.sum() >= 0.3:
            c = classes[i].item()
            segment = stuff.get(c) or len(areas) + 1
            stuff |= {} if c in things else {c: segment}
            segment_map[won] = segment
            areas[segment] = areas.get(segment, 0) + won.sum().item()
    return segment_map, areas


@pytest.mark.parametrize("network, size", [((130, 170), (130, 170)), ((128, 160), (200, 90)), ((96, 100), (61, 190))])
@pytest.mark.parametrize("cached", (2**8, 2**16, 2**18))  # maps one by one, two at a time, all at once
def test_map_by_map_is_all_at_once(monkeypatch, network, size, cached):
    monkeypatch.setattr(maps, "CACHED", cached)
    generator = torch.Generator().manual_seed(cached)
    padded = [side + -side % 32 for side in network]
    class_logits = 2 * torch.randn(30, 9, generator=generator)
    coarse = torch.randn(1, 30, 5, 6, generator=generator) * 6
    mask_logits = F.interpolate(coarse, [side // 4 for side in padded], mode="bilinear")[0]
    mask_logits[4] -= 99  # an empty mask
    config, things = build_model("mini", num_classes=8).config, (0, 2, 3, 5)

    def ours(task, **options):
        return read_out(config, task, class_logits, mask_logits, Sizes(size, network), things, **options)
    def slow(task):
        return plain(task, class_logits, mask_logits, padded, network, size, things)
    assert torch.equal(ours("semantic"), slow("semantic"))
    assert all(torch.equal(a, b) for a, b in zip(ours("general"), slow("general"), strict=True))
    (segment_map, info), (want, areas) = ours("panoptic", score_threshold=0.4, overlap_threshold=0.3), slow("panoptic")
    assert torch.equal(segment_map, want) and {s["id"]: s["area"] for s in info} == areas and len(areas) > 1
    result, want = ours("instance"), slow("instance")
    assert result["labels"].tolist() == [c for _, c, _ in want] and len(want) > 20
    assert torch.equal(result["masks"], torch.stack([mask for *_, mask in want]))
    torch.testing.assert_close(result["scores"], torch.tensor([score for score, *_ in want]), rtol=1e-6, atol=0)


# ---- one door for a picture

def test_a_rotated_photo_is_turned_upright(model, tmp_path):
    upright = picture(40, 60)
    for orientation, stored in ((6, np.rot90(upright)), (3, np.rot90(upright, 2)), (2, upright[:, ::-1])):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.png", exif=exif)
        with Image.open(tmp_path / "photo.png") as photo:
            got = predict_module.to_tensor(photo).permute(1, 2, 0).numpy()
        assert np.array_equal(got, upright)
        assert np.array_equal(got, np.asarray(open_picture(tmp_path / "photo.png")))  # the command line's way
    assert model.predict(Image.open(tmp_path / "photo.png"), "semantic").shape == (40, 60)


@pytest.mark.parametrize("mode, dtype, scale", (("I;16", np.uint16, 257), ("I", np.int32, 257), ("L", np.uint8, 1)))
def test_grey_of_any_depth_is_the_same_picture(mode, dtype, scale, tmp_path):
    grey = picture(20, 30)[..., 0]
    image = Image.fromarray(grey.astype(dtype) * scale)
    assert image.mode == mode
    image.save(tmp_path / "grey.tiff")
    for one in (image, Image.open(tmp_path / "grey.tiff")):
        assert np.array_equal(predict_module.to_tensor(one).numpy(), np.stack([grey] * 3))
    assert np.array_equal(np.asarray(open_picture(tmp_path / "grey.tiff"))[..., 0], grey)


def test_pictures_that_can_not_be_read_are_explained(model, tmp_path):
    with pytest.raises(ValueError, match="the picture holds floating-point pixels"):
        model.predict(Image.fromarray(np.zeros((8, 8), np.float32)))
    with pytest.raises(ValueError, match="outside 16 bits"):
        model.predict(Image.fromarray(np.full((8, 8), 70_000, np.int32)))
    Image.fromarray(picture(90, 90)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:9000])
    with pytest.raises(ValueError, match="cannot be read .*truncated"):
        model.predict(Image.open(tmp_path / "cut.png"))


# ---- predictions that are no numbers

@pytest.mark.parametrize("task", predict_module.TASKS)
@pytest.mark.parametrize("broken", ("class_head", "mask_head"))
def test_a_model_with_nan_weights_says_so(task, broken):
    model = build_model("mini", short_side=64)
    weights = list(getattr(model, broken).parameters())
    with torch.no_grad():
        weights[-1].fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not finite for 2 of 2 pictures"):
        model.predict([picture(64, 64), picture(64, 80)], task)
    if task == "semantic":
        with pytest.raises(FloatingPointError):
            model.predict(picture(64, 64), task, tta=True, scales=(1,))


def test_a_model_in_training_predicts_without_dropout_and_with_its_own_thresholds(model, monkeypatch):
    array, other, seen = picture(50, 90), copy.deepcopy(model).train(), []
    for module in other.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.9
    assert torch.equal(other.predict(array, "semantic"), model.predict(array, "semantic"))
    other.config = replace(other.config, score_threshold=0.3, overlap_threshold=0.5)
    monkeypatch.setattr(predict_module, "panoptic_inference", lambda *a, resize, **options: seen.append(options) or (torch.zeros(1, 1), []))
    other.predict(array, "panoptic")
    other.predict(array, "panoptic", score_threshold=0.1)
    assert seen == [{"score_threshold": 0.3, "overlap_threshold": 0.5}, {"score_threshold": 0.1, "overlap_threshold": 0.5}]
