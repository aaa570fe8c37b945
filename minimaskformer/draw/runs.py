"""What a finished run leaves to look at: its curves, and scenes beside their truth."""
import json

from .curves import draw_curves
from .scenes import contact_sheet


def draw_run(model, validation, folder):
    """curves.png and scenes.png of a finished run."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    draw_curves(rows, folder / "curves.png")
    draw_scenes(model, validation, folder / "scenes.png")


def draw_scenes(model, dataset, path, count=8):
    """Image, truth and panoptic prediction of the first few pictures of a data set."""
    items = []
    for i in range(min(count, len(dataset))):
        image, target = dataset[i]
        truth = target["segment_map"], target["segments_info"]
        items.append((image, truth, model.predict(image, "panoptic", things=dataset.classes.things), dataset.name(i)))
    contact_sheet(items, dataset.classes, path)
