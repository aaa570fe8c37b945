"""Exercises of lesson 10, training: learning rate and gallery; the others in lesson10_signs, _shift and _ward."""
import math

from ..core import Exercise, Fixture, Mistake, issue
from .lesson10_shift import shift_exercise
from .lesson10_signs import objects_exercise, twins_exercise
from .lesson10_ward import clinic_exercise

TITLE = "Training"


# --- 10.1 warm-up and decay -------------------------------------------------------------------------------------------

def learning_rate(step, steps, peak, warmup):
    factor = min(1, step / max(1, warmup))
    return peak * factor * (1 - (step - 1) / steps) ** 0.9


def _warm(step, warmup):
    return min(1, step / max(1, warmup))


def _left(step, steps):
    return 1 - (step - 1) / steps


rate_exercise = Exercise(
    id="10.1", title="warm-up and decay", name="learning_rate", reference=learning_rate,
    fixtures=(Fixture("the first of 100 steps", (1, 100, 2.0, 20)),
              Fixture("the end of the warm-up", (20, 100, 2.0, 20)),
              Fixture("in the middle", (60, 100, 2.0, 20)), Fixture("the last step", (100, 100, 2.0, 20)),
              Fixture("no warm-up", (5, 40, 0.5, 0)),
              Fixture("a warm-up of one step", (1, 60, 4.0, 1)), Fixture("late in a long warm-up", (17, 30, 3.0, 20))),
    mistakes=(
        Mistake("steps counted from 0 in the decay", lambda t, T, p, w: p * _warm(t, w) * (1 - t / T) ** 0.9,
                "The first step has lost nothing yet: (step - 1) / steps. With step / steps the last step is wasted."),
        Mistake("steps counted from 0 in the warm-up",
                lambda t, T, p, w: p * min(1, (t - 1) / max(1, w)) * _left(t, T) ** 0.9,
                "Steps count from 1: the first is at 1 / warmup, not at 0."),
        Mistake("steps counted from 0 everywhere",
                lambda t, T, p, w: p * min(1, (t - 1) / max(1, w)) * (1 - t / T) ** 0.9,
                "Steps count from 1: step / warmup, and (step - 1) / steps."),
        Mistake("a straight line", lambda t, T, p, w: p * _warm(t, w) * _left(t, T),
                "Poly decay has the power 0.9."),
        Mistake("a squared decay", lambda t, T, p, w: p * _warm(t, w) * _left(t, T) ** 2, "The power is 0.9."),
        Mistake("the power at the wrong place", lambda t, T, p, w: p * _warm(t, w) * (1 - ((t - 1) / T) ** 0.9),
                "(1 - done) ** 0.9, not 1 - done ** 0.9."),
        Mistake("the power over the warm-up too", lambda t, T, p, w: p * (_warm(t, w) * _left(t, T)) ** 0.9,
                "The warm-up is a straight line; the power belongs to the decay."),
        Mistake("a cosine", lambda t, T, p, w: p * _warm(t, w) * 0.5 * (1 + math.cos(math.pi * (t - 1) / T)),
                "This recipe decays by a power, not by a cosine."),
        Mistake("no warm-up", lambda t, T, p, w: p * _left(t, T) ** 0.9, "Multiply by step / warmup, at most 1."),
        Mistake("no decay", lambda t, T, p, w: p * _warm(t, w), "Multiply by (1 - (step - 1) / steps) ** 0.9."),
        Mistake("a warm-up that never ends", lambda t, T, p, w: p * t / max(1, w) * _left(t, T) ** 0.9,
                "The warm-up factor is at most 1."),
        Mistake("a decay that waits for the warm-up",
                lambda t, T, p, w: p * (_warm(t, w) if t <= w else (1 - (t - 1 - w) / (T - w)) ** 0.9),
                "Both factors act from the first step on."),
        *(Mistake("a decay that waits for the warm-up", fn, "Both factors act from the first step on.") for fn in (
            lambda t, T, p, w: p * (_warm(t, w) if t <= w else (1 - (t - w) / (T - w)) ** 0.9),
            lambda t, T, p, w: p * _warm(t, w) * (1 - max(0, t - 1 - w) / T) ** 0.9)),
        Mistake("the smaller of the two factors", lambda t, T, p, w: p * min(_warm(t, w), _left(t, T) ** 0.9),
                "Multiply the two: look at step 25 of the table."),
        Mistake("the warm-up factor at least 1", lambda t, T, p, w: p * max(1, t / max(1, w)) * _left(t, T) ** 0.9,
                "min(1, step / warmup): the warm-up makes the first steps smaller, and none larger."),
        Mistake("a warm-up that begins at 0",
                lambda t, T, p, w: p * (min(1, (t - 1) / (w - 1)) if w > 1 else 1) * _left(t, T) ** 0.9,
                "Steps count from 1: the first is at 1 / warmup, not at 0."),
        Mistake("a decay that ends at 0", lambda t, T, p, w: p * _warm(t, w) * (1 - (t - 1) / (T - 1)) ** 0.9,
                "(step - 1) / steps: the last step has 1 / steps of the run left, and still learns a little."),
        Mistake("no decay during the warm-up",
                lambda t, T, p, w: p * (t / w if t < w else _left(t, T) ** 0.9),
                "Both factors act from the first step on."),
        Mistake("no decay up to the last step of the warm-up",
                lambda t, T, p, w: p * (t / w if t <= w else _left(t, T) ** 0.9),
                "Both factors act from the first step on."),
        Mistake("the peak left out", lambda t, T, p, w: _warm(t, w) * _left(t, T) ** 0.9, "Multiply by the peak."),
        Mistake("warm-up by one more step", lambda t, T, p, w: p * min(1, t / (w + 1)) * _left(t, T) ** 0.9,
                "The warm-up ends with step `warmup` itself, where the factor is 1."),
        Mistake("the warm-up one step ahead", lambda t, T, p, w: p * min(1, (t + 1) / max(1, w)) * _left(t, T) ** 0.9,
                "Steps count from 1 already: the first is at 1 / warmup, not at 2 / warmup."),
        Mistake("no case for a warm-up of 0", lambda t, T, p, w: p * min(1, t / w) * _left(t, T) ** 0.9,
                "warmup may be 0: divide by max(1, warmup).")),
    hints=("How large is the first step? And the last?",
           "Two factors: one grows to 1 during the warm-up, one falls from 1 during the whole run.",
           "peak * min(1, step / max(1, warmup)) * (1 - (step - 1) / steps) ** 0.9"),
    why="A function of the step alone: a run that is resumed needs to remember nothing. In the library: "
        "`optim.set_learning_rate`, times each group's multiplier.")


# --- 10.2 which mistake made this curve? ------------------------------------------------------------------------------

ANSWERS = {"a": 6, "b": 2, "c": 5, "d": 1, "e": 7, "f": 4, "g": 3}


def which_mistake(run):
    return {"a": 6, "b": 2, "c": 5, "d": 1, "e": 7, "f": 4, "g": 3}[run]


def _swapped(one, other):
    """Everything right but for two mistakes taken for each other."""
    places = {number: run for run, number in ANSWERS.items()}
    table = ANSWERS | {places[one]: other, places[other]: one}
    return lambda run: table[run]


_NAMES = {1: "the learning rate", 2: "the auxiliary losses", 3: "the no-object weight", 4: "the shifted labels",
          5: "void as a class", 6: "the flip", 7: "the sigmoid"}


def _confusion(one, other, text, link=""):
    return Mistake(f"{_NAMES[one]} and {_NAMES[other]} taken for each other", _swapped(one, other), text, link)


gallery_exercise = Exercise(
    id="10.2", title="which mistake made this curve?", name="which_mistake", reference=which_mistake,
    fixtures=tuple(Fixture(f"run {run}", (run,)) for run in ANSWERS),
    mistakes=(
        _confusion(4, 5, "Both learn as if nothing were wrong. Which of them scores nearly nothing in the end?",
                   issue("huggingface/transformers", 27224)),
        _confusion(4, 6, "Shifted labels are learnt perfectly well: healthy curves, figures of nearly zero. With the "
                         "flip nothing fits, and the mask losses show it."),
        _confusion(5, 6, "Void as a class keeps the mask losses near the right ones. With the flip no mask fits."),
        _confusion(6, 7, "After a second sigmoid no pixel can get below 0.5. Which run's focal loss is *far* from the "
                         "right one, from the first step on?"),
        _confusion(1, 7, "One of them does not even learn the classes for a long while; the other does, but draws no "
                         "masks."),
        _confusion(2, 3, "Which of the two changes the class loss from the first step on? Auxiliary losses are not in "
                         "these curves at all."),
        _confusion(1, 6, "Too large steps learn nothing for a hundred steps; unmoved masks leave something to learn "
                         "from the first."),
        _confusion(3, 6, "Weight 1 changes what the class loss counts; the masks it draws are fine."),
        _confusion(2, 5, "Without auxiliary losses the targets are the right ones, and the curves lie on the grey. "
                         "Void as a class is another set of targets: its curves leave the grey at the first step."),
        _confusion(3, 5, "A weight of 1 makes the class loss small early: \"nothing\" is nearly always right."),
        _confusion(2, 4, "Shifted labels look right in every curve, and score nearly nothing."),
        _confusion(4, 7, "Both score nothing. Which has masks as good as the right run's, and which draws none?"),
        _confusion(1, 3, "Which class loss stays where it began for a hundred steps and more?"),
        Mistake("the list read from the other end", lambda run: 8 - ANSWERS[run],
                "The numbers are those of the list above: 1 is the learning rate.")),
    hints=("Which run learns nothing for a long while? Which learns everything and scores nothing?",
           "Look at the three terms one by one against the grey lines, then at the figures; `diagnose` names most.",
           "d is the learning rate, f the shifted labels, e the sigmoid; a has mask losses that stay high, g a class "
           "loss that is low at once. Of b and c, one has the curves of the right run, the other has other targets."),
    why="Curves of training alone would not find the shifted labels or the void: only figures on *right* data do, and "
        "a look at pictures.")


EXERCISES = [rate_exercise, gallery_exercise, objects_exercise, twins_exercise, shift_exercise, clinic_exercise]
