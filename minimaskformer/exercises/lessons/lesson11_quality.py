"""The ways people get PQ_St wrong."""
import numpy as np
import torch
from scipy import ndimage

from ..core import Fixture, Mistake, issue


def _maps(*pictures):
    """Class maps int64 [B, H, W] from strings of digits."""
    return torch.tensor([[[int(c) for c in row] for row in picture.split()] for picture in pictures])


PQ_FIXTURES = (
    Fixture("2 images, 4 classes of which one never occurs",
            (_maps("0011 0011 2222", "0000 1112 2222"), _maps("0001 0012 2222", "0000 1111 2211"), 4)),
    Fixture("3 images: a class in two pieces, a class only predicted",
            (_maps("10011 10001 22221", "00033 00000 22233", "11222 11222 11100"),
             _maps("10001 10001 12221", "00000 00000 22211", "11122 11222 11100"), 5)),
    Fixture("a tiny segment found well, a large one roughly",
            (_maps("1000 0000", "1111 1000", "1100 0000"), _maps("1000 0000", "1111 1111", "1101 0000"), 2)),
    Fixture("an IoU of exactly one half", (_maps("0011 0011", "2220 2200"), _maps("0000 0011", "2200 2200"), 3)),
    Fixture("4 images: IoUs from 0.1 to 0.43, a class never predicted",  # all thresholds below 0.5 differ
            (_maps("000111 001111", "000000 000002", "111112 221122", "001122 011122"),
             _maps("000001 000011", "002222 002222", "112222 332222", "001122 001122"), 4)))


def _iou(pred, true):
    return (pred & true).sum() / (pred | true).sum()


def segments(predictions, truths, num_classes, pieces=False, overlap=_iou):
    """For each class a list over images: (IoUs of all pairs, number of predicted segments, of true ones)."""
    out = {c: [] for c in range(num_classes)}
    for pred, true in zip(predictions.numpy(), truths.numpy()):
        for c in range(num_classes):
            parts = [ndimage.label(m == c)[0] if pieces else (m == c).astype(int) for m in (pred, true)]
            preds, trues = ([part == i for i in range(1, part.max() + 1)] for part in parts)
            pairs = np.array([overlap(p, t) for p in preds for t in trues])
            out[c].append((pairs, len(preds), len(trues)))
    return out


def _dice(pred, true):
    return 2 * (pred & true).sum() / (pred.sum() + true.sum())


def _quotient(iou, tp, rest):
    return iou / max(tp + rest, 1)  # without a match the numerator is 0: max only keeps 0 / 0 away


def pq_with(match=lambda iou: iou > 0.5, false=(0.5, 0.5), mean=None, finish=_quotient, pieces=False, overlap=_iou,
            absent=False, counts=lambda preds, trues, tp: preds or trues, first=0):
    """PQ_St with knobs to get wrong."""
    def pq(predictions, truths, num_classes):
        values = []
        for found in list(segments(predictions, truths, num_classes, pieces, overlap).values())[first:]:
            iou = sum(pairs[match(pairs)].sum() for pairs, _, _ in found)
            tp = sum(match(pairs).sum() for pairs, _, _ in found)
            preds, trues = sum(n for _, n, _ in found), sum(n for _, _, n in found)
            rest = false[0] * (preds - tp) + false[1] * (trues - tp)
            if counts(preds, trues, tp):
                values.append((iou, tp, rest) if mean else finish(iou, tp, rest))
            elif absent:
                values.append(0.0)
        return mean(values) if mean else sum(values) / len(values)
    return pq


def _per_image(predictions, truths, num_classes):
    each = [pq_with()(p[None], t[None], num_classes) for p, t in zip(predictions, truths)]
    return sum(each) / len(each)


def _pooled(predictions, truths, num_classes):
    return pq_with()(*(maps.reshape(1, -1, maps.shape[-1]) for maps in (predictions, truths)), num_classes)


def _one_miss(predictions, truths, num_classes):
    """A pair that fails the test is one miss, not a miss and a false positive."""
    values = []
    for found in segments(predictions, truths, num_classes).values():
        iou = sum(pairs[pairs > 0.5].sum() for pairs, _, _ in found)
        tp = sum((pairs > 0.5).sum() for pairs, _, _ in found)
        either = sum(bool(preds or trues) for _, preds, trues in found)
        if either:
            values.append(iou / (tp + (either - tp) / 2))
    return sum(values) / len(values)


def _none_for_both(predictions, truths, num_classes):
    """Errors are counted only where one of the two maps has the class."""
    values = []
    for found in segments(predictions, truths, num_classes).values():
        iou = sum(pairs[pairs > 0.5].sum() for pairs, _, _ in found)
        count = sum(0.5 if preds != trues else (pairs > 0.5).sum() for pairs, preds, trues in found)
        if count:
            values.append(iou / count)
    return sum(values) / len(values)


def _over_images(predictions, truths, num_classes):
    values = []
    for found in segments(predictions, truths, num_classes).values():
        images = sum(bool(preds or trues) for _, preds, trues in found)
        if images:
            values.append(sum(pairs[pairs > 0.5].sum() for pairs, _, _ in found) / images)
    return sum(values) / len(values)


def _miou(predictions, truths, num_classes):
    values = []
    for c in range(num_classes):
        union = ((predictions == c) | (truths == c)).sum()
        if union:
            values.append(((predictions == c) & (truths == c)).sum() / union)
    return sum(values) / len(values)


def _rq(iou, tp, rest):
    return tp / max(tp + rest, 1)


def _product_of_means(predictions, truths, num_classes):
    sq = pq_with(false=(0, 0))(predictions, truths, num_classes)
    return sq * pq_with(finish=_rq)(predictions, truths, num_classes)


PQ_MISTAKES = (
    Mistake("an IoU of exactly 0.5 counted as a match", pq_with(match=lambda iou: iou >= 0.5),
            "The threshold is strict: only above 0.5 is a second partner impossible."),
    Mistake("the IoUs of pairs at 0.5 or below added too", pq_with(match=lambda iou: iou > 0),
            "A segment that is found badly is not found: it adds no IoU, and is one FP and one FN."),
    Mistake("false positives and false negatives with full weight", pq_with(false=(1, 1)),
            "A missed segment and a wrong one count half each: TP + FP / 2 + FN / 2."),
    Mistake("divided by the matches only (this is SQ)", pq_with(false=(0, 0)),
            "SQ says how well found segments fit. PQ also divides by what was missed or invented."),
    Mistake("matches counted instead of their IoU (this is RQ)", pq_with(finish=_rq),
            "The numerator is the sum of the IoUs of the matches, not their number."),
    Mistake("divided by the number of true segments", pq_with(false=(0, 1)),
            "Then inventing segments costs nothing: TP + FP / 2 + FN / 2."),
    Mistake("divided by the number of predicted segments", pq_with(false=(1, 0)),
            "Then missing segments costs nothing: TP + FP / 2 + FN / 2."),
    Mistake("false positives not counted", pq_with(false=(0, 0.5)),
            "An invented segment counts half as well: TP + FP / 2 + FN / 2."),
    Mistake("false negatives not counted", pq_with(false=(0.5, 0)),
            "A missed segment counts half as well: TP + FP / 2 + FN / 2."),
    Mistake("a pair that fails counted once", _one_miss,
            "A prediction and a truth with an IoU of 0.5 or less are two errors: one FP and one FN."),
    Mistake("a pair that fails not counted at all", _none_for_both,
            "A prediction and a truth with an IoU of 0.5 or less are two errors: one FP and one FN."),
    Mistake("divided by the number of images with the class", _over_images,
            "An image in which only the truth or only the prediction has the class counts one half: FP / 2 or FN / 2."),
    Mistake("Dice instead of IoU", pq_with(overlap=_dice),
            "Dice = 2 IoU / (1 + IoU) is larger: a Dice of 0.67 is an IoU of 0.5."),
    Mistake("a PQ for each image, then their mean", _per_image,
            "IoUs and counts are gathered over *all* images first, one quotient per class at the end."),
    Mistake("one segment per class over all images", _pooled,
            "A class has one segment in *each* image: match image by image, then gather IoUs and counts."),
    Mistake("mIoU", _miou, "Pixels of all images in one pot: that is the other metric. Here each class of each image "
            "is a segment, large or small."),
    Mistake("absent classes counted as 0", pq_with(absent=True),
            "A class that is neither in any truth nor in any prediction says nothing: leave it out of the mean.",
            issue("facebookresearch/Mask2Former", 254)),
    Mistake("classes that are only predicted left out", pq_with(counts=lambda preds, trues, tp: trues),
            "A class that was only invented has PQ 0 and counts."),
    Mistake("classes that are never predicted left out", pq_with(counts=lambda preds, trues, tp: preds),
            "A class that was never predicted, but is in a truth, has PQ 0 and counts."),
    Mistake("only classes in some truth and some prediction", pq_with(counts=lambda preds, trues, tp: preds and trues),
            "One of the two is enough: a class that was only missed, or only invented, has PQ 0 and counts."),
    Mistake("classes without a match left out", pq_with(counts=lambda preds, trues, tp: tp),
            "A class that occurs and is never matched has PQ 0 and counts."),
    Mistake("class 0 left out", pq_with(first=1), "Class 0 is a class like any other: there is no background."),
    Mistake("one quotient for all classes together",
            pq_with(mean=lambda v: sum(x[0] for x in v) / sum(x[1] + x[2] for x in v)),
            "PQ is taken class by class, then the mean: a rare class counts as much as the sky."),
    Mistake("connected pieces as segments", pq_with(pieces=True),
            "Stuff is one segment per class and image, in however many pieces."),
    Mistake("mean SQ times mean RQ", _product_of_means,
            "PQ = SQ x RQ holds for one class, not for the means over classes.", issue("VSainteuf/utae-paps", 24)),
    Mistake("in percent", lambda *args: 100 * pq_with()(*args), "A number between 0 and 1, please."),
)
