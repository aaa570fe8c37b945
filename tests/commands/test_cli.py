"""The command line, as a user types it, on small data of every kind."""
import json
import multiprocessing
import os
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from PIL import Image

import minimaskformer.commands.cli as cli
from minimaskformer import Lakeland, build_model, load_checkpoint, save_checkpoint
from minimaskformer.data.readers.coco_panoptic import decode_ids

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


def test_a_reader_who_has_seen_enough_is_no_error(tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    env = {**os.environ, "MINIMASKFORMER_HOME": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-m", "minimaskformer", "progress"], stdout=writer, stderr=subprocess.PIPE, env=env)
    os.close(writer)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_without_an_output_nothing_is_said(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", None)  # as `>&-` and pythonw.exe have it
    assert cli.main(["progress"]) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("capture", ["capsys", "capfd"])
def test_a_broken_pipe_that_is_not_the_output_is_an_error(capture, monkeypatch, request):
    capture = request.getfixturevalue(capture)

    def broken(options):
        raise BrokenPipeError(32, "Broken pipe")  # to another process, which ended
    monkeypatch.setitem(cli.COMMANDS, "progress", (cli.progress_options, broken, ""))
    assert cli.main(["progress"]) == 1 and capture.readouterr().err == "minimaskformer: Broken pipe\n"


def test_train_on_lakeland_leaves_everything(tmp_path, capsys):
    assert cli.main(["train", "--data", "lakeland:64,0", "--out", str(tmp_path / "run"), *QUICK]) == 0
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"model.safetensors", "log.jsonl", "config.json", "metrics.json", "metrics.md", "curves.png", "scenes.png"}
    assert Image.open(tmp_path / "run" / "curves.png").size[0] > 300
    assert "| pq |" in capsys.readouterr().out
    model = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert model.config.num_queries == 8 and model.config.short_side == 64 and model.config.class_names[0] == "sky"
    metrics = (tmp_path / "run" / "metrics.json").read_text()
    for name in ("scenes.png", "metrics.json"):  # as if it had been killed after its last step
        (tmp_path / "run" / name).unlink()
    assert cli.main(["train", "--data", "lakeland:64,0", "--out", str(tmp_path / "run"), *QUICK, "--resume"]) == 0
    assert {path.name for path in (tmp_path / "run").iterdir()} == left and (tmp_path / "run" / "metrics.json").read_text() == metrics


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
    assert cli.main(["diagnose", str(run)]) == 0 and "reading only the log" in capsys.readouterr().out
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
    assert "several pictures are named photo" in capsys.readouterr().err and not (tmp_path / "out").exists()


WITHOUT_TORCH = """
import contextlib, io, json, sys
from minimaskformer.commands.cli import main
for arguments in json.load(sys.stdin):
    text, error, status = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(error):
        try:
            status = main(arguments)
        except SystemExit as end:
            status = end.code
    heavy = sorted({"torch", "torchvision", "numpy", "matplotlib"} & set(sys.modules))
    print(json.dumps([status, text.getvalue(), error.getvalue(), heavy]))
"""
OPENS_AT_ONCE = [  # arguments, exit status, what is said
    ([], 0, "COMMAND"), (["--help"], 0, "COMMAND"), (["--version"], 0, "minimaskformer 0."), (["train", "--help"], 0, "--steps"),
    (["dance"], 2, "'predict'"), (["--dance"], 2, "COMMAND"), (["train", "--dance"], 2, "--dance"), (["evaluate"], 2, "checkpoint"),
    (["predict", "m", "i", "--task", "depth"], 2, "'panoptic'"), (["train", "--steps", "x"], 2, "--steps: expected a whole number, got 'x'"),
    (["train", "--batch-size", "2.5"], 2, "--batch-size: expected a whole number, got '2.5'"),
    (["train", "--learning-rate", "1,5"], 2, "--learning-rate: expected a number, got '1,5'"),
    (["train", "--scale", "1", "b"], 2, "--scale: expected a number, got 'b'"), (["train", "--amp", "fp8"], 2, "'bf16'"),
    (["train", "--queries", "0"], 2, "--queries: expected a whole number from 1 on, got '0'"),
    (["evaluate", "mini", "--limit", "all"], 2, "--limit: expected a whole number, got 'all'"),
    (["scenes", "--count", "-1"], 2, "--count: expected a whole number from 1 on, got '-1'")]


def test_help_and_wrong_options_come_without_torch():
    run = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], input=json.dumps([case[0] for case in OPENS_AT_ONCE]),
                         capture_output=True, text=True, check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(OPENS_AT_ONCE)
    for (arguments, status, words), (ended, text, error, heavy) in zip(OPENS_AT_ONCE, answers):
        assert (ended, heavy) == (status, []), arguments
        assert words in (error if status else text), arguments
        assert not status or (error.count("\n") == 1 and "--help" in error and not text), arguments


def test_the_commands_are_listed_without_arguments():
    run = subprocess.run([sys.executable, "-m", "minimaskformer"], capture_output=True, text=True)
    assert run.returncode == 0 and not run.stderr
    assert all(f"    {name} " in run.stdout for name in cli.COMMANDS)


def test_unknown_command_and_task_list_what_is_known(capsys):
    for arguments, known in ((["dance"], "predict"), (["predict", "m", "i", "--task", "depth"], "panoptic")):
        with pytest.raises(SystemExit):
            cli.main(arguments)
        assert known in capsys.readouterr().err


def test_ctrl_c_is_a_clean_stop(monkeypatch, capsys):
    def interrupt(options):
        raise KeyboardInterrupt
    monkeypatch.setitem(cli.COMMANDS, "train", (cli.train_options, interrupt, ""))
    assert cli.main(["train"]) == 130 and "stopped" in capsys.readouterr().err


def own_folder(place, shapes=((40, 30), (30, 40), (30, 30))):
    """A small data set of three pictures per split, with the labels 0, 1 and 255."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (place / kind / split).mkdir(parents=True)
        for i, (height, width) in enumerate(shapes):
            labels = np.zeros((height, width), dtype=np.uint8)
            labels[5:20, 4:20], labels[:2] = 1, 255
            Image.fromarray(labels).save(place / "labels" / split / f"Größe {i}.png")
            image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(image).save(place / "images" / split / f"Größe {i}.jpg")
    return f"own:{place}"


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_truncated_picture_is_one_line_from_a_loader_too(tmp_path, capsys, workers):
    data = own_folder(tmp_path / "data")
    picture = tmp_path / "data" / "images" / "train" / "Größe 2.jpg"
    picture.write_bytes(picture.read_bytes()[:-200])
    assert cli.main(["train", "--data", data, "--out", str(tmp_path / "run"), "--workers", workers, *QUICK]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"minimaskformer: {picture} cannot be read as an image") and "Copy or download" in error
    assert not multiprocessing.active_children()


def test_unreadable_labels_are_listed_all_at_once(tmp_path, capsys):
    data = own_folder(tmp_path)
    bad = [tmp_path / "labels" / split / "Größe 1.png" for split in ("train", "val")]
    for path in bad:
        path.write_bytes(b"")
    assert cli.main(["inspect", "--data", data, "--out", str(tmp_path / "look")]) == 1
    error = capsys.readouterr().err
    assert all(str(path) in error for path in bad) and "2 of the 6" in error


def test_a_folder_in_no_layout_says_what_it_holds(tmp_path, capsys):
    for i in range(3):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.JPG")
        Image.new("L", (8, 8)).save(tmp_path / f"{i}.png")
    (tmp_path / "more").mkdir()
    for data in (f"own:{tmp_path}", f"instances:{tmp_path}"):
        assert cli.main(["inspect", "--data", data]) == 1
        error = capsys.readouterr().err
        assert "more/, 3 .jpg, 3 .png" in error and "data/README.md" in error


def test_weights_that_are_not_finite_give_no_figures(trained, tmp_path, capsys):
    model = load_checkpoint(trained)
    with torch.no_grad():
        model.class_head.bias[2] = float("nan")
    save_checkpoint(model, tmp_path / "nan.safetensors")
    Image.new("RGB", (70, 64)).save(tmp_path / "photo.png")
    for arguments in (["evaluate", str(tmp_path / "nan.safetensors"), "--data", "lakeland:64,0", "--limit", "2"],
                      ["predict", str(tmp_path / "nan.safetensors"), str(tmp_path / "photo.png"), "--out", str(tmp_path)]):
        assert cli.main(arguments) == 1
        told = capsys.readouterr()
        assert "not finite" in told.err and "| pq |" not in told.out and "_panoptic" not in told.out


def test_other_class_names_are_told(trained, tmp_path, capsys):
    model = load_checkpoint(trained)
    names = tuple(f"class {k}" for k in range(11))
    model.config = replace(model.config, class_names=names)
    save_checkpoint(model, tmp_path / "other.safetensors")
    for path, told in ((tmp_path / "other.safetensors", True), (trained, False)):
        assert cli.main(["evaluate", str(path), "--data", "lakeland:64,0", "--limit", "1"]) == 0
        assert ("0: class 0 / sky" in capsys.readouterr().err) is told


def test_a_limit_below_one_is_refused(trained, capsys):
    assert cli.main(["evaluate", str(trained), "--data", "lakeland:64,0", "--limit", "-1"]) == 1
    assert "-1 pictures" in capsys.readouterr().err


def test_a_place_where_nothing_can_be_written(trained, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    Image.new("RGB", (70, 64)).save(tmp_path / "photo.png")
    out = ["--out", str(tmp_path / "file" / "run")]
    for arguments in (["train", "--data", "lakeland:64,0", *QUICK], ["inspect", "--data", "lakeland:64,0"],
                      ["evaluate", str(trained), "--data", "lakeland:64,0"],
                      ["predict", str(trained), str(tmp_path / "photo.png")]):
        assert cli.main([*arguments, *out]) == 1
        assert f"cannot write to the folder {out[1]}" in capsys.readouterr().err.splitlines()[-1]


def test_instances_of_a_model_without_things(tmp_path, capsys):
    save_checkpoint(build_model("mini", 2, short_side=64, class_names=("a", "b"), things=()), tmp_path / "m.safetensors")
    assert cli.main(["predict", str(tmp_path / "m.safetensors"), "x.png", "--task", "instance"]) == 1
    assert "--task semantic" in capsys.readouterr().err


@pytest.mark.parametrize("error, words", [
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"), ": CUDA out of memory. Tried to allocate 2 GiB.\n"),
    (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
     ": can't allocate memory: you tried\n"),
    (MemoryError("Unable to allocate 3 GiB"), ": Unable to allocate 3 GiB\n"), (MemoryError(), ": the memory is full\n")])
def test_too_little_memory_has_a_remedy(error, words, monkeypatch, capsys):
    def full(options):
        raise error
    monkeypatch.setitem(cli.COMMANDS, "progress", (cli.progress_options, full, ""))
    assert cli.main(["progress"]) == 1
    told = capsys.readouterr().err
    assert "--accumulate" in told and words in told


def test_other_errors_of_the_library_are_not_hidden(monkeypatch):
    def wrong(options):
        raise RuntimeError("a mistake of ours")
    monkeypatch.setitem(cli.COMMANDS, "progress", (cli.progress_options, wrong, ""))
    with pytest.raises(RuntimeError, match="of ours"):
        cli.main(["progress"])


@pytest.mark.parametrize("option", [["--queries", "-2"], ["--queries", "0"], ["--short-side", "-5"]])
def test_counts_are_at_least_one(option, capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", *option])
    assert "expected a whole number from 1 on, got" in capsys.readouterr().err


@pytest.mark.parametrize("option, words", [
    (["--device", "gpu"], "known: auto, cpu, cuda"), (["--scale", "0.01", "0.02"], "at least 8"),
    (["--mask-stride", "500"], "leaves nothing of masks of 16 x 16"), (["--start-from", "nowhere.pth"], "go by name: mini")])
def test_options_that_can_not_be_meant_are_one_line(option, words, tmp_path, capsys):
    assert cli.main(["train", *QUICK, "--out", str(tmp_path), "--data", "lakeland:64,0.0", *option]) == 1
    error = capsys.readouterr().err.strip()
    assert words in error.splitlines()[-1] and "Traceback" not in error


def test_labels_of_the_validation_split_are_checked_before_the_first_step(tmp_path, capsys):
    data = own_folder(tmp_path / "data")
    label = tmp_path / "data" / "labels" / "val" / "Größe 1.png"
    Image.fromarray(np.full((30, 40), 7, np.uint8)).save(label)
    (tmp_path / "data" / "classes.txt").write_text("0 a\n1 b\n")
    assert cli.main(["train", "--data", data, "--out", str(tmp_path / "run"), *QUICK]) == 1
    assert str(label) in capsys.readouterr().err and not (tmp_path / "run" / "log.jsonl").exists()


def test_start_from_a_model_of_other_classes_keeps_all_but_the_class_head(tmp_path, capsys):
    data, quick = own_folder(tmp_path / "data"), QUICK[:-2]
    assert cli.main(["train", "--data", data, "--start-from", "mini", "--out", str(tmp_path / "run"), "--learning-rate",
                     "0", "--weight-decay", "0", *quick]) == 0
    assert "mini has 11 classes, the data 2: the class head starts afresh" in capsys.readouterr().err
    mini, model = load_checkpoint("mini").state_dict(), load_checkpoint(tmp_path / "run" / "model.safetensors").state_dict()
    for name in (name for name in mini if "num_batches" not in name and "running" not in name):
        assert mini[name].shape[0] != model[name].shape[0] if name.startswith("class_head") else torch.equal(mini[name], model[name])
    assert cli.main(["train", "--data", data, "--start-from", "mini", "--preset", "r18", "--out", str(tmp_path), *quick]) == 1
    assert "backbone mini (here resnet18)" in capsys.readouterr().err


def test_a_new_run_sets_the_results_of_the_old_one_aside_before_it_can_fail(tmp_path, monkeypatch):
    run = ["train", "--data", "lakeland:64,0.0", "--out", str(tmp_path), *QUICK]
    assert cli.main(run) == 0
    before = sorted(path.name for path in tmp_path.iterdir())
    assert {"model.safetensors", "metrics.md", "scenes.png"} <= set(before)
    assert cli.main([*run, "--tensorboard"]) == (0 if find_spec("tensorboard") else 1)  # if not installed nothing is touched
    assert set(before) <= {path.name for path in tmp_path.iterdir()}
    monkeypatch.setattr("minimaskformer.train.set_learning_rate", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(run)
    assert not {"model.safetensors", "metrics.md", "scenes.png", "curves.png"} & {path.name for path in tmp_path.iterdir()}
    for _ in range(2):  # and it stays there if the new run fails again before its first save
        assert {"model.safetensors", "metrics.md", "log.jsonl"} <= {path.name for path in (tmp_path / "previous").iterdir()}
        with pytest.raises(ZeroDivisionError):
            cli.main(run)


def test_predict_goes_on_past_a_bad_picture_and_names_the_classes(tmp_path, capsys):
    Image.fromarray(np.zeros((30, 600, 3), np.uint8)).save(tmp_path / "wide.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert cli.main(["predict", "mini", str(tmp_path / "bad.png"), str(tmp_path), str(tmp_path / "wide.png"), "--task", "semantic",
                     "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "1 of 2 pictures" in error and "bad.png" in error  # the folder holds the same two
    assert json.loads((tmp_path / "out" / "wide_semantic.json").read_text())["0"] == "sky"
    assert min(Image.open(tmp_path / "out" / "wide_semantic.png").size) > 100  # an inch


def test_a_training_checkpoint_is_no_model(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save({"facts": "{}"}, path := tmp_path / "checkpoints" / "step_00000250.pt")
    with pytest.raises(ValueError, match="for --resume; the model is model.safetensors"):
        load_checkpoint(path)


def test_a_checkpoint_may_be_read_by_those_whom_the_umask_allows(tmp_path):
    save_checkpoint(build_model("mini"), tmp_path / "model.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
