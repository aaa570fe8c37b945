"""The full model is the reference: zoo weights in, the reference code's numbers out; and hostile files run nothing."""
import copy
import dataclasses
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minimaskformer import SetCriterion, build_model, hungarian_match, load_checkpoint, save_checkpoint
from minimaskformer.config import PRESETS
from minimaskformer.inference import semantic_scores
from minimaskformer.model import model_of
from minimaskformer.predict import to_input_size
from minimaskformer.weights import zoo

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import fill  # noqa: E402

SUMMARY = json.loads((GOLDEN / "models" / "summary.json").read_text())["models"]["ade_r50"]


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "models" / "ade_r50.npz")


@pytest.fixture(scope="module")
def weights():
    return fill.state_dict(GOLDEN / "models" / "ade_r50.keys.txt")


@pytest.fixture(scope="module")
def model(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("zoo") / "model_final.pkl"
    path.write_bytes(pickle.dumps({"model": {k: v.numpy() for k, v in weights.items()}, "__author__": "somebody"}))
    return load_checkpoint(path)


@pytest.fixture(scope="module")
def output(model, golden):
    with torch.no_grad():
        return model(model.normalize(torch.from_numpy(golden["a_image"])))


def close(got, want, atol):
    assert got.shape == want.shape
    torch.testing.assert_close(got.detach(), torch.from_numpy(want), rtol=0, atol=atol)


def test_outputs_of_every_layer(output, golden):
    close(output.class_logits, golden["a_pred_logits"], 2e-5)
    close(output.mask_logits, golden["a_pred_masks"], 2e-4)
    assert len(output.aux) == 5
    for i, aux in enumerate(output.aux):
        queries, suffix = (slice(None), "") if i == 2 else (slice(None, None, 20), "_q20")
        close(aux.class_logits[:, queries], golden[f"a_aux{i}_pred_logits{suffix}"], 2e-5)
        close(aux.mask_logits[:, queries], golden[f"a_aux{i}_pred_masks{suffix}"], 2e-4)


def test_maps_on_the_way(model, golden):
    with torch.no_grad():
        images, mask = model.pad(model.normalize(torch.from_numpy(golden["a_image"])))
        features = model.backbone(images)
        embeddings, _, _ = model.pixel_decoder(features, mask)
    maps = {f"res{i + 2}": feature for i, feature in enumerate(features)} | {"mask_features": embeddings}
    seen = 0
    for key in golden.files:
        name, every, step = key.removeprefix("a_").partition("_every_")
        if key.startswith("a_") and every and name in maps:
            close(maps[name][:, ::int(step)], golden[key], 2e-4)
            seen += 1
    assert seen == 5


def targets(golden):
    masks = np.unpackbits(golden["a_target_masks_packed"], axis=-1)[..., :160]
    return [{"labels": torch.from_numpy(golden["a_target_labels"]), "masks": torch.from_numpy(masks).bool()}]


@pytest.mark.parametrize("precision, tolerance", [(torch.float64, 2e-6), (torch.float32, 1e-5)])
def test_losses(model, golden, precision, tolerance):
    """The reference's float64 losses: in float64 to the last digit that counts, in float32 as far as its noise goes."""
    exact = copy.deepcopy(model).to(precision)
    with torch.no_grad():
        output = exact(model.normalize(torch.from_numpy(golden["a_image"])).to(precision))
    losses = SetCriterion(150)(output, targets(golden))
    names = {"loss_ce": "class", "loss_mask": "focal", "loss_dice": "dice", "total_weighted": "loss"}
    for key, want in SUMMARY["loss_float64"].items():
        base = key if key in names else key[:-2]
        assert losses[names[base] + key[len(base):]].item() == pytest.approx(want, rel=tolerance), key


def test_match(output, golden):
    [(queries, chosen)] = hungarian_match(output.class_logits, output.mask_logits, targets(golden))
    assert [list(pair) for pair in zip(queries.tolist(), chosen.tolist())] == SUMMARY["matched_query_target"]


def test_gradient_of_every_parameter(model, golden):
    model.zero_grad()
    output = model(model.normalize(torch.from_numpy(golden["a_image"])))
    SetCriterion(150)(output, targets(golden))["loss"].backward()
    norms = dict(zip((zoo.our_name(str(key)) for key in golden["grad_norm_keys"]), golden["grad_norms"].tolist()))
    ours = {name: p.grad.double().norm().item() for name, p in model.named_parameters()}
    model.zero_grad()
    assert set(ours) == set(norms)
    for name, want in norms.items():
        assert ours[name] == pytest.approx(want, rel=1e-3, abs=2e-4), name  # layer 0 self-attention has none: float noise


def test_padded_batch_and_semantic_inference(model, golden):
    pictures = [torch.from_numpy(golden[f"b_image{i}"]) for i in range(2)]
    height, width = (max(p.shape[k] for p in pictures) for k in (1, 2))
    images = torch.zeros(2, 3, height, width)
    for image, picture in zip(images, pictures):
        image[:, :picture.shape[1], :picture.shape[2]] = model.normalize(picture)
    with torch.no_grad():
        output = model(images)
    close(output.class_logits[:, ::5], golden["b_pred_logits_q5"], 2e-5)
    close(output.mask_logits[:, ::10], golden["b_pred_masks_q10"], 2e-4)
    for i, size in enumerate(((120, 140), (112, 101))):
        masks = F.interpolate(output.mask_logits[i][None], (128, 160), mode="bilinear")[0]
        masks = masks[:, :pictures[i].shape[1], :pictures[i].shape[2]]
        scores = F.interpolate(semantic_scores(output.class_logits[i], masks)[None], size, mode="bilinear")[0]
        close(scores[::40], golden[f"b_sem_seg{i}_every_40"], 2e-5)
        differ = scores.argmax(0) != torch.from_numpy(golden[f"b_sem_seg{i}_argmax"].astype(np.int64))
        assert differ.sum() <= 5  # near-ties: the smallest gap between two classes is 2e-8
    ours = to_input_size(output.mask_logits[0], (height, width), 32)
    assert ours.shape == (100, height, width)


def test_both_name_versions_pth_and_our_own_format(model, weights, tmp_path):
    old = {k.replace("sem_seg_head.pixel_decoder.", "sem_seg_head."): v for k, v in weights.items()}
    torch.save({"model": old}, tmp_path / "old.pth")
    torch.save(weights, tmp_path / "plain.pth")
    save_checkpoint(model, tmp_path / "ours.safetensors")
    for name in ("old.pth", "plain.pth", "ours.safetensors"):
        loaded = load_checkpoint(tmp_path / name)
        assert loaded.config == model.config
        assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values()))


def test_every_name_of_the_panoptic_model_has_its_place():
    keys = fill.read_keys(GOLDEN / "models" / "coco_pan_r50.keys.txt")
    own = build_model("r50_panoptic").state_dict()
    theirs = {zoo.our_name(key): shape for key, _, shape in keys if not key.startswith("criterion.")}
    assert {name: tuple(tensor.shape) for name, tensor in own.items()} == theirs
    config = zoo.guess_config({name: torch.empty(shape) for name, shape in theirs.items()})
    assert config == build_model("r50_panoptic").config


@pytest.mark.parametrize("name", ["r18", "r50_panoptic", "r101", "swin_t", "swin_s_panoptic", "swin_b", "swin_l"])
def test_every_preset_is_known_by_its_names_and_shapes(name):
    config = dataclasses.replace(PRESETS[name], window=9, decoder_layers=2, num_queries=7)
    with torch.device("meta"):
        tensors = model_of(config).state_dict()
    found = zoo.guess_config(tensors)
    known = ("backbone", "decoder_layers", "encoder_layers", "num_queries", "num_classes", "dim", "mask_dim", "hidden_dim", "feedforward")
    assert [getattr(found, field) for field in known] == [getattr(config, field) for field in known]
    assert found.window == (9 if "swin" in name else PRESETS[name].window)


def test_missing_and_misshapen_tensors_are_listed(weights, tmp_path):
    broken = dict(weights)
    del broken["sem_seg_head.predictor.class_embed.bias"]
    broken["backbone.stem.conv1.weight"] = broken["backbone.stem.conv1.weight"][:, :1]
    broken["surprise"] = torch.zeros(1)
    torch.save(broken, tmp_path / "broken.pth")
    with pytest.raises(ValueError) as error:
        load_checkpoint(tmp_path / "broken.pth")
    for part in ("missing: class_head.bias", "shape of backbone.stem.0.weight", "unexpected: surprise"):
        assert part in str(error.value)
    torch.save({"backbone.x": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="not of a kind we can read"):
        load_checkpoint(tmp_path / "other.pth")


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("kind", ["pkl", "pth"])
def test_a_hostile_file_runs_nothing(tmp_path, kind):
    mark = tmp_path / "was_here"
    content = {"model": {"w": np.zeros(2)}, "evil": Hostile(Path.touch, mark)}
    path = tmp_path / f"evil.{kind}"
    if kind == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint(path)
    assert not mark.exists()
    for name in (eval, print, getattr, np.load):
        (tmp_path / "more.pkl").write_bytes(pickle.dumps(Hostile(name, "1")))
        with pytest.raises(ValueError, match="refused|cannot be read"):
            load_checkpoint(tmp_path / "more.pkl")


@pytest.mark.parametrize("keep", [1, 30, 5000])
def test_truncated_pickle(tmp_path, keep):
    (tmp_path / "short.pkl").write_bytes(pickle.dumps({"model": {"w": np.zeros(4000)}})[:keep])
    with pytest.raises(ValueError, match="short.pkl"):
        load_checkpoint(tmp_path / "short.pkl")
