"""Commit, then see: a question before the cell that answers it, and the guess shown beside the answer.

A guess is kept in the record of exercises (progress_file). One may change it until the answer was shown; only a guess
that stood before counts in `progress`.
"""
import html

from . import progress_file as record
from .lesson_calls import fold, say

_asked = {}  # the questions of this notebook: {guess id: options}


def guess(guess_id, question=None, options=None):
    """Ask before it is shown: `guess("02.a", "Who gets the sheep?", ["query 0", "query 1"])`.

    In a browser one presses a button; elsewhere, or instead, one writes the number of an option: `guess("02.a", 2)`.
    What was guessed is kept. Nothing is raised inside a notebook.
    """
    guess_id = str(guess_id)
    if isinstance(question, int) and not isinstance(question, bool) and options is None:
        return say(_commit(guess_id, question))
    if not isinstance(question, str) or not isinstance(options, (list, tuple)) or len(options) < 2:
        return say("A guess has a question and at least two options: guess(\"02.a\", \"Who?\", [\"this\", \"that\"]); "
                   "afterwards guess(\"02.a\", 2) takes the second.")
    _asked[guess_id] = options = [str(option) for option in options]
    lines = [fold(f"{guess_id} Guess first: {question}"), *(f"  {i}) {option}" for i, option in enumerate(options, 1))]
    text = "\n".join([*lines, f"(no buttons here? guess(\"{guess_id}\", 1) takes the first)"])
    entry = record.load().get(guess_id, {})
    if widget := _buttons(guess_id, question, options, entry):
        from IPython.display import display
        display({**widget._repr_mimebundle_(), "text/plain": text}, raw=True)
    else:
        say(text)


def reveal(guess_id, answer):
    """Say the answer beside what was guessed; `answer` is one of the options of `guess`, as the cell computed it.

    Raises ValueError if it is none of them: then the question and the figures no longer fit each other.
    """
    guess_id, answer = str(guess_id), str(answer)
    options = _asked.get(guess_id)
    if options is not None and answer not in options:
        raise ValueError(f"the answer to {guess_id} is {answer!r}, which is not among the options {options}")
    said, note = record.settle(guess_id, answer)
    if said is None:
        text = f"{guess_id}: {answer}."
    elif said == answer:
        text = f"{guess_id}: {answer}, as you guessed. ✓"
    else:
        text = f"{guess_id}: {answer}. You had guessed: {said}."
    say("\n".join(filter(None, (text, note))))


def _commit(guess_id, number):
    """Keep option `number`, counted from 1, of a question that was asked; what to print."""
    options = _asked.get(guess_id)
    if options is None:
        return f"{guess_id} has not been asked yet in this notebook: run the cell with its question first."
    if not 1 <= number <= len(options):
        return f"{guess_id} has the options 1 to {len(options)}."
    kept, note = record.keep_guess(guess_id, options[number - 1])
    if not kept:
        return note or f"{guess_id} has been answered already; your first guess stands."
    return "\n".join(filter(None, (f"{guess_id}: you guess {options[number - 1]}. Run on and see.", note)))


def _buttons(guess_id, question, options, entry):
    """The question with a button for each option, or None where there are no widgets."""
    try:
        from IPython import get_ipython
        from ipywidgets import HTML, ToggleButtons, VBox
    except ImportError:
        return None
    if not hasattr(get_ipython(), "kernel"):
        return None
    head = HTML(f"<b>{html.escape(guess_id)} Guess first:</b> {html.escape(question)}")
    said = entry.get("said")
    choice = ToggleButtons(options=[(option, i) for i, option in enumerate(options, 1)],
                           value=options.index(said) + 1 if said in options else None,
                           disabled=bool(entry.get("tries")), style={"button_width": "auto"})
    note = HTML("")

    def press(change):
        if change["new"] is not None:
            note.value = html.escape(_commit(guess_id, change["new"]))
    choice.observe(press, names="value")
    return VBox([head, choice, note])
