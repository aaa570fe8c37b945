"""Exercises of lesson 08, inference: the general, semantic, panoptic and instance rules, and the steps of panoptic."""
import torch
import torch.nn.functional as F

from ..core import Exercise
from .lesson08_map import MAP_FIXTURES, MAP_MISTAKES
from .lesson08_panoptic import IDS_FIXTURES, IDS_MISTAKES, SURVIVE_FIXTURES, SURVIVE_MISTAKES
from .lesson08_pixels import GENERAL_FIXTURES, GENERAL_MISTAKES, SCORES_FIXTURES, SCORES_MISTAKES
from .lesson08_stack import STACK_FIXTURES, STACK_MISTAKES

TITLE = "Inference"


def general_inference(class_logits, mask_logits):
    scores, classes = class_logits.softmax(-1).max(-1)  # [N, K+1] -> [N]
    kept = (classes != class_logits.shape[1] - 1).nonzero().flatten()  # [N'] query numbers
    if len(kept) == 0:
        nothing = torch.full(mask_logits.shape[1:], -1)
        return nothing, nothing.clone()
    products = scores[kept, None, None] * mask_logits[kept].sigmoid()  # [N', H, W]
    query_map = kept[products.argmax(0)]  # [H, W], from places among the kept back to query numbers
    return query_map, classes[query_map]


general_exercise = Exercise(
    id="08.1", title="the general rule", name="general_inference", reference=general_inference,
    fixtures=GENERAL_FIXTURES, mistakes=GENERAL_MISTAKES, parts=("query_map", "class_map"),
    hints=("Which queries may win a pixel at all?",
           "softmax, max over all K + 1 answers, keep those whose answer is not K. Among them the argmax over queries "
           "of score times sigmoid(mask logits). Then translate places among the kept back to query numbers.",
           "kept = (classes != K).nonzero().flatten(); query_map = kept[(scores[kept, None, None] * "
           "mask_logits[kept].sigmoid()).argmax(0)]; class_map = classes[query_map]"),
    why="A query that says no object has a mask too, often a large one, and nobody trained it. It must be out before "
        "the argmax, not after: afterwards its pixels would be lost.")


def semantic_scores_at(class_logits, mask_logits, size):
    mask_logits = F.interpolate(mask_logits[None], size, mode="bilinear", align_corners=False)[0]  # [N, H, W]
    class_probs = class_logits.softmax(-1)[:, :-1]  # [N, K]
    return torch.einsum("nk,nhw->khw", class_probs, mask_logits.sigmoid())


scores_exercise = Exercise(
    id="08.2", title="semantic scores at another size", name="semantic_scores_at", reference=semantic_scores_at,
    fixtures=SCORES_FIXTURES, mistakes=SCORES_MISTAKES,
    hints=("What should be interpolated: numbers between 0 and 1, or what they were made from?",
           "F.interpolate wants a batch: [1, N, h, w]. Bilinear, align_corners=False. Then sigmoid, softmax without "
           "its last column, and the sum over queries.",
           "torch.einsum(\"nk,nhw->khw\", class_logits.softmax(-1)[:, :-1], F.interpolate(mask_logits[None], size, "
           "mode=\"bilinear\")[0].sigmoid())"),
    why="Between a cell at logit -8 and one at +4 the logits cross zero two thirds of the way, the probabilities "
        "0 and 0.98 cross one half in the middle. The model was trained with upsampled logits, so its edges fit those.")


def surviving(scores, mask_probs, overlap_threshold):
    winner = (scores[:, None, None] * mask_probs).argmax(0)  # [H, W]
    won = torch.stack([(winner == i).sum() for i in range(len(scores))])  # [N]
    own = (mask_probs >= 0.5).flatten(1).sum(1)  # [N] of the mask alone, not of score * mask
    return (won > 0) & (own > 0) & (won / own >= overlap_threshold)


surviving_exercise = Exercise(
    id="08.3", title="the overlap test", name="surviving", reference=surviving,
    fixtures=SURVIVE_FIXTURES, mistakes=SURVIVE_MISTAKES,
    hints=("Two areas per query decide. Which, and does the score play a part in both?",
           "Won: how often the query is the argmax of score times mask. Own: how many of its pixels have m >= 0.5.",
           "(won > 0) & (own > 0) & (won / own >= overlap_threshold)"),
    why="The ratio asks how much of what a query claims is left after the others had their say. The score is part of "
        "that contest; in the claim it would make an unsure query's own area smaller and let it through.")


def segment_ids(classes, things):
    ids, stuff, count = [], {}, 0  # stuff: class -> id of its segment
    for c in classes:
        if c in stuff:
            ids.append(stuff[c])
            continue
        count += 1
        ids.append(count)
        if c not in things:
            stuff[c] = count
    return ids


ids_exercise = Exercise(
    id="08.4", title="ids, and stuff in one piece", name="segment_ids", reference=segment_ids,
    fixtures=IDS_FIXTURES, mistakes=IDS_MISTAKES,
    hints=("What must be remembered from query to query?",
           "How many segments there are, and for each stuff class the id of its segment.",
           "if c in stuff: take stuff[c]; else count += 1, take count, and if c is not a thing: stuff[c] = count"),
    why="Merging is a look-up, and the counter counts segments: it does not move when a piece joins an old one.")


def panoptic_map(class_logits, mask_logits, things, score_threshold, overlap_threshold):
    segment_map = torch.zeros(mask_logits.shape[1:], dtype=torch.int32)
    scores, classes = class_logits.softmax(-1).max(-1)  # [N]
    kept = ((classes != class_logits.shape[1] - 1) & (scores > score_threshold)).nonzero().flatten()  # [N']
    if len(kept) == 0:
        return segment_map
    mask_probs = mask_logits[kept].sigmoid()  # [N', H, W]
    winner = (scores[kept, None, None] * mask_probs).argmax(0)  # [H, W]
    stuff, count = {}, 0  # stuff: class -> id of its segment
    for place, c in enumerate(classes[kept].tolist()):
        won, own = int((winner == place).sum()), int((mask_probs[place] >= 0.5).sum())
        if won == 0 or own == 0 or won / own < overlap_threshold:
            continue  # its pixels stay 0, void
        if c not in stuff:
            count += 1
        segment = stuff.get(c, count)
        if c not in things:
            stuff[c] = segment
        segment_map[winner == place] = segment
    return segment_map


map_exercise = Exercise(
    id="08.5", title="the panoptic map", name="panoptic_map", reference=panoptic_map,
    fixtures=MAP_FIXTURES, mistakes=MAP_MISTAKES,
    hints=("Who may compete, who wins, who is dropped, who gets which number? In this order.",
           "Filter by class and score; argmax of score times mask over those left; the test of 08.3; the ids of 08.4 "
           "for those that passed it, in query order. A pixel whose winner was dropped stays 0.",
           "segment_map[winner == place] = id, for the places that survived, over a map of zeros"),
    why="The order is the rule: unsure queries leave before the contest, hidden ones after it. The library's "
        "panoptic_inference does the same without a loop over pixels, and lists the segments too.")


def instances(class_logits, mask_logits, things, top_k):
    num_classes = class_logits.shape[1] - 1
    masks = mask_logits > 0  # [N, H, W]
    areas = masks.flatten(1).sum(1)
    quality = (mask_logits.sigmoid() * masks).flatten(1).sum(1) / areas.clamp(min=1)  # [N], mean of m inside the mask
    probs, pairs = class_logits.softmax(-1)[:, :-1].flatten().topk(top_k)  # of N * K pairs
    queries, labels = pairs // num_classes, pairs % num_classes
    kept = torch.tensor([int(c) in things for c in labels]) & (areas[queries] > 0)
    queries, labels, scores = queries[kept], labels[kept], (probs * quality[queries])[kept]
    order = scores.argsort(descending=True)
    return masks[queries[order]], labels[order], scores[order]


stack_exercise = Exercise(
    id="08.6", title="a stack of instances", name="instances", reference=instances,
    fixtures=STACK_FIXTURES, mistakes=STACK_MISTAKES, parts=("masks", "labels", "scores"),
    hints=("The list is of pairs, not of queries. How many are there?",
           "N * K probabilities in one long vector, its top k; query = place // K, class = place % K. Then drop stuff "
           "and empty masks, multiply by the mean of m inside the mask, sort.",
           "quality = (sigmoid(m) * (m > 0)).sum(pixels) / (m > 0).sum(pixels); scores = probs * quality[queries]"),
    why="Average precision ranks everything a model says, so nothing is thresholded, masks keep their overlaps and a "
        "hesitating query says both. This is Mask2Former's rule; the MaskFormer paper has no instance task.")


EXERCISES = [general_exercise, scores_exercise, surviving_exercise, ids_exercise, map_exercise, stack_exercise]
