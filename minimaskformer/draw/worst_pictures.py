"""A page of the pictures that a model does worst on, for a browser: image, truth, prediction, figures."""
import base64
import html
import math

from ..evaluation import percent
from ..predict import to_tensor
from ..system.files import write_text
from ..system.text import plain
from ..targets import VOID, panoptic_to_semantic
from .canvas import new_figure, small_png
from .metrics import worst_confusions
from .scenes import draw_image, draw_instances, draw_panoptic, draw_semantic
from .thumbnails import PICTURE_SIDE

MEASURES = {"pq": ("PQ", "panoptic"), "miou": ("mean IoU", "semantic"), "ap": ("mask AP", "instance")}
STYLE = """body { font: 15px/1.4 sans-serif; max-width: 1200px; margin: 1em auto; padding: 0 1em; color: #222 }
img { width: 100% } p { margin: 1.4em 0 0.2em } td, th { text-align: left; padding: 0 1em 0 0 }"""


def write_worst_pictures(model, dataset, results, path, count=8):
    """Leave an HTML page of the `count` worst pictures by each measure that means something for the data set's classes.

    results: what `evaluate` returns with details=True for this model and data set.
    """
    parts = []
    for measure in measures_of(dataset.classes):
        title, task = MEASURES[measure]
        known = [row for row in results["pictures"] if not math.isnan(row[measure])]
        if not known:  # such as the AP of a per-pixel model
            continue
        rows = sorted(known, key=lambda row: row[measure])
        parts.append(f"<h2>Lowest {title} ({min(count, len(rows))} of {len(rows)} pictures)</h2>")
        for row in rows[:count]:
            figures = ", ".join(f"{MEASURES[name][0]} {percent(row[name])}" for name in measures_of(dataset.classes))
            picture = base64.b64encode(small_png(draw_beside_truth(model, dataset, row["index"], task))).decode()
            parts.append(f"<p><b>{escaped(row['name'])}</b>: {figures}</p>\n"
                         f'<img alt="image, truth, prediction" src="data:image/png;base64,{picture}">')
    mistaken = "\n".join(f"<tr><td>{escaped(true)}</td><td>{escaped(found)}</td><td>{100 * share:.1f} %</td></tr>"
                         for true, found, share in worst_confusions(results["confusion"], dataset.classes))
    parts.append("<h2>What is mistaken for what</h2>\n<p>Most pixels first; the share is that of all pixels of the "
                 f"true class.</p>\n<table><tr><th>true</th><th>predicted</th><th>share</th></tr>\n{mistaken}</table>")
    write_text(path, f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Worst pictures</title>\n'
                     f"<style>{STYLE}</style></head><body><h1>Worst of {results['images']} pictures</h1>\n"
                     "<p>Each row: image, truth, prediction. Figures are those of the one picture, in percent.</p>\n"
                     + "\n".join(parts) + "\n</body></html>\n")


def measures_of(classes):
    """The measures that mean something: without things there is only IoU, without stuff only AP."""
    return tuple(MEASURES) if classes.things and classes.stuff else ("ap",) if classes.things else ("miou",)


def draw_beside_truth(model, dataset, index, task):
    """A Figure of one picture: the image, its truth and the prediction for one task."""
    image, target = dataset[index]
    classes, step = dataset.classes, -(-max(image.shape[1:]) // PICTURE_SIDE)
    truth = target["segment_map"], target["segments_info"]
    result = model.predict(image, task, **({} if task == "semantic" else {"things": classes.things}))
    image = to_tensor(image)[:, ::step, ::step]  # large pictures are thinned out
    height, width = image.shape[1:]
    figure, axes = new_figure(12, 4 * min(1.5, height / width) + 0.3, 1, 3, "constrained")
    draw_image(axes[0], image, title="image")
    if task == "semantic":
        draw_semantic(axes[1], image, panoptic_to_semantic(*truth, VOID)[::step, ::step], classes, VOID, title="truth")
        draw_semantic(axes[2], image, result.cpu()[::step, ::step], classes, VOID, title="prediction")
    elif task == "panoptic":
        for ax, (segment_map, info), title in zip(axes[1:], (truth, result), ("truth", "prediction")):
            segment_map = segment_map.cpu()[::step, ::step]
            draw_panoptic(ax, image, segment_map, info, classes, title=title)
    else:
        things = [i for i, k in enumerate(target["labels"].tolist()) if k in classes.things]
        true = {"masks": target["masks"][things], "labels": target["labels"][things]}
        true["scores"] = true["masks"].flatten(1).any(1).float()
        for ax, found, title in zip(axes[1:], (true, result), ("truth", "prediction (scores from 0.5 on)")):
            found = {name: value.cpu() for name, value in found.items()}
            draw_instances(ax, image, found | {"masks": found["masks"][:, ::step, ::step]}, classes, title=title)
    return figure


def escaped(name):
    """A name as text of a page: on one line, and no tag."""
    return html.escape(plain(name))
