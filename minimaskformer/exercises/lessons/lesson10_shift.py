"""Lesson 10: are the labels shifted (10.5), and the ways people read a confusion matrix wrongly."""
import torch

from ..core import Exercise, Fixture, Mistake

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
        ((0, 0, 30, 0, 3), (2, 15, 15, 0, 22), (18, 2, 0, 0, 0), (0, 9, 36, 0, 25), (0, 0, 0, 0, 0)),  # 2 fits best
        ((0, 0, 0, 0, 0), (0, 29, 2, 2, 6), (0, 10, 12, 6, 1), (0, 3, 51, 50, 2), (0, 40, 10, 340, 100)))
    return [torch.tensor(table, dtype=torch.float32) for table in rows]


_TRY = "Try -1, 0 and 1 and compare the mIoU. (If the rows move with the columns, it is the same for all three.)"
shift_exercise = Exercise(
    id="10.5", title="are the labels shifted?", name="best_shift", reference=best_shift,
    fixtures=tuple(Fixture(f"table {i}", (table,)) for i, table in enumerate(_tables(), start=1)),
    mistakes=(
        Mistake("the other way round", lambda c: -best_shift(c),
                "The answer is what must be *added to the predicted* classes; the columns are the prediction."),
        Mistake("pixel accuracy (or all classes pooled) instead of mIoU",
                lambda c: _choose(c, lambda t: t.diagonal().sum() / t.sum()),
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
        Mistake("the IoUs divided by one number at every shift",
                lambda c: _choose(c, lambda t: _miou(t, absent="zero")),
                "Leave out the classes with an empty union, which are others at each shift. If absent ones count as 0, "
                "or the truth alone decides, there are as many at every shift, and the mean ranks as the sum does."),
        *(Mistake(name, lambda c, some=some: _choose(c, lambda t: _ious(t)[some(t)].sum() / max(1, int(some(t).sum()))),
                  "Only a class with an empty union is left out: one that is there and never hit has IoU 0.")
          for name, some in (("only classes in both truth and prediction", lambda t: (t.sum(0) > 0) & (t.sum(1) > 0)),
                             ("only classes with a hit", lambda t: t.diagonal() > 0))),
        Mistake("the classes moved out of the table", _cut_shift,
                "Class K - 1 plus 1 is class 0: the shift goes round, as roll does."),
        Mistake("never shifted", lambda c: 0, _TRY),
        Mistake("always shifted up", lambda c: 1, _TRY),
        Mistake("always shifted down", lambda c: -1, _TRY),
        Mistake("more shifts tried",
                lambda c: max(range(-1, len(c) - 1), key=lambda shift: float(_miou(c.roll(shift, dims=1)))),
                "-1, 0 and 1 alone."),
        Mistake("the size of the shift only", lambda c: abs(best_shift(c)), "-1 and +1 are two answers."),
        Mistake("the place in the list instead of the shift", lambda c: best_shift(c) + 1, "Return -1, 0 or 1."),
        Mistake("the worst instead of the best", lambda c: _choose(c, lambda t: -_miou(t)), "The largest mIoU wins.")),
    hints=("If the model says c + 1 for everything, what must you add to its answers?",
           "Move the *columns* of the table by -1, 0, 1 (going round) and compare the mIoU, absent classes left out.",
           "max((-1, 0, 1), key=lambda s: miou(confusion.roll(s, dims=1)))"),
    why="`diagnosis.measurements.measure` does the same with maps. It finds a shift that no training curve shows.")
