"""The frame of a learner's MaskFormer, second half: the criterion, the training loop, the answers and their scores.

All below the line is copied into my_maskformer.py, after frame_model.py's.
"""
import torch
import torch.nn.functional as F
from torchvision.transforms.v2.functional import resize

from .borrowed import (
    assign,
    average_precision,
    batch_mask_loss,
    class_cost,
    classification_loss,
    clip_gradients,
    confusion_matrix,
    dataset_iou,
    dice_cost,
    dice_loss,
    focal_cost,
    general_inference,
    instances,
    learning_rate,
    match_segments,
    matched_masks,
    mean_quality,
    panoptic_map,
    panoptic_to_set,
    semantic_scores_at,
    set_criterion,
    set_to_maps,
    sigmoid_focal_loss,
    to_batch,
    to_picture,
    unmatched,
    void_losses,
)
from .frame_model import MINI, every_answer, last_answer, tensor_of

# ===== The frame, by the course: training =============================================================================

WEIGHTS = {"class": 1.0, "focal": 20.0, "dice": 1.0}  # of the three costs, and of the three losses
STRIDE = 2  # masks are compared on every second row and column, to save time


def target_of(segment_map, segments_info):
    labels, masks, valid = panoptic_to_set(segment_map, [{"iscrowd": 0} | s for s in segments_info])
    return {"labels": tensor_of(labels, torch.int64), "valid": tensor_of(valid, torch.bool),
            "masks": tensor_of(masks, torch.bool).reshape(-1, *segment_map.shape)}


@torch.no_grad()
def match_picture(class_logits, mask_logits, target, weights=WEIGHTS):
    """One picture's (queries, targets) of least cost, the masks compared at the size of the prediction."""
    maps = torch.cat([target["masks"], target["valid"][None]]).float()  # [T+1, H, W]
    *masks, valid = F.interpolate(maps[:, None], mask_logits.shape[-2:]).flatten(1)  # T+1 times [h*w]
    masks = torch.stack(masks) if masks else valid.new_zeros(0, len(valid))  # [T, h*w]
    x, valid = mask_logits.flatten(1), valid[None]
    costs = {"class": class_cost(class_logits, target["labels"]), "focal": focal_cost(x, masks * valid, valid),
             "dice": dice_cost(x, masks, valid)}
    match = assign(sum(weights[name] * tensor_of(cost, x.dtype) for name, cost in costs.items()))
    return tuple(tensor_of(indices, torch.int64) for indices in match)


def match_batch(class_logits, mask_logits, targets, weights=WEIGHTS):
    return [match_picture(*picture, weights) for picture in zip(class_logits, mask_logits, targets)]


def matched_losses(mask_logits, targets, matches):
    """Focal and dice of the matched masks, at the size of the truth, over the number of targets in the batch.

    Masks of pictures without void go to the losses of lesson 03, the others to 04.5, picture by picture to 04.3.
    """
    here = slice(STRIDE // 2, None, STRIDE)
    small = [{"labels": t["labels"], "masks": t["masks"][:, here, here]} for t in targets]
    x, y = (tensor_of(each, mask_logits.dtype).reshape(-1, *like.shape[-2:])  # [M, h, w], [M, H, W]
            for each, like in zip(matched_masks(mask_logits, small, matches), (mask_logits, small[0]["masks"])))
    x = F.interpolate(x[:, None], y.shape[-2:], mode="bilinear", align_corners=False)[:, 0]  # [M, H, W]
    valid = torch.cat([t["valid"][here, here].expand(len(q), -1, -1) for t, (q, _) in zip(targets, matches)])
    whole = valid.flatten(1).all(1)  # [M]: the picture has no void
    num_masks = max(1, sum(len(t["labels"]) for t in targets))
    both = [loss(x[whole], y[whole], num_masks) for loss in (sigmoid_focal_loss, dice_loss)]
    if not whole.all():
        counts = [int((~each).sum()) for each in whole.split([len(q) for q, _ in matches])]  # of each picture
        others = void_losses(*(each[~whole].flatten(1) for each in (x, y, valid.to(x))))  # focal and dice, [M'] each
        both = [a + batch_mask_loss(list(tensor_of(b, x.dtype).split(counts)), targets) for a, b in zip(both, others)]
    return both


def criterion(layers, targets):
    return set_criterion(layers, targets, WEIGHTS, match_batch, classification_loss, matched_losses)


def make_optimizer(parameters, weight_decay=0.05):
    """AdamW on the dictionary's values; no decay on norms, which have one number per channel, and on the queries."""
    norms = {name.rpartition(".")[0] for name, p in parameters.items() if name.endswith("weight") and p.ndim == 1}
    groups = {0.0: [], weight_decay: []}
    for name, parameter in parameters.items():
        if not name.endswith(("running_mean", "running_var", "num_batches_tracked")):  # these count, they do not learn
            plain = name.rpartition(".")[0] in norms or name == "decoder.query_positions.weight"
            groups[0.0 if plain else weight_decay].append(parameter.requires_grad_())
    return torch.optim.AdamW([{"params": group, "weight_decay": decay} for decay, group in groups.items()],
                             betas=(0.9, 0.98))


def one_step(parameters, optimizer, batch, rate, config=MINI, clip=1.0):
    """One step on a batch of (uint8 image [3, H, W], dict with segment_map and segments_info); returns the loss."""
    images, _ = to_batch([image for image, _ in batch], *pixel_statistics(config), config.size_divisibility)
    loss = criterion(every_answer(parameters, tensor_of(images, torch.float32), config),
                     [target_of(t["segment_map"], t["segments_info"]) for _, t in batch])
    optimizer.zero_grad()
    loss.backward()
    learners = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    for parameter, gradient in zip(learners, clip_gradients(tuple(p.grad for p in learners), clip)):
        parameter.grad = tensor_of(gradient, parameter.dtype)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return loss.item()


def fit(parameters, dataset, steps, config=MINI, batch_size=16, peak=4e-4, warmup=None, seed=0, report=None,
        until=None):
    """Train the dictionary in place on a data set of (image, target), all images of one size; returns the losses.

    report(step, loss) is called after every step; a KeyboardInterrupt ends the training and keeps what was learnt.
    until: stop after so many of the steps.
    """
    optimizer, losses = make_optimizer(parameters), []
    order = torch.Generator().manual_seed(seed)
    try:
        for step in range(1, min(steps, until or steps) + 1):
            chosen = torch.randint(len(dataset), (batch_size,), generator=order).tolist()
            rate = learning_rate(step, steps, peak, min(200, steps // 5) if warmup is None else warmup)
            losses.append(one_step(parameters, optimizer, [dataset[i] for i in chosen], rate, config))
            if report is not None:
                report(step, losses[-1])
    except KeyboardInterrupt:
        pass
    for parameter in parameters.values():
        parameter.requires_grad_(False)
    return losses


# ===== The frame, by the course: answers and their scores =============================================================

def pixel_statistics(config):
    return torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)


def answer(parameters, picture, config=MINI):
    """uint8 [3, H, W] to class logits [N, K+1] and mask logits [N, H, W] at the picture's own size."""
    size = list(picture.shape[-2:])
    scale = min(config.short_side / min(size), config.long_side / max(size))
    small = [max(1, round(side * scale)) for side in size]
    resized = picture if small == size else resize(picture, small, antialias=True)
    images, _ = to_batch([resized], *pixel_statistics(config), config.size_divisibility)
    images = tensor_of(images, torch.float32)
    class_logits, mask_logits = last_answer(parameters, images, config)
    mask_logits = to_picture(mask_logits[0], tuple(images.shape[-2:]), tuple(small), tuple(size))
    return class_logits[0], tensor_of(mask_logits, torch.float32)


def panoptic(class_logits, mask_logits, config=MINI):
    """(segment map [H, W], segments_info). The class of a segment is that of its query, which 08.1 knows."""
    things, threshold = config.things, config.score_threshold
    segment_map = panoptic_map(class_logits, mask_logits, things, threshold, config.overlap_threshold)
    segment_map = tensor_of(segment_map, torch.int64)
    scores, _ = class_logits.softmax(-1).max(-1)
    sure = class_logits.clone()
    sure[scores <= threshold, -1] = 1e4  # whoever is not sure says "no object" and wins no pixel
    class_map = tensor_of(general_inference(sure, mask_logits)[1], torch.int64)
    return segment_map, [{"id": i, "category_id": int(class_map[segment_map == i][0])}
                         for i in segment_map.unique().tolist() if i]


def compare_segments(found, truth, num_classes):
    """One picture's IoUs of the matches, false positives and misses: three lists with an entry per class."""
    (found_map, found_info), (true_map, true_info) = found, truth
    found_masks = torch.stack([found_map == s["id"] for s in found_info] + [found_map == -1])[:-1].flatten(1).double()
    true_masks = torch.stack([true_map == s["id"] for s in true_info] + [true_map == 0]).flatten(1).double()  # + void
    overlap = (true_masks @ found_masks.T).long()  # [T+1, P]
    overlap, void, found_area = overlap[:-1], overlap[-1], found_masks.sum(1).long()  # [T, P], [P], [P]
    true_class = torch.tensor([s["category_id"] for s in true_info], dtype=torch.int64)
    found_class = torch.tensor([s["category_id"] for s in found_info], dtype=torch.int64)
    crowd = torch.tensor([bool(s.get("iscrowd", 0)) for s in true_info], dtype=torch.bool)
    same = true_class[:, None] == found_class
    own_crowd = (overlap * (same & crowd[:, None])).sum(0)  # [P]
    ious = match_segments(overlap, true_masks[:-1].sum(1).long(), found_area, void, same & ~crowd[:, None])
    ious = tensor_of(ious, torch.float64).reshape(same.shape)
    missed, false = unmatched(ious, crowd, found_area, void, own_crowd)
    missed, false = tensor_of(missed, torch.bool), tensor_of(false, torch.bool)
    of_class = [ious[true_class == k] for k in range(num_classes)]
    return ([iou[iou > 0].tolist() for iou in of_class],
            [int((found_class[false] == k).sum()) for k in range(num_classes)],
            [int((true_class[missed] == k).sum()) for k in range(num_classes)])


def claim_instances(masks, labels, scores, target, k):
    """One picture's (scores, whether right at IoU 0.5, true instances) of class k; an unclaimed crowd excuses."""
    found, true = (x.flatten(1).float() for x in (masks[labels == k], target["masks"][target["labels"] == k]))
    crowds = [target["segment_map"].flatten() == s["id"] for s in target["segments_info"]
              if s.get("iscrowd", 0) and s["category_id"] == k]
    overlap, area = found @ true.T, found.sum(1)  # [M, T], [M]
    ious = overlap / (area[:, None] + true.sum(1) - overlap)
    in_crowd = torch.stack([found[:, crowd].sum(1) for crowd in crowds] + [area * 0]).amax(0) >= 0.5 * area  # [M]
    kept, right = [], []
    for iou, score, excused in zip(ious, scores[labels == k].tolist(), in_crowd):  # the best first
        hit = len(true) > 0 and bool(iou.max() >= 0.5)
        if hit:
            ious[:, iou.argmax()] = 0  # claimed
        if hit or not excused:
            kept.append(score)
            right.append(hit)
    return kept, right, len(true)


def score_model(parameters, dataset, count, config=MINI):
    """{"pq", "miou", "ap50"} over the first `count` pictures of a data set, by your own metrics."""
    K, confusions, claims = config.num_classes, [], {k: ([], [], []) for k in config.things}
    ious, fp, fn = [[] for _ in range(K)], [0] * K, [0] * K
    for image, target in (dataset[i] for i in range(count)):
        class_logits, mask_logits = answer(parameters, image, config)
        truth = target["segment_map"], target["segments_info"]
        for total, each in zip((ious, fp, fn), compare_segments(panoptic(class_logits, mask_logits, config), truth, K)):
            total[:] = [a + b for a, b in zip(total, each)]
        own = target_of(*truth)
        size = tuple(mask_logits.shape[-2:])
        classes = tensor_of(semantic_scores_at(class_logits, mask_logits, size), torch.float32).argmax(0)
        true_classes = set_to_maps(own["labels"], own["masks"])[1]  # [H, W]
        confusions.append(tensor_of(confusion_matrix(classes, true_classes, K, 255), torch.int64))
        masks, labels, scores = instances(class_logits, mask_logits, config.things, 100)
        found = (tensor_of(masks, torch.bool).reshape(-1, *size), tensor_of(labels, torch.int64),
                 tensor_of(scores, torch.float32))
        for k, lists in claims.items():
            for total, each in zip(lists, claim_instances(*found, own | target, k)):
                total += each if isinstance(each, list) else [each]
    ap = [average_precision(torch.tensor(scores), torch.tensor(right, dtype=torch.bool), sum(totals))
          for scores, right, totals in claims.values() if sum(totals)]
    return {"pq": float(mean_quality(ious, fp, fn)[0]), "miou": float(dataset_iou(torch.stack(confusions))[1]),
            "ap50": float(sum(ap) / len(ap)) if ap else float("nan")}
