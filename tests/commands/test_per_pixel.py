"""The per-pixel baseline as a preset: trained, resumed, evaluated and used by the same commands as MaskFormer."""
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import minimaskformer.commands.cli as cli
from minimaskformer import Lakeland, PerPixelBaseline, build_model, evaluate, load_checkpoint, save_checkpoint
from minimaskformer.model import PixelOutput
from minimaskformer.predict import picture_scores, run
from minimaskformer.studies.baselines import predict_pixels
from minimaskformer.targets import panoptic_to_semantic, semantic_to_target
from minimaskformer.training import per_pixel_loss as per_pixel_module
from minimaskformer.training.per_pixel_loss import PixelCriterion, per_pixel_loss

QUICK = ["--preset", "per_pixel_mini", "--data", "lakeland:64,0", "--batch-size", "2", "--size", "64", "--log-every", "1",
         "--evaluate-images", "2", "--save-every", "2"]


def test_train_resume_evaluate_predict(tmp_path, capsys, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert cli.main(["train", *QUICK, "--steps", "4", "--out", str(whole)]) == 0
    said = capsys.readouterr().out
    assert "per_pixel_mini: " in said and "| miou |" in said.replace(" ap | ap50", "")
    model = load_checkpoint(whole / "model.safetensors")
    assert isinstance(model, PerPixelBaseline) and model.config.per_pixel
    rows = [json.loads(line) for line in (whole / "log.jsonl").read_text().splitlines()]
    assert {"loss", "pixel", "lr", "gradient_norm"} <= set(rows[0]) and rows[-1]["miou"] >= 0 and rows[-1]["ap"] is None
    assert (whole / "curves.png").is_file() and (whole / "scenes.png").is_file()

    import minimaskformer.train as train_module  # stop after step 3, go on from the checkpoint of step 2
    original = train_module.set_learning_rate
    monkeypatch.setattr(train_module, "set_learning_rate", lambda o, c, step: 1 / 0 if step == 4 else original(o, c, step))
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", *QUICK, "--steps", "4", "--out", str(parts)])
    monkeypatch.undo()
    assert cli.main(["train", *QUICK, "--steps", "4", "--out", str(parts), "--resume"]) == 0
    other = load_checkpoint(parts / "model.safetensors").state_dict()
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())

    checkpoint = str(whole / "model.safetensors")
    capsys.readouterr()
    assert cli.main(["evaluate", checkpoint, "--data", "lakeland:64,0", "--limit", "2", "--out", str(tmp_path / "e")]) == 0
    assert json.loads((tmp_path / "e" / "metrics.json").read_text())["ap"] is None
    page = (tmp_path / "e" / "worst.html").read_text()
    assert "Lowest PQ" in page and "Lowest mask AP" not in page
    photo = tmp_path / "photo.png"
    Image.fromarray(Lakeland("val", 96, 0.5, 1).scene(0)[0]).crop((0, 0, 90, 70)).save(photo)
    for task in ("semantic", "panoptic"):
        assert cli.main(["predict", checkpoint, str(photo), "--task", task, "--out", str(tmp_path)]) == 0
    want = model.predict(Image.open(photo))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "photo_semantic_ids.png")), want.numpy())
    assert cli.main(["predict", checkpoint, str(photo), "--task", "instance", "--out", str(tmp_path)]) == 1
    assert "no instances: choose --task semantic" in capsys.readouterr().err
    assert cli.main(["diagnose", str(whole)]) == 0
    said = capsys.readouterr().out
    assert "only the log is read" in said and "auxiliary" not in said
    assert cli.main(["train", *QUICK, "--steps", "4", "--queries", "5", "--out", str(tmp_path / "q")]) == 1
    assert "has no queries" in capsys.readouterr().err
    start = ["train", *QUICK, "--steps", "1", "--learning-rate", "0", "--weight-decay", "0", "--start-from", checkpoint]
    assert cli.main([*start, "--out", str(tmp_path / "s")]) == 0
    assert torch.equal(load_checkpoint(tmp_path / "s" / "model.safetensors").classifier.weight, model.classifier.weight)
    assert cli.main(["train", *QUICK, "--steps", "1", "--start-from", "mini", "--out", str(tmp_path / "m")]) == 1
    assert "per_pixel False (here True)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_model("per_pixel_mini", short_side=64).eval()


def test_answers(model):
    image = Lakeland("val", 96, 0.5, 3)[1][0][:, :70]
    want = predict_pixels(model, image)  # written down for lesson 11, another way
    assert torch.equal(model.predict(image), want) and len(want.unique()) > 2
    segment_map, info = model.predict(image, "panoptic")
    assert torch.equal(panoptic_to_semantic(segment_map, info), want) and len(info) == len(want.unique())
    assert {s["category_id"] for s in info if s["isthing"]} == set(want.unique().tolist()) & set(model.config.things)
    with pytest.raises(ValueError, match="no queries"):
        model.predict(image, "instance")
    assert picture_scores(model.config, *run(model, [image])[0]).sum(0).allclose(torch.ones(70, 96))
    tiled = model.predict(image, tiles=64)
    assert tiled.shape == (70, 96) and (tiled == want).float().mean() > 0.5
    assert model.predict(image, "panoptic", tiles=64)[0].shape == (70, 96)


def test_evaluation_is_of_the_semantic_map(model):
    data = Lakeland("val", 64, 0.5, 3)
    results = evaluate(model, data, progress=False)
    hits, either = np.zeros(11), np.zeros(11)
    for image, target in data:
        found = model.predict(image).numpy()
        truth = panoptic_to_semantic(target["segment_map"], target["segments_info"], -1).numpy()
        for k in range(11):
            hits[k] += ((found == k) & (truth == k)).sum()
            either[k] += (((found == k) | (truth == k)) & (truth != -1)).sum()
    assert results["miou"] == pytest.approx((hits[either > 0] / either[either > 0]).mean())
    assert results["ap"] is None and results["pq"] >= 0


def test_two_processes_divide_by_half_of_what_both_know(monkeypatch):
    """Their gradients are averaged, so each divides by the mean over processes; here the other one knows 10 pixels."""
    monkeypatch.setattr(per_pixel_module, "sum_over_processes", lambda count: count + 10)
    monkeypatch.setattr(per_pixel_module, "world_size", lambda: 2)
    assert PixelCriterion(3).normalizers([semantic_to_target(torch.zeros(4, 5, dtype=torch.int64), 3)], 7, "cpu") == 15


def test_the_criterion_sums_to_the_whole_batch():
    """Two micro-batches with the divisor of both are one batch; truth that was not padded is padded as the images were."""
    g = torch.Generator().manual_seed(0)
    truth = torch.randint(3, (3, 10, 13), generator=g)
    truth[1, :5] = 255
    targets, logits = [semantic_to_target(t, 3) for t in truth], torch.randn(3, 3, 8, 8, generator=g)
    criterion = PixelCriterion(3)
    known = criterion.normalizers(targets, 7, "cpu")
    assert known == 3 * 130 - 65
    parts = [criterion(PixelOutput(logits[i:j]), targets[i:j], known)["loss"] for i, j in ((0, 1), (1, 3))]
    whole = criterion(PixelOutput(logits), targets)["loss"]
    torch.testing.assert_close(sum(parts), whole)
    up, total = torch.nn.functional.interpolate(logits, scale_factor=4, mode="bilinear"), 0.0
    for b, y, x in np.argwhere(truth.numpy() != 255):
        total -= up[b, :, y, x].log_softmax(0)[truth[b, y, x]].item()
    assert math.isclose(whole.item(), total / known, rel_tol=1e-5)
    even = [semantic_to_target(torch.ones(32, 32, dtype=torch.int64), 3)] * 3
    torch.testing.assert_close(criterion(PixelOutput(logits), even)["loss"], per_pixel_loss(PixelOutput(logits), even)["loss"])


def test_no_class_head_of_another_kind(tmp_path, model):
    save_checkpoint(model, tmp_path / "m.safetensors")
    assert load_checkpoint(tmp_path / "m.safetensors").config == model.config
    from minimaskformer.evaluation import deciding_figure
    table = SimpleNamespace(things=(1,))
    assert deciding_figure({"pq": 0.1, "miou": 0.7, "instance": {}}, table) == 0.7
    assert deciding_figure({"pq": 0.1, "miou": 0.7, "instance": {"ap": 0.0}}, table) == 0.1
