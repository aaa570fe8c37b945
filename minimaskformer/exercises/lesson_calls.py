"""What the lessons call: check, hint, solution, example, progress, use.

Nothing here raises inside a notebook; MINIMASKFORMER_STRICT=1 makes every check that does not pass raise (for the
tests).
"""
import copy
import os
import textwrap

from . import my_maskformer
from . import progress_file as record
from .core import Outcome, find, judge_unless_stopped, lessons
from .parts import PARTS

ABSENT = object()  # no function was given; None is what a function without a return gave


def check(exercise_id=None, fn=ABSENT):
    """Compare your function with the reference and print the outcome; the notebook goes on whatever it is."""
    try:
        exercise = find_called("check", exercise_id, fn)
    except LookupError as e:
        outcome = Outcome("unknown exercise", str(e))
    else:
        outcome = judge_unless_stopped(exercise, fn)
        if outcome.kind not in ("not attempted", "stopped", "syntax error"):
            kept = ""
            if outcome.unfit and exercise.id in PARTS and (folder := my_maskformer.mine_folder()):
                stays = " (The version before it stays.)" * my_maskformer.is_kept(folder, exercise.id)
                kept = f"  Not in {my_maskformer.FILE}: {outcome.unfit}.{stays}"
            elif outcome.kind == "passed" and not outcome.unfit:
                kept = my_maskformer.keep(exercise, fn)
            note = record.add(exercise.id, outcome.kind == "passed")
            outcome = Outcome(outcome.kind, "\n".join(filter(None, (outcome.text, kept, note))), outcome.mistake)
    if os.environ.get("MINIMASKFORMER_STRICT") == "1" and outcome.kind != "passed":
        raise AssertionError(outcome.text)
    say(outcome.text)


def find_called(caller, exercise_id, fn):
    """The exercise of a call with a number and a function; LookupError, with the call as it should be, otherwise."""
    if callable(exercise_id):
        known = [e for module in lessons().values() for e in module.EXERCISES]
        number = fn if isinstance(fn, (str, int, float)) else next(
            (e.id for e in known if e.name == getattr(exercise_id, "__name__", "")), "02.1")
        exercise = find(number)
        raise LookupError(f"The number first: {caller}(\"{exercise.id}\", {exercise.name})")
    exercise = find(exercise_id)
    if fn is ABSENT:
        raise LookupError(f"{caller} needs your function as well: {caller}(\"{exercise.id}\", {exercise.name})")
    return exercise


def use(exercise_id=None, fn=ABSENT, anyway=False):
    """Put a function into my_maskformer.py if it passes; anyway=True: even a wrong one, to see what it does."""
    try:
        exercise = find_called("use", exercise_id, fn)
    except LookupError as e:
        return say(str(e))
    if exercise.id not in PARTS:
        return say(f"{exercise.id} is not a part of the model. The parts are {', '.join(PARTS)}.")
    if not anyway:
        return check(exercise_id, fn)
    told = my_maskformer.keep(exercise, fn, anyway=True)
    if not told.startswith(my_maskformer.TAKEN):
        return say(told or "There is nowhere to put it.")
    outcome = judge_unless_stopped(exercise, fn)
    if outcome.kind != "passed":
        told += " It does not pass its check; check a right one to replace it."
    elif outcome.unfit:
        told += f" But {outcome.unfit}; check another one to replace it."
    say(told)


def hint(exercise_id=None, n=1):
    """Print hint 1 (a question), 2 (the place) or 3 (the formula) of an exercise."""
    if str(exercise_id).strip().endswith(".h"):
        from .hunts import hint_of
        return say(hint_of(exercise_id))
    try:
        exercise = find(exercise_id)
    except LookupError as e:
        return say(str(e))
    if not isinstance(n, int) or n not in range(1, len(exercise.hints) + 1):
        return say(f"{exercise.id} has hints 1 to {len(exercise.hints)}; after them: solution(\"{exercise.id}\")")
    further = f"hint(\"{exercise.id}\", {n + 1})" if n < len(exercise.hints) else f"solution(\"{exercise.id}\")"
    say(fold(f"{exercise.id} hint {n} of {len(exercise.hints)}: {exercise.hints[n - 1]}") + f"\nNext: {further}")


def solution(exercise_id=None):
    """Print the solution, which is the code that the library itself runs or is tested against, and its reasons.

    Of a hunt ("02.h"): an example that finds everything.
    """
    if str(exercise_id).strip().endswith(".h"):
        from .hunts import solution_of
        return say(solution_of(exercise_id))
    try:
        exercise = find(exercise_id)
    except LookupError as e:
        return say(str(e))
    place = f"{exercise.reference.__module__}.{exercise.reference.__name__}"
    why = fold(f"Why: {exercise.why}")
    say(f"{exercise.id} {exercise.title}, as in {place}\n\n{exercise.solution_source()}\n\n{why}")


def example(exercise_id=None, n=1):
    """The arguments of the n-th example a check uses, to try your function on; None and a sentence if there is none."""
    try:
        exercise = find(exercise_id)
    except LookupError as e:
        return say(str(e))
    if not isinstance(n, int) or n not in range(1, len(exercise.fixtures) + 1):
        return say(f"{exercise.id} has examples 1 to {len(exercise.fixtures)}, and none with the number {n}: "
                   f"example(\"{exercise.id}\", 1)")
    return copy.deepcopy(exercise.fixtures[n - 1].args)


def progress(lesson=None, *, reset=False):
    """Print your progress in every lesson that has exercises, or in one: `progress(2)`.

    `progress(reset=True)`, and nothing else, forgets it all first.
    """
    if not isinstance(reset, bool) or (reset and lesson is not None):
        return say("progress() shows everything, progress(2) lesson 02 alone; progress(reset=True) forgets everything. "
                   "Nothing was forgotten.")
    known = lessons()
    number = None if lesson is None else str(lesson).strip().partition(".")[0]
    number = number and number.zfill(2)
    if number is not None and number not in known:
        return say(f"There is no lesson {lesson!r} that has exercises. There are: {', '.join(known)}.")
    lines = [note] if reset and (note := record.clear()) else []
    entries, folder = record.load(), my_maskformer.mine_folder()
    for each in known if number is None else (number,):
        lines += progress_in(each, known[each], entries, folder)
    say("\n".join(lines))


def progress_in(number, module, entries, folder):
    """Lines about one lesson: its exercises, its hunt, its guesses."""
    done = [e for e in module.EXERCISES if entries.get(e.id, {}).get("passed")]
    lines = [f"Lesson {number}  {module.TITLE}: {len(done)} of {len(module.EXERCISES)}"]
    for e in module.EXERCISES:
        tries = entries.get(e.id, {}).get("tries", 0)
        tried = f"tried {tries} time{'s' * (tries > 1)}" if tries else "not attempted"
        lines.append(f"  {'✓' if e in done else '✗' if tries else '○'} {e.id}  {e.title:<40}"
                     f"{'passed' if e in done else tried}"
                     f"{', in my_maskformer.py' if folder and my_maskformer.is_kept(folder, e.id) else ''}")
    return lines + hunts_and_guesses(entries, number)


def hunts_and_guesses(entries, lesson):
    """Lines about a lesson's hunts that were begun and its guesses whose answer was shown."""
    here = {key: entry for key, entry in entries.items() if key.startswith(f"{lesson}.") and "said" in entry}
    hunts = [f"  {'✓' if here[key]['passed'] else '✗'} {key}  {'the hunt':<40}{here[key]['said']} found"
             for key in sorted(here) if key.endswith(".h")]
    guesses = [entry["passed"] for key, entry in here.items() if not key.endswith(".h") and entry["tries"]]
    return hunts + ([f"    guesses: {sum(guesses)} of {len(guesses)} right"] if guesses else [])


def fold(text):
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def say(text):
    """Print, even to a console that has no ✓."""
    try:
        print(text)
    except UnicodeEncodeError:
        print(text.translate(str.maketrans("✓✗○■", "+x-#")).encode("ascii", "replace").decode())
