"""What an exercise is, and how a function is judged by it.

An exercise compares the learner's function with a reference on fixtures that tell the known mistakes apart, and names
a mistake only when the learner's value equals that mistake's value on *every* fixture and no other mistake's.
"""
import copy
import dis
import importlib
import inspect
import linecache
import pkgutil
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from . import answers as values
from .cells import newest_is_broken


@dataclass(frozen=True)
class Fixture:
    """One call of the learner's function: what is special about it, and the arguments."""
    name: str
    args: tuple


@dataclass(frozen=True)
class Mistake:
    """A known mistake: a function of the same arguments, what to say about it, and where people met it."""
    name: str  # completes "Looks like: ..."
    fn: Callable
    hint: str
    link: str = ""


def issue(repository, number):
    """The address of an issue thread, for a mistake's link."""
    return f"https://github.com/{repository}/issues/{number}"


@dataclass(frozen=True)
class Remark:
    """Something to say about a *right* solution: arguments on which a fragile one fails, and a sentence."""
    args: tuple
    text: str


@dataclass(frozen=True)
class Exercise:
    """One exercise. `reference` is its solution too: its source is what `solution` prints."""
    id: str  # "02.1": lesson and number
    title: str
    name: str  # of the stub's function
    reference: Callable
    fixtures: tuple[Fixture, ...]
    mistakes: tuple[Mistake, ...]
    hints: tuple[str, str, str]  # question, place, formula
    why: str
    parts: tuple[str, ...] = ()  # names of the parts where the value is a tuple
    canonical: Callable = field(default=lambda arrays: arrays)  # brings equivalent answers into one form
    remarks: tuple[Remark, ...] = ()
    growing: tuple[tuple, ...] = ()  # arguments of growing size, the last as large as the model's: no part may be slow
    slow: str = ""  # what to say of one that is
    in_model: Remark | None = None  # of a part: arguments as the model gives them, if of another kind; what kind
    learns: tuple[str, ...] = ()  # of a part of the model: the arguments that the gradient of training must reach
    rtol: float = 1e-4  # suits a float32 result; the mistakes are ten times further away (tested)
    atol: float = 1e-5

    def solution_source(self) -> str:
        """The reference's source as a definition under the stub's name."""
        source = textwrap.dedent(inspect.getsource(self.reference)).rstrip()
        return re.sub(rf"\b{self.reference.__name__}\b", self.name, source)

    def same(self, value, other):
        """Whether two outcomes are alike; an exception is alike any other exception."""
        if isinstance(value, Raised) or isinstance(other, Raised):
            return isinstance(value, Raised) and isinstance(other, Raised)
        return values.same(value, other, self.canonical, self.atol, self.rtol)


@dataclass(frozen=True)
class Raised:
    """The outcome of a call that raised an exception."""
    error: BaseException

    @property
    def words(self):
        return type(self.error).__name__, str(self.error)


@dataclass(frozen=True)
class Outcome:
    """What came out of a check; text: to print.

    kind: "passed", "not attempted", "stopped", "syntax error", "mistake", "gap", "form", "exception" or "unknown
    exercise".
    """
    kind: str
    text: str
    mistake: Mistake | None = None
    unfit: str = ""  # why a function that passed cannot be a part of the model


def lessons():
    """{lesson number: module} of the lessons that have exercises."""
    package = importlib.import_module(f"{__package__}.lessons")
    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if re.fullmatch(r"lesson\d\d", m.name))
    return {name[-2:]: importlib.import_module(f"{package.__name__}.{name}") for name in names}


def find(exercise_id) -> Exercise:
    """The exercise of an id such as "02.1"; raises LookupError with the known ids."""
    known = {e.id: e for module in lessons().values() for e in module.EXERCISES}
    if exercise_id is None:
        raise LookupError("Which exercise? Give its number, as in check(\"02.1\", class_cost) or hint(\"02.1\").")
    lesson, _, number = str(exercise_id).strip().partition(".")
    wanted = f"{lesson.zfill(2)}.{number}"
    if wanted not in known:
        near = [i for i in known if i.startswith(wanted[:2])] or list(known)
        raise LookupError(f"There is no exercise {str(exercise_id)!r}. There are: {', '.join(near)}.")
    return known[wanted]


def judge_unless_stopped(exercise, fn) -> Outcome:
    """`judge`, but of a function's newest version, and with a sentence where the learner interrupts it."""
    head = f"{exercise.id} {exercise.title}"
    if broken := newest_is_broken(fn):
        return Outcome("syntax error", f"✗ {head}: {broken}")
    try:
        return judge(exercise, fn)
    except KeyboardInterrupt as stop:
        line = _deepest_line(stop.__traceback__, getattr(getattr(fn, "__code__", None), "co_filename", None))
        at = f" at your line `{line}`" if line else ""
        return Outcome("stopped", f"■ {head}: stopped while it ran{at}. If it would never have ended, look for a loop "
                                  f"whose condition does not change.")


def judge(exercise, fn) -> Outcome:
    """The outcome of a check, without printing or recording it."""
    head = f"{exercise.id} {exercise.title}"
    if not callable(fn):
        return Outcome("form", f"✗ {head}\n  check takes the function itself, without brackets after its name: "
                               f"check(\"{exercise.id}\", {exercise.name})")
    copies = [copy.deepcopy(f.args) for f in exercise.fixtures]  # each by itself: fixtures may share tensors
    got = [attempt(fn, args) for args in copies]
    if _is_stub(got[0], fn):
        return Outcome("not attempted", f"○ {head}: not attempted yet. Stuck? hint(\"{exercise.id}\")")
    inputs = [doubled(f.args) for f in exercise.fixtures]
    expected = [call(exercise.reference, args) for args in inputs]
    found = [_problem(exercise, g, e) for g, e in zip(got, expected)]
    if not any(found):
        unfit, sentence = values.unfit(exercise, fn, copies, inputs)
        lines = [f"✓ {head}: right on all {len(got)} examples.", *_remarks(exercise, fn), f"  {sentence}" * bool(unfit)]
        return Outcome("passed", "\n".join(filter(None, lines)), unfit=unfit)

    fits = [_fit(exercise, m, inputs, got, expected) for m in exercise.mistakes]
    suspects = [m for m, fit in zip(exercise.mistakes, fits) if fit and fit == max(fits)]
    mistake = suspects[0] if len(suspects) == 1 else None
    # what to show: the first example that fails; but for a named mistake, the first where its value can be seen
    shown = next(i for i, p in enumerate(found) if p)
    if mistake:
        seen = ("form", "gap", "exception")
        shown = min((i for i, p in enumerate(found) if p), key=lambda i: seen.index(found[i][0]))
    kind, text = found[shown]
    lines = [f"✗ {head}: right on {found.count(None)} of {len(got)} examples.",
             f"example {shown + 1}, {exercise.fixtures[shown].name}:", *text.split("\n")]
    if mistake:
        lines += [f"Looks like: {mistake.name}.", mistake.hint, *([f"See {mistake.link}"] if mistake.link else [])]
        kind = "mistake"
    lines.append(f"Next: hint(\"{exercise.id}\")   The inputs: example(\"{exercise.id}\", {shown + 1})")
    return Outcome(kind, "\n  ".join(lines), mistake)


def call(fn, args):
    """The function's value on fresh copies of the arguments (it may change them in place), or Raised."""
    return attempt(fn, copy.deepcopy(args))


def attempt(fn, args):
    """The function's value on these very arguments, or Raised."""
    try:
        return fn(*args)
    except (Exception, SystemExit) as error:  # whatever a learner writes, the notebook goes on
        return Raised(error)


def doubled(value):
    """The arguments with every float tensor and every module in float64, for the reference and the mistakes."""
    if isinstance(value, (tuple, list)):
        return type(value)(doubled(v) for v in value)
    if isinstance(value, dict):
        return {k: doubled(v) for k, v in value.items()}
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value).double()
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _fit(exercise, mistake, inputs, got, expected):
    """2 if every outcome is this mistake's on the same inputs, in float64, and one is a wrong value; else 1 or 0.

    1: as 2, but some outcomes are right where the mistake's own code stops or gives no number (an empty input, say).
    The learner makes the same mistake and guards that case.
    """
    if all(isinstance(g, Raised) for g in got):
        return 0
    theirs = [call(mistake.fn, args) for args in inputs]
    alike = [exercise.same(g, t) for g, t in zip(got, theirs)]
    right = [exercise.same(g, e) for g, e in zip(got, expected)]
    guarded = [r and not values.finite(t, e) for r, t, e in zip(right, theirs, expected)]
    if not all(a or g for a, g in zip(alike, guarded)):
        return 0
    wrong = [(g, t) for g, t, r in zip(got, theirs, right) if not r]
    if all(isinstance(g, Raised) for g, _ in wrong) and any(g.words != t.words for g, t in wrong):
        return 0  # it only stops where this mistake does, and for another reason
    return 2 if all(alike) else int(any(a and not r for a, r in zip(alike, right)))


def _problem(exercise, got, expected):
    """None if right, else (kind, text)."""
    if not isinstance(got, Raised):
        return values.problem(got, expected, exercise.canonical, exercise.atol, exercise.rtol, exercise.parts)
    error, frame = got.error, got.error.__traceback__.tb_next  # the first frame is `attempt`'s own
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if frame is None:  # the call itself failed: wrong number of arguments
        return "exception", f"{text}\nthe check calls {exercise.name}{inspect.signature(exercise.reference)}"
    source = _deepest_line(frame, frame.tb_frame.f_code.co_filename)
    return "exception", f"{text}\nin your line: {source}" if source else text


def _deepest_line(frame, file):
    """The line of a file, the learner's own, that is deepest in a traceback; "" if there is none."""
    line = 0
    while frame:
        if frame.tb_frame.f_code.co_filename == file:
            line = frame.tb_lineno
        frame = frame.tb_next
    return linecache.getline(file, line).strip() if line else ""


def _is_stub(outcome, fn):
    """Whether the call ended in the stub's own `raise NotImplementedError` (torch raises that type too, from C)."""
    if not isinstance(outcome, Raised) or type(outcome.error) is not NotImplementedError:
        return False
    frame = outcome.error.__traceback__
    while frame.tb_next:
        frame = frame.tb_next
    code = frame.tb_frame.f_code
    raised_here = code.co_code[frame.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    return raised_here and code.co_filename == getattr(getattr(fn, "__code__", code), "co_filename", None)


def _remarks(exercise, fn):
    """The remarks that apply to a right solution."""
    for remark in exercise.remarks:
        value, expected = call(fn, remark.args), call(exercise.reference, doubled(remark.args))
        if isinstance(value, Raised) or not values.finite(value, expected):
            yield f"  Remark: {remark.text}"
