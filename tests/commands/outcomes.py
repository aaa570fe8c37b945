"""What the command line answers to what people type: arguments, exit status, and words of the answer.

In the arguments stand files of `lay_out`, in the folder where the command runs.
"""
import contextlib
import io
import json
import traceback

import numpy as np
from PIL import Image

from minimaskformer.commands.cli import main

QUICK = "--steps 1 --batch-size 1 --size 64 --evaluate-images 1"
OUTCOMES = [  # arguments, exit status, words that the answer holds
    ("", 0, "COMMAND"), ("--help", 0, "COMMAND --help"), ("-h", 0, "COMMAND --help"), ("--version", 0, "minimaskformer 0."),
    ("dance", 2, "'predict'"), ("--dance", 2, "COMMAND"), ("Train", 2, "'train'"), ("help", 2, "--help"),
    *((f"{name} --help", 0, "--help") for name in ("train", "evaluate", "inspect", "convert", "predict", "export", "diagnose", "scenes",
                                                   "lessons", "doctor", "progress", "mine")),
    ("train --dance", 2, "--dance"), ("train --steps x", 2, "expected a whole number, got 'x'"), ("train --steps", 2, "--steps"),
    ("train --steps 0", 1, "steps"), ("train --batch-size 2.5", 2, "expected a whole number, got '2.5'"),
    ("train --batch-size 0", 1, "batch_size"), ("train --learning-rate 1,5", 2, "expected a number, got '1,5'"),
    ("train --learning-rate nan", 1, "learning_rate"), ("train --learning-rate -1", 1, "learning_rate"),
    ("train --scale 1", 2, "--scale"), ("train --scale 2 1", 1, "scale"), ("train --amp fp8", 2, "'bf16'"),
    ("train --queries 0", 2, "expected a whole number from 1 on"), ("train --preset maxi", 1, "unknown preset 'maxi'"),
    ("train --data imagenet:x", 1, "unknown data set 'imagenet:x'"), ("train --data coco_panoptic:nowhere", 1, "nowhere"),
    ("train --data coco_panoptic", 1, "coco_panoptic"), ("train --data own:", 1, "own"), ("train --data own:empty", 1, "empty"),
    ("train --data lakeland:20", 1, "64 ... 512"), ("train --data lakeland:x", 1, "lakeland"), ("train --data lakeland:64,2", 1, "difficulty"),
    ("train --device gpu", 1, "known: auto, cpu, cuda"), ("train --device cuda:7", 1, "CUDA"),
    (f"train {QUICK} --out file", 1, "cannot write to the folder file"), ("train --start-from nowhere.pth", 1, "go by name: mini"),
    ("train --start-from broken.png", 1, "broken.png"), ("train --preset r18 --backbone-weights nowhere.pth", 1, "nowhere.pth"),
    ("train --backbone-weights DEFAULT", 1, "mini"), ("train --size 7", 1, "size"), ("train --workers -1", 1, "workers"),
    ("train --crowds objects", 1, "lakeland"), ("train --kind colours", 2, "'semantic'"),
    ("train --resume --out empty", 1, "nothing to resume in empty"), ("train --resume --out misspelt", 1, "nothing to resume in misspelt"), ("train --seed 99999999999999999999", 1, "seed"), ("train --scan -1", 2, "whole number from 0 on"),
    ("evaluate", 2, "checkpoint"), ("evaluate nowhere.safetensors", 1, "no checkpoint at nowhere.safetensors"),
    ("evaluate void.safetensors", 1, "void.safetensors"), ("evaluate text.txt", 1, "text.txt"), ("evaluate broken.png", 1, "broken.png"),
    ("evaluate empty", 1, "empty"), ("evaluate mini --data own:data", 1, "classes"), ("evaluate mini --limit 0", 1, "0 pictures"),
    ("evaluate mini --limit all", 2, "expected a whole number, got 'all'"), ("evaluate mini --split test", 1, "test"),
    ("evaluate mini --limit 1 --out file", 1, "cannot write to the folder file"),
    ("inspect", 2, "--data"), ("inspect --data own:empty", 1, "empty"), ("inspect --data own:nowhere", 1, "nowhere"),
    ("inspect --data own:text.txt", 1, "text.txt"), ("inspect --data own:data --split nope", 1, "nope"),
    ("inspect --data own:data --limit 0", 1, "limit"), ("inspect --data own:data --limit -3", 1, "limit"),
    ("inspect --data own:data --out file", 1, "cannot write to the folder file"), ("inspect --data own:data --out look", 0, "report.txt"),
    ("predict", 2, "checkpoint"), ("predict mini", 1, "name pictures"), ("predict mini photo.png --data own:data", 1, "one of the two"),
    ("predict mini nowhere.jpg", 1, "nowhere.jpg"), ("predict mini broken.png", 1, "broken.png"), ("predict mini void.png", 1, "void.png"),
    ("predict mini none/*.jpg", 1, "none/*.jpg"), ("predict mini empty", 1, "empty"), ("predict mini photo.png --task depth", 2, "'panoptic'"),
    ("predict mini photo.png --out file", 1, "cannot write to the folder file"), ("predict mini photo.png --device cuda", 1, "CUDA"),
    ("predict mini photo.png more/photo.png", 1, "several pictures are named photo"), ("predict maxi photo.png", 1, "go by name: mini"),
    ("predict mini photo.png --out seen", 0, "1 picture, "),
    ("convert", 2, "--data"), ("convert --data own:data", 2, "--out"), ("convert --data own:data --out data", 1, "not empty"),
    ("convert --data own:data --out file", 1, "file"), ("convert --data own:nowhere --out new", 1, "nowhere"),
    ("convert --data own:data --out new --format voc", 2, "'coco_panoptic'"), ("convert --data own:data --out new --splits nope", 1, "nope"),
    ("convert --data own:data --out new", 0, "--data"),
    ("export", 2, "checkpoint"), ("export nowhere.pth", 1, "nowhere.pth"), ("export mini --out empty", 1, "empty"),
    ("export mini --out file/m.onnx", 1, "file"),
    ("diagnose", 2, "run"), ("diagnose nowhere", 1, "nowhere"), ("diagnose empty", 1, "no log.jsonl"), ("diagnose text.txt", 1, "text.txt"),
    ("diagnose run", 1, "no line of run/log.jsonl can be read"),
    ("scenes --count 0", 2, "expected a whole number from 1 on"), ("scenes --size 20", 1, "64 ... 512"), ("scenes --size x", 2, "expected a whole"),
    ("scenes --difficulty 2", 1, "difficulty"), ("scenes --split test", 2, "'val'"), ("scenes --count 1 --out file", 1, "file"),
    ("scenes --count 1 --out file/more", 1, "file"), ("scenes --count 1 --size 64 --out scenes", 0, "1 scene in scenes; use them with --data coco_panoptic:scenes"),
    ("progress", 0, "Lesson 00"), ("mine --reset", 2, "--reset"), ("progress --reset", 0, "Lesson 00"), ("progress 00", 2, "00"),
    ("lessons 77 --update-only", 1, "there is no lesson '77'"), ("lessons --port x", 2, "whole number"), ("lessons --update-only", 0, "my_lessons"),
    ("doctor now", 2, "doctor: unrecognized"), ("--seed 3 train", 2, "the COMMAND comes first"), ("-v", 2, "the COMMAND comes first"),
    ("--version train", 0, "minimaskformer 0."), ("train -h extra", 0, "--preset"), ("train --steps 1e3", 2, "expected a whole number, got '1e3'"),
    ("train mini", 2, "train: unrecognized arguments: mini"), ("predict mini photo.png --threshold 2", 2, "predict: unrecognized arguments"),
    ("predict mini --data lakeland", 1, "Lakeland has the splits 'train' and 'val'"),
    ("predict mini photo.png --tiles 0", 2, "from 1 on, got '0'"), ("predict mini photo.png --tiles 31", 1, "at least 32"), ("predict mini photo.png --task", 2, "--task"), ("evaluate mini mini", 2, "mini"),
    ("inspect data", 2, "--data"), ("convert --data own:data --out new2 --splits", 2, "--splits"), ("scenes --count -1", 2, "from 1 on, got '-1'"),
    ("lessons 00_start_here.ipynb --update-only", 0, "my_lessons"), ("lessons -1 --update-only", 1, "there is no lesson '-1'"),
    ("lessons 00 01", 2, "lessons: unrecognized arguments: 01"), ("lessons --port 99999", 2, "1 ... 65535"), ("progress --reset=1", 2, "--reset")]


def lay_out(folder):
    """The files that OUTCOMES are about."""
    for name in ("empty", "more", "run"):
        (folder / name).mkdir()
    for name in ("file", "void.png", "void.safetensors"):
        (folder / name).write_bytes(b"")
    (folder / "text.txt").write_text("a text")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand no more")
    (folder / "run" / "log.jsonl").write_text("{broken\n")
    for name in ("photo.png", "more/photo.png"):
        Image.new("RGB", (70, 64), (90, 140, 60)).save(folder / name)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / "data" / kind / split).mkdir(parents=True)
        labels = np.zeros((30, 40), np.uint8)
        labels[5:20, 4:20] = 1
        Image.fromarray(labels).save(folder / "data" / "labels" / split / "a.png")
        Image.new("RGB", (40, 30)).save(folder / "data" / "images" / split / "a.jpg")


def answer(arguments):
    """(exit status, what was printed, what was said on stderr) of a command line, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(arguments.split())
        except SystemExit as end:
            status = end.code
        except Exception:
            traceback.print_exc()
            status = "traceback"
    return status, out.getvalue(), err.getvalue()


def as_table(rows):
    """A Markdown table of (arguments, exit status, answer's last line)."""
    lines = ["| command | exit status | what is said |", "|---|---|---|"]
    for arguments, status, text in rows:
        lines.append(f"| `{arguments or '(nothing)'}` | {status} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def last_line(status, out, err):
    """The line that a person reads: of the error if there is one."""
    lines = [line for line in (err if status else out).splitlines() if line.strip()]
    return lines[-1] if lines else json.dumps(None)
