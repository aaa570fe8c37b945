"""Right numbers are not enough for a part: training's gradient must get through it, and others need its arguments."""
import pytest
import torch
import torch.nn.functional as F

from minimaskformer import losses
from minimaskformer.exercises import core, lesson_calls, my_maskformer
from minimaskformer.exercises.parts import PARTS, exercise_of
from minimaskformer.model import Output

from . import test_lesson03, test_lesson04
from .notebook_cells import run_cells, typed_solution


def cut(exercise_id, change):
    """The solution with something done to each of its results."""
    def solution(*args):
        value = exercise_of(exercise_id).reference(*args)
        return tuple(map(change, value)) if isinstance(value, tuple) else change(value)
    return solution


def factor_without_gradient(x, y, n, alpha=0.25, gamma=2.0):
    with torch.no_grad():
        p = x.sigmoid()
        factor = (alpha * y + (1 - alpha) * (1 - y)) * (1 - p * y - (1 - p) * (1 - y)) ** gamma
    return (factor * F.binary_cross_entropy_with_logits(x, y, reduction="none")).flatten(1).mean(1).sum() / n


def dice_in_place(x, y, n):
    p = x.sigmoid_().flatten(1)
    return (1 - (2 * (p * y.flatten(1)).sum(1) + 1) / (p.sum(1) + y.flatten(1).sum(1) + 1)).sum() / n


def dice_that_spoils_its_backward(x, y, n):
    p, y = x.sigmoid().flatten(1), y.flatten(1)
    areas = p.sum(1) + y.sum(1)
    return (1 - (2 * p.mul_(y).sum(1) + 1) / (areas + 1)).sum() / n


def criterion_of_one_loss(layers, targets, weights, match, class_loss, mask_losses):
    def constant(*args):
        return [loss.detach() for loss in mask_losses(*args)]
    return exercise_of("04.4").reference(layers, targets, weights, match, class_loss, constant)


NONE, PART = "no gradient reaches ", "only part of the gradient reaches "
CUT = [
    ("03.2", test_lesson03.focal_loops, NONE + "mask_logits"), ("03.2", factor_without_gradient, PART + "mask_logits"),
    ("03.3", cut("03.3", lambda v: torch.tensor(float(v))), NONE + "mask_logits"),
    ("03.3", dice_in_place, "it changes its argument mask_logits"),
    ("03.3", lambda x, *rest: losses.dice_loss(x + 0 * (0 * x).sqrt(), *rest), "the gradient of mask_logits is not a number"),
    ("03.3", lambda x, *rest: losses.dice_loss(torch.from_numpy(x.numpy()), *rest), NONE + "mask_logits"),
    ("03.3", dice_that_spoils_its_backward, "no gradient gets through: RuntimeError: one of the variables needed"),
    ("04.1", cut("04.1", torch.Tensor.item), NONE + "class_logits"), ("04.2", cut("04.2", torch.Tensor.detach), NONE + "mask_logits"),
    ("04.3", test_lesson04.mask_loss_loop, NONE + "per_mask"), ("04.4", cut("04.4", torch.Tensor.item), NONE + "layers"),
    ("04.4", torch.no_grad()(exercise_of("04.4").reference), NONE + "layers"), ("04.4", criterion_of_one_loss, PART + "layers"),
    ("04.5", torch.no_grad()(exercise_of("04.5").reference), NONE + "mask_logits"),
    ("04.5", lambda *a: (exercise_of("04.5").reference(*a)[0].detach(), exercise_of("04.5").reference(*a)[1]), PART + "mask_logits"),
    ("06.4", lambda layer, *rest: layer.eval()(*rest)[0], "in the model it would stop with AttributeError: 'types.SimpleNamespace'"),
    ("06.4", lambda layer, *rest: exercise_of("06.4").reference(layer.requires_grad_(False), *rest), "in the model it would stop with"),
    ("06.5", lambda layers, norm, *rest: exercise_of("06.5").reference(
        layers, lambda x: F.layer_norm(x, x.shape[-1:], norm.weight.data, norm.bias.data), *rest), "in the model it would stop with"),
    ("06.5", lambda layers, *rest: exercise_of("06.5").reference(layers.children(), *rest), "in the model it would stop with"),
    ("07.1", lambda s, layers, p: exercise_of("07.1").reference(s, [(torch.nn.Parameter(w), b) for w, b in layers], p), PART + "layers"),
    ("07.1", lambda s, *rest: exercise_of("07.1").reference(s.detach(), *rest), NONE + "states"),
]


@pytest.mark.parametrize(("number", "solution", "words"), CUT)
def test_right_numbers_without_a_gradient(number, solution, words):
    outcome = core.judge(core.find(number), solution)
    assert outcome.kind == "passed" and outcome.unfit.startswith(words), outcome.text
    assert "right on all" in outcome.text and outcome.unfit in outcome.text


@pytest.mark.parametrize(("bank", "number", "fragile"), [
    (test_lesson03, "03.2", {"focal_loops", "focal_in_place"}), (test_lesson03, "03.3", set()),
    (test_lesson04, "04.1", {"class_loss_loops"}), (test_lesson04, "04.2", {"picked_by_loops", "picked_in_order_of_targets"}),
    (test_lesson04, "04.3", {"mask_loss_loop"}), (test_lesson04, "04.4", {"criterion_by_parts"}), (test_lesson04, "04.5", set())])
def test_nothing_is_said_of_right_solutions_that_learn(bank, number, fragile):
    for solution in bank.RIGHT[number]:
        if solution.__name__ != "<lambda>":
            assert bool(core.judge(core.find(number), solution).unfit) == (solution.__name__ in fragile), solution


def test_in_place_without_a_change_and_a_notebook_without_gradients():
    focal = exercise_of("03.2")
    assert not core.judge(focal, lambda x, *rest: focal.reference(x.mul_(1), *rest)).unfit
    with torch.no_grad():
        assert not core.judge(focal, focal.reference).unfit
        assert core.judge(focal, cut("03.2", torch.Tensor.detach)).unfit


def test_every_argument_that_learns_is_one_of_the_function():
    learning = {i: exercise_of(i).learns for i in PARTS if exercise_of(i).learns}
    assert set(learning) == {"03.2", "03.3", "04.1", "04.2", "04.3", "04.4", "04.5", "05.6", "06.3", "06.4", "06.5", "07.1", "07.2"}
    for exercise_id in learning:
        outcome = core.judge(exercise_of(exercise_id), cut(exercise_id, torch.Tensor.detach))
        assert outcome.kind == "passed" and outcome.unfit == NONE + ", ".join(learning[exercise_id])


def layer_by_keywords(layer, x, query_positions, memory, memory_positions):
    q = x + query_positions
    x = layer.norm1(x + layer.self_attn(query=q, key=q, value=x, need_weights=False)[0])
    read, _ = layer.cross_attn(query=x + query_positions, key=memory + memory_positions, value=memory, average_attn_weights=False)
    x = layer.norm2(x + read)
    return layer.norm3(x + layer.mlp(x))


def states_by_keywords(layers, norm, query_positions, memory, memory_positions):
    x, states = torch.zeros(len(memory), *query_positions.shape), []
    for layer in layers:
        x, *_ = layer(x, query_positions=query_positions, memory=memory, memory_positions=memory_positions, padding=None)
        states.append(norm(x))
    return states


def layer_by_places(layer, x, query_positions, memory, memory_positions):
    q = x + query_positions
    x = layer.norm1(x + layer.self_attn(q, q, x, None)[0])
    x = layer.norm2(x + layer.cross_attn(x + query_positions, memory + memory_positions, memory, None)[0])
    return layer.norm3(x + layer.mlp(x))


def states_by_places(layers, norm, query_positions, memory, memory_positions):
    x, states = torch.zeros(len(memory), *query_positions.shape), []
    for layer in layers:
        x = layer(x, query_positions, memory, memory_positions, None)[0]
        states.append(norm(x))
    return states


@pytest.mark.parametrize(("layer", "states"), [(layer_by_keywords, states_by_keywords), (layer_by_places, states_by_places)])
def test_what_calls_the_layers_in_another_way_is_right_in_the_model_too(layer, states):
    my = my_maskformer.mine(my_maskformer.Path("nowhere"))
    parameters, images = my.draw_parameters(), torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
    expected = my.last_answer(parameters, images)
    for number, solution in (("06.4", layer), ("06.5", states)):
        outcome = core.judge(core.find(number), solution)
        assert outcome.kind == "passed" and not outcome.unfit, outcome.text
    vars(my).update(decoder_layer=layer, decoder_states=states)
    torch.testing.assert_close(my.last_answer(parameters, images), expected)


def test_the_pixel_decoder_gets_its_own_weights_and_not_the_encoders():
    my = my_maskformer.mine(my_maskformer.Path("nowhere"))
    reference, seen = exercise_of("05.6").reference, []
    my.pixel_decoder = lambda features, weights, encoder: seen.append(set(weights)) or reference(features, weights, encoder)
    my.last_answer(my.draw_parameters(), torch.zeros(1, 3, 32, 32))
    assert seen == [set(exercise_of("05.6").fixtures[0].args[1])]


def test_the_layers_of_the_examples_are_those_of_the_model():
    my = my_maskformer.mine(my_maskformer.Path("nowhere"))
    theirs = exercise_of("06.4").in_model.args[0]
    assert vars(my.layer_functions({}, 2)).keys() == vars(theirs).keys()
    assert "There the parts of a layer are functions" in core.judge(core.find("06.4"), lambda layer, *rest: layer(*rest)[0]).text


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASKFORMER_MINE", str(tmp_path / "my_lessons"))
    return tmp_path / "my_lessons"


def test_such_a_part_is_not_kept(folder, capsys):
    cell = "def batch_mask_loss(per_mask, targets):\n    count = max(1, sum(len(t['labels']) for t in targets))\n" \
           "    return sum(float(v) for each in per_mask for v in each) / count"
    lesson_calls.check("04.3", run_cells(cell)["batch_mask_loss"])
    out = capsys.readouterr().out
    assert "✓ 04.3" in out and "right, but no gradient reaches per_mask: .item()" in out and "Nothing would be learnt" in out
    assert "Not in my_maskformer.py: no gradient reaches per_mask." in out and not folder.exists()
    assert lesson_calls.record.load()["04.3"]["passed"]
    lesson_calls.use("04.3", run_cells(cell)["batch_mask_loss"], anyway=True)
    assert "is in my_lessons/my_maskformer.py" in (out := capsys.readouterr().out) and "But no gradient reaches per_mask" in out
    lesson_calls.check("04.3", typed_solution("04.3"))
    assert "It is in" in capsys.readouterr().out
    lesson_calls.check("04.3", run_cells(cell)["batch_mask_loss"])
    assert "reaches per_mask. (The version before it stays.)" in capsys.readouterr().out
    assert "float(v)" not in (folder / "my_maskformer.py").read_text()


def test_what_changes_its_argument_is_told_in_every_exercise(folder, tmp_path, monkeypatch, capsys):
    for exercise_id, place in (("00.4", 0), ("02.4", 0), ("03.6", 0), ("04.3", 0), ("09.5", 1)):
        exercise = core.find(exercise_id)

        def spoils(*args):
            value = exercise.reference(*args)  # noqa: B023
            args[place].zero_() if torch.is_tensor(args[place]) else args[place].clear()  # noqa: B023
            return value
        outcome = core.judge(exercise, spoils)
        assert outcome.kind == "passed" and outcome.unfit.startswith("it changes its argument"), exercise_id
        assert "which others may need afterwards: work on a copy." in outcome.text
        lesson_calls.check(exercise_id, spoils)
        assert ("Not in my_maskformer.py: it changes" in capsys.readouterr().out) == (exercise_id in PARTS)
        with monkeypatch.context() as patch:  # no copies of the lessons: nothing would go anywhere
            patch.delenv("MINIMASKFORMER_MINE")
            patch.chdir(tmp_path)
            my_maskformer.hint_at_copies.cache_clear()
            lesson_calls.check(exercise_id, spoils)
            assert "my_maskformer" not in capsys.readouterr().out


@pytest.mark.parametrize(("number", "spoil"), [
    ("04.3", lambda per_mask, targets: per_mask.__setitem__(0, 1.0)),
    ("04.3", lambda per_mask, targets: [t.update(labels=t["labels"].tolist()) for t in targets]),
    ("01.3", lambda segment_map, infos: infos.__setitem__(slice(0, 1), [3])),
    ("01.3", lambda segment_map, infos: [s.update(category_id=s["category_id"] + 1) for s in infos])])
def test_whatever_takes_the_place_of_an_argument_is_a_change(number, spoil):
    def solution(*args):
        value = exercise_of(number).reference(*args)
        spoil(*args)
        return value
    assert core.judge(core.find(number), solution).unfit.startswith("it changes its argument")


def test_a_forced_part_that_fails_is_told_so(folder, capsys):
    lesson_calls.use("04.3", run_cells("def batch_mask_loss(m, t):\n    return torch.cat(m).sum()")["batch_mask_loss"], anyway=True)
    assert "It does not pass its check; check a right one to replace it." in capsys.readouterr().out
    lesson_calls.use("04.3", typed_solution("04.3"), anyway=True)
    assert "does not pass" not in capsys.readouterr().out


def test_of_a_forced_part_that_is_not_kept_only_that_is_told(folder, tmp_path, monkeypatch, capsys):
    lesson_calls.use("02.1", run_cells("helper = 3\ndef class_cost(x, labels):\n    return helper")["class_cost"], anyway=True)
    assert "it leans on helper" in (out := capsys.readouterr().out) and "replace" not in out
    monkeypatch.delenv("MINIMASKFORMER_MINE")
    monkeypatch.chdir(tmp_path)
    my_maskformer.hint_at_copies.cache_clear()
    for words in ("In your own copies", "nowhere to put it"):
        lesson_calls.use("02.1", typed_solution("02.2"), anyway=True)
        assert words in (out := capsys.readouterr().out) and "replace" not in out


# --- how the frame uses the learner's parts ---------------------------------------------------------------------------

def criterion_losses(parts):
    """The frame's criterion, with these parts, on pictures with and without void: the loss, its gradient, the library's."""
    my = my_maskformer.mine(my_maskformer.Path("nowhere"))
    vars(my).update(parts)
    g = torch.Generator().manual_seed(0)
    whole, empty = torch.ones(16, 16, dtype=torch.int32), torch.ones(16, 16, dtype=torch.int32)
    whole[:, 7:] = 2
    void = whole.clone()
    void[3:9, 2:12] = 0
    two = [{"id": 1, "category_id": 3}, {"id": 2, "category_id": 5}]
    targets = [my.target_of(*t) for t in ((void, two), (empty, [two[0] | {"iscrowd": 1}]), (whole, two), (void.T, two))]
    x = torch.randn(4, 5, 4, 4, generator=g).requires_grad_()
    class_logits = torch.randn(4, 5, 12, generator=g)
    loss = my.criterion([(class_logits, x)], targets)
    loss.backward()
    return loss.detach(), x.grad, losses.SetCriterion(11, mask_stride=2)(Output(class_logits, x.detach()), targets)["loss"]


def test_every_right_form_of_a_part_gives_the_same_loss():
    def bool_masks(x, targets, matches):
        return (torch.cat([x[b, q] for b, (q, _) in enumerate(matches)]),
                torch.cat([t["masks"][c] for t, (_, c) in zip(targets, matches)]))

    def image_by_image(per_mask, targets):
        count, total = 0, 0
        for values, target in zip(per_mask, targets):
            total, count = total + values.sum(), count + len(target["labels"])
        return total / max(count, 1)

    def lists(x, targets, matches):
        pairs = [(x[b, q], targets[b]["masks"][t]) for b, (queries, chosen) in enumerate(matches)
                 for q, t in zip(queries.tolist(), chosen.tolist())]
        return [p for p, _ in pairs], [y.numpy() for _, y in pairs]

    expected = criterion_losses({})
    torch.testing.assert_close(expected[0], expected[2], rtol=1e-5, atol=1e-6)
    for parts in ({"matched_masks": bool_masks}, {"matched_masks": lists}, {"void_losses": test_lesson04.void_by_the_library}, {"batch_mask_loss": image_by_image},
                  {"matched_masks": test_lesson04.picked_flat}):
        torch.testing.assert_close(criterion_losses(parts), expected, rtol=1e-5, atol=1e-6)


def test_masks_without_void_go_to_the_losses_of_lesson_03_even_beside_void():
    expected, *_ = criterion_losses({})
    wrong, *_ = criterion_losses({"dice_loss": lambda x, y, n: 2 * losses.dice_loss(x, y, n)})
    assert wrong > expected + 0.01
    wrong, *_ = criterion_losses({"void_losses": lambda *a: [2 * v for v in exercise_of("04.5").reference(*a)]})
    assert wrong > expected + 0.01


def test_every_right_form_of_the_missed_and_the_false_gives_the_same_counts():
    my, unmatched = my_maskformer.mine(my_maskformer.Path("nowhere")), exercise_of("09.4").reference
    truth = torch.tensor([[1, 1, 2, 2], [1, 1, 3, 3]]), [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 2}, {"id": 3, "category_id": 2}]
    found = torch.tensor([[1, 1, 2, 2], [1, 1, 4, 2]]), [{"id": 1, "category_id": 0}, {"id": 2, "category_id": 2}, {"id": 4, "category_id": 1}]
    nothing = torch.zeros(2, 4, dtype=torch.int64), []

    def both():
        return my.compare_segments(found, truth, 3), my.compare_segments(nothing, truth, 3)

    expected = both()
    assert expected[0][1:] == ([0, 1, 0], [0, 0, 1]) and expected[1][1:] == ([0, 0, 0], [1, 0, 2])
    for form in (torch.Tensor.int, torch.Tensor.numpy, torch.Tensor.tolist, lambda v: v.int().tolist(), list,
                 lambda v: [each if i % 2 else bool(each) for i, each in enumerate(v)]):
        my.unmatched = lambda *args, form=form: tuple(map(form, unmatched(*args)))
        assert both() == expected, form


def test_segments_are_counted_in_whole_numbers_as_the_stubs_say():
    my, given = my_maskformer.mine(my_maskformer.Path("nowhere")), {}
    for exercise_id in ("09.3", "09.4"):
        def watch(*args, number=exercise_id):
            given[number] = args
            return exercise_of(number).reference(*args)
        setattr(my, PARTS[exercise_id], watch)
    my.compare_segments((torch.ones(2, 2), [{"id": 1, "category_id": 0}]), (torch.ones(2, 2), [{"id": 1, "category_id": 0}]), 1)
    for exercise_id, args in given.items():
        for ours, theirs in zip(args, exercise_of(exercise_id).fixtures[0].args):
            assert ours.is_floating_point() == theirs.is_floating_point(), exercise_id
