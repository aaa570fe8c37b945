"""What a finished run leaves to be looked at: its curves, and scenes beside their truth."""
import os

from ..training.log import read_log
from .curves import draw_curves
from .scenes import contact_sheet


def draw_run(model, validation, folder):
    """curves.png and scenes.png of a finished run; the curves show the intact rows of its log, if there are any."""
    rows = read_log(folder / "log.jsonl")
    if rows:
        draw_whole(folder / "curves.png", lambda path: draw_curves(rows, path))
    draw_whole(folder / "scenes.png", lambda path: draw_scenes(model, validation, path))


def draw_whole(path, draw_to):
    """Draw to a temporary file and rename it when complete: a kill leaves no half-written picture."""
    half = path.with_name(f"{path.stem}.half{path.suffix}")
    draw_to(half)
    os.replace(half, path)


def draw_scenes(model, dataset, path, count=8):
    """Image, truth and panoptic prediction of the first few pictures of a data set."""
    items = []
    for i in range(min(count, len(dataset))):
        image, target = dataset[i]
        truth = target["segment_map"], target["segments_info"]
        items.append((image, truth, model.predict(image, "panoptic", things=dataset.classes.things), dataset.name(i)))
    contact_sheet(items, dataset.classes, path)
