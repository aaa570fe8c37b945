"""Public functions called with arguments that people get wrong: a table, and the outcome of each call.

    python tests/public_calls.py                    print call and outcome, as Markdown
    python tests/public_calls.py --save old.json    keep the outcomes
    python tests/public_calls.py --before old.json  print call, outcome then, outcome now

An outcome is a *value* (nobody is told), a *sentence* (an error raised by minimaskformer itself) or a *raw* error (from
somewhere inside another library). Only a sentence is right. test_public_doors.py holds every call to that.
"""
import argparse
import json
import os
import traceback
import warnings
from pathlib import Path
from typing import Callable, NamedTuple

import numpy as np
import torch

import minimaskformer as mm
from minimaskformer import config, predict, targets
from minimaskformer.training.recipes import TrainConfig

K, N, H, W = 3, 5, 8, 8
CLASSES = mm.ClassTable(("sky", "sheep", "duck"), (False, True, True), (1, 2, 3))
LABELS = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 255]])
NAN = float("nan")


class Call(NamedTuple):
    door: str  # the public function
    fault: str  # what is wrong
    run: Callable  # does it
    says: str  # a pattern that the sentence must match: the argument, and what to do


def target(**changes):
    """A good target of two masks, with some entries changed."""
    masks = torch.zeros(2, H, W, dtype=torch.bool)
    masks[0, :4], masks[1, 4:6] = True, True
    return {"labels": torch.tensor([0, 2]), "masks": masks, "valid": torch.ones(H, W, dtype=torch.bool)} | changes


def logits(*shape):
    return torch.linspace(-2, 2, int(np.prod(shape))).reshape(shape)


CLASS, MASK = logits(N, K + 1), logits(N, H, W)
OUTPUT = mm.model.Output(CLASS[None], MASK[None])
MASKS, VALID = target()["masks"], target()["valid"]
INFO = [{"id": 1, "category_id": 0, "isthing": False, "iscrowd": 0, "area": 4},
        {"id": 2, "category_id": 1, "isthing": True, "iscrowd": 0, "area": 4}]
MAP = torch.tensor([[1, 1, 2, 2], [1, 1, 2, 2]])
INSTANCES = {"masks": torch.zeros(1, 2, 4, dtype=torch.bool), "labels": torch.tensor([1]), "scores": torch.tensor([.9])}


def nan_model():
    model = mm.build_model("mini")
    with torch.no_grad():
        model.class_head.weight.fill_(NAN)
    return model


BAD_TARGETS = {  # fault: (what makes it, what the sentence says)
    "masks are uint8 0 and 255": (dict(masks=MASKS.to(torch.uint8) * 255), r"masks .*255.*mask > 0"),
    "masks are probabilities": (dict(masks=MASKS * 0.5), r"masks .*0\.5.*mask >= 0\.5"),
    "masks hold -1": (dict(masks=MASKS.long() - 1), r"masks must be bool.*-1"),
    "masks hold nan": (dict(masks=MASKS * NAN), r"masks must be bool.*nan"),
    "valid is uint8 0 and 255": (dict(valid=VALID.to(torch.uint8) * 255), r"valid .*255.*> 0"),
    "valid has another shape": (dict(valid=VALID[:4]), r"valid is \[H, W\].*\[8, 8\], got \[4, 8\]"),
    "valid has one row": (dict(valid=VALID[:1]), r"valid is \[H, W\].*got \[1, 8\]"),
    "valid is [1, H, W]": (dict(valid=VALID[None]), r"valid is \[H, W\].*got \[1, 8, 8\]"),
    "one label too few": (dict(labels=torch.tensor([0])), r"labels are \[T\] and masks \[T, H, W\] with the same T"),
    "labels are floats": (dict(labels=torch.tensor([0.5, 1.7])), r"labels are class indices.*float32"),
    "labels are a list": (dict(labels=[0, 2]), r"labels is a tensor.*torch\.as_tensor"),
    "masks are an array": (dict(masks=MASKS.numpy()), r"masks is a tensor.*torch\.as_tensor"),
    "labels pass K": (dict(labels=torch.tensor([0, 3])), r"labels \[3\] are outside \[0, 3\)"),
    "masks are [T, P]": (dict(masks=MASKS.flatten(1)), r"masks \[T, H, W\]"),
}

CALLS = [
    *[Call(door, fault, (lambda f=function, c=change: f(target(**c))), says)
      for door, function in {
          "pairwise_cost": lambda t: mm.pairwise_cost(CLASS, MASK, t),
          "hungarian_match": lambda t: mm.hungarian_match(CLASS[None], MASK[None], [t]),
          "SetCriterion": lambda t: mm.SetCriterion(K)(OUTPUT, [t])}.items()
      for fault, (change, says) in BAD_TARGETS.items()],
    *[Call("target_to_panoptic", fault, (lambda c=change: mm.target_to_panoptic(target(**c), (1, 2))), says)
      for fault, (change, says) in BAD_TARGETS.items() if fault != "labels pass K"],
    Call("target_to_panoptic", "things are flags", lambda: mm.target_to_panoptic(target(), [False, True, True]),
         r"things .*flags.*\.things"),
    Call("target_to_panoptic", "things are NumPy flags",
         lambda: mm.target_to_panoptic(target(), np.array([False, True, True])), r"things .*flags.*\.things"),
    Call("target_to_panoptic", "no dict", lambda: mm.target_to_panoptic(MASKS, (1,)), r"a target is a dict"),
    Call("pairwise_cost", "a list of targets", lambda: mm.pairwise_cost(CLASS, MASK, [target()]), r"target is a dict"),
    Call("pairwise_cost", "a batch", lambda: mm.pairwise_cost(CLASS[None], MASK[None], target()), r"one image"),
    Call("pairwise_cost", "another number of masks", lambda: mm.pairwise_cost(CLASS, MASK[:3], target()), r"same N"),
    Call("hungarian_match", "one target, not a list", lambda: mm.hungarian_match(CLASS[None], MASK[None], target()),
         r"targets is a list"),
    Call("hungarian_match", "a target too many",
         lambda: mm.hungarian_match(CLASS[None], MASK[None], [target(), target()]), r"2 targets .*batch of 1"),
    Call("SetCriterion", "one target, not a list", lambda: mm.SetCriterion(K)(OUTPUT, target()), r"targets is a list"),
    *[Call(door, fault, run, says)
      for door, function in {"sigmoid_focal_loss": mm.sigmoid_focal_loss, "dice_loss": mm.dice_loss}.items()
      for fault, run, says in (
          ("masks are uint8 0 and 255", lambda f=function: f(MASK[:2], MASKS.to(torch.uint8) * 255, 2), r"masks .*255"),
          ("masks are 0.5", lambda f=function: f(MASK[:2], MASKS * 0.5, 2), r"masks .*0\.5"),
          ("masks hold -1", lambda f=function: f(MASK[:2], MASKS.long() - 1, 2), r"masks .*-1"),
          ("valid is uint8 0 and 255",
           lambda f=function: f(MASK[:2], MASKS, 2, valid=VALID.to(torch.uint8) * 255), r"valid .*255"),
          ("valid has another shape", lambda f=function: f(MASK[:2], MASKS, 2, valid=VALID[:4]), r"valid .*\[4, 8\]"),
          ("num_masks is 0", lambda f=function: f(MASK[:2], MASKS, 0), r"num_masks .*at least"))],
    Call("semantic_to_target", "label map of floats", lambda: mm.semantic_to_target(LABELS / 255, K),
         r"label map holds integers, got torch\.float32"),
    Call("semantic_to_target", "label map [1, H, W]", lambda: mm.semantic_to_target(LABELS[None], K),
         r"label map is \[H, W\], got shape \(1, 2, 4\)"),
    Call("semantic_to_target", "things are flags",
         lambda: mm.semantic_to_target(LABELS, K, things=[False, True, True]), r"things .*flags"),
    Call("semantic_to_target", "things are NumPy flags",
         lambda: mm.semantic_to_target(LABELS, K, things=list(np.array([False, True, True]))), r"things .*flags"),
    Call("semantic_to_target", "a thing passes K", lambda: mm.semantic_to_target(LABELS, K, things=[3]),
         r"things .*\[0, 3\), got \[3\]"),
    Call("semantic_to_target", "ignore is a class", lambda: mm.semantic_to_target(LABELS, 300), r"ignore=255 .*-1"),
    Call("panoptic_to_target", "segment map of floats", lambda: mm.panoptic_to_target(MAP * 1.0, INFO, K),
         r"segment map holds integers"),
    Call("panoptic_to_target", "category_id 0.5",
         lambda: mm.panoptic_to_target(MAP, [dict(INFO[0], category_id=.5), INFO[1]], K), r"labels \[0\.5\]"),
    Call("panoptic_to_target", "category_id is text",
         lambda: mm.panoptic_to_target(MAP, [dict(INFO[0], category_id="0"), INFO[1]], K), r"labels \['0'\]"),
    Call("panoptic_to_target", "an entry without id",
         lambda: mm.panoptic_to_target(MAP, [{"category_id": 0}, INFO[1]], K), r"no id"),
    Call("panoptic_to_target", "a negative id",
         lambda: mm.panoptic_to_target(-MAP, [dict(s, id=-s["id"]) for s in INFO], K), r"ids .*from 1 to 2\*\*31"),
    Call("panoptic_to_target", "an id past 31 bits",
         lambda: mm.panoptic_to_target(MAP + 2**40, [dict(s, id=s["id"] + 2**40) for s in INFO], K),
         r"ids .*from 1 to 2\*\*31"),
    *[Call(door, fault, run, says)
      for door, function in {"instance_inference": mm.instance_inference,
                             "panoptic_inference": mm.panoptic_inference}.items()
      for fault, run, says in (
          ("things are flags", lambda f=function: f(CLASS, MASK, [False, True, True]), r"things .*flags"),
          ("things are NumPy flags", lambda f=function: f(CLASS, MASK, list(np.array([False, True, True]))),
           r"things .*flags"),
          ("things are a tensor of flags", lambda f=function: f(CLASS, MASK, torch.tensor([False, True, True])),
           r"things .*flags"),
          ("things are one number", lambda f=function: f(CLASS, MASK, 1), r"things .*list"),
          ("things are names", lambda f=function: f(CLASS, MASK, ["sheep"]), r"things are class indices"))],
    *[Call(door, "class logits hold nan", run, r"logits hold NaN.*checkpoint")
      for door, run in {
          "general_inference": lambda: mm.general_inference(CLASS * NAN, MASK),
          "instance_inference": lambda: mm.instance_inference(CLASS * NAN, MASK, (1, 2)),
          "panoptic_inference": lambda: mm.panoptic_inference(CLASS * NAN, MASK, (1, 2))}.items()],
    *[Call(door, "mask logits hold nan", run, r"logits hold NaN.*checkpoint")
      for door, run in {
          "instance_inference": lambda: mm.instance_inference(CLASS, MASK * NAN, (1, 2)),
          "panoptic_inference": lambda: mm.panoptic_inference(CLASS.flip(1), MASK * NAN, (1, 2), 0.0)}.items()],
    *[Call("MaskFormer.predict", f"NaN weights, task {task}",
           lambda t=task: nan_model().predict(np.zeros((64, 64, 3), dtype=np.uint8), t), r"not finite")
      for task in predict.TASKS],
    *[Call("SetCriterion", f"{name} is {value!r}", lambda o={name: value}: mm.SetCriterion(**{"num_classes": K} | o), says)
      for name, value, says in (
          ("num_classes", 0, r"num_classes .*from 1 on, got 0"), ("num_classes", "3", r"num_classes .*got '3'"),
          ("no_object_weight", NAN, r"no_object_weight .*got nan"), ("focal_weight", -1, r"focal_weight .*got -1"),
          ("mask_stride", 0, r"mask_stride .*from 1 on, got 0"), ("mask_points", -5, r"mask_points .*from 0 on, got -5"))],
    Call("save_checkpoint", "a dtype of whole numbers",
         lambda: mm.save_checkpoint(nan_model(), "never.safetensors", dtype=torch.int8), r"floating-point type.*int8"),
    Call("save_checkpoint", "a dtype by name",
         lambda: mm.save_checkpoint(nan_model(), "never.safetensors", dtype="half"), r"floating-point type.*'half'"),
    Call("save_checkpoint", "numbers in extra",
         lambda: mm.save_checkpoint(nan_model(), "never.safetensors", extra={"step": 1}), r"extra holds strings"),
    Call("evaluate", "a limit of 1.5", lambda: mm.evaluate(nan_model(), mm.Lakeland("val", 64, 0.5, 2), limit=1.5),
         r"limit is a whole number.*1\.5"),
    Call("ClassTable", "ids are text", lambda: mm.ClassTable(("sky", "sheep"), (False, True), ("1", "2")), r"ids .*'1'"),
    Call("ClassTable", "ids are 1.5", lambda: mm.ClassTable(("sky", "sheep"), (False, True), (1.5, 2)), r"ids .*1\.5"),
    Call("MeanIoU", "num_classes is 0", lambda: mm.MeanIoU(0), r"num_classes"),
    Call("MeanIoU", "maps of floats", lambda: mm.MeanIoU(K).update(LABELS * 1.0, LABELS), r"map .*holds integers"),
    Call("MeanIoU", "scores, not a map", lambda: mm.MeanIoU(K).update(torch.zeros(K, 2, 4).long(), LABELS),
         r"shape \[3, 2, 4\]"),
    Call("PanopticQuality", "classes are names", lambda: mm.PanopticQuality(["sky", "sheep"]), r"ClassTable"),
    Call("PanopticQuality", "classes are a number", lambda: mm.PanopticQuality(3), r"ClassTable"),
    Call("MaskAP", "classes are a number", lambda: mm.MaskAP(3), r"ClassTable"),
    Call("PanopticQuality", "a map, not a pair", lambda: mm.PanopticQuality(CLASSES).update(MAP, (MAP, INFO)),
         r"prediction.*pair"),
    Call("PanopticQuality", "an instance result",
         lambda: mm.PanopticQuality(CLASSES).update(INSTANCES, (MAP, INFO)), r"prediction.*pair"),
    Call("PanopticQuality", "a target for the truth",
         lambda: mm.PanopticQuality(CLASSES).update((MAP, INFO), target()), r"truth.*pair.*target"),
    Call("PanopticQuality", "an entry without category_id",
         lambda: mm.PanopticQuality(CLASSES).update((MAP, [{"id": 1}, INFO[1]]), (MAP, INFO)), r"no category_id"),
    Call("MaskAP", "a panoptic result", lambda: mm.MaskAP(CLASSES).update((MAP, INFO), (MAP, INFO)),
         r"prediction.*masks, labels.*scores"),
    Call("MaskAP", "no scores",
         lambda: mm.MaskAP(CLASSES).update({"masks": INSTANCES["masks"], "labels": INSTANCES["labels"]}, (MAP, INFO)),
         r"prediction.*scores"),
    Call("MaskAP", "masks hold -1",
         lambda: mm.MaskAP(CLASSES).update(INSTANCES | {"masks": INSTANCES["masks"].long() - 1}, (MAP, INFO)),
         r"masks .*-1"),
    Call("MaskAP", "masks are floats",
         lambda: mm.MaskAP(CLASSES).update(INSTANCES | {"masks": INSTANCES["masks"] * .5}, (MAP, INFO)),
         r"masks must be bool"),
    Call("MaskAP", "true map of floats", lambda: mm.MaskAP(CLASSES).update(INSTANCES, (MAP * 1.5, INFO)),
         r"truth.*integers"),
    Call("ClassTable", "isthing are indices", lambda: mm.ClassTable(("sky", "sheep"), (1, 2), (1, 2)), r"isthing"),
    Call("MaskFormerConfig", "things are flags", lambda: mm.MaskFormerConfig(num_classes=3, things=(False, True, True)),
         r"things .*flags"),
    Call("MaskFormerConfig", "a thing passes K", lambda: mm.MaskFormerConfig(num_classes=3, things=(3,)), r"things"),
    Call("MaskFormerConfig", "size_divisibility is 0", lambda: mm.MaskFormerConfig(size_divisibility=0),
         r"size_divisibility"),
    Call("MaskFormerConfig", "a std of 0", lambda: mm.MaskFormerConfig(pixel_std=(1.0, 0.0, 1.0)), r"pixel_std"),
    Call("MaskFormerConfig", "a threshold of 80", lambda: mm.MaskFormerConfig(score_threshold=80), r"score_threshold"),
    Call("MaskFormerConfig", "two names for three classes",
         lambda: mm.MaskFormerConfig(num_classes=3, class_names=("sky", "sheep")), r"class_names"),
    Call("build_model", "heads do not divide the width", lambda: mm.build_model("mini", num_heads=5), r"num_heads"),
    Call("build_model", "num_classes is 0", lambda: mm.build_model("mini", num_classes=0), r"num_classes"),
    Call("build_model", "an unknown field", lambda: mm.build_model("mini", num_layers=3), r"num_layers"),
    Call("get_config", "an unknown preset", lambda: config.get_config("resnet50"), r"unknown preset.*known"),
    Call("TrainConfig", "learning rate nan", lambda: TrainConfig(learning_rate=NAN), r"learning_rate"),
    Call("panoptic_to_semantic", "map of floats", lambda: targets.panoptic_to_semantic(MAP * 1.5, INFO),
         r"segment map holds integers"),
]


def outcome(call):
    """("value" or "sentence" or "raw", text) of a call."""
    package = os.path.dirname(mm.__file__)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(0)
            value = call.run()
    except Exception as error:  # whatever comes
        last = traceback.extract_tb(error.__traceback__)[-1]
        kind = "sentence" if last.filename.startswith(package) and "raise " in last.line else "raw"
        return kind, f"{type(error).__name__}: {error}"
    return "value", " ".join(str(value).split())[:60]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--save", type=Path, help="keep the outcomes in this JSON")
    parser.add_argument("--before", type=Path, help="compare with the outcomes in this JSON")
    options = parser.parse_args()
    now = {f"{call.door}: {call.fault}": outcome(call) for call in CALLS}
    counts = {kind: sum(o[0] == kind for o in now.values()) for kind in ("value", "raw", "sentence")}
    if options.save:
        options.save.write_text(json.dumps(now, indent=1))
    before = json.loads(options.before.read_text()) if options.before else {}
    print("| call |" + " before |" * bool(before) + " now |\n|---|" + "---|" * (1 + bool(before)))
    for name, (kind, text) in now.items():
        then = before.get(name, ("", ""))
        cells = [name] + [f"{then[0]}: {then[1][:70]}"] * bool(before) + [f"{kind}: {text[:110]}"]
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    print(f"\n{len(now)} calls: {counts}")
    if before:
        print(f"before: { {kind: sum(o[0] == kind for o in before.values()) for kind in counts} }")


if __name__ == "__main__":
    main()
