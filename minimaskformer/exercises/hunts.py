"""The hunt: the learner makes the example, and the course runs its known wrong functions on it.

An example finds a mistake if the wrong function's value on it differs from the right one's, by more than the rounding
that a check forgives. Its size is bounded, so that it must be thought out.
"""
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import dataclass

from . import answers
from . import progress_file as record
from .core import Exercise, Raised, call, doubled
from .lesson_calls import fold, say


@dataclass(frozen=True)
class Hunt:
    """One hunt: for the known mistakes of an exercise, but for those that need an example which the rules forbid."""
    id: str  # "02.h"
    task: str  # what to make, and within which bounds
    exercise: Exercise
    arguments: Callable  # what the learner gives -> the function's arguments; ValueError, a sentence, if forbidden
    looks: dict[str, str]  # mistake: a hint at what an example needs in order to find it
    solution: tuple  # an example that finds them all, as the learner would write it

    def mistakes(self):
        """{name: [functions]}: mistakes of one name are one, and found when all its versions are."""
        found = {}
        for mistake in self.exercise.mistakes:
            if mistake.name in self.looks:
                found.setdefault(mistake.name, []).append(mistake.fn)
        return found


def hunt(hunt_id=None, *example):
    """Run the known wrong functions on your example and say which of them it tells from the right one.

    Without an example, say what is hunted. Nothing is raised inside a notebook.
    """
    try:
        wanted = find_hunt(hunt_id)
    except LookupError as error:
        return say(str(error))
    if not example:
        return say(fold(f"{wanted.id} {wanted.task}"))
    try:
        args = read_example(wanted, example)
    except ValueError as error:
        return say(fold(f"✗ {wanted.id}: {error}"))
    hidden, total = hidden_mistakes(wanted, args), len(wanted.mistakes())
    found = total - len(hidden)
    note = record.add(wanted.id, not hidden, found, total)
    say("\n".join(filter(None, (words_of(wanted, hidden, found, total), note))))


def read_example(wanted, example):
    """The arguments that an example stands for; ValueError with a sentence if it is none, or the rules forbid it."""
    parameters = list(inspect.signature(wanted.arguments).parameters)
    if len(example) != len(parameters):
        raise ValueError(f"an example has {len(parameters)} parts: hunt(\"{wanted.id}\", {', '.join(parameters)}); "
                         f"yours has {len(example)}.")
    try:
        return wanted.arguments(*example)
    except ValueError as error:
        raise ValueError(f"this example cannot be taken: {error}") from None
    except Exception as error:
        raise ValueError(f"this example cannot be read ({type(error).__name__}: {' '.join(str(error).split())[:150]}). "
                         f"What it should be: {wanted.task}") from None


def hidden_mistakes(wanted, args):
    """The names of the mistakes that look right on these arguments: all, if the right function itself has no number."""
    right = call(wanted.exercise.reference, doubled(args))
    if isinstance(right, Raised) or not answers.finite(right, right):
        return list(wanted.mistakes())
    return [name for name, functions in wanted.mistakes().items()
            if any(wanted.exercise.same(call(fn, doubled(args)), right) for fn in functions)]


def words_of(wanted, hidden, found, total):
    """What a try found, with a hint for each mistake that it did not."""
    head = (f"{wanted.id}: your example tells {found} of {total} wrong versions of {wanted.exercise.name} from the "
            f"right one.")
    if not hidden:
        return f"✓ {head}\n  None is left: an example like yours belongs in a test."
    lines = [fold(f"{name}: {wanted.looks[name]}").replace("\n", "\n      ") for name in hidden]
    return "\n".join([f"○ {head} Still hidden:", *(f"  ?  {line}" for line in lines)])


def solution_of(hunt_id):
    """What `solution` prints of a hunt: an example that finds all mistakes."""
    try:
        wanted = find_hunt(hunt_id)
    except LookupError as error:
        return str(error)
    parts = inspect.signature(wanted.arguments).parameters
    lines = "".join(f"\n{name} = {value!r}" for name, value in zip(parts, wanted.solution))
    head = f"{wanted.id} one example that finds all {len(wanted.mistakes())}:\n"
    return f"{head}{lines}\nhunt(\"{wanted.id}\", {', '.join(parts)})"


def hint_of(hunt_id):
    """What `hint` prints of a hunt, which gives its hints itself."""
    try:
        return f"{find_hunt(hunt_id).id} is a hunt: run it; its hints are the list of what is still hidden."
    except LookupError as error:
        return str(error)


def all_whole(low, high, *tensors):
    """Whether all values are whole numbers from low to high: what most examples may hold."""
    return all(((x >= low) & (x <= high) & (x % 1 == 0)).all() for x in tensors)


def find_hunt(hunt_id) -> Hunt:
    """The hunt of an id such as "02.h"; raises LookupError with the known ids."""
    known = all_hunts()
    text = str(hunt_id).strip() if hunt_id is not None else ""
    lesson, _, letter = text.partition(".")
    wanted = f"{lesson.zfill(2)}.{letter}"
    if wanted not in known:
        head = f"There is no hunt {text!r}." if text else "Which hunt?"
        raise LookupError(f"{head} There are: {', '.join(known)}.")
    return known[wanted]


def all_hunts():
    """{id: Hunt}, in the order of the lessons."""
    package = importlib.import_module(f"{__package__}.lessons")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if re.fullmatch(r"lesson\d\d_hunt", m.name))
    return {h.id: h for name in names for h in importlib.import_module(f"{package.__name__}.{name}").HUNTS}
