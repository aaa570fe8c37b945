"""Evaluate a model on a data set: mIoU, PQ and mask AP from one forward pass per picture.

Under torchrun each process takes its part of the pictures. The parts are runs of whole chunks, and the metrics are
merged in that order on process 0, so the figures are exactly those of one process.
"""
import json
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from .data.checks import even_indices
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


def evaluate(model, dataset, limit=None, progress=True, details=False, **thresholds):
    """mIoU of semantic, PQ of panoptic and mask AP of instance inference over the pictures of a data set.

    limit: only so many of them, spread evenly over the data set. thresholds: score_threshold, overlap_threshold of
    panoptic inference (default: the model's). Returns one dict of numbers in [0, 1], with the three metrics' own dicts
    under "semantic", "panoptic", "instance"; with details also "confusion", pixels by true and predicted class (int64
    [K, K+1], the last column is no answer), and "pictures", a dict {index, name, miou, pq, ap} for each. Under torchrun
    every process must call it; process 0 gets the dict, the others None. Raises FloatingPointError, naming the picture,
    for a prediction that is not finite: its figures would look like any others.

    Classes are matched by name where the model has names and the data set's are among them, in any order; by their
    index otherwise. Figures come in the order of the data set's classes.
    """
    own, names = dataset.classes, model.config.class_names
    if set(own.names) <= set(names) and len(set(names)) == len(names):
        dataset = match_classes(dataset, classes_of(model))
    classes = dataset.classes
    if limit is not None and not isinstance(limit, int):
        raise ValueError(f"limit is a whole number of pictures, or None for all, got {limit!r}")
    count = len(dataset) if limit is None else min(limit, len(dataset))
    if count < 1:
        raise ValueError(f"nothing to evaluate: {count} pictures (the data set is empty, or the limit is below 1)")
    if model.config.num_classes != len(classes):
        raise ValueError(f"the model predicts {model.config.num_classes} classes, the data set has {len(classes)}: "
                         f"{', '.join(classes.names[:8])} ...")
    indices, pictures, metrics = even_indices(len(dataset), limit), [], new_metrics(classes)
    for start in tqdm(share(range(0, count, AT_ONCE)), desc="evaluate", disable=not progress or rank() != 0):
        chunk = indices[start:start + AT_ONCE]
        items = [dataset[i] for i in chunk]
        for i, (_, target), prediction in zip(chunk, items, run(model, [image for image, _ in items])):
            class_logits, mask_logits, size = prediction
            if not (class_logits.isfinite().all() and mask_logits.isfinite().all()):
                raise FloatingPointError(f"the model's prediction for {dataset.name(i)} is not finite: there is "
                                         f"nothing to measure. Are its weights? Take an earlier checkpoint")
            alone = measured(model.config, (class_logits.cpu(), mask_logits.cpu(), size), target, classes, thresholds)
            if details:
                pictures.append({"index": i, "name": dataset.name(i)} | figures_of(alone))
            merge(metrics, alone)
    parts = gather((metrics, pictures))
    if parts is None:
        return None
    for others, _ in parts[1:]:
        merge(metrics, others)
    semantic, panoptic, instance = metrics
    results = {"images": count, "semantic": semantic.compute(), "panoptic": panoptic.compute(),
               "instance": instance.compute() if classes.things and not model.config.per_pixel else {}}
    if details:
        results |= {"confusion": semantic.confusion, "pictures": sum((rows for _, rows in parts), [])}
    return summary(results) | in_order(results, classes, own)


def new_metrics(classes):
    """The three metrics, of no picture yet."""
    return MeanIoU(len(classes), VOID), PanopticQuality(classes), MaskAP(classes)


def measured(config, prediction, target, classes, thresholds):
    """The three metrics of one picture; prediction: what `run` gives for it, on the CPU."""
    semantic, panoptic, instance = metrics = new_metrics(classes)
    truth = target["segment_map"], target["segments_info"]
    semantic.update(read_out(config, "semantic", *prediction), panoptic_to_semantic(*truth, VOID))
    panoptic.update(read_out(config, "panoptic", *prediction, things=classes.things, **thresholds), truth)
    if classes.things and not config.per_pixel:
        instance.update(read_out(config, "instance", *prediction, things=classes.things), truth,
                        true_instances(target, classes))
    return metrics


def merge(metrics, others):
    """Add what other metrics have seen, kind by kind."""
    for metric, other in zip(metrics, others):
        metric.merge(other)


def figures_of(metrics):
    """{"miou", "pq", "ap"} of three metrics; nan where there is nothing to measure."""
    return {name: metric.compute()[name] for name, metric in zip(("miou", "pq", "ap"), metrics)}


def in_order(results, classes, own):
    """Results per class, reordered to a table that has some or all of the classes they were measured for."""
    if classes is own:
        return results
    semantic, panoptic, instance = (results[name] for name in ("semantic", "panoptic", "instance"))
    places = [classes.names.index(name) for name in own.names]
    semantic = semantic | {"iou": [semantic["iou"][k] for k in places]}
    if "confusion" in results:  # a class that the table does not have is no answer
        rows = results["confusion"][places]  # [K', K+1]
        rest = rows.sum(1, keepdims=True) - rows[:, places].sum(1, keepdims=True)
        results = results | {"confusion": np.hstack([rows[:, places], rest])}  # [K', K'+1]
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
    instances = classes.things and results.get("instance") != {}  # a per-pixel model has none
    value = results["pq" if instances else "miou"]
    return -1.0 if value != value else value


def summary(results):
    """The headline figures: pq, pq_things, pq_stuff, sq, rq, miou, ap, ap50."""
    panoptic, instance = results["panoptic"], results["instance"]
    figures = {name: panoptic[name] for name in ("pq", "pq_things", "pq_stuff", "sq", "rq")}
    return figures | {"miou": results["semantic"]["miou"]} | {name: instance.get(name) for name in ("ap", "ap50")}


def write_table(results, classes, folder):
    """Leave metrics.json (every figure of the whole) and metrics.md (a table to read) in a folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    figures = {name: value for name, value in results.items() if name not in ("confusion", "pictures")}
    write_text(folder / "metrics.json", json.dumps(without_nan(figures), indent=1))
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
