"""What every bank of right and wrong solutions must show; the banks stand in test_exercises_lessonNN.py."""
from minimaskformer.exercises import core


def all_pass(exercise, solutions):
    """Right solutions, however written, pass."""
    for solution in solutions:
        outcome = core.judge(exercise, solution)
        assert outcome.kind == "passed", (solution, outcome.text)


def none_accused(exercise, solutions):
    """Wrong solutions that are no known mistake are told where they differ, and nothing is guessed."""
    for solution in solutions:
        outcome = core.judge(exercise, solution)
        assert outcome.kind in ("gap", "form", "exception"), (solution, outcome.text)
        assert outcome.mistake is None and "Looks like" not in outcome.text


def alike_in_float32(exercise):
    """Mistakes run in float32, as a learner's code does, give what the check computes for them in float64."""
    for mistake in exercise.mistakes:
        for fixture in exercise.fixtures:
            value = core.call(mistake.fn, fixture.args)
            assert exercise.same(value, core.call(mistake.fn, core.doubled(fixture.args))), mistake.name
