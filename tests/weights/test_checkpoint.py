"""Checkpoints: exact round trip, atomic writes, and a clear error for every broken file."""
import dataclasses
import os

import pytest
import torch
from safetensors.torch import save_file

import minimaskformer.weights.checkpoint as checkpoint
from minimaskformer import build_model, load_checkpoint, save_checkpoint


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("mini", num_queries=5, class_names=tuple("abcdefghijk")).eval()


def test_round_trip(model, tmp_path):
    save_checkpoint(model, tmp_path / "new" / "model.safetensors")
    loaded = load_checkpoint(tmp_path / "new" / "model.safetensors")
    assert loaded.config == model.config and not loaded.training
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values()))
    assert os.listdir(tmp_path / "new") == ["model.safetensors"]


def test_half_precision_is_smaller_and_read_as_float32(model, tmp_path):
    name = "backbone.stem.1.num_batches_tracked"
    model.state_dict()[name].fill_(20_001)  # which a half float cannot be
    save_checkpoint(model, tmp_path / "full")
    save_checkpoint(model, tmp_path / "half", torch.float16)
    assert os.path.getsize(tmp_path / "half") < 0.55 * os.path.getsize(tmp_path / "full")
    x = torch.randn(1, 3, 64, 64)
    half = load_checkpoint(tmp_path / "half")
    assert all(p.dtype == torch.float32 for p in half.parameters()) and half.state_dict()[name] == 20_001
    torch.testing.assert_close(half(x).class_logits, model(x).class_logits, rtol=0.02, atol=0.02)


def test_interrupted_write_keeps_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(model, path)
    before = path.read_bytes()

    def full_disk(tensors, name, header):
        name.write_bytes(b"half a fi")
        raise OSError("No space left on device")
    monkeypatch.setattr(checkpoint, "save_file", full_disk)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(model, path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["model.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 1000, -100])
def test_truncated_file(model, tmp_path, keep):
    save_checkpoint(model, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[:keep])
    with pytest.raises(ValueError, match="model.safetensors is not a whole safetensors file.*truncated"):
        load_checkpoint(tmp_path / "model.safetensors")


def test_missing_file_names_the_shipped_ones():
    with pytest.raises(FileNotFoundError, match="no checkpoint at nowhere; shipped ones go by name: mini"):
        load_checkpoint("nowhere")


def test_every_misfit_is_listed(model, tmp_path):
    tensors = dict(model.state_dict())
    tensors["extra"] = tensors.pop("class_head.bias")
    tensors["mask_head.0.bias"] = tensors["mask_head.0.bias"][:-1].clone()
    header = {"config": checkpoint.json.dumps(dataclasses.asdict(model.config))}
    save_file(tensors, tmp_path / "bad", header)
    with pytest.raises(ValueError) as error:
        load_checkpoint(tmp_path / "bad")
    for part in ("missing: class_head.bias", "unexpected: extra", "shape of mask_head.0.bias: (127,) in the file, (128,)"):
        assert part in str(error.value)


def test_foreign_and_newer_files(model, tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "foreign")
    with pytest.raises(ValueError, match="without a minimaskformer config"):
        load_checkpoint(tmp_path / "foreign")
    save_file({"x": torch.zeros(1)}, tmp_path / "newer", {"config": '{"num_classes": 3, "magic": 1}'})
    with pytest.raises(ValueError, match=r"unknown configuration fields \['magic'\]"):
        load_checkpoint(tmp_path / "newer")


def test_the_shipped_model_is_there_and_small():
    path = checkpoint.shipped_checkpoint("mini")
    assert path.stat().st_size < 8_000_000
    model = load_checkpoint("mini")
    assert model.config.class_names[:2] == ("sky", "mountain") and len(model.config.things) == 6
