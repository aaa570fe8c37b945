"""The hub's MaskFormer: files made from its lists of names, in both versions, become our model; misfits are listed."""
import json
import re
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from minimaskformer import build_model, load_checkpoint
from minimaskformer.config import get_config
from minimaskformer.weights import hub, zoo
from minimaskformer.weights.checkpoint import load_tensors

GOLDEN = Path(__file__).parents[1] / "golden"
sys.path.insert(0, str(GOLDEN))
import fill  # noqa: E402

BACKBONES = {"r50": {"model_type": "resnet", "layer_type": "bottleneck", "downsample_in_bottleneck": False, "hidden_act": "relu"},
             "swin_t": {"model_type": "swin", "window_size": 7, "hidden_act": "gelu", "drop_path_rate": 0.2}}


def settings(preset, **changes):
    return {"model_type": "maskformer", "backbone_config": BACKBONES[preset],
            "decoder_config": {"model_type": "detr", "decoder_attention_heads": 8, "dropout": 0.05},
            "id2label": {str(i): f"name {i}" for i in range(150)}} | changes


def hub_tensors(preset, column=3, meta=False):
    """Random tensors with the hub's names of column 3 (files) or 0 (transformers 5); values do not depend on it."""
    tensors = {}
    for line in (GOLDEN / "models" / f"hf_maskformer_{preset}_keys.txt").read_text().splitlines():
        if not line.startswith("#"):
            columns = line.split("\t")
            shape = tuple(int(d) for d in re.findall(r"\d+", columns[1]))
            name = columns[3]
            if meta:
                tensors[columns[column]] = torch.empty(shape, dtype=getattr(torch, columns[2]), device="meta")
            elif columns[2] == "int64":
                tensors[columns[column]] = fill.fill(name, shape, "int64") if shape else torch.tensor(7)
            else:
                tensors[columns[column]] = fill.fill(name, shape)
    return tensors


def write(folder, tensors, config, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if name.endswith(".bin"):
        torch.save(tensors, folder / name)
    else:
        save_file(tensors, folder / name, {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def r50(tmp_path_factory):
    return write(tmp_path_factory.mktemp("hub") / "r50", hub_tensors("r50"), settings("r50"))


def test_a_folder_and_a_file_of_r50(r50):
    model, again = load_checkpoint(r50), load_checkpoint(r50 / "model.safetensors")
    names = tuple(f"name {i}" for i in range(150))
    assert model.config == get_config("r50", class_names=names, dropout=0.05, stochastic_depth=model.config.stochastic_depth)
    assert not model.training and model.decoder.layers[0].dropout.p == 0.05
    ours, tensors = model.state_dict(), hub_tensors("r50")
    assert all(torch.equal(a, b) for a, b in zip(ours.values(), again.state_dict().values()))
    e, d = "model.pixel_level_module.encoder.encoder.stages.1.layers.0.", "model.transformer_module.decoder.layers.2."
    for mine, theirs in {
            "backbone.stem.1.running_var": "model.pixel_level_module.encoder.embedder.embedder.normalization.running_var",
            "backbone.stages.1.0.downsample.0.weight": e + "shortcut.convolution.weight",
            "backbone.stages.1.0.conv2.weight": e + "layer.1.convolution.weight",
            "backbone.stages.1.0.bn3.running_mean": e + "layer.2.normalization.running_mean",
            "pixel_decoder.laterals.2.0.weight": "model.pixel_level_module.decoder.fpn.layers.0.proj.0.weight",
            "pixel_decoder.outputs.0.0.1.bias": "model.pixel_level_module.decoder.fpn.layers.2.block.1.bias",
            "decoder.layers.2.mlp.3.weight": d + "fc2.weight",
            "decoder.layers.2.norm3.bias": d + "final_layer_norm.bias",
            "decoder.layers.2.cross_attn.out_proj.weight": d + "encoder_attn.out_proj.weight",
            "mask_head.2.weight": "mask_embedder.1.0.weight"}.items():
        assert torch.equal(ours[mine], tensors[theirs]), mine
    joined = [tensors[f"{d}self_attn.{part}_proj.weight"] for part in "qkv"]
    assert torch.equal(ours["decoder.layers.2.self_attn.in_proj_weight"], torch.cat(joined))


def test_a_bin_file_of_swin_t(tmp_path):
    tensors = hub_tensors("swin_t")
    folder = write(tmp_path / "swin", tensors, settings("swin_t", id2label={"0": "LABEL_0"}), "pytorch_model.bin")
    model = load_checkpoint(folder / "pytorch_model.bin")
    assert model.config == get_config("swin_t", dropout=0.05, stochastic_depth=0.2)
    b = "model.pixel_level_module.encoder.model.encoder.layers.2.blocks.5."
    ours = model.state_dict()
    joined = [tensors[f"{b}attention.self.{part}.bias"] for part in ("query", "key", "value")]
    assert torch.equal(ours["backbone.stages.2.5.attn.qkv.bias"], torch.cat(joined))
    assert torch.equal(ours["backbone.stages.2.5.mlp.3.weight"], tensors[b + "output.dense.weight"])
    assert torch.equal(ours["backbone.stages.2.5.attn.proj.weight"], tensors[b + "attention.output.dense.weight"])
    assert torch.equal(ours["backbone.norms.3.weight"], tensors["model.pixel_level_module.encoder.hidden_states_norms.3.weight"])


@pytest.mark.parametrize("preset", ["r50", "swin_t"])
def test_both_versions_of_the_names_fill_every_tensor(preset):
    files, package = (hub.convert_hub(hub_tensors(preset, column, meta=True)) for column in (3, 0))
    with torch.device("meta"):
        own = build_model(preset).state_dict()
    assert {name: t.shape for name, t in files.items()} == {name: t.shape for name, t in own.items()}
    assert {hub.our_name_and_part(name) for name in hub_tensors(preset, 3, True)} == \
        {hub.our_name_and_part(name) for name in hub_tensors(preset, 0, True)}
    assert set(package) == set(own)


@pytest.mark.parametrize("preset", ["r50", "swin_t"])
def test_any_tensor_missing_is_listed(preset):
    """A third of the names at a time, configuration included: nothing is skipped, nothing fails in another way."""
    tensors = hub_tensors(preset, meta=True)
    with torch.device("meta"):
        model = build_model(preset)
    used = [name for name in tensors if not hub.UNUSED.search(name)]
    heads = [name for name in used if "class_predictor" in name or "queries_embedder" in name]
    for missing in (*(set(used[i::3]) for i in range(3)), heads):
        rest = hub.convert_hub({name: tensor for name, tensor in tensors.items() if name not in missing})
        assert zoo.guess_config(rest).backbone == model.config.backbone
        with pytest.raises(ValueError) as error:
            load_tensors(model, rest)
        listed = set(str(error.value).split("\n  "))
        assert {f"missing: {hub.our_name_and_part(name)[0]}" for name in missing} <= listed


def test_misfits_of_a_file_are_listed(tmp_path):
    tensors = hub_tensors("swin_t")
    del tensors["class_predictor.weight"], tensors["model.transformer_module.decoder.layers.1.self_attn.q_proj.weight"]
    tensors["model.transformer_module.queries_embedder.weight"] = torch.zeros(100, 255)
    tensors["model.transformer_module.decoder.layers.4.encoder_attn.k_proj.weight"] = torch.zeros(256, 3)
    tensors["surprise"] = torch.zeros(1)
    with pytest.raises(ValueError) as error:
        load_checkpoint(write(tmp_path / "bad", tensors, settings("swin_t")))
    for part in ("missing: class_head.weight", "missing: decoder.layers.1.self_attn.in_proj_weight", "unexpected: surprise",
                 "unexpected: model.transformer_module.decoder.layers.1.self_attn.k_proj.weight",
                 "k_proj.weight (256, 3), of the incomplete or uneven decoder.layers.4.cross_attn.in_proj_weight",
                 "shape of decoder.query_positions.weight: (100, 255) in the file, (100, 256) in the model"):
        assert part in str(error.value), part


@pytest.mark.parametrize("config, message", [
    (None, "needs its config.json beside"), ("{", "is not a JSON object"), ("[]", "is not a JSON object"),
    ({"model_type": "mask2former"}, "of type 'mask2former'"),
    (settings("r50", backbone_config=BACKBONES["r50"] | {"downsample_in_bottleneck": True}), "downsample_in_bottleneck = True, we compute False"),
    (settings("r50", decoder_config={"activation_function": "gelu"}), "activation_function = 'gelu', we compute 'relu'")])
def test_a_config_that_does_not_go(config, message, tmp_path):
    tensors = hub.convert_hub(hub_tensors("r50", meta=True))
    if config is not None:
        (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(FileNotFoundError if config is None else ValueError, match=message):
        hub.read_config(tmp_path, tensors)


def test_heads_come_from_the_config(tmp_path):
    tensors = hub.convert_hub(hub_tensors("r50", meta=True))
    (tmp_path / "config.json").write_text(json.dumps(settings("r50", decoder_config={"decoder_attention_heads": 4})))
    assert hub.read_config(tmp_path, tensors).num_heads == 4


def test_folders_without_weights(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither model.safetensors nor pytorch_model.bin"):
        load_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").symlink_to("../../blobs/gone")
    with pytest.raises(FileNotFoundError, match="link to a file that is not there"):
        load_checkpoint(tmp_path)


def test_a_hostile_bin_file_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was_here",)
    write(tmp_path / "evil", {"model.pixel_level_module.x": torch.zeros(1), "evil": Hostile()}, settings("r50"), "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read"):
        load_checkpoint(tmp_path / "evil")
    assert not (tmp_path / "was_here").exists()
