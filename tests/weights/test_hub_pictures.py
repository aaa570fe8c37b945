"""preprocessor_config.json: our pictures become what the hub's own processor makes of them, or a note says otherwise."""
import json

import numpy as np
import pytest
import torch

from minimaskformer import build_model
from minimaskformer.weights.hub_pictures import NO_LIMIT, picture_settings

# the names that transformers 5.24 writes, and those of the first files on the hub
NOW = {"do_normalize": True, "do_reduce_labels": False, "do_rescale": True, "do_resize": True,
       "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "image_processor_type": "MaskFormerImageProcessor",
       "resample": 2, "rescale_factor": 1 / 255, "size": {"longest_edge": 1333, "shortest_edge": 800}, "size_divisor": 0}
THEN = {"do_normalize": True, "do_resize": True, "feature_extractor_type": "MaskFormerFeatureExtractor",
        "ignore_index": 255, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "max_size": 2048,
        "reduce_labels": True, "resample": 2, "size": 512, "size_divisibility": 32}


def written(folder, settings):
    (folder / "preprocessor_config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    return picture_settings(folder)


def test_the_names_of_today_and_of_the_first_files(tmp_path):
    assert picture_settings(tmp_path) == ({}, [])
    changes, undone = written(tmp_path, NOW)
    assert changes == {"pixel_mean": (127.5, 102, 76.5), "pixel_std": (51, 63.75, 76.5), "short_side": 800,
                       "long_side": 1333} and undone == []
    changes, undone = written(tmp_path, THEN)
    assert changes["pixel_mean"] == (127.5, 102, 76.5) and (changes["short_side"], changes["long_side"]) == (512, 2048)
    assert len(undone) == 1 and "size_divisor 32" in undone[0]
    changes, _ = written(tmp_path, {})  # what the package means by an entry that is not there
    assert changes["pixel_mean"] == pytest.approx((123.675, 116.28, 103.53)) and changes["short_side"] == 800


@pytest.mark.parametrize("change", [{}, {"do_normalize": False}, {"do_rescale": False, "image_std": [20.0, 25.0, 30.0]},
                                    {"rescale_factor": 1 / 128, "image_mean": [1.0, 0.9, 0.8]}, {"do_rescale": False, "do_normalize": False}])
def test_pixels_become_what_the_hub_s_processor_makes_of_them(tmp_path, change):
    transformers = pytest.importorskip("transformers")
    settings = NOW | change
    processor = transformers.MaskFormerImageProcessor(**settings | {"do_resize": False})
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    want = torch.as_tensor(np.asarray(processor(image, return_tensors="pt")["pixel_values"][0]))
    changes, _ = written(tmp_path, settings)
    model = build_model("mini", 3, **changes)
    got = model.normalize(torch.from_numpy(image).permute(2, 0, 1))
    assert torch.allclose(got, want[:, :40, :56].float(), rtol=1e-5, atol=1e-4)


def test_the_file_that_transformers_writes_is_read_without_loss(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.MaskFormerImageProcessor(size={"shortest_edge": 640, "longest_edge": 2560}).save_pretrained(tmp_path)
    changes, _ = picture_settings(tmp_path)
    assert changes == {"pixel_mean": (123.675, 116.28, 103.53), "pixel_std": (58.395, 57.12, 57.375), "short_side": 640,
                       "long_side": 2560}


@pytest.mark.parametrize("change, sides, words", [
    ({"size": {"shortest_edge": 480}}, (480, NO_LIMIT), []),
    ({"size": {"height": 384, "width": 512}}, (384, 512), ["stretched", "384"]),
    ({"size": {"max_height": 600, "max_width": 400}}, (400, 600), ["fit into"]),
    ({"resample": 3}, (800, 1333), ["resample 3"]), ({"do_resize": False}, (800, 1333), ["do_resize is false"]),
    ({"do_center_crop": True}, (800, 1333), ["do_center_crop"]), ({"do_center_crop": False, "do_pad": True}, (800, 1333), []),
])
def test_what_cannot_be_done_is_said(tmp_path, change, sides, words):
    changes, undone = written(tmp_path, NOW | change)
    assert (changes["short_side"], changes["long_side"]) == sides
    assert len(undone) == bool(words) and all(word in undone[0] for word in words)


@pytest.mark.parametrize("settings, words", [
    ("{", "is not JSON"), ("[]", "not a JSON object"), (NOW | {"image_std": [0.2, 0, 0.2]}, "image_std = .*above 0"),
    (NOW | {"image_mean": [0.5, 0.5]}, "image_mean = .*3 finite"), (NOW | {"image_mean": ["a"] * 3}, "image_mean"),
    (NOW | {"rescale_factor": 0}, "rescale_factor = 0"), (NOW | {"size": "big"}, "size = 'big'"),
    (NOW | {"size": {"edge": 3}}, "size = .*known are"), (NOW | {"size": {"shortest_edge": -1}}, "size = -1"),
    (NOW | {"do_normalize": "yes"}, "do_normalize = 'yes'"), (NOW | {"image_std": [float("nan")] * 3}, "image_std")])
def test_nonsense_is_refused_with_file_name_and_value(tmp_path, settings, words):
    with pytest.raises(ValueError, match=f"(?s)preprocessor_config.json.*{words}|{words}.*preprocessor_config.json"):
        written(tmp_path, settings)
