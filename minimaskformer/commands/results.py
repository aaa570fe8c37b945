"""What the commands check before the work begins, and what they leave on the disk to look at.

That is a picture's prediction, a run's curves, and scenes beside their truth.
"""
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps


def open_picture(path):
    """A picture file as RGB PIL image, upright as a viewer shows it; a clear error for anything else."""
    from ..data.images import open_image, rgb_array
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: name the pictures in it, for example {path}/*.jpg")
    return Image.fromarray(rgb_array(ImageOps.exif_transpose(open_image(path)), path))


def classes_of(model):
    """The class table a model was trained with, from its configuration."""
    from ..data.classes import ClassTable
    config = model.config
    names = config.class_names or tuple(f"class {k}" for k in range(config.num_classes))
    isthing = tuple(k in config.things for k in range(len(names)))
    return ClassTable(tuple(names), isthing, tuple(range(1, len(names) + 1)))


def check_writable(folder):
    """Make a folder for results before the work begins; OSError with a remedy where that can not be done."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"can not write to the folder {folder} ({error.strerror}): choose another with --out") from error


def compare_names(model, dataset):
    """Say so where a model's class names are not the data set's: classes are compared by their index alone."""
    from ..data.catalog import say
    pairs = list(zip(model.config.class_names or (), dataset.classes.names))
    other = [f"{k}: {a} / {b}" for k, (a, b) in enumerate(pairs) if a != b]
    if other and len(model.config.class_names) == len(dataset.classes):
        say(f"note: classes are compared by index, and their names differ (model / data set): {', '.join(other[:6])}"
            + " ..." * (len(other) > 6) + ". Is it the data set that the model was trained for?")


def write_prediction(model, image, result, task, stem):
    """A picture of a result, and the result itself in a form other programs read."""
    from .. import draw
    classes = classes_of(model)
    inches = min(40, max(6, max(image.size) / min(image.size)))  # of the longer side; the shorter gets an inch
    figure, ax = draw.new_figure(inches * image.width / max(image.size), inches * image.height / max(image.size))
    if task == "semantic":
        draw.draw_semantic(ax, image, result, classes, ignore=-1)  # no pixel is void
        Image.fromarray(result.cpu().numpy().astype(np.uint16)).save(f"{stem}_ids.png")
        Path(f"{stem}.json").write_text(json.dumps(dict(enumerate(classes.names)), indent=1, ensure_ascii=False),
                                        encoding="utf-8")
    elif task == "instance":
        draw.draw_instances(ax, image, result, classes)
        np.savez_compressed(f"{stem}.npz", **{name: value.cpu().numpy() for name, value in result.items()})
    else:
        from ..data.readers.coco_panoptic import encode_ids
        segment_map, segments_info = result
        draw.draw_panoptic(ax, image, segment_map.cpu(), segments_info, classes)
        Image.fromarray(encode_ids(segment_map.cpu().numpy())).save(f"{stem}_ids.png")
        Path(f"{stem}.json").write_text(json.dumps(
            [dict(s, category=classes.names[s["category_id"]]) for s in segments_info], indent=1, ensure_ascii=False),
            encoding="utf-8")
    draw.save_figure(figure, f"{stem}.png")
    print(f"{stem}.png")


def draw_run(model, validation, folder):
    """curves.png and scenes.png of a finished run."""
    from .. import draw
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    draw.draw_curves(rows, folder / "curves.png")
    draw_scenes(model, validation, folder / "scenes.png")


def draw_scenes(model, dataset, path, count=8):
    """Image, truth and panoptic prediction of the first few pictures of a data set."""
    from .. import draw
    items = []
    for i in range(min(count, len(dataset))):
        image, target = dataset[i]
        truth = target["segment_map"], target["segments_info"]
        items.append((image, truth, model.predict(image, "panoptic", things=dataset.classes.things), dataset.name(i)))
    draw.contact_sheet(items, dataset.classes, path)
