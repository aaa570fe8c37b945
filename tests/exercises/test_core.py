"""The exercise engine, and every exercise: stubs, solutions, each mistake, right answers written differently."""
import itertools
import json
import math

import pytest
import torch

from minimaskformer import exercises
from minimaskformer.exercises import answers as values
from minimaskformer.exercises import core
from minimaskformer.exercises import progress_file as record

ALL = [e for module in core.lessons().values() for e in module.EXERCISES]
BY_ID = {e.id: e for e in ALL}
each = pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)


def outcomes(exercise, fn):
    return [core.call(fn, core.doubled(f.args)) for f in exercise.fixtures]


# --- every exercise ---------------------------------------------------------------------------------------------------

@each
def test_form(exercise):
    lesson = exercise.id[:2]
    assert exercise in core.lessons()[lesson].EXERCISES and core.find(exercise.id) is exercise
    assert len(exercise.hints) == 3 and all(exercise.hints) and exercise.why
    assert len(exercise.fixtures) >= 2 and len(exercise.mistakes) >= 4
    assert len({(m.name, m.hint) for m in exercise.mistakes}) >= 4
    assert all(m.hint for m in exercise.mistakes)
    assert all(m.link == "" or m.link.startswith("https://") for m in exercise.mistakes)


@each
def test_stub_is_not_attempted_and_never_passes(exercise, capsys):
    def stub(*args):
        raise NotImplementedError("your turn")

    assert core.judge(exercise, stub).kind == "not attempted"
    assert core.judge(exercise, lambda *args: None).kind != "passed"
    exercises.check(exercise.id, stub)
    assert "not attempted" in capsys.readouterr().out
    assert record.load() == {}


@each
def test_reference_passes_in_float32_and_float64(exercise):
    assert core.judge(exercise, exercise.reference).kind == "passed"
    assert core.judge(exercise, lambda *args: exercise.reference(*core.doubled(args))).kind == "passed"


@each
def test_solution_source_defines_the_stub_and_passes(exercise, capsys):
    names = dict(exercise.reference.__globals__)
    names.pop(exercise.reference.__name__)
    exec(exercise.solution_source(), names)
    assert core.judge(exercise, names[exercise.name]).kind == "passed"
    exercises.solution(exercise.id)
    assert exercise.solution_source() in capsys.readouterr().out


@each
@pytest.mark.usefixtures("answers_kept")
def test_every_mistake_gets_its_own_hint(exercise):
    for mistake in exercise.mistakes:
        outcome = core.judge(exercise, mistake.fn)
        assert outcome.kind == "mistake" and outcome.mistake is mistake, mistake.name
        assert f"Looks like: {mistake.name}." in outcome.text and mistake.hint in outcome.text
        assert mistake.link in outcome.text


@each
def test_mistakes_lie_ten_tolerances_apart(exercise):
    """Between any two ways, some fixture differs by more than ten times the tolerance, or in form."""
    ways = [("reference", outcomes(exercise, exercise.reference))]
    ways += [(m.name, outcomes(exercise, m.fn)) for m in exercise.mistakes]
    assert not any(isinstance(v, core.Raised) for v in ways[0][1])
    for (name, a), (other, b) in itertools.combinations(ways, 2):
        assert any(far(exercise, x, y) for x, y in zip(a, b)), (name, other)
        assert all(far(exercise, x, y) or exercise.same(x, y) for x, y in zip(a, b)), (name, other)  # no close call


def far(exercise, x, y):
    if isinstance(x, core.Raised) or isinstance(y, core.Raised):
        return isinstance(x, core.Raised) != isinstance(y, core.Raised)
    return not values.same(x, y, exercise.canonical, 10 * exercise.atol, 10 * exercise.rtol)


@each
def test_fixtures_survive_a_function_that_works_in_place(exercise):
    def vandal(*args):
        value = exercise.reference(*args)
        for a in args:
            if isinstance(a, torch.Tensor):
                a.zero_()
        return value

    before = outcomes(exercise, exercise.reference)
    assert core.judge(exercise, vandal).kind == "passed"
    assert all(exercise.same(a, b) for a, b in zip(outcomes(exercise, exercise.reference), before))


# --- the block that check prints --------------------------------------------------------------------------------------

def test_an_error_is_shown_with_the_learners_line():
    def helper(masks):
        return masks @ masks

    def mine(mask_logits, masks, valid):
        return helper(masks)

    text = core.judge(BY_ID["02.2"], mine).text
    assert "RuntimeError" in text and "in your line: return masks @ masks" in text


def test_an_error_inside_torch_is_no_stub():
    def mine(class_logits, labels):
        return class_logits.bool().softmax(-1)  # torch raises NotImplementedError itself

    assert core.judge(BY_ID["02.1"], mine).kind == "exception"


@pytest.mark.parametrize(("fn", "words"), [
    (lambda: 0, "check calls class_cost(class_logits, labels)"), (lambda x, c: None, "return"),
    (lambda x, c: x.softmax(-1)[:, :1], "expected shape [4, 3], got [4, 1]"), (3, "without brackets"),
    (lambda x, c: "ab", "is a str"), (lambda x, c: torch.zeros(4, 3, device="meta"), "cannot be read"),
    (lambda x, c: torch.full((len(x), len(c)), math.nan), "got nan"), (lambda x, c: exit(), "SystemExit")])
def test_what_a_wrong_answer_reads_like(fn, words, capsys):
    exercises.check("02.1", fn)
    out = capsys.readouterr().out
    assert words in out and out.startswith("✗ 02.1") and "has another form" not in out


def test_the_first_example_that_fails_is_shown():
    def inside_the_loop(segment_map, segments_info, category):
        for s in segments_info:
            return int(s["category_id"] == category)

    def one_per_target(class_logits, labels):
        return -class_logits.softmax(-1)[torch.arange(len(labels)), labels]  # stops where there are more targets

    text = core.judge(BY_ID["00.1"], inside_the_loop).text
    assert "example 1, three of the class" in text and "expected 3, got 1" in text
    text = core.judge(BY_ID["02.1"], one_per_target).text
    assert "example 1, 4 queries" in text and "expected shape [4, 3], got [3]" in text and 'example("02.1", 1)' in text
    text = core.judge(BY_ID["00.1"], lambda m, s, c: None).text
    assert "the value is None: no `return` was reached. Is it missing, or inside the loop?" in text
    for value, words in ((("read", None), "holds something that is a str"), ([1.0, None], "holds something that is None, not numbers")):
        text = core.judge(BY_ID["02.1"], lambda *args: value).text  # noqa: B023
        assert f"the value {words}" in text and "no `return`" not in text
    text = core.judge(BY_ID["07.2"], lambda *args: (*BY_ID["07.2"].reference(*args)[:2], None, None)).text
    assert "the value has a part aux_class that is None" in text and "no `return`" not in text


def test_gaps_name_the_place():
    def mine(class_logits, labels):
        cost = BY_ID["02.1"].reference(class_logits, labels)
        if len(labels) > 2:
            cost[1, 2] += 0.25
        return cost

    text = core.judge(BY_ID["02.1"], mine).text
    assert "at [1, 2] expected" in text and "1 of 12 entries differ, by at most 0.25" in text
    exercise = BY_ID["02.4"]
    assert "queries: expected [0, 3, 4], got [0, 1, 2]" in core.judge(exercise, exercise.mistakes[0].fn).text


def test_two_mistakes_alike_accuse_nobody():
    twin = core.Mistake("another", BY_ID["02.1"].mistakes[0].fn, "")
    exercise = core.Exercise(**{**vars(BY_ID["02.1"]), "mistakes": (*BY_ID["02.1"].mistakes, twin)})
    outcome = core.judge(exercise, twin.fn)
    assert outcome.kind == "gap" and outcome.mistake is None


def test_a_mistake_that_gives_nan_is_recognised():
    nan = core.Mistake("0 / 0", lambda x, c: torch.where(x[:, c] > 2, torch.nan, x[:, c]), "divide by something")
    exercise = core.Exercise(**{**vars(BY_ID["02.1"]), "mistakes": (*BY_ID["02.1"].mistakes, nan)})
    assert core.judge(exercise, nan.fn).mistake is nan


def test_doubled_reaches_into_targets():
    target, items = core.doubled(({"masks": torch.ones(2)}, [torch.ones(1), 3, torch.ones(1, dtype=torch.int64)]))
    assert target["masks"].dtype == items[0].dtype == torch.float64 and items[2].dtype == torch.int64


def test_unknown_ids_and_hints(capsys):
    exercises.check("77.1", len)
    exercises.hint("02.99")
    exercises.solution("x")
    assert capsys.readouterr().out.count("There is no exercise") == 3
    exercises.hint("2.1", 2)
    assert "02.1 hint 2 of 3" in capsys.readouterr().out
    exercises.hint("02.1", 4)
    assert "hints 1 to 3" in capsys.readouterr().out
    assert exercises.example("02.5", 1)[0].tolist() == [0, 3, 4]
    for n in (0, 99, "two", 1.0):
        assert exercises.example("02.5", n) is None and "examples 1 to" in capsys.readouterr().out


@pytest.mark.parametrize(("call", "words"), [
    (lambda: exercises.check("03.3"), 'check needs your function as well: check("03.3", dice_loss)'),
    (lambda: exercises.use("3.3"), 'use needs your function as well: use("03.3", dice_loss)'),
    (lambda: exercises.check(BY_ID["01.3"].reference, "01.3"), 'The number first: check("01.3", panoptic_to_set)'),
    (lambda: exercises.check(BY_ID["01.3"].reference), 'The number first: check("01.3", panoptic_to_set)'),
    (lambda: exercises.check(len), 'The number first: check("02.1", class_cost)'),
    (lambda: exercises.use(BY_ID["01.3"].reference, 1.3), 'The number first: use("01.3", panoptic_to_set)'),
    (lambda: exercises.check("02.1", None), "without brackets after its name"),
    (lambda: exercises.check(), "Which exercise? Give its number")])
def test_a_call_that_is_not_whole_says_how_it_should_be(call, words, home, capsys):
    call()
    assert capsys.readouterr().out.startswith((words, "✗ 02.1 the class cost\n  check takes the function itself, " + words))


def test_strict_mode_raises_unless_passed(monkeypatch, capsys):
    monkeypatch.setenv("MINIMASKFORMER_STRICT", "1")
    exercises.check("02.5", BY_ID["02.5"].reference)
    assert "right on all" in capsys.readouterr().out
    for fn in (lambda q, t: q, 3, lambda q, t: 1 / 0):
        with pytest.raises(AssertionError, match="02.5"):
            exercises.check("02.5", fn)
    with pytest.raises(AssertionError, match="no exercise"):
        exercises.check("02.77", len)


def test_a_console_without_the_marks(monkeypatch):
    shown = []

    def ascii_print(text):
        text.encode("ascii")
        shown.append(text)

    monkeypatch.setattr("builtins.print", ascii_print)
    exercises.check("02.5", lambda q, t: q)
    assert shown[0].startswith("x 02.5")


# --- progress ---------------------------------------------------------------------------------------------------------

def test_progress_is_kept_and_forgotten(home, capsys):
    exercises.check("02.5", lambda q, t: q)
    assert record.load() == {"02.5": {"passed": False, "tries": 1}}
    exercises.check("02.5", BY_ID["02.5"].reference)
    exercises.check("02.5", lambda q, t: q)
    assert record.load() == {"02.5": {"passed": True, "tries": 3}}  # what has been passed stays passed
    assert [p.name for p in home.iterdir()] == ["progress.json"]  # nothing temporary left
    exercises.check("02.6", lambda *a: 0)
    capsys.readouterr()
    exercises.progress()
    out = capsys.readouterr().out
    assert "Lesson 02  Hungarian matching: 1 of 6" in out and "✓ 02.5" in out and "✗ 02.6" in out and "○ 02.1" in out
    assert "tried 1 time\n" in out
    exercises.progress(reset=True)
    assert "0 of 6" in capsys.readouterr().out and record.load() == {}


def test_only_reset_true_forgets_and_a_number_shows_its_lesson(capsys):
    exercises.check("02.5", BY_ID["02.5"].reference)
    before = record.load()
    capsys.readouterr()
    for lesson in ("02", 2, "2", "02.5", 2.5):
        exercises.progress(lesson)
        out = capsys.readouterr().out
        assert out.startswith("Lesson 02  Hungarian matching: 1 of 6") and "Lesson 00" not in out, lesson
    for lesson in ("77", True, "all", -1, ""):
        exercises.progress(lesson)
        assert "There is no lesson" in capsys.readouterr().out, lesson
    for options in ({"reset": 1}, {"reset": "yes"}, {"lesson": 2, "reset": True}):
        exercises.progress(**options)
        assert "Nothing was forgotten" in capsys.readouterr().out
    with pytest.raises(TypeError):
        exercises.progress(None, True)
    assert record.load() == before


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"02.1": 3}', "", '"x"', '{"02.1": {"passed": true}}'])
def test_a_damaged_progress_file_is_put_aside(home, text, capsys):
    home.mkdir()
    (home / "progress.json").write_text(text)
    exercises.check("02.5", BY_ID["02.5"].reference)
    assert "right on all" in capsys.readouterr().out
    assert (home / "progress.damaged.json").read_text() == text
    assert json.loads((home / "progress.json").read_text()) == {"02.5": {"passed": True, "tries": 1}}


def test_a_progress_file_that_is_not_text(home, capsys):
    home.mkdir()
    (home / "progress.json").write_bytes(b"\xff\xfe\x00\xd8")
    exercises.progress()
    assert "0 of 6" in capsys.readouterr().out


def test_a_disk_that_cannot_be_written_stops_nothing(home, capsys):
    home.write_text("a file where the folder should be")
    exercises.check("02.5", BY_ID["02.5"].reference)
    exercises.progress(reset=True)
    out = capsys.readouterr().out
    assert "right on all" in out and "could not be saved" in out and "0 of 6" in out


def test_default_place(monkeypatch, tmp_path):
    monkeypatch.delenv("MINIMASKFORMER_HOME")
    monkeypatch.setattr("pathlib.Path.home", lambda: tmp_path)
    assert record.path() == tmp_path / ".minimaskformer" / "progress.json"
