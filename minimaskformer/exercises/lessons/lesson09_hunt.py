"""The hunt of lesson 09: four classes with two matches each at most that show what is wrong with a mean PQ."""
from ..hunts import Hunt
from .lesson09_quality import quality_exercise


def read_counts(ious, fp, fn):
    """Lists as the arguments of mean_quality; arrays and tensors are read as lists."""
    ious, fp, fn = (given.tolist() if hasattr(given, "tolist") else given for given in (ious, fp, fn))
    for name, given in (("ious", ious), ("fp", fp), ("fn", fn)):
        if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= 4:
            raise ValueError(f"{name} is a list with an entry for each class, of 1 to 4 classes.")
    if not len(ious) == len(fp) == len(fn):
        raise ValueError(f"ious, fp and fn have an entry for each class; yours have {len(ious)}, {len(fp)}, {len(fn)}.")
    ious = [own.tolist() if hasattr(own, "tolist") else own for own in ious]
    if not all(isinstance(own, (list, tuple)) and len(own) <= 2 for own in ious):
        raise ValueError("ious has a list for each class, with at most 2 matches.")
    if not all(isinstance(iou, (int, float)) and 0.5 < iou <= 1 for own in ious for iou in own):
        raise ValueError("a match has an IoU above 0.5, at most 1.")
    if not all(isinstance(count, int) and 0 <= count <= 3 for count in (*fp, *fn)):
        raise ValueError("fp and fn are whole numbers from 0 to 3.")
    if not any(own or f or n for own, f, n in zip(ious, fp, fn)):
        raise ValueError("some class must have a match, a false positive or a miss.")
    return [[float(iou) for iou in own] for own in ious], list(fp), list(fn)


CLASSES = "with one class, a mean over classes is that class."
FALSE = "some class with matches must have false positives and misses, and not as many of one as of the other."
NONE = "some class must have no match."
counts_hunt = Hunt(
    id="09.h", exercise=quality_exercise, arguments=read_counts,
    task="Make one example for mean_quality that shows what is wrong with as many wrong versions as you can: "
         "hunt(\"09.h\", ious, fp, fn) with at most 4 classes. ious: for each class a list of at most 2 matches, above "
         "0.5; fp and fn: for each class a whole number from 0 to 3.",
    looks={
        "mean SQ times mean RQ": CLASSES,
        "all classes pooled": CLASSES,
        "SQ and RQ pooled over the classes": CLASSES,
        "a class that occurs nowhere counted as 0": "a class of which there is nothing at all.",
        "nan in the means": "a class of which there is nothing at all.",
        "classes without a match left out": NONE,
        "classes that are only predicted left out": "a class that somebody invented: predicted, and not in the truth.",
        "classes that are only missed left out": "a class that was there, and never predicted.",
        "SQ of a class without a match taken as 1": NONE,
        "SQ and RQ exchanged": "matches that fit better than they are many, or the other way round.",
        "SQ the mean over all matches": CLASSES,
        "SQ of a class without a match left out": NONE,
        "false positives and misses not halved": FALSE,
        "only the misses halved": FALSE,
        "only the false positives halved": FALSE,
        "false positives forgotten": FALSE,
        "misses forgotten": FALSE,
        "precision in place of RQ": FALSE,
        "recall in place of RQ": FALSE,
        "SQ divided by matches, false positives and misses": FALSE,
        "SQ the same as PQ": FALSE,
        "in percent": "some class must have a match.",
        "means weighted by the number of true segments": f"{CLASSES} And classes must differ in number.",
    },
    solution=([[0.9, 0.6], [], [], []], [2, 1, 0, 0], [1, 0, 3, 0]))

HUNTS = (counts_hunt,)
