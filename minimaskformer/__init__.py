"""minimaskformer: MaskFormer (Cheng et al. 2021, arXiv 2107.06278) in code short enough to read in an evening.

The files beside this one are the paper, in the order of the lessons; this list is their table of contents. Everything
else is in rooms: data, training, weights, studies, draw, diagnosis, exercises, commands, system, fast.
"""
from importlib import import_module

__version__ = "0.1.0"

# file -> public names. A file is imported when one of its names is first used, so that the command line opens at once.
CONTENTS = {
    "targets": ["semantic_to_target", "panoptic_to_target", "target_to_panoptic"],  # lesson 01
    "matching": ["pairwise_cost", "hungarian_match"],  # 02
    "losses": ["sigmoid_focal_loss", "dice_loss", "classification_loss", "SetCriterion"],  # 03, 04
    "backbone": [],  # 05
    "swin": [],
    "pixel_decoder": [],
    "transformer": [],  # 06
    "model": ["MaskFormer", "PerPixelBaseline", "build_model"],  # 07
    "config": ["MaskFormerConfig"],
    "inference": ["general_inference", "semantic_scores", "semantic_inference", "panoptic_inference",
                  "instance_inference"],  # 08
    "predict": ["predict_semantic_tta"],
    "metrics": ["MeanIoU", "PanopticQuality"],  # 09
    "mask_ap": ["MaskAP"],
    "evaluation": ["evaluate"],
    "train": [],  # 10: minimaskformer.train.train
    "data.classes": ["ClassTable"],
    "data.lakeland": ["Lakeland"],
    "data.readers.semantic": ["SemanticFolder"],
    "data.readers.instances": ["InstanceFolder"],
    "data.readers.coco_panoptic": ["CocoPanoptic"],
    "data.readers.coco_instance": ["CocoInstance"],
    "weights.checkpoint": ["load_checkpoint", "save_checkpoint"],
    "weights.hub_export": ["save_hub"],
    "studies.baselines": ["PerPixelBaselinePlus"],
}
HOME = {name: module for module, names in CONTENTS.items() for name in names}
__all__ = sorted(HOME)


def __getattr__(name):
    if name in HOME:
        return getattr(import_module(f".{HOME[name]}", __name__), name)
    if name in CONTENTS or name in ("draw", "studies"):  # `minimaskformer.targets`, without an import of its own
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *CONTENTS})
