"""Lesson 09's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import math

import numpy as np
import pytest
import torch
from exercises.banks import *  # noqa: F403
from test_metrics import CLASSES, random_labels, random_panoptic

from minimaskformer import metrics
from minimaskformer.exercises.lessons import lesson09
from minimaskformer.exercises.lessons.lesson09_ap import ap_with
from minimaskformer.exercises.lessons.lesson09_confusion import _count
from minimaskformer.exercises.lessons.lesson09_iou import _iou
from minimaskformer.exercises.lessons.lesson09_panoptic import _missed, errors_with, match_with
from minimaskformer.exercises.lessons.lesson09_quality import quality_with

BY_ID = {e.id: e for e in lesson09.EXERCISES}


# --- right answers, written differently -------------------------------------------------------------------------------

def confusion_bincount(pred, truth, K, ignore):
    valid = truth != ignore
    pairs = truth[valid] * (K + 1) + torch.where(pred == -1, K, pred)[valid]
    return torch.bincount(pairs, minlength=K * (K + 1)).reshape(K, K + 1)


def confusion_masks(pred, truth, num_classes, ignore=255):
    columns = [*range(num_classes), -1]
    return [[int(((truth == t) & (pred == p)).sum()) for p in columns] for t in range(num_classes)]


def confusion_numpy(pred, truth, K, ignore):
    pred, truth = pred.numpy().ravel(), truth.numpy().ravel()
    out = np.zeros((K, K + 1), dtype=np.int64)
    np.add.at(out, (truth[truth != ignore], pred[truth != ignore]), 1)
    return out


def confusion_one_hot(pred, truth, K, ignore):
    rows = (truth.flatten()[:, None] == torch.arange(K)).long()  # [P, K], void has no row
    pred = pred.flatten().clone()
    pred[pred < 0] = K
    return torch.einsum("pk,pc->kc", rows, torch.nn.functional.one_hot(pred, K + 1))


def confusion_in_place(pred, truth, K, ignore):
    pred[pred == -1] = K
    out = torch.zeros(K, K + 1, dtype=torch.int32)
    for t, p in zip(truth.flatten(), pred.flatten()):
        if t != ignore:
            out[t, p] += 1
    return out


def confusion_histogram(pred, truth, K, ignore):
    known = truth != ignore
    column = np.where(pred == -1, K, pred)
    edges = np.arange(K + 1) - 0.5, np.arange(K + 2) - 0.5
    return np.histogram2d(truth[known].numpy(), column[known.numpy()], bins=edges)[0].astype(np.int32)


def confusion_transposed_view(pred, truth, K, ignore):
    valid = truth != ignore
    pairs = torch.where(pred == -1, K, pred)[valid] * K + truth[valid]
    return torch.bincount(pairs, minlength=K * (K + 1)).reshape(K + 1, K).T  # not contiguous


def iou_loops(confusions):
    K, out = confusions.shape[1], []
    for c in range(K):
        hits = sum(m[c, c].item() for m in confusions)
        true, pred = (sum(x.sum().item() for x in parts) for parts in (confusions[:, c], confusions[:, :, c]))
        out.append(hits / (true + pred - hits) if true + pred > hits or hits else float("nan"))
    seen = [v for v in out if v == v]
    return out, sum(seen) / len(seen)


def iou_numpy(confusions):
    total = confusions.numpy().sum(0)
    fn = total.sum(1) - np.diag(total)
    fp = total[:, :-1].sum(0) - np.diag(total)
    with np.errstate(invalid="ignore"):
        iou = np.diag(total) / (np.diag(total) + fp + fn)
    return iou, np.nanmean(iou)


def iou_float32(confusions):
    total = torch.einsum("bkc->kc", confusions).float()
    tp = torch.diag(total[:, :-1])
    either = total.sum(1) + total[:, :-1].sum(0) - tp
    iou = torch.where(either > 0, tp / either.clamp(min=1), torch.nan)
    return [iou, iou[~iou.isnan()].mean()]


def iou_in_place(confusions):
    total = confusions[0]
    for one in confusions[1:]:
        total += one
    iou = total.diagonal() / (total.sum(1) + total[:, :-1].sum(0) - total.diagonal())
    return iou, float(np.nanmean(iou.numpy()))


def match_loops(overlap, truth_area, pred_area, void, may_match):
    out = [[0.0] * len(pred_area) for _ in truth_area]
    for t in range(len(truth_area)):
        for p in range(len(pred_area)):
            union = truth_area[t] + pred_area[p] - overlap[t, p] - void[p]
            iou = (overlap[t, p] / union).item()
            if may_match[t, p] and iou > 0.5:
                out[t][p] = iou
    return out


def match_where(overlap, truth_area, pred_area, void, may_match):
    known = pred_area - void
    iou = overlap / (truth_area.unsqueeze(1) + known.unsqueeze(0) - overlap)
    return torch.where(may_match & (iou > 0.5), iou, torch.zeros_like(iou))


def match_numpy(overlap, truth_area, pred_area, void, may_match):
    o, t, p, v, m = (x.numpy() for x in (overlap, truth_area, pred_area, void, may_match))
    iou = (o / (t[:, None] + p[None] - o - v[None])).astype(np.float32)
    iou[(iou <= 0.5) | ~m] = 0
    return iou


def match_without_division(overlap, truth_area, pred_area, void, may_match):
    union = truth_area.view(-1, 1) + pred_area - overlap - void
    keep = (2 * overlap > union) * may_match
    return keep.double() * overlap.double() / union.double()


def match_in_place(overlap, truth_area, pred_area, void, may_match):
    pred_area -= void
    overlap = overlap.double()
    overlap /= truth_area[:, None] + pred_area - overlap
    overlap[~may_match] = 0
    overlap[overlap <= 0.5] = 0
    return overlap


def errors_loops(ious, crowd, pred_area, void, own_crowd):
    missed = [not crowd[t] and all(v == 0 for v in ious[t]) for t in range(len(ious))]
    false = []
    for p in range(len(pred_area)):
        excused = (void[p] + own_crowd[p]) / pred_area[p] > 0.5
        false.append(bool(ious[:, p].max() == 0) and not bool(excused))
    return missed, false


def errors_sums(ious, crowd, pred_area, void, own_crowd):
    known = pred_area - void - own_crowd
    return (ious.sum(1) == 0) & (crowd == 0), (ious.sum(0) == 0) & (2 * known >= pred_area)


def errors_numpy(ious, crowd, pred_area, void, own_crowd):
    ious, crowd = ious.numpy(), crowd.numpy()
    missed = np.logical_not(ious.any(axis=1) | crowd)
    return missed, np.logical_not(ious.any(axis=0)) & ((void + own_crowd) <= pred_area / 2).numpy()


def errors_ints(*args):
    return [part.int() for part in errors_sums(*args)]


def errors_in_place(ious, crowd, pred_area, void, own_crowd):
    void += own_crowd
    missed, false = (ious <= 0.5).all(1), (ious <= 0.5).all(0)
    missed[crowd] = False
    false &= 2 * void <= pred_area
    return missed, false


def quality_numpy(ious, fp, fn):
    tp = np.array([len(i) for i in ious])
    total, fp, fn = np.array([np.sum(i) for i in ious]), np.array(fp), np.array(fn)
    seen = tp + fp + fn > 0
    tp, total, fp, fn = tp[seen], total[seen], fp[seen], fn[seen]
    rq = 2 * tp / (2 * tp + fp + fn)
    sq = np.divide(total, tp, out=np.zeros(len(tp)), where=tp > 0)
    return (sq * rq).mean(), sq.mean(), rq.mean()


def quality_torch(ious, fp, fn):
    rows = []
    for i, f, n in zip(ious, fp, fn):
        if len(i) or f or n:
            i = torch.tensor(i)
            sq = i.mean() if len(i) else torch.tensor(0.0)
            rq = torch.tensor(len(i) / (len(i) + 0.5 * (f + n)))
            rows.append(torch.stack([sq * rq, sq, rq]))
    return torch.stack(rows).mean(0)


def quality_lists(ious, fp, fn):
    pq, sq, rq = [], [], []
    for k in range(len(ious)):
        tp = len(ious[k])
        try:
            pq.append(sum(ious[k]) / (tp + (fp[k] + fn[k]) / 2))
        except ZeroDivisionError:
            continue
        sq.append(sum(ious[k]) / max(tp, 1))
        rq.append(tp / (tp + (fp[k] + fn[k]) / 2))
    return [np.mean(pq), np.mean(sq), np.mean(rq)]


def quality_popping(ious, fp, fn):
    rows = []
    while ious:
        i, f, n = ious.pop(), fp.pop(), fn.pop()
        if i or f or n:
            rows.append([2 * sum(i) / (2 * len(i) + f + n), sum(i) / max(len(i), 1), 2 * len(i) / (2 * len(i) + f + n)])
    return np.array(rows, dtype=np.float32).mean(0)


def quality_library(ious, fp, fn):
    rows = [metrics.class_quality(*r) for r in zip(ious, fp, fn) if len(r[0]) + r[1] + r[2]]
    return tuple(torch.tensor(rows, dtype=torch.float64).mean(0).tolist())


def ap_definition(scores, right, total):
    order = torch.argsort(scores, descending=True)
    hits = torch.cumsum(right[order].float(), 0)
    precision, recall = hits / torch.arange(1, len(hits) + 1), hits / total
    values = [precision[recall >= r - 1e-6] for r in torch.linspace(0, 1, 101)]
    return torch.stack([v.max() if len(v) else torch.tensor(0.0) for v in values]).mean()


def ap_loops(scores, right, total):
    ranked = sorted(zip(scores.tolist(), right.tolist()), key=lambda pair: -pair[0])
    points, hits = [], 0
    for rank, (_, good) in enumerate(ranked, 1):
        hits += good
        points.append((hits / rank, hits / total))
    return sum(max((p for p, r in points if r >= k / 100), default=0.0) for k in range(101)) / 101


def ap_numpy(scores, right, total):
    order = np.argsort(-scores.numpy(), kind="mergesort")
    tp = np.cumsum(right.numpy()[order])
    fp = np.cumsum(~right.numpy()[order])
    precision, recall = (tp / (tp + fp)).tolist(), tp / total
    for i in range(len(precision) - 1, 0, -1):
        precision[i - 1] = max(precision[i - 1], precision[i])
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return np.mean([precision[i] if i < len(precision) else 0 for i in at])


def ap_only_right_ones(scores, right, total):
    right = right[scores.argsort(descending=True)]
    ranks = right.nonzero().flatten() + 1  # of the hits
    precision = torch.arange(1, len(ranks) + 1) / ranks
    precision = precision.flip(0).cummax(0).values.flip(0) if len(ranks) else precision
    need = torch.ceil(torch.linspace(0, 1, 101) * total - 1e-5).clamp(min=1).long()  # hits for this recall
    return torch.cat([precision, torch.zeros(total - len(ranks))])[need - 1].mean()


def ap_whole_numbers(scores, right, total):
    """recall >= k / 100 without a fraction."""
    hits = right[scores.argsort(descending=True)].cumsum(0)
    precision = (hits / torch.arange(1, len(hits) + 1)).tolist()
    return sum(max((p for p, h in zip(precision, hits.tolist()) if 100 * h >= k * total), default=0)
               for k in range(101)) / 101


RIGHT = {
    "09.1": [confusion_bincount, confusion_masks, confusion_numpy, confusion_one_hot, confusion_in_place, _count,
             confusion_histogram, confusion_transposed_view],
    "09.2": [iou_loops, iou_numpy, iou_float32, lambda c: metrics.mean_iou(c.sum(0)),
             lambda c: _iou(c.flip(0)), iou_in_place, lambda c: _iou(c.double().mean(0, keepdim=True))],
    "09.3": [match_loops, match_where, match_numpy, match_without_division, match_with(), match_in_place,
             lambda o, t, p, v, m: match_where(o.float(), t.float(), p.float(), v.float(), m.float() > 0)],
    "09.4": [errors_loops, errors_sums, errors_numpy, errors_ints, errors_with(), errors_in_place],
    "09.5": [quality_numpy, quality_torch, quality_lists, quality_library, quality_with(), quality_popping],
    "09.6": [ap_definition, ap_loops, ap_numpy, ap_only_right_ones, ap_with(), ap_whole_numbers],
}


# --- wrong ones that are no known mistake, or two mistakes at once ----------------------------------------------------

def confusion_silent_zero_once(pred, truth, K, ignore):
    """No answer taken for class 0, and each pair counted once."""
    return _count(pred.clamp(min=0), truth, K, ignore).clamp(max=1)


def confusion_short(pred, truth, K, ignore):
    """It stops, where void is not 255 too: but void is not its mistake."""
    pairs = (truth * (K + 1) + torch.where(pred == -1, K, pred))[truth != ignore]
    return torch.bincount(pairs, minlength=K * K).reshape(-1, K + 1)


def match_dice_any_class(overlap, truth_area, pred_area, void, may_match):
    return match_with(below=lambda o, t, p: (t + p) / 2)(overlap, truth_area, pred_area - void, void, may_match | True)


def match_best_of_row(overlap, truth_area, pred_area, void, may_match):
    """Right, but it stops where there are no predictions, as in a model that has learnt nothing yet."""
    iou = overlap / (truth_area[:, None] + pred_area - overlap - void) * may_match
    rows, best, out = torch.arange(len(iou)), iou.argmax(1), torch.zeros_like(iou)
    out[rows, best] = iou[rows, best]
    return torch.where(out > 0.5, out, 0)


def quality_half_in_pq_only(*args):
    """SQ and PQ right, the denominator of RQ without its halves."""
    return *quality_with()(*args)[:2], quality_with(below=lambda tp, f, n: tp + f + n)(*args)[2]


def iou_and(ratio):
    """Another ratio, absent classes as 0."""
    return lambda c: _iou(c, lambda h, t, p: ratio(h, t, p).nan_to_num(0))


def quality_turned(*args):
    pq, sq, rq = quality_with()(*args)
    return sq, rq, pq


WRONG = {
    "09.1": [lambda *a: _count(*a, keep=lambda p, t: p >= 0 and p != t), lambda *a: _count(*a).T[:, ::2],
             lambda *a: _count(*a).flip(0), lambda *a: _count(*a) + 1, confusion_silent_zero_once,
             lambda *a: _count(*a).T.reshape(a[2], a[2] + 1), lambda *a: _count(*a) * (a[3] == 255),
             lambda p, t, K, i: _count(p.T, t.T, K, i).sum(), lambda *a: _count(*a).double() * 1.5,
             lambda *a: _count(*a, keep=lambda p, t: p > 0 and t > 0), confusion_short],
    "09.2": [iou_and(lambda h, t, p: 2 * h / (t + p)), iou_and(lambda h, t, p: h / t),
             lambda c: _iou(c)[::-1], lambda c: _iou(c)[0], lambda c: _iou(c, lambda h, t, p: 1 - h / (t + p - h)),
             lambda c: _iou(c.flip(2)), lambda c: (_iou(c)[0].mean(), _iou(c)[1]),
             lambda c: _iou(c[:1], lambda h, t, p: h / t)],
    "09.3": [match_with(forgive=0, passes=lambda iou: iou >= 0.5), match_with(forgive=2),
             lambda *a: match_with()(*a).T, match_with(forgive=0, value=torch.ones_like),
             match_with(passes=lambda iou: iou > 0.3), lambda *a: match_with()(*a) * 2,
             lambda o, t, p, v, m: match_with()(o, t, p, v, ~m), match_dice_any_class,
             lambda o, t, p, v, m: torch.full(o.shape, 0.25), lambda o, t, p, v, m: m.float(),
             match_with(forgive=0, passes=lambda iou: iou >= 0), match_best_of_row],
    "09.4": [errors_with(lambda area, void, crowd: 2 * crowd > area, missed=lambda ious, crowd: (ious == 0).all(1)),
             errors_with(missed=lambda ious, crowd: _missed(ious, crowd) | crowd[0]),
             errors_with(lambda area, void, crowd: 2 * void >= area),
             errors_with(lambda area, void, crowd: 4 * (void + crowd) > 3 * area),
             errors_with(lambda area, void, crowd: 4 * (void + crowd) > area),
             errors_with(lambda area, void, crowd: 3 * (void + crowd) > 2 * area),
             errors_with(lambda area, void, crowd: 10 * (void + crowd) > 9 * area),
             errors_with(missed=lambda ious, crowd: crowd), lambda *a: errors_with()(*a)[0]],
    "09.5": [quality_turned, quality_with(below=lambda tp, f, n: tp + f + n, seen=lambda *c: True),
             quality_with(below=lambda tp, f, n: tp + f / 4 + n / 4),
             quality_with(seen=lambda tp, f, n: tp > 0, below=lambda tp, f, n: tp + n),
             lambda *a: quality_with()(*a)[0], lambda *a: tuple(1 - v for v in quality_with()(*a)),
             quality_with(below=lambda tp, f, n: tp + f, empty=None),
             quality_half_in_pq_only, quality_with(seen=lambda *c: True, empty=1.0), lambda *a: (0.0, 0.0, 0.0),
             quality_with(seen=lambda tp, f, n: tp + n > 0, empty=None)],
    "09.6": [ap_with(descending=None, best=lambda p: p), ap_with(descending=False, recalls=11),
             ap_with(recalls=21), ap_with(beyond=1.0), lambda s, r, n: 1 - ap_loops(s, r, n),
             lambda s, r, n: ap_loops(s, r, n + 1), lambda s, r, n: ap_loops(s, ~r, n),
             ap_with(best=lambda p: p, recalls=11), ap_with(recalls=1001), ap_with(recalls=11, beyond=None),
             lambda s, r, n: ap_with(curve=lambda p, recall, right, n: (p * right).sum() / n)(s, r, max(1, int(r.sum()))),
             lambda s, r, n: ap_with(best=lambda p: p)(s, r, max(1, int(r.sum()))), lambda s, r, n: 0.5, lambda s, r, n: torch.tensor([ap_loops(s, r, n)] * 2)],
}


# --- the exercises are the library ------------------------------------------------------------------------------------

def test_dataset_iou_is_what_the_metric_computes():
    rng = np.random.default_rng(0)
    metric, stack = metrics.MeanIoU(6), []
    for _ in range(3):
        pred, truth = random_labels(rng)  # class 5 never occurs
        pred[rng.random(pred.shape) < 0.1] = -1
        metric.update(pred, truth)
        stack.append(torch.tensor(metrics.confusion_matrix(pred, truth, 6)))
    iou, miou = BY_ID["09.2"].reference(torch.stack(stack))
    result = metric.compute()
    assert iou.tolist() == pytest.approx(result["iou"], nan_ok=True) and math.isnan(iou[5])
    assert miou.item() == pytest.approx(result["miou"])


def test_mean_quality_is_what_the_metric_computes():
    rng = np.random.default_rng(4)
    metric = metrics.PanopticQuality(CLASSES)
    for _ in range(6):
        metric.update(*random_panoptic(rng))
    result = metric.compute()
    assert 0 < result["pq"] < 1 and BY_ID["09.5"].reference(metric.ious, metric.fp, metric.fn) == pytest.approx(
        (result["pq"], result["sq"], result["rq"]))
