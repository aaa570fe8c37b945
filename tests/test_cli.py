"""The command line, as a user types it, on small data of every kind."""
import json

import numpy as np
import pytest
import torch
from PIL import Image

import minimaskformer.cli as cli
from minimaskformer import Lakeland, build_model, load_checkpoint, save_checkpoint
from minimaskformer.data.coco import decode_ids

QUICK = ["--steps", "2", "--batch-size", "2", "--size", "64", "--log-every", "1", "--evaluate-images", "2", "--queries", "8"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    torch.manual_seed(0)
    model = build_model("mini", short_side=64)
    with torch.no_grad():
        model.class_head.weight.mul_(40)  # sure of something
    save_checkpoint(model, path)
    return path


def test_train_on_lakeland_leaves_everything(tmp_path, capsys):
    assert cli.main(["train", "--data", "lakeland:64,0", "--out", str(tmp_path / "run"), *QUICK]) == 0
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"model.safetensors", "log.jsonl", "config.json", "metrics.json", "metrics.md", "curves.png", "scenes.png"}
    assert Image.open(tmp_path / "run" / "curves.png").size[0] > 300
    assert "| pq |" in capsys.readouterr().out
    model = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert model.config.num_queries == 8 and model.config.short_side == 64 and model.config.class_names[0] == "sky"


def test_scenes_then_train_evaluate_and_predict_on_them(tmp_path, capsys):
    for split in ("train", "val"):
        assert cli.main(["scenes", "--out", str(tmp_path / "coco"), "--count", "3", "--size", "64", "--split", split]) == 0
    data = f"coco_panoptic:{tmp_path / 'coco'}"
    assert cli.main(["train", "--data", data, "--out", str(tmp_path / "run"), *QUICK]) == 0
    checkpoint = str(tmp_path / "run" / "model.safetensors")
    assert cli.main(["evaluate", checkpoint, "--data", data, "--out", str(tmp_path / "val")]) == 0
    assert json.loads((tmp_path / "val" / "metrics.json").read_text())["images"] == 3
    image = next(path for path in (tmp_path / "coco").rglob("*.png") if "val" in str(path.relative_to(tmp_path)) and "panoptic" not in str(path.relative_to(tmp_path)))
    assert cli.main(["predict", checkpoint, str(image), "--out", str(tmp_path / "seen")]) == 0
    assert "run" in capsys.readouterr().out


def test_diagnose_a_run_with_and_without_its_checkpoint(tmp_path, capsys):
    run = tmp_path / "run"
    assert cli.main(["train", "--data", "lakeland:64,0", "--out", str(run), *QUICK]) == 0
    capsys.readouterr()
    assert cli.main(["diagnose", str(run), "--data", "lakeland:64,0", "--limit", "3"]) == 0
    first = capsys.readouterr().out
    assert "Per image, over 3:" in first and "no object" in first
    evidence = json.loads((run / "evidence.json").read_text())
    assert evidence["images"] == 3
    (run / "model.safetensors").unlink()
    assert cli.main(["diagnose", str(run)]) == 0 and capsys.readouterr().out == first  # from evidence.json
    (run / "evidence.json").unlink()
    assert cli.main(["diagnose", str(run)]) == 0 and "only the log is read" in capsys.readouterr().out
    assert cli.main(["diagnose", str(tmp_path)]) == 1 and "no log.jsonl" in capsys.readouterr().err


def test_diagnose_on_other_data_is_refused(trained, tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n')
    (tmp_path / "model.safetensors").write_bytes(trained.read_bytes())
    for kind in ("images", "labels"):
        (tmp_path / kind / "val").mkdir(parents=True)
        Image.new("RGB" if kind == "images" else "L", (20, 20), 0).save(tmp_path / kind / "val" / "a.png")
    assert cli.main(["diagnose", str(tmp_path), "--data", f"instances:{tmp_path}"]) == 1
    assert "11 classes, the data set has 2" in capsys.readouterr().err


def test_train_on_instance_labels_from_a_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(3):
            labels = np.zeros((70, 80), np.uint8)
            labels[10:30, 10:30], labels[40:60, 30:70] = 1, 2
            Image.fromarray(labels).save(tmp_path / "labels" / split / f"{i}.png")
            Image.fromarray(rng.integers(0, 256, (70, 80), dtype=np.uint8)).save(tmp_path / "images" / split / f"{i}.png")
    arguments = ["train", "--data", f"instances:{tmp_path}", "--scale", "0.8", "1.5", *QUICK]
    assert cli.main([*arguments, "--out", str(tmp_path / "a")]) == 0
    first = tmp_path / "a" / "model.safetensors"
    assert cli.main([*arguments, "--out", str(tmp_path / "b"), "--start-from", str(first), "--learning-rate", "0"]) == 0
    a, b = load_checkpoint(first), load_checkpoint(tmp_path / "b" / "model.safetensors")
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters()))  # started there, and learnt at rate 0
    assert a.config.num_classes == 2 and a.config.things == (0,) and a.config.class_names == ("object", "background")


@pytest.mark.parametrize("task, raw", [("semantic", "_ids.png"), ("instance", ".npz"), ("panoptic", "_ids.png")])
def test_predict_writes_a_picture_and_the_result(trained, tmp_path, task, raw):
    image = Image.fromarray(Lakeland("val", 96, 0.5, 1).scene(0)[0]).crop((0, 0, 90, 70))
    image.save(tmp_path / "photo.jpg")
    assert cli.main(["predict", str(trained), str(tmp_path / "photo.jpg"), "--task", task, "--out", str(tmp_path)]) == 0
    assert (tmp_path / f"photo_{task}.png").is_file()
    want = load_checkpoint(trained).predict(Image.open(tmp_path / "photo.jpg"), task)
    if task == "semantic":
        assert np.array_equal(np.asarray(Image.open(tmp_path / f"photo_{task}{raw}")), want.numpy())
    elif task == "instance":
        assert np.array_equal(np.load(tmp_path / f"photo_{task}{raw}")["masks"], want["masks"].numpy())
    else:
        ids = decode_ids(np.asarray(Image.open(tmp_path / f"photo_{task}{raw}")))
        assert np.array_equal(ids, want[0].numpy())
        assert [s["id"] for s in json.loads((tmp_path / "photo_panoptic.json").read_text())] == [s["id"] for s in want[1]]


@pytest.mark.parametrize("arguments, message", [
    (["evaluate", "nowhere.safetensors"], "no checkpoint at nowhere.safetensors"),
    (["train", "--preset", "maxi"], "unknown preset 'maxi'"),
    (["train", "--data", "imagenet:x"], "unknown data set 'imagenet:x'"),
    (["train", "--data", "coco_panoptic:nowhere"], "nowhere"),
    (["train", "--data", "lakeland:20"], "64 ... 512"),
    (["train", "--device", "cuda:7", "--steps", "1"], "CUDA"),
])
def test_mistakes_are_one_line_and_leave_nothing(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cli.main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_a_file_that_is_no_whole_picture(trained, tmp_path, capsys, content):
    path = tmp_path / "bad.png"
    if content is None:  # truncated
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(path)
        content = path.read_bytes()[:2000]
    path.write_bytes(content)
    assert cli.main(["predict", str(trained), str(path), "--out", str(tmp_path / "out")]) == 1
    assert "bad.png" in capsys.readouterr().err
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())


def test_pictures_of_one_name_do_not_overwrite_each_other(trained, tmp_path, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (20, 20)).save(tmp_path / folder / "photo.png")
    pictures = [str(tmp_path / folder / "photo.png") for folder in ("a", "b")]
    assert cli.main(["predict", str(trained), *pictures, "--out", str(tmp_path / "out")]) == 1
    assert "several pictures are called photo" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_unknown_command_and_task_list_what_is_known(capsys):
    for arguments, known in ((["dance"], "predict"), (["predict", "m", "i", "--task", "depth"], "panoptic")):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        assert known in capsys.readouterr().err


def test_ctrl_c_is_a_clean_stop(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt
    monkeypatch.setattr(cli, "run_train", interrupt)
    assert cli.main(["train"]) == 130 and "stopped" in capsys.readouterr().err
