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
              Fixture("2 images, 10 queries, some very sure", (4 * _drawn(9, 2, 10, 3),))),
    mistakes=(
        Mistake("no object taken for the first class", _no_object_first, "No object is the *last* index, K.",
                issue("facebookresearch/MaskFormer", 13)),
        Mistake("the queries that see nothing", lambda x: (x.argmax(-1) == x.shape[-1] - 1).sum(-1),
                "Those whose most likely class is an object, not those that say no object."),
        Mistake("a score above 0.5 asked for", lambda x: (x.softmax(-1)[..., :-1].amax(-1) > 0.5).sum(-1),
                "A query sees something when no object is not its most likely answer; the score may be below 0.5."),
        Mistake("a score above 0.8 asked for", lambda x: (x.softmax(-1)[..., :-1].amax(-1) > 0.8).sum(-1),
                "That is panoptic inference's filter. A query sees something unless no object is its best answer."),
        Mistake("no object below 0.5", lambda x: (x.softmax(-1)[..., -1] < 0.5).sum(-1),
                "No object can be the most likely answer with less than 0.5, and an object too."),
        Mistake("positive logits", lambda x: (x[..., :-1].amax(-1) > 0).sum(-1),
                "Logits mean something only relative to each other: compare with that of no object."),
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


twins_exercise = Exercise(
    id="10.4", title="queries that draw the same mask", name="twins", reference=twins,
    fixtures=(Fixture("10 queries, 4 classes", _FIRST), Fixture("12 queries, 3 classes", _SECOND),
              Fixture("17 queries, like a neighbour and unlike its neighbour", _THIRD),
              Fixture("the first ten, surer of every pixel", (8 * _FIRST[0], _FIRST[1]))),
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
        Mistake("divided by the later mask", lambda x, c: _twins(_parts(x, c)[0] / _parts(x, c)[1][:, None],
                                                                 c[:, None] == c),
                "IoU divides by the union of both, not by the area of one."),
        Mistake("soft masks", lambda x, c: _twins(_soft_iou(x), c[:, None] == c),
                "Hard masks: cut the probabilities at 0.5 first. Sums of probabilities count pixels that no mask has."),
        Mistake("any overlap", lambda x, c: _twins(_iou(x), c[:, None] == c, limit=0.0),
                "An IoU above 0.5, not above 0."),
        Mistake("twins of twins left out", _originals_only,
                "Any earlier query counts as a partner, even one that is a twin itself."),
        Mistake("a later partner asked for", lambda x, c: _near(x, c).triu(1).any(1).sum(),
                "A twin has an *earlier* partner: tril(-1) keeps the pairs whose column comes first."),
        Mistake("the share instead of the number", lambda x, c: twins(x, c) / len(x), "Return how many.")),
    hints=("When are two masks the same? And of three copies, how many are too many?",
           "IoU of every pair of hard masks (logit above 0), equal classes, and only pairs with an earlier query.",
           "masks = (mask_logits > 0).flatten(1).float(); inside = masks @ masks.T; iou = inside / (areas + areas' - "
           "inside); ((iou > 0.5) & same_class).tril(-1).any(1).sum()"),
    why="One matrix product gives every intersection. tril(-1) keeps pairs (i, j) with j before i, any(1) asks whether "
        "there is one.")


# --- 10.5 are the labels shifted? -------------------------------------------------------------------------------------

def best_shift(confusion):
    def miou(c):
        inside, union = c.diagonal(), c.sum(0) + c.sum(1) - c.diagonal()
        return (inside / union)[union > 0].mean()

    scores = {shift: miou(confusion.roll(shift, dims=1)) for shift in (-1, 0, 1)}
    return max(scores, key=scores.get)


def _choose(confusion, score):
    scores = {shift: float(score(confusion.roll(shift, dims=1))) for shift in (-1, 0, 1)}
    return max(scores, key=scores.get)


def _cut(confusion, shift):
    """Moved without wrapping around: what leaves the table is lost."""
    out = torch.zeros_like(confusion)
    if shift == 0:
        return confusion
    if shift > 0:
        out[:, shift:] = confusion[:, :-shift]
    else:
        out[:, :shift] = confusion[:, -shift:]
    return out


def _ious(c, dice=False):
    """IoU of each class (or dice), 0 where neither truth nor prediction has it."""
    inside, both = c.diagonal(), c.sum(0) + c.sum(1)
    return 2 * inside / both.clamp(min=1) if dice else inside / (both - inside).clamp(min=1)


def _miou(c, absent=None, dice=False):
    values = _ious(c, dice)
    return values.mean() if absent == "zero" else values[c.sum(0) + c.sum(1) > 0].mean()


def _cut_shift(c):
    return max((-1, 0, 1), key=lambda shift: float(_miou(_cut(c, shift))))


def _tables():
    """Confusion matrices on which mIoU, other scores and ways to move the columns disagree; some lack a class."""
    rows = (
        ((3, 11, 0, 5, 4), (4, 34, 7, 4, 0), (0, 0, 62, 45, 0), (5, 0, 0, 48, 52), (42, 6, 0, 2, 4)),
        ((0, 0, 0, 0, 0), (0, 4, 0, 3, 5), (0, 25, 60, 0, 0), (0, 4, 9, 5, 3), (0, 6, 0, 15, 0)),
        ((0, 0, 0, 0), (0, 1, 46, 0), (0, 6, 0, 0), (0, 0, 2, 0)),
        ((47, 0, 0, 0, 0), (49, 43, 0, 0, 0), (0, 20, 4, 0, 0), (0, 1, 33, 4, 0), (0, 0, 0, 0, 0)),
        ((0, 59, 2, 0, 32), (0, 3, 25, 0, 2), (0, 28, 4, 0, 0), (0, 0, 15, 6, 41), (0, 1, 2, 11, 1)),
        ((11, 30, 5, 0), (0, 5, 16, 6), (1, 0, 64, 26), (34, 0, 4, 28)),
        ((63, 55, 0, 0), (4, 34, 8, 0), (5, 0, 0, 0), (0, 0, 0, 0)),
        ((0, 0, 0, 0), (8, 38, 56, 0), (35, 0, 0, 0), (0, 4, 0, 0)),
        ((0, 0, 0, 0, 0), (0, 29, 2, 2, 6), (0, 10, 12, 6, 1), (0, 3, 51, 50, 2), (0, 40, 10, 340, 100)))
    return [torch.tensor(table, dtype=torch.float32) for table in rows]


shift_exercise = Exercise(
    id="10.5", title="are the labels shifted?", name="best_shift", reference=best_shift,
    fixtures=tuple(Fixture(f"table {i}", (table,)) for i, table in enumerate(_tables(), start=1)),
    mistakes=(
        Mistake("the other way round", lambda c: -best_shift(c),
                "The answer is what must be *added to the predicted* classes; the columns are the prediction."),
        Mistake("pixel accuracy instead of mIoU", lambda c: _choose(c, lambda t: t.diagonal().sum() / t.sum()),
                "One large class decides the accuracy; every class counts alike in mIoU."),
        Mistake("the right pixels of each true class instead of IoU",
                lambda c: _choose(c, lambda t: (t.diagonal() / t.sum(1).clamp(min=1)).mean()),
                "IoU divides by the union: what is predicted as the class by mistake counts too."),
        Mistake("the right pixels of each predicted class instead of IoU",
                lambda c: _choose(c, lambda t: (t.diagonal() / t.sum(0).clamp(min=1))[t.sum(0) > 0].mean()),
                "IoU divides by the union: the pixels of the class that were missed count too."),
        Mistake("IoU weighted by the size of the class",
                lambda c: _choose(c, lambda t: (_ious(t) * t.sum(1)).sum()), "Every class counts alike in mIoU."),
        Mistake("the intersection left in the union", lambda c: _choose(c, lambda t: _miou(t, dice=True)),
                "Union: row sum + column sum - intersection. Without the last it is dice."),
        Mistake("absent classes counted as 0", lambda c: _choose(c, lambda t: _miou(t, absent="zero")),
                "A class with an empty union is left out of the mean, which differs from shift to shift."),
        Mistake("the classes moved out of the table", _cut_shift,
                "Class K - 1 plus 1 is class 0: the shift goes round, as roll does."),
        Mistake("never shifted", lambda c: 0, "Try -1, 0 and 1 and compare."),
        Mistake("always shifted up", lambda c: 1, "Try -1, 0 and 1 and compare."),
        Mistake("always shifted down", lambda c: -1, "Try -1, 0 and 1 and compare."),
        Mistake("the size of the shift only", lambda c: abs(best_shift(c)), "-1 and +1 are two answers."),
        Mistake("the place in the list instead of the shift", lambda c: best_shift(c) + 1, "Return -1, 0 or 1."),
        Mistake("the worst instead of the best", lambda c: _choose(c, lambda t: -_miou(t)), "The largest mIoU wins.")),
    hints=("If the model says c + 1 for everything, what must you add to its answers?",
           "Move the *columns* of the table by -1, 0, 1 (going round) and compare the mIoU, absent classes left out.",
           "max((-1, 0, 1), key=lambda s: miou(confusion.roll(s, dims=1)))"),
    why="`evidence.measure` does the same with maps. It finds a shift that no training curve shows.")
