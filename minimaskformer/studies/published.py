"""The paper's published comparisons, and our small runs in the same format (lesson 11).

Published figures are mIoU and PQ_St in percent, ResNet-50, validation images (arXiv 2107.06278v2, Tables 2, 4 and VII).
Ours are the rows of data/ablations.json, one per run.
"""
import base64
import zlib

import numpy as np
import torch

from .error_bars import mean_and_error

STUDY_METRICS = {"miou": "mIoU", "pq": "PQ_St"}


# ADE20K-150. There fixed and bipartite matching have 150 queries, as many as classes.
LADDER = {"per-pixel": (39.2, 21.6), "per-pixel+": (41.9, 28.3), "fixed": (43.7, 30.3), "bipartite": (44.2, 33.4)}


QUERIES = {"ADE20K, 150 classes": {20: (42.9, 32.6), 50: (43.9, 32.7), 100: (44.5, 33.4), 150: (44.2, 33.4),
                                   300: (43.5, 32.3), 1000: (35.4, 26.7)},
           "COCO-Stuff, 171 classes": {20: (35.0, 27.6), 50: (35.5, 27.9), 100: (37.1, 28.9), 150: (37.0, 28.9),
                                       300: (36.1, 29.1), 1000: (34.4, 27.6)},
           "ADE20K-Full, 847 classes": {20: (14.1, 10.8), 50: (15.4, 11.1), 100: (16.0, 11.9), 150: (15.5, 11.5),
                                        300: (14.2, 10.3), 1000: (8.0, 5.8)}}


RULES = {"general": (42.4, 34.2), "semantic": (44.5, 33.4)}  # ADE20K-150, general with scores below 0.3 left out


# our setting -> (the setting it is compared with, what changes, what the paper found for mIoU and PQ_St)
PAIRS = {"per-pixel+": ("per-pixel", "per-pixel → per-pixel+", (2.7, 6.7)),
         "fixed": ("per-pixel+", "per-pixel+ → mask, fixed", (1.8, 2.0)),
         "11 queries": ("fixed", "fixed → bipartite matching", (0.5, 3.1)),
         "4 queries": ("11 queries", "11 → 4 queries", None),
         "32 queries": ("11 queries", "11 → 32 queries", None),
         "100 queries": ("32 queries", "32 → 100 queries", None),
         "no auxiliary": ("32 queries", "auxiliary losses → none", None),
         "general 0.3": ("32 queries", "semantic → general inference", (-2.1, 0.8)),
         "likelihood / all": ("32 queries", "set loss → likelihood / all", None),
         "likelihood": ("32 queries", "set loss → likelihood", None)}


def by_setting(runs, metric, rule="semantic"):
    """{setting: figures [S]} of one metric, by seed; only seeds that every setting has finished, so that all pair up.

    The general rule on "32 queries" is listed like a setting, as "general" and "general 0.3".
    """
    rows = {(row["setting"], row["seed"]): row for row in runs}
    names = list(dict.fromkeys(name for name, _ in rows))
    seeds = [s for s in sorted({s for _, s in rows}) if all((name, s) in rows for name in names)]
    out = {name: [rows[name, s][rule][metric] for s in seeds] for name in names if rule in rows[name, seeds[0]]}
    if rule == "semantic" and "32 queries" in names:
        out |= {other: [rows["32 queries", s][other][metric] for s in seeds] for other in ("general", "general 0.3")}
    return out


def unpack(text, size):
    """A shipped class map, int64 [size, size], from its text in data/ablations.json."""
    values = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    return torch.from_numpy(values.astype(np.int64)).reshape(size, size)


def settings_table(runs):
    """Mean and standard error of every setting, as lines of text."""
    scores = {metric: by_setting(runs, metric) for metric in STUDY_METRICS}
    lines = [f"{'setting':18}{'mIoU':>12}{'PQ_St':>14}"]
    for name in scores["miou"]:
        cells = [mean_and_error(scores[metric][name]) for metric in STUDY_METRICS]
        lines.append(f"{name:18}" + "  ".join(f"{mean:5.1f} ± {error:4.1f}" for mean, error in cells))
    return "\n".join(lines)
