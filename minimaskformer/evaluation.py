"""Evaluate a model on a data set: mIoU, PQ and mask AP from one forward pass per picture.

Under torchrun each process takes its part of the pictures. The parts are runs of whole chunks, and the metrics are
merged in that order on process 0, so the figures are exactly those of one process.
"""
import json
from pathlib import Path

from tqdm.auto import tqdm

from .data.classes import classes_of
from .data.combine import match_classes
from .mask_ap import MaskAP, true_instances
from .metrics import MeanIoU, PanopticQuality
from .predict import read_out, run
from .system.distributed import gather, rank, world_size
from .system.files import without_nan, write_text
from .system.text import markdown
from .targets import VOID, panoptic_to_semantic

AT_ONCE = 16


def evaluate(model, dataset, limit=None, progress=True, **thresholds):
    """mIoU of semantic, PQ of panoptic and mask AP of instance inference over the first `limit` pictures of a data set.

    thresholds: score_threshold, overlap_threshold of panoptic inference (default: the model's). Returns one dict of
    numbers in [0, 1], with the three metrics' own dicts under "semantic", "panoptic", "instance". Under torchrun every
    process must call it; process 0 gets the dict, the others None. Raises FloatingPointError, naming the picture, for
    a prediction that is not finite: its figures would look like any others.

    Classes are matched by name where the model has names and the data set's are among them, in any order; by their
    index otherwise. Figures come in the order of the data set's classes.
    """
    own, names = dataset.classes, model.config.class_names
    if set(own.names) <= set(names) and len(set(names)) == len(names):
        dataset = match_classes(dataset, classes_of(model))
    classes = dataset.classes
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise ValueError(f"nothing to evaluate: {count} pictures (the data set is empty, or the limit is below 1)")
    if model.config.num_classes != len(classes):
        raise ValueError(f"the model predicts {model.config.num_classes} classes, the data set has {len(classes)}: "
                         f"{', '.join(classes.names[:8])} ...")
    semantic, panoptic, instance = metrics = MeanIoU(len(classes), VOID), PanopticQuality(classes), MaskAP(classes)
    for start in tqdm(share(range(0, count, AT_ONCE)), desc="evaluate", disable=not progress or rank() != 0):
        items = [dataset[i] for i in range(start, min(start + AT_ONCE, count))]
        for i, (_, target), prediction in zip(range(start, count), items, run(model, [image for image, _ in items])):
            truth = target["segment_map"], target["segments_info"]
            class_logits, mask_logits, size = prediction
            if not (class_logits.isfinite().all() and mask_logits.isfinite().all()):
                raise FloatingPointError(f"the model's prediction for {dataset.name(i)} is not finite: there is "
                                         f"nothing to measure. Are its weights? Take an earlier checkpoint")
            prediction = class_logits.cpu(), mask_logits.cpu(), size
            semantic.update(read_out(model.config, "semantic", *prediction), panoptic_to_semantic(*truth, VOID))
            panoptic.update(read_out(model.config, "panoptic", *prediction, things=classes.things, **thresholds), truth)
            if classes.things:
                instance.update(read_out(model.config, "instance", *prediction, things=classes.things), truth,
                                true_instances(target, classes))
    parts = gather(metrics)
    if parts is None:
        return None
    for part in parts[1:]:
        for metric, other in zip(metrics, part):
            metric.merge(other)
    results = {"images": count, "semantic": semantic.compute(), "panoptic": panoptic.compute(),
               "instance": instance.compute() if classes.things else {}}
    return summary(results) | in_order(results, classes, own)


def in_order(results, classes, own):
    """Results per class, reordered to a table that has some or all of the classes they were measured for."""
    if classes is own:
        return results
    semantic, panoptic, instance = (results[name] for name in ("semantic", "panoptic", "instance"))
    semantic = semantic | {"iou": [semantic["iou"][classes.names.index(name)] for name in own.names]}
    panoptic, instance = (result | {"per_class": {name: result["per_class"][name] for name in own.names
                                                  if name in result["per_class"]}} if result else result
                          for result in (panoptic, instance))
    return results | {"semantic": semantic, "panoptic": panoptic, "instance": instance}


def share(items):
    """This process's part of a sequence: consecutive items, all parts of nearly equal length."""
    bounds = [part * len(items) // world_size() for part in (rank(), rank() + 1)]
    return items[bounds[0]:bounds[1]]


def deciding_figure(results, classes):
    """The figure that decides which checkpoint is the best: PQ, or mIoU where no class is a thing; nan counts as -1."""
    value = results["pq" if classes.things else "miou"]
    return -1.0 if value != value else value


def summary(results):
    """The headline figures: pq, pq_things, pq_stuff, sq, rq, miou, ap, ap50."""
    panoptic, instance = results["panoptic"], results["instance"]
    figures = {name: panoptic[name] for name in ("pq", "pq_things", "pq_stuff", "sq", "rq")}
    return figures | {"miou": results["semantic"]["miou"]} | {name: instance.get(name) for name in ("ap", "ap50")}


def write_table(results, classes, folder):
    """Leave metrics.json (everything) and metrics.md (a table to read) in a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "metrics.json", json.dumps(without_nan(results), indent=1))
    write_text(folder / "metrics.md", table(results, classes))


def table(results, classes):
    """Headline figures and one row per class, as Markdown."""
    head = summary(results)
    lines = [f"{results['images']} images. All figures in percent.", "", "| " + " | ".join(head) + " |",
             "|" + "---|" * len(head), "| " + " | ".join(percent(value) for value in head.values()) + " |", "",
             "| class | | PQ | SQ | RQ | IoU | AP |", "|---|---|---|---|---|---|---|"]
    per_class = results["panoptic"]["per_class"]
    for k, name in enumerate(classes.names):
        row = per_class.get(name, {})
        cells = [row.get("pq"), row.get("sq"), row.get("rq"), results["semantic"]["iou"][k],
                 results["instance"].get("per_class", {}).get(name)]
        kind = "thing" if classes.isthing[k] else "stuff"
        lines.append(f"| {markdown(name)} | {kind} | " + " | ".join(percent(value) for value in cells) + " |")
    return "\n".join(lines) + "\n"


def percent(value):
    """A figure in [0, 1] as text in percent; a dash if there is none (class absent)."""
    return "-" if value is None or value != value else f"{100 * value:.1f}"
