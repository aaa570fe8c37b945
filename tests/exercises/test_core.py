"""The exercise engine, and every exercise: stubs, solutions, each mistake, right answers written differently."""
import itertools
import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment

from minimaskformer import exercises, losses, matching
from minimaskformer.exercises import answers as values
from minimaskformer.exercises import core
from minimaskformer.exercises import progress_file as record

ALL = [e for module in core.lessons().values() for e in module.EXERCISES]
BY_ID = {e.id: e for e in ALL}
each = pytest.mark.parametrize("exercise", ALL, ids=lambda e: e.id)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MINIMASKFORMER_STRICT", raising=False)
    return tmp_path / "home"


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
def test_every_mistake_gets_its_own_hint(exercise, capsys):
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


@each
def test_right_solutions_written_differently_pass(exercise):
    for solution in RIGHT.get(exercise.id, ()):
        outcome = core.judge(exercise, solution)
        assert outcome.kind == "passed", (solution, outcome.text)


@each
def test_other_wrong_solutions_are_not_accused(exercise):
    for solution in WRONG.get(exercise.id, ()):
        outcome = core.judge(exercise, solution)
        assert outcome.kind in ("gap", "form", "exception"), (solution, outcome.text)
        assert outcome.mistake is None and "Looks like" not in outcome.text


# --- banks: right answers written differently, and wrong ones that are no known mistake -------------------------------

def class_cost_loops(class_logits, labels):
    rows = class_logits.tolist()
    return [[-math.exp(row[c]) / sum(math.exp(v) for v in row) for c in labels.tolist()] for row in rows]


def class_cost_in_place(class_logits, labels):
    class_logits -= class_logits.max(1, keepdim=True).values
    class_logits.exp_()
    class_logits /= class_logits.sum(1, keepdim=True)
    return class_logits.neg_()[:, labels]


def dice_cost_loops(mask_logits, masks, valid):
    cost = torch.zeros(len(mask_logits), len(masks))
    for i, x in enumerate(mask_logits):
        for j, y in enumerate(masks):
            p, keep = torch.sigmoid(x), valid[0] == 1
            p, y = p[keep], y[keep]
            cost[i, j] = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return cost


def focal_cost_loops(mask_logits, masks, valid, alpha=0.25, gamma=2.0):
    cost = np.zeros((len(mask_logits), len(masks)), np.float32)
    for i, x in enumerate(mask_logits.tolist()):
        for j, y in enumerate(masks.tolist()):
            pixels = [k for k in range(len(x)) if valid[0, k]]
            for k in pixels:
                p = 1 / (1 + math.exp(-x[k]))
                p_t, a_t = (p, alpha) if y[k] else (1 - p, 1 - alpha)
                cost[i, j] += a_t * (1 - p_t) ** gamma * -math.log(p_t) / len(pixels)
    return cost


def focal_cost_broadcast(mask_logits, masks, valid, alpha=0.25, gamma=2.0):
    x, y = torch.broadcast_tensors(mask_logits[:, None], masks[None])
    ce = F.binary_cross_entropy_with_logits(x, y, reduction="none")
    loss = torch.where(y == 1, alpha, 1 - alpha) * (1 - torch.exp(-ce)) ** gamma * ce
    return torch.einsum("ntp,p->nt", loss, valid[0]) / valid.sum()


def assign_brute_force(cost):
    if cost.shape[0] < cost.shape[1]:
        return assign_brute_force(cost.T)[::-1]
    n, t = cost.shape
    best = min(itertools.permutations(range(n), t), key=lambda p: sum(cost[i, j].item() for j, i in enumerate(p)))
    return list(best), list(range(t))


def assign_numpy(cost):
    return linear_sum_assignment(cost.numpy())


def assign_by_target(cost):
    targets, queries = linear_sum_assignment(cost.T)
    return torch.tensor(queries, dtype=torch.int32), torch.tensor(targets, dtype=torch.int32)


def query_of_target_loop(queries, targets):
    out = torch.empty_like(queries)
    for q, t in zip(queries, targets):
        out[t] = q
    return out


def query_classes_loop(labels, queries, targets, num_queries, num_classes):
    wanted = dict(zip(queries.tolist(), targets.tolist()))
    return [int(labels[wanted[i]]) if i in wanted else num_classes for i in range(num_queries)]


RIGHT = {
    "02.1": [class_cost_loops, class_cost_in_place,
             lambda x, c: -torch.exp(x.double() - x.double().logsumexp(1, keepdim=True))[:, c],
             lambda x, c: -torch.einsum("nk,tk->nt", x.softmax(1), F.one_hot(c, x.shape[1]).float()),
             lambda x, c: (-F.softmax(x.requires_grad_(), dim=1)).T[c].T,
             lambda x, c: x.softmax(-1).numpy()[:, c.numpy()] * -1.0],
    "02.2": [dice_cost_loops, lambda x, y, v: dice_cost_loops(x, y, v).double(),
             lambda x, y, v: dice_cost_loops(x, y, v).tolist(),
             lambda x, y, v: 1 - (2 * torch.einsum("np,tp,p->nt", x.sigmoid(), y, v[0]) + 1)
             / ((x.sigmoid() @ v.T) + (y @ v.T).T + 1),
             lambda x, y, v: torch.stack([dice_cost_loops(x, y[j:j + 1], v)[:, 0] for j in range(len(y))], 1),
             lambda x, y, v: matching.dice_cost(x[None], y[None], v[None])[0]],
    "02.3": [focal_cost_loops, focal_cost_broadcast,
             lambda x, y, v: focal_cost_broadcast(x.double(), y.double(), v.double()),
             lambda x, y, v: (0.25 * ((1 - x.sigmoid()) ** 2 * -x.sigmoid().log() * v) @ y.T
                              + 0.75 * (x.sigmoid() ** 2 * -(1 - x.sigmoid()).log() * v) @ (1 - y).T) / v.sum(),
             lambda x, y, v: torch.stack([torch.stack([losses.sigmoid_focal_loss(a[None], b[None], 1, valid=v)
                                                       for b in y]) for a in x])],
    "02.4": [assign_brute_force, assign_numpy, assign_by_target, lambda c: torch.tensor(np.array(assign_numpy(c))),
             lambda c: [list(v) for v in assign_numpy(c)]],
    "02.5": [query_of_target_loop, lambda q, t: [b for _, b in sorted(zip(t.tolist(), q.tolist()))],
             lambda q, t: q.numpy()[np.argsort(t.numpy())], lambda q, t: q[torch.sort(t).indices],
             lambda q, t: q.scatter(0, t, q.clone())],
    "02.6": [query_classes_loop, lambda *args: np.array(query_classes_loop(*args)),
             lambda c, q, t, n, k: torch.full((n,), k).scatter(0, q, c[t]),
             lambda c, q, t, n, k: torch.full((n,), k, dtype=torch.int32).index_copy_(0, q, c[t].int())],
}
WRONG = {
    "02.1": [lambda x, c: x.softmax(0).softmax(-1)[:, c], lambda x, c: x[:, :-1].log_softmax(-1)[:, c],
             lambda x, c: -x.softmax(-1)[:, c] * 2, lambda x, c: torch.full((len(x), len(c)), torch.nan),
             lambda x, c: x @ x, lambda x, c: "cost", lambda x, c: [[1, 2], [3]]],
    "02.2": [lambda x, y, v: 1 - 2 * (x.sigmoid().sigmoid() @ y.T) / (x.sigmoid().sigmoid().sum(1)[:, None] + y.sum(1)),
             lambda x, y, v: (matching.dice_cost(x.sigmoid(), y, v) - 1).T, lambda x, y, v: x * y,
             lambda x, y, v: matching.dice_cost(x, y, v)[0]],
    "02.3": [lambda x, y, v: focal_cost_broadcast(x.sigmoid(), y, v, alpha=0.75),
             lambda x, y, v: focal_cost_broadcast(x, y, torch.ones_like(v)).T,
             lambda x, y, v: focal_cost_broadcast(x, y, v) * 20,
             lambda x, y, v: focal_cost_broadcast(x, y, v, gamma=3.0)],
    "02.4": [lambda c: linear_sum_assignment(c, maximize=True)[::-1], lambda c: (c.argmin(0), c.argmin(0)),
             lambda c: c, lambda c: 3, lambda c: ([0], [0]), lambda c: ([0.0], [0.0])],
    "02.5": [lambda q, t: t[q], lambda q, t: q[t].flip(0), lambda q, t: q[t.argsort()].float(),
             lambda q, t: dict(zip(t, q))],
    "02.6": [lambda c, q, t, n, k: torch.zeros(n), lambda c, q, t, n, k: query_classes_loop(c + 1, q, t, n, k),
             lambda c, q, t, n, k: query_classes_loop(c, q, t.argsort(), n, 0),
             lambda c, q, t, n, k: torch.tensor(query_classes_loop(c, q, t, n, k)).float()],
}


# --- the references agree with the library ----------------------------------------------------------------------------

def test_class_cost_is_the_class_part_of_the_library_cost():
    x, masks = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.ones(3, 2, 2, dtype=torch.bool)
    labels = torch.tensor([2, 0, 2])
    library = matching.pairwise_cost(x, torch.zeros(5, 2, 2), {"labels": labels, "masks": masks}, 1.0, 0.0, 0.0)
    assert torch.allclose(BY_ID["02.1"].reference(x, labels), library)


def test_query_classes_are_what_the_classification_loss_trains():
    x = torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))
    labels, match = torch.tensor([2, 0]), (torch.tensor([1, 4]), torch.tensor([1, 0]))
    classes = BY_ID["02.6"].reference(labels, *match, 5, 3)
    mine = F.cross_entropy(x[0], classes, torch.tensor([1.0, 1, 1, 0.1]))
    assert torch.allclose(mine, losses.classification_loss(x, [{"labels": labels}], [match]))


def test_remarks_on_right_but_fragile_solutions():
    text = core.judge(BY_ID["02.3"], RIGHT["02.3"][3]).text
    assert "F.softplus" in text and "T = 0" not in text
    assert "T = 0" in core.judge(BY_ID["02.2"], RIGHT["02.2"][4]).text
    for exercise in ALL:
        assert "Remark" not in core.judge(exercise, exercise.reference).text


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


def test_gaps_name_the_place():
    def mine(class_logits, labels):
        cost = BY_ID["02.1"].reference(class_logits, labels)
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
    with pytest.raises(LookupError, match="examples 1 to"):
        exercises.example("02.5", 0)


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
