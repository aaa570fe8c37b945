"""The command line's `--data NAME:PATH`: from a short text to a data set."""
from importlib import import_module
from pathlib import Path

# name -> (module of this room, function of (folder, split)); imported when used, so that a list of names costs
# nothing
READERS = {"coco_panoptic": ("folders", "coco_panoptic"), "coco_instance": ("folders", "coco_instance"),
           "ade20k": ("public", "ade20k"), "cityscapes": ("public", "cityscapes"),
           "cityscapes_semantic": ("public", "cityscapes_semantic"), "voc": ("public", "voc"),
           "pets": ("public", "pets"), "instances": ("folders", "instances"), "own": ("your_own", "own")}
LAYOUTS = ("own", "instances")  # these take a FolderLayout
KNOWN = """lakeland or lakeland:SIZE,DIFFICULTY (drawn on the fly, such as lakeland:128,0.5)
  coco_panoptic:PATH (a folder with panoptic_SPLIT*.json in it, in annotations/, or in free/ and noncommercial/)
  coco_instance:PATH (a folder with instances_SPLIT*.json in it or in annotations/: things only)
  ade20k:PATH (ADEChallengeData2016 as unpacked: 150 classes, semantic)
  cityscapes:PATH (leftImg8bit/ and gtFine/ as unpacked: panoptic, 8 things) or cityscapes_semantic:PATH (19 classes)
  voc:PATH (the folder with VOCdevkit/VOC2012: 21 classes, semantic)
  pets:PATH (the folder with oxford-iiit-pet/: pet and background)
  instances:PATH (a folder with images/SPLIT/ and labels/SPLIT/, label PNGs with 0 for background)
  own:PATH (what annotation tools write: COCO, LabelMe, YOLO, label pictures as numbers or colours; or any layout that
    --images and --labels describe)"""


def open_dataset(spec, split, layout=None):
    """The data set that a text such as "coco_panoptic:data/coco" names, for a split such as "train" or "val".

    layout: a `FolderLayout`, how the folder of own: or instances: is laid out, if it cannot be recognised.
    Where label values and class indices differ, the table of the two is printed (to stderr, once).
    Raises ValueError for an unknown name or bad numbers, FileNotFoundError if files are missing.
    """
    name, _, place = spec.partition(":")
    if layout is not None and name not in LAYOUTS:
        raise ValueError(f"options for the layout of a folder (--images, --labels, --classes, --val-share ...) are for "
                         f"{' and '.join(f'{known}:PATH' for known in LAYOUTS)}, not for {spec}")
    if name == "lakeland":
        from .lakeland import Lakeland
        length = 1_000_000 if split == "train" else 1_000  # drawn on the fly: training need never repeat a scene
        return Lakeland(split=split, length=length, **lakeland_options(place))
    if name not in READERS:
        raise ValueError(f"unknown data set {spec!r}; known are:\n  {KNOWN}")
    if not place:
        raise ValueError(f"the data set {name} needs a folder: {name}:PATH")
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"no such folder: {folder} (data set {spec!r})")
    module, function = READERS[name]
    dataset = getattr(import_module(f".{module}", __package__), function)(folder, split, *([layout] if layout else []))
    if hasattr(dataset, "remap"):
        from ..system.distributed import say_once
        say_once(f"labels of {spec}:\n{dataset.remap()}")
    return dataset


def lakeland_options(text):
    """The arguments that "SIZE,DIFFICULTY" or "SIZE" stand for; none for an empty text."""
    if not text:
        return {}
    try:
        size, _, difficulty = text.partition(",")
        return {"size": int(size)} | ({"difficulty": float(difficulty)} if difficulty else {})
    except ValueError as error:
        raise ValueError(f"lakeland:{text}: after the colon come a size and a difficulty, as in lakeland:128,0.5") \
            from error
