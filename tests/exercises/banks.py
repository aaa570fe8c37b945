"""What every bank of right and wrong solutions must show; RIGHT and WRONG stand in test_lessonNN.py, which imports this."""
import pytest

from minimaskformer.exercises import core

__all__ = ["test_every_exercise_has_both_banks", "test_right_solutions_written_differently_pass",
           "test_other_wrong_solutions_are_not_accused", "test_mistakes_are_alike_in_float32"]


def test_every_exercise_has_both_banks(request):
    module = request.module
    lesson = core.lessons()[module.__name__[-2:]]
    assert set(module.RIGHT) == set(module.WRONG) == {e.id for e in lesson.EXERCISES}
    assert all(len(solutions) >= 4 for bank in (module.RIGHT, module.WRONG) for solutions in bank.values())


def test_right_solutions_written_differently_pass(exercise_id, request):
    for solution in request.module.RIGHT[exercise_id]:
        outcome = core.judge(core.find(exercise_id), solution)
        assert outcome.kind == "passed", (solution, outcome.text)


@pytest.mark.usefixtures("answers_kept")
def test_other_wrong_solutions_are_not_accused(exercise_id, request):
    """Wrong solutions that match no known mistake are told where they differ, and nothing is guessed."""
    for solution in request.module.WRONG[exercise_id]:
        outcome = core.judge(core.find(exercise_id), solution)
        assert outcome.kind in ("gap", "form", "exception"), (solution, outcome.text)
        assert outcome.mistake is None and "Looks like" not in outcome.text


def test_mistakes_are_alike_in_float32(exercise_id):
    """Mistakes run in float32, as a learner's code does, give what the check computes for them in float64."""
    exercise = core.find(exercise_id)
    for mistake in exercise.mistakes:
        for fixture in exercise.fixtures:
            value = core.call(mistake.fn, fixture.args)
            assert exercise.same(value, core.call(mistake.fn, core.doubled(fixture.args))), mistake.name
