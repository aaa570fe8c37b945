"""What inference rules are worth on Lakeland: general against semantic, what panoptic inference removes, thresholds.

    OMP_NUM_THREADS=1 python benchmarks/inference_rules.py [--scenes 300] [--difficulty 0.5] [--grid]

The shipped model runs once per validation scene. PQ_St reads a class map as one segment per class, all classes as
stuff, as Table VII of the paper does. "+-" is the standard deviation over 500 resamples of the scenes (bootstrap) of
the difference to semantic inference.
"""
import argparse
from collections import Counter

import numpy as np
import torch

from minimaskformer import ClassTable, Lakeland, MeanIoU, PanopticQuality, load_checkpoint
from minimaskformer.inference import general_inference, semantic_inference, sure_queries
from minimaskformer.predict import bilinear, run
from minimaskformer.studies.thresholds import VERDICTS, judge_candidates, threshold_grid
from minimaskformer.targets import VOID, panoptic_to_semantic, semantic_to_panoptic

RULES = {"semantic": None, "general": 0.0, "general, score > 0.3": 0.3, "general, score > 0.5": 0.5,
         "general, score > 0.8": 0.8}


def class_map(rule, class_logits, mask_logits):
    """The class of each pixel by one of RULES; -1 where no query is sure enough."""
    if RULES[rule] is None:
        return semantic_inference(class_logits, mask_logits)
    sure = sure_queries(class_logits, RULES[rule])[2]
    return general_inference(class_logits[sure], mask_logits[sure])[1]


def counts(label_map, truth_map, classes):
    """Of one scene: confusion matrix [K, K+1] and per class (sum of IoU, TP, FP, FN) [4, K]."""
    iou, pq = MeanIoU(len(classes), VOID), PanopticQuality(classes)
    iou.update(label_map, truth_map)
    pq.update(*(semantic_to_panoptic(m, len(classes)) for m in (label_map, truth_map)))
    return iou.confusion, np.array([[sum(x) for x in pq.ious], [len(x) for x in pq.ious], pq.fp, pq.fn])


def figures(confusion, segments):
    """mIoU, PQ_St, SQ, RQ in percent from summed counts."""
    hits, truth, pred = confusion.diagonal(), confusion.sum(1), confusion[:, :-1].sum(0)
    (total, tp, fp, fn), union = segments, truth + pred - hits
    seen = tp + fp + fn > 0
    rq = tp[seen] / (tp + (fp + fn) / 2)[seen]
    sq = total[seen] / np.maximum(tp[seen], 1)
    return 100 * np.array([(hits[union > 0] / union[union > 0]).mean(), (sq * rq).mean(), sq.mean(), rq.mean()])


def compare_rules(predictions, classes):
    stuff = ClassTable(classes.names, (False,) * len(classes), classes.ids)
    per_scene = {rule: [counts(class_map(rule, c, m), panoptic_to_semantic(*truth, VOID), stuff)
                        for c, m, truth in predictions] for rule in RULES}
    per_scene = {rule: [np.stack(part) for part in zip(*scenes)] for rule, scenes in per_scene.items()}
    rng = np.random.default_rng(0)
    resamples = [rng.integers(0, len(predictions), len(predictions)) for _ in range(500)]
    base = [figures(*(part[r].sum(0) for part in per_scene["semantic"])) for r in resamples]
    print(f"{'':22}{'mIoU':>12}{'PQ_St':>14}{'SQ':>14}{'RQ':>14}")
    for rule, parts in per_scene.items():
        spread = np.std([figures(*(part[r].sum(0) for part in parts)) - b for r, b in zip(resamples, base)], axis=0)
        print(f"{rule:22}" + "".join(f"{v:8.2f}" + (f" +-{s:.2f}" if rule != "semantic" else "      ")
                                     for v, s in zip(figures(*(part.sum(0) for part in parts)), spread)))


def count_verdicts(predictions, classes):
    judged = [j for c, m, truth in predictions for j in judge_candidates(c, m, truth, classes.things)]
    table = Counter((j.candidate.fate, j.verdict) for j in judged)
    print(f"\n{len(judged) / len(predictions):.0f} queries per scene; fates: "
          f"{dict(Counter(j.candidate.fate for j in judged))}")
    for fate in ("segment", "score", "overlap"):
        print(f"{fate:8} " + "  ".join(f"{v}: {table[fate, v]}" for v in VERDICTS if table[fate, v]))


def print_grid(predictions, classes):
    steps = (0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9, 0.95)
    print("\nPQ / SQ / RQ; rows: score threshold, columns: overlap threshold", *steps)
    for step, row in zip(steps, threshold_grid(predictions, classes, steps, steps)):
        cells = ["/".join(f"{100 * cell[name]:.1f}" for name in ("pq", "sq", "rq")) for cell in row]
        print(f"{step:4} ", "  ".join(cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--difficulty", type=float, default=0.5)
    parser.add_argument("--grid", action="store_true", help="PQ, SQ, RQ for 8 x 8 pairs of thresholds (minutes)")
    args = parser.parse_args()
    data, model = Lakeland("val", size=128, difficulty=args.difficulty, length=args.scenes), load_checkpoint("mini")
    predictions = []
    for start in range(0, args.scenes, 16):
        items = [data[i] for i in range(start, min(start + 16, args.scenes))]
        for (c, m, sizes), (_, target) in zip(run(model, [image for image, _ in items]), items):
            predictions.append((c, bilinear(m, sizes.picture), (target["segment_map"], target["segments_info"])))
    print(f"{args.scenes} validation scenes, difficulty {args.difficulty}")
    compare_rules(predictions, data.classes)
    count_verdicts(predictions, data.classes)
    if args.grid:
        print_grid(predictions, data.classes)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
