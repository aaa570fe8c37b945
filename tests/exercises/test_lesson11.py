"""Lesson 11's exercises: right answers written differently, wrong ones that are no known mistake, and the library."""
import math
import statistics

import numpy as np
import torch
import torch.nn.functional as F
from exercises.banks import *  # noqa: F403
from scipy import stats

from minimaskformer import matching
from minimaskformer.data.lakeland import LAKELAND_CLASSES
from minimaskformer.exercises import core
from minimaskformer.exercises.lessons import lesson11
from minimaskformer.exercises.lessons.lesson11 import difference_with, error_with
from minimaskformer.exercises.lessons.lesson11_quality import pq_with
from minimaskformer.exercises.lessons.lesson11_scores import likelihood_with, share_with
from minimaskformer.exercises.lessons.lesson11_sets import fixed_with
from minimaskformer.studies import ablations, baselines
from minimaskformer.targets import semantic_to_target, target_to_panoptic

BY_ID = {e.id: e for e in lesson11.EXERCISES}


# --- right answers, written differently -------------------------------------------------------------------------------

def likelihood_loops(class_logits, mask_logits, truth):
    total = count = 0
    for probs, masks, classes in zip(class_logits.softmax(-1), mask_logits.sigmoid(), truth):
        for y, x in np.ndindex(*classes.shape):
            c = int(classes[y, x])
            if c >= 0:
                total -= math.log(sum(float(p[c] * m[y, x]) for p, m in zip(probs, masks)))
                count += 1
    return total / count


def likelihood_einsum(class_logits, mask_logits, truth):
    scores = torch.einsum("bnk,bnhw->bkhw", class_logits.softmax(-1)[..., :-1], mask_logits.sigmoid())
    return F.nll_loss(scores.log(), truth, ignore_index=-1)


def likelihood_indexed(class_logits, mask_logits, truth):
    b, y, x = torch.where(truth >= 0)
    p = class_logits.double().softmax(2)[b, :, truth[b, y, x]]  # [P, N]
    return -(p * mask_logits.double().sigmoid()[b, :, y, x]).sum(1).log().mean().numpy()


def likelihood_one_hot(x, m, truth):
    hot = F.one_hot(truth.clamp(min=0), x.shape[-1]).to(x.dtype) * (truth >= 0)[..., None]  # [B, H, W, K+1]
    score = torch.einsum("bnk,bnhw,bhwk->bhw", x.softmax(-1), m.sigmoid(), hot)
    return -score[truth >= 0].log().sum() / (truth >= 0).sum()


def likelihood_in_place(x, m, truth):
    m.sigmoid_()
    x.sub_(x.logsumexp(-1, keepdim=True)).exp_()
    scores = (x[..., :-1].mT @ m.flatten(2)).reshape(len(x), -1, *m.shape[2:])
    picked = scores.gather(1, truth.clamp(0)[:, None])[:, 0]
    return -picked.log_()[truth != -1].mean()


@torch.no_grad()
def likelihood_in_logs(x, m, t):
    known, t = t >= 0, t.clamp(min=0)
    log_p = torch.stack([row[:, classes] for row, classes in zip(x.log_softmax(-1), t)])  # [B, N, H, W]
    return -((log_p + F.logsigmoid(m)).logsumexp(1) * known).sum() / known.sum()


def likelihood_class_by_class(x, m, t):
    found = []
    for xi, mi, ti in zip(x, m, t):
        scores = (xi.softmax(1).T @ mi.sigmoid().flatten(1)).view(-1, *ti.shape)  # [K+1, H, W]
        for c in range(x.shape[-1] - 1):
            found += scores[c][ti == c].log().neg().tolist()
    return statistics.fmean(found)


def likelihood_void_255(x, m, t):
    t[t == -1] = 255
    scores = torch.einsum("bnk,bnhw->bkhw", x.softmax(-1), m.sigmoid())[:, :-1]
    return F.nll_loss(scores.log(), t, ignore_index=255)


def share_loops(class_logits, mask_logits, truth):
    p, m = class_logits.softmax(1), mask_logits.sigmoid()
    out = np.zeros(m.shape)
    for y, x in np.ndindex(*truth.shape):
        products = [float(p[i, truth[y, x]] * m[i, y, x]) for i in range(len(p))]
        with np.errstate(invalid="ignore"):  # 0 / 0 where the remark asks for it
            out[:, y, x] = np.array(products) / sum(products)
    return out


def share_by_gradient(class_logits, mask_logits, truth):
    logs = (class_logits.log_softmax(-1)[:, truth] + F.logsigmoid(mask_logits)).detach().requires_grad_()
    logs.exp().sum(0).log().sum().backward()
    return logs.grad


def share_by_autograd(x, m, truth):
    logs = (x.log_softmax(-1)[:, truth] + F.logsigmoid(m)).requires_grad_()
    return -torch.autograd.grad(-logs.logsumexp(0).sum(), logs)[0]


def share_channels_last(x, m, truth):
    out = torch.empty(*truth.shape, len(x)).movedim(-1, 0)  # not contiguous
    out.copy_(x.softmax(-1)[:, truth] * m.sigmoid())
    out /= out.sum(0)
    return out


def share_gathered(x, m, truth):
    p = x.softmax(-1).gather(1, truth.flatten().expand(len(x), -1)).reshape(m.shape)
    r = p * m.sigmoid()
    return (r / r.sum(0, keepdim=True)).tolist()


def fixed_loops(labels, masks, num_queries, num_classes):
    classes, out = [num_classes] * num_queries, np.zeros((num_queries, *masks.shape[1:]), bool)
    for i in range(num_queries):
        for label, mask in zip(labels.tolist(), masks.numpy()):
            if label == i:
                classes[i], out[i] = i, out[i] | mask
    return classes, out


def fixed_by_comparison(labels, masks, num_queries, num_classes):
    mine = torch.arange(num_queries)[:, None] == labels  # [N, T]
    out = torch.einsum("nt,thw->nhw", mine.float(), masks.float()) > 0
    return torch.where(mine.any(1), torch.arange(num_queries), num_classes), out


def fixed_query_by_query(labels, masks, num_queries, num_classes):
    there = [(labels == i).any().item() for i in range(num_queries)]
    nothing = torch.zeros(masks.shape[1:], dtype=torch.bool)
    return ([i if yes else num_classes for i, yes in enumerate(there)],
            [masks[labels == i].any(0) if yes else nothing for i, yes in enumerate(there)])


def fixed_uint8(labels, masks, num_queries, num_classes):
    out = np.zeros((num_queries, *masks.shape[1:]), np.uint8)
    np.bitwise_or.at(out, labels.numpy(), masks.numpy().astype(np.uint8))
    classes = np.full(num_queries, num_classes, np.int32)
    classes[np.unique(labels)] = np.unique(labels)
    return classes, out


def fixed_scatter(labels, masks, num_queries, num_classes):
    out = torch.zeros(num_queries, *masks.shape[1:], dtype=torch.int64)
    out.index_add_(0, labels, masks.long())
    return torch.full((num_queries,), num_classes).scatter_(0, labels, labels), out.clamp_(max=1)


def fixed_library(labels, masks, num_queries, num_classes):
    label_map = torch.full(masks.shape[1:], 255)
    for label, mask in zip(labels, masks):
        label_map[mask] = label
    target = semantic_to_target(label_map, num_classes)
    [(queries, chosen)] = matching.fixed_match([target], num_queries)
    classes, out = torch.full((num_queries,), num_classes), torch.zeros(num_queries, *masks.shape[1:])
    classes[queries], out[queries] = target["labels"][chosen], target["masks"][chosen].float()
    return [classes, out.bool()]


def pq_by_counts(predictions, truths, num_classes):
    tp, fp, fn, iou = (np.zeros(num_classes) for _ in range(4))
    for p, t in zip(np.asarray(predictions), np.asarray(truths)):
        for c in set(np.unique(p)) | set(np.unique(t)):
            inside, union = ((p == c) & (t == c)).sum(), ((p == c) | (t == c)).sum()
            if 2 * inside > union:
                tp[c], iou[c] = tp[c] + 1, iou[c] + inside / union
            else:
                fp[c], fn[c] = fp[c] + (p == c).any(), fn[c] + (t == c).any()
    seen = tp + fp + fn > 0
    return (iou[seen] / (tp + fp / 2 + fn / 2)[seen]).mean()


def pq_one_hot(predictions, truths, num_classes):
    p, t = (F.one_hot(v, num_classes).flatten(1, 2).float() for v in (predictions, truths))  # [B, P, K]
    inside, areas, true_areas = (p * t).sum(1), p.sum(1), t.sum(1)  # [B, K]
    iou = inside / (areas + true_areas - inside).clamp(min=1)
    top = torch.where(iou > 0.5, iou, 0.0).sum(0)
    below = ((areas > 0).sum(0) + (true_areas > 0).sum(0)) / 2
    return (top[below > 0] / below[below > 0]).mean()


def pq_by_confusion(predictions, truths, num_classes):
    top, below = torch.zeros(2, num_classes, dtype=torch.float64)
    for p, t in zip(predictions, truths):
        table = torch.bincount((t * num_classes + p).flatten(), minlength=num_classes ** 2).view(num_classes, -1).double()
        trues, preds, inside = table.sum(1), table.sum(0), table.diag()
        iou = inside / (trues + preds - inside).clamp(min=1)
        top += iou * (iou > 0.5)
        below += ((trues > 0).double() + (preds > 0).double()) / 2
    return (top / below)[below > 0].mean().item()


def pq_as_sq_times_rq(predictions, truths, num_classes):
    values = []
    for c in set(predictions.unique().tolist()) | set(truths.unique().tolist()):
        ious = [((p == c) & (t == c)).sum() / ((p == c) | (t == c)).sum() for p, t in zip(predictions, truths)]
        matches = [float(iou) for iou in ious if iou > 0.5]
        count = sum((m == c).any().item() for m in (*predictions, *truths)) / 2
        values.append(statistics.mean(matches) * (len(matches) / count) if matches else 0)
    return np.mean(values)


def pq_by_library(predictions, truths, num_classes):
    table = ablations.all_stuff(LAKELAND_CLASSES)
    table = type(table)(table.names[:num_classes], table.isthing[:num_classes], table.ids[:num_classes])
    return ablations.score_maps(predictions, truths, table)["pq"] / 100


def seeds_by_hand(values):
    rows = values.tolist()
    means = [sum(row) / len(row) for row in rows]
    return means, [math.sqrt(sum((v - m) ** 2 for v in row) / (len(row) - 1) / len(row)) for row, m in zip(rows, means)]


RIGHT = {
    "11.1": [likelihood_loops, likelihood_einsum, likelihood_indexed, likelihood_one_hot, likelihood_in_place,
             likelihood_in_logs, likelihood_class_by_class, likelihood_void_255,
             lambda x, m, t: likelihood_loops(x.double(), m.double(), t),
             lambda x, m, t: [likelihood_loops(x, m, t)][0] * torch.ones(()).numpy()],
    "11.2": [share_loops, share_by_gradient, share_gathered, share_by_autograd, share_channels_last,
             lambda *args: torch.from_numpy(share_loops(*args)),
             lambda x, m, t: (x.double().log_softmax(-1).T[t].movedim(-1, 0) + m.double().sigmoid().log()).softmax(0),
             lambda x, m, t: F.normalize(x.softmax(-1)[:, t] * m.sigmoid(), p=1, dim=0)],
    "11.3": [fixed_loops, fixed_by_comparison, fixed_scatter, fixed_library, fixed_query_by_query, fixed_uint8,
             lambda *args: (fixed_loops(*args)[0], fixed_loops(*args)[1].astype(int))],
    "11.4": [pq_by_counts, pq_one_hot, pq_by_library, pq_by_confusion, pq_as_sq_times_rq,
             lambda *args: torch.tensor(pq_by_counts(*args)),
             lambda p, t, k: pq_by_counts(p.numpy().astype(np.uint8), t.numpy().astype(np.uint8), k).astype(np.float32)],
    "11.5": [seeds_by_hand, lambda v: (v.mean(1), v.std(1) / v.shape[1] ** 0.5),
             lambda v: (v.numpy().mean(1), v.numpy().std(1, ddof=1) / np.sqrt(v.shape[1])),
             lambda v: [[statistics.mean(r) for r in v.tolist()],
                        [statistics.stdev(r) / math.sqrt(len(r)) for r in v.tolist()]],
             lambda v: (v.mean(-1), (v.var(-1) / v.shape[-1]).sqrt()),
             lambda v: torch.stack([v.mean(1), v.std(1) / math.sqrt(v.shape[1])]),
             lambda v: np.stack([v.numpy().mean(1), stats.sem(v.numpy(), axis=1)]),
             lambda v: tuple(zip(*[(float(row.mean()), float(row.std() / len(row) ** 0.5)) for row in v])),
             lambda v: (v.mean(1), v.std(1, correction=0) / math.sqrt(v.shape[1] - 1))],
    "11.6": [lambda a, b: ((b - a).mean(), (b - a).std() / len(a) ** 0.5),
             lambda a, b: (b.mean() - a.mean(), ((b - a).var() / len(a)).sqrt()),
             lambda a, b: [v[0] for v in seeds_by_hand((b - a)[None])], lambda a, b: (-(a - b).mean(), stats.sem(a - b)),
             lambda a, b: (b.sub_(a).mean(), b.std() / math.sqrt(b.numel())),
             lambda a, b: ((b - a).numpy().mean(), np.std((b - a).numpy(), ddof=1) / np.sqrt(len(a))),
             lambda a, b: (float(b.mean() - a.mean()),  # var(b - a) = var a + var b - 2 cov
                           float((torch.cov(torch.stack([a, b])) * torch.tensor([[1, -1], [-1, 1]])).sum() / len(a)) ** 0.5)],
}
WRONG = {
    "11.1": [likelihood_with(masks=lambda m: m.sigmoid().sigmoid(), probs=lambda x: x[..., :-1].softmax(-1)),  # two
             likelihood_with(join=lambda p, m: (p * m).amax(1), finish=lambda s, t: -s.log().mean()),
             likelihood_with(join=lambda p, m: (p * m).mean(1), masks=lambda m: m.softmax(1)),
             lambda *args: 2 * likelihood_loops(*args), lambda x, m, t: likelihood_loops(x, m, t.flip(1)),
             lambda x, m, t: likelihood_loops(x, -m, t), lambda x, m, t: likelihood_loops(x.flip(2), m, t),
             lambda x, m, t: math.exp(likelihood_loops(x, m, t)),
             likelihood_with(join=lambda p, m: 1 - (1 - p * m).prod(1)),  # "at least one query"
             likelihood_with(classes=lambda t, k: t.clamp(min=0) * 0), lambda x, m, t: likelihood_loops(x.flip(0), m, t),
             lambda x, m, t: None, lambda x, m, t: x @ m,
             lambda x, m, t: torch.tensor(math.nan), lambda x, m, t: 0.0],
    "11.2": [share_with(masks=lambda m: m.sigmoid().sigmoid(), finish=lambda r: r / r.sum()),
             share_with(probs=lambda x: x[:, :-1].softmax(-1), masks=torch.ones_like),
             share_with(classes=lambda t: t.flip(0)), lambda x, m, t: 1 - share_with()(x, m, t),
             lambda x, m, t: share_with()(x, m, t).movedim(0, -1), lambda x, m, t: -share_with()(x, m, t),
             lambda x, m, t: share_with()(x, -m, t), lambda x, m, t: torch.zeros(m.shape), lambda x, m, t: "shares",
             lambda x, m, t: x.softmax(-1)[:, t] + m.sigmoid(), share_with(finish=lambda r: r / (r.sum(0) - r)),
             lambda x, m, t: share_with()(x, m, t) * (1 - m.sigmoid()),  # the gradient by the mask logits
             share_with(probs=torch.ones_like, finish=lambda r: r / r.sum()),
             share_with(probs=lambda x: x.softmax(0), masks=lambda m: m),
             lambda x, m, t: torch.full(m.shape, 1 / len(m))],
    "11.3": [fixed_with(merge=lambda old, new: new, absent=lambda n, k: 0),  # two mistakes
             fixed_with(place=lambda labels: torch.arange(len(labels)), empty=True),
             lambda labels, masks, n, k: (torch.full((n,), k), torch.zeros(n, *masks.shape[1:])),
             lambda labels, masks, n, k: fixed_loops(labels, masks, n, k)[::-1],
             lambda labels, masks, n, k: fixed_loops(labels, ~masks, n, k),
             lambda labels, masks, n, k: fixed_loops(labels, masks.flip(2), n, k),
             lambda labels, masks, n, k: (labels, masks), lambda *args: fixed_loops(*args)[1],
             fixed_with(name=lambda query, label: label + 1), fixed_with(absent=lambda n, k: 255),
             fixed_with(place=lambda labels: labels.flip(0)), fixed_with(merge=lambda old, new: old ^ new, empty=True)],
    "11.4": [pq_with(match=lambda iou: iou >= 0.5, false=(1, 1)), pq_with(pieces=True, absent=True),
             pq_with(false=(0, 0), absent=True), pq_with(match=lambda iou: iou > 0.4), pq_with(match=lambda iou: iou > 0.25),
             pq_with(match=lambda iou: iou > 1 / 3), pq_with(match=lambda iou: iou > 0.75),  # 1/3: a Dice of one half
             lambda p, t, k: pq_with(match=lambda iou: iou >= 0.5)(p.view(1, -1, p.shape[-1]), t.view(1, -1, t.shape[-1]), k),
             pq_with(false=(1, 0.5)), pq_with(overlap=lambda pred, true: (pred & true).sum() / true.sum()),
             lambda *args: pq_by_counts(*args) / 2, lambda *args: 1.0,
             lambda p, t, k: pq_by_counts(p.mT, t, k) if p.shape[1] == p.shape[2] else 0.0,
             lambda p, t, k: (p == t).float().mean(), lambda p, t, k: float("nan"),
             lambda p, t, k: pq_by_counts(p, p, k), lambda p, t, k: [pq_by_counts(p, t, k)]],
    "11.5": [error_with(center=lambda v: v.quantile(0.5, 1), error=lambda v: v.std(1)),
             error_with(center=lambda v: v.amax(1), error=lambda v: v.amax(1) - v.amin(1)),
             error_with(error=lambda v: v.std(1) / 2),
             error_with(error=lambda v: (v.var(1).mean() / v.shape[1]).sqrt().expand(len(v))),
             error_with(error=lambda v: v.std(1) / (v.shape[1] - 1)), error_with(error=lambda v: v.std(1) / 3 ** 0.5),
             error_with(error=lambda v: v.std(1) / v.numel() ** 0.5),
             lambda v: v.mean(1), lambda v: (v.std(1) / math.sqrt(v.shape[1]), v.mean(1)),
             lambda v: (v.mean(1), v.mean(1)), lambda v: (v.mean(), v.std())],
    "11.6": [difference_with(order=lambda v: v.sort().values, error=lambda d: d.std()),
             difference_with(difference=lambda a, b: (a - b) / 2), lambda a, b: (a - b).mean(),
             lambda a, b: ((b - a).quantile(0.5), (b - a).std() / math.sqrt(len(a))), lambda a, b: (b - a, a - b),
             lambda a, b: ((b - a).mean(), a.std() / math.sqrt(len(a))), lambda a, b: ((b - a).mean(), b.std() / math.sqrt(len(b))),
             lambda a, b: ((b - a).mean(), (b[:, None] - a).std() / math.sqrt(len(a))),  # all against all
             difference_with(center=lambda d: d.mean().abs()), lambda a, b: difference_with()(a, b)[::-1],
             lambda a, b: ((b - a).mean(), 0.0), lambda a, b: ((b - a).sum(), (b - a).std() / math.sqrt(len(a)))],
}


def test_shares_of_logits_in_place_of_logs_are_named():
    """exp of a logit, shared out, is a softmax over queries: whoever adds logs and forgets one is told so."""
    exercise = BY_ID["11.2"]
    for share, name in ((lambda x, m, t: (x[:, t] + F.logsigmoid(m)).softmax(0), "the softmax over queries"),
                        (lambda x, m, t: (x.log_softmax(-1)[:, t] + m).softmax(0), "a softmax over the queries"),
                        (lambda x, m, t: (x[:, t] + m).softmax(0), "exp of the logits")):
        outcome = core.judge(exercise, share)
        assert f"Looks like: {name}" in outcome.text and "If you add logs" in outcome.text


# --- the references and the library -----------------------------------------------------------------------------------

def test_the_likelihood_is_the_log_of_the_semantic_score():
    exercise = BY_ID["11.1"]
    for fixture in exercise.fixtures:
        assert math.isclose(exercise.reference(*core.doubled(fixture.args)), likelihood_loops(*core.doubled(fixture.args)),
                            rel_tol=1e-9)
    assert exercise.reference is baselines.pixel_likelihood


def test_the_pq_reference_is_the_librarys_pq():
    for fixture in BY_ID["11.4"].fixtures:
        assert math.isclose(lesson11.pq_stuff(*fixture.args), pq_by_library(*fixture.args), rel_tol=1e-12)


def test_the_fixed_reference_is_the_librarys_match():
    for fixture in BY_ID["11.3"].fixtures:
        classes, masks = lesson11.fixed_targets(*fixture.args)
        want_classes, want = fixed_library(*fixture.args)
        assert torch.equal(classes, want_classes) and torch.equal(masks, want)
        found = classes < fixture.args[3]
        segment_map, _ = target_to_panoptic({"labels": classes[found], "masks": masks[found]}, ())
        assert segment_map.any() == fixture.args[1].any()


def test_fragile_solutions_get_a_remark():
    assert "log_softmax" in core.judge(BY_ID["11.1"], likelihood_einsum).text
    assert "0 by 0" in core.judge(BY_ID["11.2"], share_with()).text
