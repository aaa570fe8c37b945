"""What a finished run or an evaluation leaves to look at: curves, scenes beside their truth, and what went wrong."""
import csv
import io
import os

from ..data.checks import even_indices
from ..system.files import write_text
from ..system.text import plain
from ..training.log import read_log
from .canvas import save_figure
from .curves import draw_curves
from .metrics import draw_confusion
from .scenes import contact_sheet
from .worst_pictures import write_worst_pictures


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
    """Image, truth and panoptic prediction of a few pictures of a data set, spread evenly over it."""
    items = []
    for i in even_indices(len(dataset), count):
        image, target = dataset[i]
        truth = target["segment_map"], target["segments_info"]
        items.append((image, truth, model.predict(image, "panoptic", things=dataset.classes.things), dataset.name(i)))
    contact_sheet(items, dataset.classes, path)


def draw_details(model, dataset, results, folder):
    """confusion.png, worst.html and pictures.csv, from what `evaluate` returns with details=True."""
    if results["confusion"].any():  # a data set without any labelled pixel has nothing to confuse
        save_figure(draw_confusion(results["confusion"], dataset.classes), folder / "confusion.png")
    write_worst_pictures(model, dataset, results, folder / "worst.html")
    table = io.StringIO()
    rows = csv.DictWriter(table, ["name", "miou", "pq", "ap"], extrasaction="ignore", lineterminator="\n")
    rows.writeheader()
    rows.writerows(row | {"name": plain(row["name"])} for row in results["pictures"])
    write_text(folder / "pictures.csv", table.getvalue())
