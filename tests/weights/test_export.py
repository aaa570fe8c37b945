"""A model as one graph: compiled in one piece, exported for any size, and in ONNX; all three say what eager says."""
import importlib.util
import json

import pytest
import torch
from torchvision.models import resnet

from minimaskformer import build_model, load_checkpoint
from minimaskformer.commands import cli
from minimaskformer.swin import SWINS
from minimaskformer.weights.export import difference, export_program, write_onnx

SMALL = {"mini": dict(encoder_layers=1, decoder_layers=2), "r50": dict(decoder_layers=1, num_queries=9),
         "swin_t": dict(decoder_layers=1, num_queries=9)}
SIZES = [(1, 3, 64, 64), (3, 3, 100, 45), (2, 3, 256, 300)]  # with and without padding; batches of one and more
onnx = pytest.mark.skipif(not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime")),
                          reason="needs the extra `export`: onnx, onnxscript, onnxruntime")


def picture(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def largest_difference(a, b):
    """Of class and mask logits, as a share of the largest logit."""
    return max(((x - torch.as_tensor(y)).abs().max() / x.abs().max()).item() for x, y in zip(a[:2], b[:2]))


@pytest.fixture(scope="module", params=SMALL)
def exported(request):
    """A model with random weights, and its exported program; ResNet and Swin with few blocks: the others are alike."""
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SWINS, "swin_t", (96, (2, 1, 1, 1)))
        patch.setattr(resnet, "resnet50",
                      lambda weights, norm_layer: resnet.ResNet(resnet.Bottleneck, [2, 1, 1, 1], norm_layer=norm_layer))
        model = build_model(request.param, **SMALL[request.param]).train()
    program = export_program(model)
    assert model.training  # as it was
    return model.eval(), program


@pytest.mark.parametrize("preset, backend", [("mini", "aot_eager"), ("r50", "eager"), ("swin_t", "eager")])
@torch.no_grad()
def test_the_whole_network_is_one_graph(preset, backend):
    torch.manual_seed(0)
    model = build_model(preset, **SMALL[preset]).eval()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    images = picture((2, 3, 64, 90))
    assert largest_difference(model(images), compiled(images)) < 1e-5


@torch.no_grad()
def test_padding_that_sizes_tell_of_is_one_graph_too():
    torch.manual_seed(0)
    model, sizes = build_model("mini", **SMALL["mini"]).eval(), [(64, 96), (32, 50)]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    images = picture((2, 3, 64, 96))
    assert largest_difference(model(images, sizes), compiled(images, sizes)) < 1e-5


@torch.no_grad()
def test_exported_program_is_the_model_at_any_size(exported):
    model, program = exported
    run = program.module(check_guards=False)
    for shape in SIZES:
        assert largest_difference(model(picture(shape)), run(picture(shape))) < 1e-5


@onnx
@torch.no_grad()
def test_onnx_is_the_model_at_any_size(exported, tmp_path):
    import onnxruntime
    model, program = exported
    write_onnx(model, tmp_path / "deep" / "model.onnx", program)
    session = onnxruntime.InferenceSession(str(tmp_path / "deep" / "model.onnx"))
    for shape in SIZES:
        answers = session.run(["class_logits", "mask_logits"], {"images": picture(shape).numpy()})
        assert largest_difference(model(picture(shape)), answers) < 1e-5
    assert [value.shape for value in session.get_inputs()] == [["batch", 3, "height", "width"]]
    facts = json.loads(session.get_modelmeta().custom_metadata_map["minimaskformer"])
    assert facts["pixel_mean"] == list(model.config.pixel_mean) and facts["size_divisibility"] == 32
    assert difference(model, tmp_path / "deep" / "model.onnx") < 1e-5
    for parameter in model.mask_head[4].parameters():
        parameter *= 3  # another model than the file's: masks of three times the size
    assert difference(model, tmp_path / "deep" / "model.onnx") == pytest.approx(2 / 3, abs=1e-3)
    for parameter in model.mask_head[4].parameters():
        parameter /= 3


@onnx
def test_the_command_writes_a_file_that_answers(tmp_path, capsys):
    import onnxruntime
    assert cli.main(["export", "mini", "--out", str(tmp_path / "mini.onnx")]) == 0
    assert str(tmp_path / "mini.onnx") in capsys.readouterr().out
    model, images = load_checkpoint("mini"), picture((1, 3, 128, 128))
    answers = onnxruntime.InferenceSession(str(tmp_path / "mini.onnx")).run(None, {"images": images.numpy()})
    with torch.no_grad():
        assert largest_difference(model(images), answers) < 1e-5
    assert list(tmp_path.iterdir()) == [tmp_path / "mini.onnx"]


def test_mistakes_leave_nothing(tmp_path, capsys, monkeypatch):
    with pytest.raises(ValueError, match="something.onnx"):
        write_onnx(load_checkpoint("mini"), tmp_path / "model.pt")
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)  # as if it were not installed
    assert cli.main(["export", "mini", "--out", str(tmp_path / "model.onnx")]) == 1
    assert "onnx" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_a_new_size_is_no_new_compilation():
    """A compiled model takes pictures of any size. (On a CPU, PyTorch also compiles for
    each way to convolve that it chooses for small maps, so oneDNN is off here.)"""
    torch.manual_seed(0)
    model, count = build_model("mini", encoder_layers=0, decoder_layers=1, short_side=64).eval(), []
    plain = build_model(model.config)
    plain.load_state_dict(model.state_dict())
    model.compile(backend=lambda graph, inputs: count.append(graph) or graph.forward, dynamic=True)
    sizes = (64, 70), (90, 64), (64, 64), (120, 64), (64, 97), (64, 128)
    pictures = [(picture((3, *size)).abs() * 60).to(torch.uint8) for size in sizes]
    with torch.backends.mkldnn.flags(enabled=False):
        for p in pictures:
            assert (model.predict(p, "semantic") == plain.predict(p, "semantic")).float().mean() > 0.999
        assert len(count) == 1
