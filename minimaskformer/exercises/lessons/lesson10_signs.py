"""Lesson 10: what a checkpoint tells about its training, and the ways people misread it."""
import torch

from ...diagnosis.measurements import twins
from ..core import Exercise, Fixture, Mistake, issue


def _random(seed, *shape, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- 10.3 how many queries see something? -----------------------------------------------------------------------------

def objects_per_image(class_logits):
    num_classes = class_logits.shape[-1] - 1
    return (class_logits.argmax(-1) != num_classes).sum(-1)


def _no_object_first(x):
    return (x.argmax(-1) != 0).sum(-1)


def _drawn(seed, B, N, K):
    x = _random(seed, B, N, K + 1, scale=1.2)
    x[..., -1] += 1.3
    return x


objects_exercise = Exercise(
    id="10.3", title="how many queries see something?", name="objects_per_image", reference=objects_per_image,
    fixtures=(Fixture("3 images, 9 queries, 4 classes", (_drawn(4, 3, 9, 4),)),
              Fixture("2 images, 12 queries, 6 classes", (_drawn(7, 2, 12, 6),)),
              Fixture("2 images, 10 queries, some very sure, some with negative logits alone",
                      (4 * _drawn(9, 2, 10, 3) - 14 * (torch.arange(10)[:, None] % 2),))),
    mistakes=(
        Mistake("no object taken for the first class", _no_object_first, "No object is the *last* index, K.",
                issue("facebookresearch/MaskFormer", 13)),
        Mistake("the queries that see nothing", lambda x: (x.argmax(-1) == x.shape[-1] - 1).sum(-1),
                "Those whose most likely class is an object, not those that say no object."),
        Mistake("every query counted", lambda x: torch.full((len(x),), x.shape[1]),
                "No object is index K, the number of columns less one, and argmax must see its column too."),
        Mistake("a score above 0.5 asked for", lambda x: (x.softmax(-1)[..., :-1].amax(-1) > 0.5).sum(-1),
                "A query sees something when no object is not its most likely answer; the score may be below 0.5."),
        Mistake("a score above 0.8 asked for", lambda x: (x.softmax(-1)[..., :-1].amax(-1) > 0.8).sum(-1),
                "That is panoptic inference's filter. A query sees something unless no object is its best answer."),
        Mistake("no object below 0.5", lambda x: (x.softmax(-1)[..., -1] < 0.5).sum(-1),
                "No object can be the most likely answer with less than 0.5, and an object too."),
        Mistake("positive logits", lambda x: (x[..., :-1].amax(-1) > 0).sum(-1),
                "Logits mean something only relative to each other: compare with that of no object."),
        Mistake("a largest logit that begins at 0", lambda x: (x.clamp(min=0).argmax(-1) != x.shape[-1] - 1).sum(-1),
                "Every logit of a query may be negative: begin with its first one, or with -inf."),
        Mistake("all images together", lambda x: objects_per_image(x).sum(), "One number for each image."),
        Mistake("the share instead of the number", lambda x: objects_per_image(x).double() / x.shape[1],
                "Count; do not divide by the number of queries."),
        Mistake("the mean over images", lambda x: objects_per_image(x).double().mean(), "One number for each image."),
        Mistake("counted per query", lambda x: (x.argmax(-1) != x.shape[-1] - 1).sum(0),
                "Sum over the queries of an image, not over the images of a query."),
        Mistake("different classes counted", lambda x: torch.stack([
            (row.argmax(-1)[row.argmax(-1) != x.shape[-1] - 1]).unique().numel() * torch.ones(()) for row in x]),
                "Count queries; two of them may see the same class."),
        Mistake("the second-last class left out", lambda x: (x.argmax(-1) < x.shape[-1] - 2).sum(-1),
                "With K + 1 columns no object is index K = columns - 1.")),
    hints=("When does a query say \"nothing here\"?",
           "argmax over the last dimension; K, the last index, is no object. Count the others of each image.",
           "(class_logits.argmax(-1) != class_logits.shape[-1] - 1).sum(-1)"),
    why="The first number to look at when a panoptic map is empty: 0 here means that no threshold can help.")


# --- 10.4 queries that draw the same mask -----------------------------------------------------------------------------

def _parts(x, labels):
    masks = (x > 0).flatten(1).double()
    inside, area = masks @ masks.T, masks.sum(1)
    return inside, area, area[:, None] + area - inside, labels[:, None] == labels


def _twins(iou, same, limit=0.5, strict=True):
    pairs = ((iou > limit) if strict else (iou >= limit)) & same
    return pairs.tril(-1).any(1).sum()


def _iou(x):
    inside, _, union, _ = _parts(x, torch.zeros(len(x)))
    return inside / union.clamp(min=1)


def _soft_iou(x):
    probs = x.sigmoid().flatten(1)
    inside, area = probs @ probs.T, probs.sum(1)
    return inside / (area[:, None] + area - inside)


def _twin_example(seed, shape, *queries):
    """(mask logits, classes) of masks given as (class, pixel numbers); the logits vary in size on their side of 0."""
    x = -_random(seed, len(queries), shape[0] * shape[1]).abs() - 0.1
    for row, (_, pixels) in zip(x, queries):
        row[list(pixels)] *= -1
    return x.reshape(-1, *shape), torch.tensor([c for c, _ in queries])


# copies of one class and of another, a mask of exactly half the area, a part, an overlap with IoU 0.4 (dice 0.57)
_FIRST = _twin_example(
    0, (4, 6), (2, range(10)), (2, range(9)), (2, range(14)), (1, range(14, 22)), (1, range(14, 18)),
    (3, range(10, 17)), (3, range(13, 20)), (0, range(10)), (1, [14]), (2, range(10)))
_SECOND = _twin_example(
    1, (3, 7), (0, range(6)), (1, range(6)), (0, range(7)), (0, range(6, 12)), (0, range(9, 15)), (2, range(12, 18)),
    (2, range(12, 15)), (2, range(12, 19)), (1, range(6)), (1, range(6)), (1, range(6)), (1, range(6, 12)))
# masks like a second one that is unlike the third: chains (3, 5), the middle first (1, 2), the middle last (0); a mask
# and one three times as large (4)
_THIRD = _twin_example(
    2, (4, 6), (3, range(10)), (1, range(8)), (0, range(5)), (3, range(3, 13)), (1, range(5)), (5, range(8, 18)),
    (0, range(3, 8)), (1, range(3, 8)), (3, range(6, 16)), (4, range(4)), (5, range(11, 21)), (2, range(10, 18)),
    (0, range(8)), (2, range(10, 15)), (5, range(14, 24)), (2, range(13, 18)), (4, range(12)))
# so many that two mistakes do not count alike by chance
_FOURTH = _twin_example(3, (4, 6), *((i * i // 3 % 3, range(a, a + 3 + 7 * i % 6)) for i in range(40)
                                     for a in [(5 * i * i + 3 * i) % 16]))


def _at_one_half():
    """The first example with larger logits, but one of exactly 0 in a mask whose IoU with another is 0.5."""
    x = 8 * _FIRST[0]
    x[4].view(-1)[18] = 0
    return x, _FIRST[1]


def _near(x, c):
    """Which queries [N, N] are of one class and draw alike."""
    return (_iou(x) > 0.5) & (c[:, None] == c)


def _originals_only(x, c):
    """Twins of queries that are no twins themselves."""
    near, kept = _near(x, c), []
    for i in range(len(x)):
        if not near[i, kept].any():
            kept.append(i)
    return len(x) - len(kept)


def _one_each(x, c):
    """Every earlier query may have one twin only."""
    near, used, count = _near(x, c), set(), 0
    for i in range(len(x)):
        free = [j for j in range(i) if near[i, j] and j not in used]
        used |= set(free[:1])
        count += bool(free)
    return count


twins_exercise = Exercise(
    id="10.4", title="queries that draw the same mask", name="twins", reference=twins,
    fixtures=(Fixture("10 queries, 4 classes", _FIRST), Fixture("12 queries, 3 classes", _SECOND),
              Fixture("17 queries, like a neighbour and unlike its neighbour", _THIRD),
              Fixture("40 queries, 3 classes", _FOURTH),
              Fixture("the first ten, surer of every pixel but one, which is at exactly 0.5", _at_one_half())),
    mistakes=(
        Mistake("classes not compared", lambda x, c: _twins(_iou(x), torch.ones(len(x), len(x), dtype=torch.bool)),
                "Two queries may draw one region for two classes; a twin is of the same class."),
        Mistake("pairs counted", lambda x, c: _near(x, c).tril(-1).sum(),
                "Three copies are two twins, not three pairs: count queries that have an *earlier* partner."),
        Mistake("both partners counted", lambda x, c: (_near(x, c).sum(1) > 1).sum(),
                "The first of a kind is not a twin: only those with an earlier partner count."),
        Mistake("every query its own twin", lambda x, c: _near(x, c).tril().any(1).sum(),
                "Leave out the diagonal."),
        Mistake("0.5 itself counted", lambda x, c: _twins(_iou(x), c[:, None] == c, strict=False),
                "Above 0.5, strictly."),
        Mistake("dice instead of IoU", lambda x, c: _twins(
            2 * _parts(x, c)[0] / (_parts(x, c)[1][:, None] + _parts(x, c)[1]).clamp(min=1), c[:, None] == c),
                "IoU: intersection over union. Dice is larger."),
        Mistake("divided by the smaller mask", lambda x, c: _twins(
            _parts(x, c)[0] / torch.minimum(_parts(x, c)[1][:, None], _parts(x, c)[1]).clamp(min=1), c[:, None] == c),
                "A part is not a twin: divide by the union."),
        Mistake("logits compared with 0.5", lambda x, c: _twins(_iou(x - 0.5), c[:, None] == c),
                "Inside a mask means probability above 0.5, which is logit above 0."),
        *(Mistake(f"divided by the {name} mask", lambda x, c, at=at: _twins(_parts(x, c)[0] / _parts(x, c)[1][at],
                                                                            c[:, None] == c),
                  "IoU divides by the union of both, not by the area of one.")
          for name, at in (("later", (slice(None), None)), ("earlier", slice(None)))),
        Mistake("soft masks", lambda x, c: _twins(_soft_iou(x), c[:, None] == c),
                "Hard masks: cut the probabilities at 0.5 first. Sums of probabilities count pixels that no mask has."),
        Mistake("any overlap", lambda x, c: _twins(_iou(x), c[:, None] == c, limit=0.0),
                "An IoU above 0.5, not above 0."),
        Mistake("twins of twins left out", _originals_only,
                "Any earlier query counts as a partner, even one that is a twin itself."),
        Mistake("one twin for each earlier query", _one_each,
                "Ask each query whether *any* earlier one draws alike. Nothing is used up: of three copies both later "
                "ones may be like the first."),
        Mistake("only the query just before compared", lambda x, c: _near(x, c).diagonal(-1).sum(),
                "Any earlier query may be the partner, not the one before alone."),
        Mistake("a pixel at exactly one half counted as inside",
                lambda x, c: _twins(_iou(x + (x == 0)), c[:, None] == c),
                "Above 0.5, strictly: a logit of 0 is not in the mask."),
        Mistake("divided by the larger mask", lambda x, c: _twins(
            _parts(x, c)[0] / torch.maximum(_parts(x, c)[1][:, None], _parts(x, c)[1]), c[:, None] == c),
                "IoU divides by the union of both, not by the area of one."),
        Mistake("no pair above 0.5, as when the union is just the sum of both areas", lambda x, c: 0,
                "Both areas hold the intersection: subtract it once. Without that even equal masks have 0.5."),
        Mistake("a later partner asked for", lambda x, c: _near(x, c).triu(1).any(1).sum(),
                "A twin has an *earlier* partner: tril(-1) keeps the pairs whose column comes first."),
        Mistake("the share instead of the number", lambda x, c: twins(x, c) / len(x), "Return how many.")),
    hints=("When are two masks the same? And of three copies, how many are too many?",
           "IoU of every pair of hard masks (logit above 0), equal classes, and only pairs with an earlier query.",
           "masks = (mask_logits > 0).flatten(1).float(); inside = masks @ masks.T; iou = inside / (areas + areas' - "
           "inside); ((iou > 0.5) & same_class).tril(-1).any(1).sum()"),
    why="One matrix product gives every intersection. tril(-1) keeps pairs (i, j) with j before i, any(1) asks whether "
        "there is one.")
