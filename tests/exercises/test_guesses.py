"""Guesses: kept until the answer is shown, counted once, and a lesson whose answer is no option fails."""
import pytest

from minimaskformer.exercises import guess, progress, reveal
from minimaskformer.exercises import progress_file as record

OPTIONS = ["query 0", "query 1"]


def test_a_guess_is_kept_shown_beside_the_answer_and_counted(home, capsys):
    guess("02.a", "Who gets the sheep?", OPTIONS)
    guess("02.a", 1)
    guess("02.a", 2)  # a second thought, before the answer
    capsys.readouterr()
    reveal("02.a", "query 1")
    assert capsys.readouterr().out == "02.a: query 1, as you guessed. ✓\n"
    guess("02.a", 1)
    assert "first guess stands" in capsys.readouterr().out
    reveal("02.a", "query 1")
    assert "as you guessed" in capsys.readouterr().out
    assert record.load() == {"02.a": {"passed": True, "tries": 1, "said": "query 1"}}
    guess("02.b", "Which?", OPTIONS)
    guess("02.b", 1)
    reveal("02.b", "query 1")
    assert "You had guessed: query 0." in capsys.readouterr().out
    progress()
    assert "guesses: 1 of 2 right" in capsys.readouterr().out


def test_without_a_guess_only_the_answer_is_said(home, capsys):
    guess("02.a", "Who gets the sheep?", OPTIONS)
    assert capsys.readouterr().out.startswith("02.a Guess first: Who gets the sheep?\n  1) query 0\n  2) query 1\n")
    reveal("02.a", "query 1")
    assert capsys.readouterr().out == "02.a: query 1.\n" and not record.load()


def test_what_is_no_guess_is_a_sentence(home, capsys):
    guess("02.z", 1)
    guess("02.a")
    guess("02.a", "Who?", ["one"])
    guess("02.a", "Who gets the sheep?", OPTIONS)
    guess("02.a", 3)
    out = capsys.readouterr().out
    assert "not been asked yet" in out and out.count("at least two options") == 2 and "options 1 to 2" in out


def test_an_answer_that_is_no_option_fails(home):
    guess("02.a", "Who gets the sheep?", OPTIONS)
    with pytest.raises(ValueError, match="not among the options"):
        reveal("02.a", "query 7")
