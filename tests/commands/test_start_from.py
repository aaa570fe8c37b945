"""From another's weights to one's own data in one command; and which weights went into the backbone is said."""
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

import minimaskformer.commands.cli as cli
from minimaskformer import build_model, load_checkpoint, save_hub
from minimaskformer.backbone import load_backbone_weights
from minimaskformer.data.catalog import open_dataset
from minimaskformer.train import train
from minimaskformer.training.recipes import TrainConfig

QUICK = ["--steps", "1", "--batch-size", "2", "--size", "64", "--workers", "0", "--evaluate-images", "1", "--learning-rate", "0"]


def pictures(folder, values=(0, 1), classes="meadow\nsheep\n"):
    """A few pictures with label files in which these values are left and right."""
    for name in ("train/a", "train/b", "val/c"):
        for part, array in (("images", np.full((64, 64, 3), 90)), ("labels", np.repeat([values], 64, 0).repeat(32, 1))):
            path = folder / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array.astype(np.uint8)).save(path)
    (folder / "classes.txt").write_text(classes)
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A folder as the hub has it, of a small model."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("hub")
    save_hub(build_model("r18", 3, class_names=("cat", "dog", "sky"), dim=32, mask_dim=32, hidden_dim=32, feedforward=64, decoder_layers=1,
                         num_queries=5, num_heads=2, short_side=100, pixel_mean=(127.5, 102.0, 76.5)), folder)
    return folder


def test_a_hub_folder_goes_on_with_own_pictures_in_one_command(hub, tmp_path, capsys):
    data = pictures(tmp_path / "data")
    assert cli.main(["train", "--start-from", str(hub), "--data", f"own:{data}", "--out", str(tmp_path / "run"), *QUICK]) == 0
    told = capsys.readouterr()
    assert f"backbone: resnet18 of {hub}, with all else of it but the class head" in told.out
    assert "has 3 classes, the data 2: the class head starts afresh" in told.err
    before, after = load_checkpoint(hub), load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert after.config.class_names == ("meadow", "sheep") and after.config.num_queries == 5
    assert after.config.pixel_mean == (127.5, 102.0, 76.5) and after.config.short_side == 64  # --size 64
    kept = [torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items() if "class_head" not in name]
    assert all(kept) and len(kept) > 100


def test_which_weights_went_into_the_backbone_is_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("minimaskformer.train.train", lambda *_, **__: None)
    for module in ("evaluation.write_table", "evaluation.table", "draw.runs.draw_run"):
        monkeypatch.setattr(f"minimaskformer.{module}", lambda *_, **__: "")
    run = ["train", "--data", f"own:{pictures(tmp_path / 'data')}", "--out", str(tmp_path / "run"), *QUICK]
    assert cli.main([*run, "--preset", "r18"]) == 0
    assert "backbone: resnet18, new, without pretrained weights\n" in capsys.readouterr().out
    assert cli.main([*run]) == 0 and "backbone: mini, new" in capsys.readouterr().out
    torch.save(resnet18().state_dict(), tmp_path / "w.pth")
    assert cli.main([*run, "--preset", "r18", "--backbone-weights", str(tmp_path / "w.pth")]) == 0
    assert f"backbone: resnet18 with 100 tensors of {tmp_path / 'w.pth'}\n" in capsys.readouterr().out


def test_weights_paired_in_order_are_said_to_be(tmp_path):
    backbone, named = build_model("r18").backbone, resnet18().state_dict()
    torch.save({f"x{i}": value for i, (name, value) in enumerate(named.items()) if not name.startswith("fc.")}, tmp_path / "x.pth")
    assert load_backbone_weights(backbone, "resnet18", tmp_path / "x.pth").endswith("x.pth, paired in order, because their names are others")


def test_training_from_python_stops_where_there_is_nothing_to_learn_too(tmp_path):
    data = pictures(tmp_path / "data", (0, 255))  # the object is written 255, which is void
    datasets = [open_dataset(f"own:{data}", split) for split in ("train", "val")]
    model = build_model("mini", 2, class_names=datasets[0].classes.names, num_queries=4)
    with pytest.raises(ValueError, match=r"(?s)only meadow has targets.*255 sheep.*scan=0"):
        train(model, *datasets, TrainConfig(steps=1, size=64, batch_size=2), tmp_path / "run", progress=False)
    train(model, *datasets, TrainConfig(steps=1, size=64, batch_size=2, evaluate_images=1), tmp_path / "run", progress=False, scan=0)
