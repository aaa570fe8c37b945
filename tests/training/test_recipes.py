"""How a run is configured: the paper's recipes by preset, what the command line changes, and impossible values."""
import json
import tempfile

import numpy as np
import pytest
import torch
from PIL import Image

import minimaskformer.commands.cli as cli
import minimaskformer.train as train_module
import minimaskformer.training.recipes as recipes
from minimaskformer.config import PRESETS, get_config
from minimaskformer.training.recipes import (
    FINE_TUNE,
    RECIPES,
    TrainConfig,
    amp_note,
    convolution_seconds,
    learning_rate_note,
    train_config,
)


def test_the_papers_recipes():
    """Section 4.1 of the paper; 300 epochs of whole batches on COCO."""
    r50 = train_config("r50")
    assert (r50.learning_rate, r50.weight_decay, r50.backbone_multiplier, r50.batch_size, r50.steps) == (1e-4, 1e-4, 0.1, 16, 160_000)
    assert (r50.clip, r50.size, r50.scale, r50.color, r50.mask_stride, r50.schedule) == (0.01, 512, (0.5, 2.0), True, 1, "poly")
    swin = train_config("swin_t")
    assert (swin.learning_rate, swin.weight_decay, swin.warmup, swin.steps, swin.size) == (6e-5, 0.01, 1500, 160_000, 512)
    assert swin.backbone_multiplier == train_config("swin_l_panoptic").backbone_multiplier == 1
    assert train_config("swin_b").size == 640
    coco = train_config("r50_panoptic")
    assert coco.batch_size == 64 and coco.steps == 300 * (118_287 // 64) == 554_400
    assert coco.schedule == "step" and not coco.color


def test_presets_without_a_recipe_have_the_defaults_and_changes_win():
    assert train_config("mini") == TrainConfig()
    assert train_config("r18") == TrainConfig(size=256, backbone_multiplier=0.3) and get_config("r18").short_side == 256
    assert set(RECIPES) <= set(PRESETS)
    going_on = train_config(FINE_TUNE)  # the paper's for fewer steps
    assert (going_on.steps, going_on.batch_size, going_on.learning_rate, going_on.backbone_multiplier) == (1000, 8, 1e-4, 0.1)
    assert train_config("r50", steps=7, size=64) == TrainConfig(**RECIPES["r50"] | {"steps": 7, "size": 64})


def test_the_rule_for_other_batch_sizes():
    assert learning_rate_note("r50", train_config("r50")) is None
    assert learning_rate_note("r50", train_config("r50", batch_size=8, learning_rate=5e-5)) is None
    note = learning_rate_note("r50", train_config("r50", batch_size=8))
    assert "--learning-rate 5e-05" in note and "--steps 320000" in note


@pytest.mark.parametrize("amp, name", [("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_cpu_that_is_slower_in_mixed_precision_is_told(amp, name, monkeypatch):
    cpu, slow = torch.device("cpu"), {"float32": 0.01, "bfloat16": 0.03, "float16": 0.05}
    monkeypatch.setattr(recipes, "convolution_seconds", slow.get)
    config = train_config("mini", amp=amp)
    assert f"{slow[name] / 0.01:.1f} times" in amp_note(config, cpu)
    assert amp_note(train_config("mini"), cpu) is None and amp_note(config, torch.device("cuda")) is None
    monkeypatch.setattr(recipes, "convolution_seconds", {"float32": 0.01, name: 0.006}.get)
    assert amp_note(config, cpu) is None


def test_a_convolution_is_tried_in_the_precision_that_is_asked_for(monkeypatch):
    seen = []
    forward = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *a: seen.append(forward(*a)) or seen[-1])
    assert convolution_seconds("bfloat16", tries=2) > 0 and convolution_seconds("float32", tries=1) > 0
    assert [output.dtype for output in seen] == [torch.bfloat16] * 2 + [torch.float32]



@pytest.mark.parametrize("changes, message", [
    (dict(steps=0), "steps is a whole number from 1 on, got 0"),
    (dict(batch_size=6, accumulate=4), "batch of 6 cannot be cut into 4 equal micro-batches"),
    (dict(amp="fp8"), "unknown amp 'fp8'; known: off, bf16, fp16"),
    (dict(learning_rate=-1e-4), "learning_rate is a number from 0 on, got -0.0001"),
    (dict(learning_rate=float("nan")), "learning_rate is a number from 0 on, got nan"),
    (dict(workers=-1), "workers is a number from 0 on, got -1"),
    (dict(workers=1_000_000), "workers is a whole number from 0 to 256, got 1000000"),
    (dict(steps=1.5), "steps is a whole number, got 1.5"),
    (dict(steps="10"), "steps is a whole number, got '10'"),
    (dict(batch_size=True), "batch_size is a whole number, got True"),
    (dict(learning_rate=None), "learning_rate is a number, got None"),
    (dict(color=1), "color is True or False, got 1"),
    (dict(scale=1.0), "scale is two numbers, got 1.0"),
    (dict(scale=(1.0,)), "scale is two numbers above 0"),
    (dict(scale=("1", 2)), "scale is two numbers above 0"),
    (dict(amp=None), "amp is a name, got None"),
    (dict(seed=10**30), "seed is a whole number from"),
    (dict(beta2=1.0), "beta2 is at least 0 and below 1"),
    (dict(scale=(2.0, 0.5)), "the smaller first"),
    (dict(category_limit=0.0), "category_limit is a share"),
    (dict(mask_points=-1), "mask_points is a number from 0 on, got -1"),
    (dict(mask_points=100), "mask_points 100 and mask_stride 2 are two ways to look at fewer pixels"),
    (dict(schedule="cosine"), "unknown schedule 'cosine'; known: poly, step, constant"),
])
def test_what_can_not_be_meant(changes, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**changes)


class Caught(Exception):
    pass


def settings(monkeypatch, *arguments):
    """What the train command would call train() with."""
    def catch(model, training, validation, config, folder, **options):
        raise Caught(model, config, options)
    monkeypatch.setattr(train_module, "train", catch)
    with tempfile.TemporaryDirectory() as folder, pytest.raises(Caught) as caught:
        cli.main(["train", "--data", "lakeland:64,0", "--device", "cpu", "--out", folder, *arguments])
    return caught.value.args


def test_the_command_line_takes_the_presets_recipe_and_changes_it(monkeypatch, capsys):
    model, config, _ = settings(monkeypatch, "--preset", "r50", "--batch-size", "8", "--no-color", "--amp")
    assert config == train_config("r50", batch_size=8, color=False, amp="bf16")
    assert model.config.short_side == 512
    assert "Rule of thumb" in (notes := capsys.readouterr().err) and "frozen" in notes
    model, config, options = settings(monkeypatch, "--amp", "fp16", "--size", "96", "--scale", "0.5", "1", "--resume")
    assert config == TrainConfig(amp="fp16", size=96, scale=(0.5, 1.0)) and model.config.short_side == 96
    assert options == {"resume": True, "scan": 0} and "Rule of thumb" not in (told := capsys.readouterr().err)
    assert all(line.startswith("note:") and "fp16" in line for line in told.splitlines())  # only where fp16 is slow


def test_the_help_shows_every_option_with_the_mini_models_value(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "peak learning rate [1e-4, from a pretrained backbone] (mini: 0.0004)" in text
    assert "--accumulate" in text and "--no-compile" in text and "--resume" in text


def test_resume_on_the_command_line(tmp_path, monkeypatch, capsys):
    arguments = ["train", "--data", "lakeland:64,0", "--out", str(tmp_path), "--steps", "2", "--batch-size", "2", "--size", "64",
                 "--log-every", "1", "--save-every", "1", "--evaluate-images", "2", "--queries", "8"]
    original = train_module.set_learning_rate

    def stop(optimizer, config, step):
        if step == 2:
            raise OSError("the machine is gone")
        original(optimizer, config, step)
    monkeypatch.setattr(train_module, "set_learning_rate", stop)
    assert cli.main(arguments) == 1
    monkeypatch.undo()
    assert cli.main(arguments) == 1 and "--resume" in capsys.readouterr().err
    assert cli.main([*arguments, "--resume", "--learning-rate", "1"]) == 1
    assert "train learning_rate: 0.0004 then, 1.0 now" in capsys.readouterr().err
    assert cli.main([*arguments, "--resume"]) == 0
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [1, 2, 2]


def test_bad_labels_stop_before_the_first_step_with_a_list_of_files(tmp_path, capsys):
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(3):
            Image.fromarray(np.ones((64, 64), np.uint8)).save(tmp_path / "labels" / split / f"{i}.png")
            Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "images" / split / f"{i}.png")
    for i in (0, 2):
        path = tmp_path / "labels" / "train" / f"{i}.png"
        path.write_bytes(path.read_bytes()[:30])
    arguments = ["train", "--data", f"instances:{tmp_path}", "--out", str(tmp_path / "run"), "--size", "64"]
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert all(str(tmp_path / "labels" / "train" / f"{i}.png") in error for i in (0, 2)) and not (tmp_path / "run").exists()


def test_seeding():
    import random

    from minimaskformer.training.resume import generator_states, seed_everything, set_generator_states
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()
    seed_everything(5)
    first, states = draw(), generator_states()
    second = draw()
    set_generator_states(json.loads(json.dumps({**states, "torch": None})) | {"torch": states["torch"]}
                         | {"python": states["python"]})
    assert draw() == second
    seed_everything(5)
    assert draw() == first != second
