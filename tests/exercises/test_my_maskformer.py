"""The learner's MaskFormer: with any of its parts put in it gives the library's answers, and no kill or error harms it."""
import ast
import json
import os
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from minimaskformer import Lakeland, SetCriterion, build_model, load_checkpoint
from minimaskformer.commands import cli
from minimaskformer.config import get_config
from minimaskformer.evaluation import evaluate
from minimaskformer.exercises import certificate, lesson_calls, my_lessons, my_maskformer, standalone
from minimaskformer.exercises.core import doubled, judge
from minimaskformer.exercises.parts import PARTS, SECTIONS, exercise_of
from minimaskformer.predict import read_out, run
from minimaskformer.training.optim import parameter_groups, set_learning_rate
from minimaskformer.training.recipes import TrainConfig

from .notebook_cells import run_cells, typed_solution

MINI = Path(__file__).resolve().parents[2] / "data" / "mini.safetensors"
GOOD = "def class_cost(class_logits, labels):\n    return -class_logits.softmax(-1)[:, labels]"
WRONG = GOOD.replace("return -", "return ")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASKFORMER_MINE", str(tmp_path / "my_lessons"))
    return tmp_path / "my_lessons"


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A folder into which every solution was put, in the order of the lessons."""
    place = tmp_path_factory.mktemp("solved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIMASKFORMER_MINE", str(place))
        for exercise_id in sorted(PARTS):
            told = my_maskformer.keep(exercise_of(exercise_id), typed_solution(exercise_id))
            assert "is in" in told, (exercise_id, told)
    return place


@pytest.fixture(scope="module")
def shipped():
    return load_checkpoint(MINI).eval(), Lakeland("val", length=3)


def checked(capsys, cell, exercise_id="02.1", name="class_cost"):
    lesson_calls.check(exercise_id, run_cells(cell)[name])
    return capsys.readouterr().out


def test_parts_have_the_names_of_their_exercises():
    assert {i: exercise_of(i).name for i in PARTS} == PARTS
    assert len(set(PARTS.values())) == len(PARTS) == sum(len(parts) for _, parts in SECTIONS.values())
    assert not set(PARTS.values()) & my_maskformer.reserved_names()


def kept(solved, exercise_ids):
    """The module of a file into which only these were put."""
    parts = {i: part for i, part in my_maskformer.kept_parts(solved).items() if i in exercise_ids}
    namespace = {"__name__": "my_maskformer"}
    exec(compile(my_maskformer.made_of(parts), "my_maskformer.py", "exec"), namespace)
    return namespace


@pytest.mark.parametrize("exercise_ids", [list(PARTS), [], list(PARTS)[::2], [i for i in PARTS if i[:2] == "02"]],
                         ids=["all", "none", "every second", "lesson 02"])
def test_answers_are_the_librarys(solved, shipped, exercise_ids):
    my, (model, scenes) = kept(solved, exercise_ids), shipped
    assert list(my["OWN"]) == exercise_ids
    text = my_maskformer.made_of({i: p for i, p in my_maskformer.kept_parts(solved).items() if i in exercise_ids})
    assert [i for i in PARTS if f"# {i}: borrowed, not yet mine" in text] == [i for i in PARTS if i not in exercise_ids]
    parameters = my["read_parameters"](MINI)
    assert parameters.keys() == model.state_dict().keys()
    for image, _ in (scenes[i] for i in range(3 if len(exercise_ids) == len(PARTS) else 1)):
        class_logits, mask_logits, size = run(model, [image])[0]
        images, _ = my["to_batch"]([image], *my["pixel_statistics"](my["MINI"]), 32)
        for ours, theirs in zip(my["last_answer"](parameters, images), (class_logits, mask_logits)):
            torch.testing.assert_close(ours[0], theirs, rtol=1e-5, atol=1e-4)  # logits of up to 60
        segment_map, info = read_out(model.config, "panoptic", class_logits, mask_logits, size)
        ours, our_info = my["panoptic"](*my["answer"](parameters, image))
        assert torch.equal(ours.long(), segment_map.long())
        assert [(s["id"], s["category_id"]) for s in our_info] == [(s["id"], s["category_id"]) for s in info]


def test_figures_are_the_librarys(solved, shipped):
    my, (model, scenes) = my_maskformer.mine(solved), shipped
    theirs = evaluate(model, scenes, progress=False)
    ours = my.score_model(my.read_parameters(MINI), scenes, len(scenes))
    assert ours == pytest.approx({name: theirs[name] for name in ours}, abs=1e-6)


def test_pictures_of_another_size(solved, shipped):
    my, (model, _) = my_maskformer.mine(solved), shipped
    picture = Lakeland("val", 150)[1][0][:, :97]  # neither side a multiple of 32
    segment_map, _ = model.predict(picture)
    assert torch.equal(my.panoptic(*my.answer(my.read_parameters(MINI), picture))[0].long(), segment_map.long())


SMALL = get_config("mini", dim=32, mask_dim=32, hidden_dim=64, num_heads=2, decoder_layers=2, encoder_layers=1, feedforward=32,
                   num_queries=20)


TINY = get_config("mini", dim=32, mask_dim=32, hidden_dim=32, num_heads=2, decoder_layers=1, encoder_layers=1, feedforward=16,
                  num_queries=14)


def losses_of_the_library(parameters, batch, steps):
    model, config = build_model(SMALL), TrainConfig(steps=steps, warmup=1)
    model.load_state_dict(parameters)
    criterion, optimizer = SetCriterion(11, mask_stride=2), torch.optim.AdamW(parameter_groups(model, config), betas=(0.9, 0.98))
    for step in range(1, steps + 1):
        set_learning_rate(optimizer, config, step)
        loss = criterion(model(model.normalize(torch.stack([image for image, _ in batch]))), [t for _, t in batch])["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        yield loss.item()


def test_training_is_the_librarys(solved):
    my, batch = my_maskformer.mine(solved), [Lakeland("train", 64)[i] for i in range(2)]
    parameters = my.draw_parameters(SMALL, seed=5)
    torch.manual_seed(5)
    theirs = build_model(SMALL).state_dict()
    assert theirs.keys() == parameters.keys() and all(torch.equal(theirs[name], parameters[name]) for name in theirs)
    expected = list(losses_of_the_library(parameters, batch, 3))
    optimizer = my.make_optimizer(parameters)
    rates = [my.learning_rate(step, 3, 4e-4, 1) for step in (1, 2, 3)]
    assert [my.one_step(parameters, optimizer, batch, rate, SMALL) for rate in rates] == pytest.approx(expected, rel=1e-4)


def test_targets_without_void_and_pictures_without_targets(solved):
    my = my_maskformer.mine(solved)
    segment_map = torch.ones(64, 64, dtype=torch.int32)
    layers = [(torch.randn(2, 4, 12), torch.randn(2, 4, 16, 16))]
    for info in ([{"id": 1, "category_id": 3}], [{"id": 1, "category_id": 3, "iscrowd": 1}]):
        targets = [my.target_of(segment_map, info)] * 2
        output = type("Output", (), {"class_logits": layers[0][0], "mask_logits": layers[0][1], "aux": ()})
        expected = SetCriterion(11, mask_stride=2)(output, targets)["loss"]
        torch.testing.assert_close(my.criterion(layers, targets), expected, rtol=1e-5, atol=1e-5)


FORMS = {  # exercise: (how a learner may write it, what it must look like to test what it says)
    "01.3 float labels of nothing": ("01.3", """
def panoptic_to_set(segment_map, segments_info):
    segments = [s for s in segments_info if not s["iscrowd"] and (segment_map == s["id"]).any()]
    labels = torch.tensor([s["category_id"] for s in segments])
    masks = segment_map == torch.tensor([s["id"] for s in segments])[:, None, None]
    return labels, masks, masks.any(0)
"""), "01.3 lists": ("01.3", """
def panoptic_to_set(segment_map, segments_info):
    labels, masks, valid = [], [], torch.zeros(segment_map.shape, dtype=torch.int64)
    for s in segments_info:
        mask = segment_map == s["id"]
        if not s["iscrowd"] and mask.any():
            labels.append(s["category_id"])
            masks.append(mask)
            valid[mask] = 1
    return labels, masks, valid
"""), "01.3 lists of numbers and arrays": ("01.3", """
def panoptic_to_set(segment_map, segments_info):
    found = [s for s in segments_info if not s["iscrowd"] and (segment_map == s["id"]).any()]
    masks = [(segment_map == s["id"]).int().tolist() for s in found]
    return [torch.tensor(s["category_id"]) for s in found], masks, np.isin(segment_map.numpy(), [s["id"] for s in found])
"""), "02.1 a list of lists": ("02.1", """
def class_cost(class_logits, labels):
    return [[-float(row[c]) for c in labels] for row in class_logits.softmax(-1)]
"""), "02.2 an array": ("02.2", """
def dice_cost(mask_logits, masks, valid):
    p, y = (mask_logits.sigmoid() * valid).double().numpy(), (masks * valid).double().numpy()
    return 1 - (2 * p @ y.T + 1) / (p.sum(1)[:, None] + y.sum(1) + 1)
"""), "02.4 arrays": ("02.4", """
from scipy.optimize import linear_sum_assignment

def assign(cost):
    return linear_sum_assignment(cost)
"""), "02.4 lists": ("02.4", """
from scipy.optimize import linear_sum_assignment

def assign(cost):
    return [list(indices) for indices in linear_sum_assignment(cost)]
""")}


@pytest.mark.parametrize("form", FORMS)
def test_lists_and_arrays_train_the_model_as_tensors_do(folder, form):
    exercise_id, cell = FORMS[form]
    exercise = exercise_of(exercise_id)
    fn = run_cells(cell)[exercise.name]
    assert judge(exercise, fn).kind == "passed"
    assert "1 of 34 parts" in my_maskformer.keep(exercise, fn)
    void = torch.zeros(3, 64, 64, dtype=torch.uint8), {"segment_map": torch.zeros(64, 64, dtype=torch.int32), "segments_info": []}
    losses = []
    for my in (my_maskformer.mine(folder), my_maskformer.mine(folder / "nobody")):
        assert list(my.OWN) == [exercise_id] * bool(my.OWN)
        losses.append(my.fit(my.draw_parameters(TINY), [Lakeland("train", 64)[3], void], 2, TINY, batch_size=3))
    assert len(losses[0]) == 2 and losses[0] == pytest.approx(losses[1], rel=1e-4)


PLAIN = ("01.3 01.4 02.1 02.2 02.3 02.4 06.2 07.1 07.5 07.6 08.1 08.2 08.5 08.6 09.1 09.2 09.3 09.4 09.5 09.6 10.1 "
         "12.1").split()  # their values need no gradient


def without_tensors(value, how):
    if isinstance(value, tuple):
        return tuple(without_tensors(v, how) for v in value)
    return how(value) if isinstance(value, torch.Tensor) and not value.requires_grad else value


@pytest.mark.parametrize(("how", "ids"), [(torch.Tensor.tolist, PLAIN[:-1]),  # millions of gradients take a while
                                          (torch.Tensor.numpy, PLAIN)], ids=["lists", "arrays"])
def test_every_part_that_passes_no_gradient_on_may_give_lists_and_arrays(how, ids):
    results = []
    for wrapped in (False, True):
        my = my_maskformer.mine(Path("nowhere"))
        for exercise_id in ids if wrapped else ():
            part = getattr(my, PARTS[exercise_id])
            setattr(my, PARTS[exercise_id], lambda *args, part=part: without_tensors(part(*args), how))
        scenes, parameters = Lakeland("train", 64, length=1), my.read_parameters(MINI)
        results.append([*my.fit(my.draw_parameters(TINY), scenes, 2, TINY, batch_size=1),
                        *my.score_model(parameters, scenes, 1).values()])
    assert results[1] == pytest.approx(results[0], rel=1e-4) and len(results[0]) == 5


@pytest.mark.parametrize("how", [torch.Tensor.double, list, lambda value: [tuple(row) for row in value]],
                         ids=["float64", "a list of tensors", "a list of tuples of tensors"])
@pytest.mark.parametrize("number", "05.6 06.2 06.3 06.4 06.5 07.1 07.2".split())
def test_parts_of_the_forward_pass_may_give_float64_and_lists_of_tensors(number, how):
    def changed(*args):
        value = exercise_of(number).reference(*args)
        return tuple(map(how, value)) if isinstance(value, tuple) else how(value)
    answers_alike(number, changed)


@pytest.mark.parametrize("number", ["05.6", "07.2"])  # the others call nothing, or modules in float32
def test_parts_may_compute_in_float64(number):
    answers_alike(number, lambda *args: exercise_of(number).reference(*doubled(list(args))))


def answers_alike(number, changed):
    assert (outcome := judge(exercise_of(number), changed)).kind == "passed" and not outcome.unfit
    config, answers = replace(TINY, decoder_layers=2), []
    for part in (exercise_of(number).reference, changed):
        my = my_maskformer.mine(Path("nowhere"))
        setattr(my, PARTS[number], part)
        parameters, images = my.draw_parameters(config), torch.randn(2, 3, 32, 64, generator=torch.Generator().manual_seed(0))
        answers.append([*my.last_answer(parameters, images, config), *my.every_answer(parameters, images, config)[0]])
    torch.testing.assert_close(answers[1], answers[0])


def test_fit_learns_and_an_interrupt_keeps_what_was_learnt(solved):
    my, scenes = my_maskformer.mine(solved), Lakeland("train", 64, length=2)
    parameters, seen = my.draw_parameters(SMALL), []

    def report(step, loss):
        seen.append(loss)
        if step == 2:
            raise KeyboardInterrupt

    before = parameters["class_head.weight"].clone()
    assert my.fit(parameters, scenes, 9, SMALL, batch_size=1, report=report) == seen and len(seen) == 2
    assert not torch.equal(parameters["class_head.weight"], before) and not parameters["class_head.weight"].requires_grad
    again = my.draw_parameters(SMALL)
    assert my.fit(again, scenes, 9, SMALL, batch_size=1, until=2) == pytest.approx(seen, rel=1e-5)  # the same two of nine


def test_the_shipped_curves_begin_where_the_recipe_does():
    shipped = json.loads((MINI.parent / "five_minutes.json").read_text())
    recipe, library, frame = shipped["recipe"], shipped["library"]["losses"], shipped["frame"]["losses"]
    assert len(library) == len(frame) == recipe["steps"] and library[:10] == pytest.approx(frame[:10], rel=1e-4)
    assert max(library[-50:]) < 0.3 * library[0]
    my, config = my_maskformer.mine(MINI.parent), get_config("mini", short_side=recipe["size"])
    scenes = Lakeland("train", recipe["size"], recipe["difficulty"])
    first = my.fit(my.draw_parameters(config, recipe["start"]), scenes, recipe["steps"], config, recipe["batch"], recipe["peak"],
                   recipe["warmup"], recipe["order"], until=1)
    assert first == pytest.approx(library[:1], rel=1e-4)


BLOCKED = "matching losses inference transformer pixel_decoder model metrics".split()


def test_the_file_runs_without_the_librarys_method(solved, shipped, monkeypatch):
    expected, image = shipped[0].predict(shipped[1][0][0]), shipped[1][0][0]
    for name in [name for name in sys.modules if name.split(".")[0] == "minimaskformer"]:
        monkeypatch.delitem(sys.modules, name)  # so that all is imported anew
    for name in BLOCKED:
        monkeypatch.setitem(sys.modules, f"minimaskformer.{name}", None)
    my = runpy.run_path(str(solved / "my_maskformer.py"))
    assert list(my["OWN"]) == list(PARTS)
    assert torch.equal(my["panoptic"](*my["answer"](my["read_parameters"](MINI), image))[0].long(), expected[0].long())
    for name in [name for name in sys.modules if name.split(".")[0] == "minimaskformer"]:
        del sys.modules[name]


def test_passing_puts_it_in_and_failing_changes_nothing(folder, capsys):
    assert "1 of 34 parts are yours" in checked(capsys, GOOD)
    text = (folder / "my_maskformer.py").read_text()
    shapes = "# class_logits [N, K+1] (no-object last), labels int64 [T] -> cost [N, T]: minus p_i(c_j).\n"
    assert f"# 02.1 the class cost\n{shapes}{GOOD}\n" in text and "import dice_cost  # 02.2: borrowed, not yet mine" in text
    assert "my_maskformer" not in checked(capsys, WRONG)
    assert (folder / "my_maskformer.py").read_text() == text
    assert "not a part" not in checked(capsys, "def says_no_object(x):\n    return x.argmax(-1) == x.shape[-1] - 1", "00.2", "says_no_object")
    assert (folder / "my_maskformer.py").read_text() == text


def test_the_file_says_shapes_and_where_the_own_parts_begin(solved, tmp_path):
    text = (solved / "my_maskformer.py").read_text()
    lines, head = text.splitlines(), ast.get_docstring(ast.parse(text))
    assert lines[int(re.search(r"My own parts begin in line (\d+)\.", head)[1]) - 1] == "# 01.3 from a panoptic map to a set"
    assert "order of the data, not of the lessons" in head and "`query_states` and `every_answer`" in head
    for i, name in PARTS.items():  # what the stub says, or the learner's own docstring, is right there
        above, _, below = text.partition(f"\ndef {name}(")
        own = below.partition("\n")[2].lstrip().startswith('"""')
        assert own or "->" in above.rpartition("\n# " + i)[2], name
    assert len(lines) < 1000 and "mine yet" in ast.get_docstring(ast.parse(my_maskformer.made_of({})))
    cell = 'def class_cost(x, c):\n    """Mine."""\n    return -x.softmax(-1)[:, c]'
    part = my_maskformer.take(run_cells(cell)["class_cost"], "class_cost")
    assert f"# 02.1 the class cost\n{cell}\n" in my_maskformer.made_of({"02.1": part})


def test_without_lessons_there_are_no_shapes_and_nothing_stops(tmp_path):
    assert my_lessons.stub_docstrings(tmp_path) == {}
    (tmp_path / "02_x.ipynb").write_text("{")
    (tmp_path / "03_x.ipynb").write_text('{"cells": [{"cell_type": "code", "source": "def f(:"}, 3]}')
    (tmp_path / "04_x.ipynb").write_bytes(b"\xff\xfe")
    my_lessons.stub_docstrings.cache_clear()
    assert my_lessons.stub_docstrings(tmp_path) == {}
    assert my_lessons.lesson_of("02.1", tmp_path) == "02_x.ipynb"
    assert my_lessons.lesson_of("01.3", tmp_path) == "01_mask_classification.ipynb"


def test_the_earlier_version_is_kept(folder, capsys):
    for cell in (GOOD, GOOD, GOOD + "  # again"):
        checked(capsys, cell)
    earlier, = (folder / ".mine" / "earlier").iterdir()
    assert earlier.read_text().strip() == GOOD and earlier.name.startswith("class_cost_20")
    assert "# again" in (folder / "my_maskformer.py").read_text()


def test_a_file_edited_by_hand_is_kept_beside(folder, capsys):
    checked(capsys, GOOD)
    (folder / "my_maskformer.py").write_text("mine!")
    checked(capsys, GOOD + "  # again")
    beside, = folder.glob("my_maskformer_before_*.py")
    assert beside.read_text() == "mine!" and "# again" in (folder / "my_maskformer.py").read_text()


@pytest.mark.parametrize("moment", [1, 2])
def test_a_kill_leaves_whole_files(folder, capsys, monkeypatch, moment):
    checked(capsys, GOOD)
    before, calls, replace = (folder / "my_maskformer.py").read_text(), [], os.replace

    def killed(*paths):
        calls.append(paths)
        if "my_maskformer" in str(paths[1]) or len(calls) == moment:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        my_maskformer.keep(exercise_of("02.4"), typed_solution("02.4"))
    monkeypatch.undo()
    assert (folder / "my_maskformer.py").read_text() == before
    assert "02.1" in my_maskformer.kept_parts(folder)
    my_maskformer.make_anew(folder)
    assert "def class_cost" in (folder / "my_maskformer.py").read_text()


def test_what_leans_on_another_cell_passes_but_does_not_go_in(folder, capsys):
    lesson_calls.check("02.1", run_cells("DIM = -1", GOOD.replace("(-1)", "(DIM)"))["class_cost"])
    out = capsys.readouterr().out
    assert "right on all" in out and "Not in my_maskformer.py yet: it leans on DIM from elsewhere in the notebook" in out
    assert not folder.exists()


IMPORTS = "import itertools\nimport numpy as np\nfrom scipy.optimize import linear_sum_assignment\n\n"
SLOW = {"all ways, one by one": """
def assign(cost):
    if cost.shape[0] < cost.shape[1]:
        queries, targets = linear_sum_assignment(cost)
        return torch.tensor(queries), torch.tensor(targets)
    ways = itertools.permutations(range(cost.shape[0]), cost.shape[1])
    best = min(ways, key=lambda way: sum(cost[i, j].item() for j, i in enumerate(way)))
    return torch.tensor(best, dtype=torch.int64), torch.arange(cost.shape[1])
""", "all ways in one tensor": """
def assign(cost):
    if cost.shape[0] < cost.shape[1]:
        return assign(cost.T)[::-1]
    ways = torch.tensor(list(itertools.permutations(range(cost.shape[0]), cost.shape[1])), dtype=torch.int64)
    total = cost[ways, torch.arange(cost.shape[1])].sum(1)
    return ways[total.argmin()], torch.arange(cost.shape[1])
""", "the lesson's chains": """
def assign(cost):
    def chain(owner, newcomer, seen=()):
        chains = []
        for i in set(range(len(cost))) - set(seen):
            if i not in owner:
                chains.append((cost[i, newcomer].item(), [(i, newcomer)]))
            else:
                more, moves = chain(owner, owner[i], (*seen, i))
                chains.append(((cost[i, newcomer] - cost[i, owner[i]]).item() + more, [(i, newcomer), *moves]))
        return min(chains)
    if cost.shape[0] < cost.shape[1]:
        queries, targets = linear_sum_assignment(cost)
        return torch.tensor(queries), torch.tensor(targets)
    owner = {}
    for j in range(cost.shape[1]):
        owner.update(chain(owner, j)[1])
    return torch.tensor(list(owner), dtype=torch.int64), torch.tensor(list(owner.values()), dtype=torch.int64)
"""}


@pytest.mark.parametrize("way", SLOW)
def test_what_would_never_end_in_the_model_passes_but_does_not_go_in(folder, capsys, monkeypatch, way):
    monkeypatch.setattr(standalone, "SLOW", 0.5)
    out = checked(capsys, IMPORTS + SLOW[way], "02.4", "assign")
    assert "right on all" in out and not folder.exists()
    assert "Not in my_maskformer.py yet: with 32 queries and 11 targets it would not end. scipy.optimize." in out


CELL_BY_CELL = """
def multi_head_attention(q, k, v, weights, num_heads):
    C, w, b = q.shape[-1], weights["in_proj_weight"], weights["in_proj_bias"]
    q, k, v = q @ w[:C].T + b[:C], k @ w[C:2 * C].T + b[C:2 * C], v @ w[2 * C:].T + b[2 * C:]
    d, rows = C // num_heads, []
    for i in range(len(q)):
        for n in range(q.shape[1]):
            heads = []
            for s in (slice(start, start + d) for start in range(0, C, d)):
                scores = torch.stack([q[i, n, s] @ k[i, p, s] / d ** 0.5 for p in range(k.shape[1])])
                heads.append(sum(a * v[i, p, s] for p, a in enumerate(scores.softmax(0))))
            rows.append(torch.cat(heads))
    return torch.stack(rows).reshape(q.shape) @ weights["out_proj.weight"].T + weights["out_proj.bias"]
"""


def test_attention_cell_by_cell_would_take_minutes_in_the_model(folder, capsys, monkeypatch):
    monkeypatch.setattr(standalone, "SLOW", 0.2)
    out = checked(capsys, IMPORTS + CELL_BY_CELL, "06.3", "multi_head_attention")
    assert "right on all" in out and not folder.exists()
    assert "Not in my_maskformer.py yet: with the model's 256 cells it takes seconds" in out


def test_what_stops_at_the_models_size_does_not_go_in_either(folder, capsys):
    cell = IMPORTS + "def assign(cost):\n    assert len(cost) < 20, 'too many queries'\n" \
                     "    return tuple(torch.tensor(x) for x in linear_sum_assignment(cost))"
    assert "it stops with AssertionError: too many queries" in checked(capsys, cell, "02.4", "assign")


def test_a_moment_in_which_the_machine_is_busy_keeps_nothing_out(folder, capsys, monkeypatch):
    cell = IMPORTS + "def assign(cost):\n    import time\n    if cost.shape == (32, 5) and not hasattr(np, 'busy'):\n" \
                     "        np.busy = time.sleep(0.2)\n    queries, targets = linear_sum_assignment(cost)\n" \
                     "    return torch.tensor(queries), torch.tensor(targets)"
    monkeypatch.delattr("numpy.busy", raising=False)
    assert "1 of 34 parts are yours" in checked(capsys, cell, "02.4", "assign")
    monkeypatch.delattr("numpy.busy")


def test_a_name_that_another_part_imports(folder, capsys):
    checked(capsys, "import torch.special as s\n" + GOOD.replace("class_logits.softmax(-1)", "s.softmax(class_logits, -1)"))
    cell = "import torch.nn.functional as s\nfrom scipy.optimize import linear_sum_assignment\n\ndef assign(cost):\n    s.relu(cost)\n" \
           "    return tuple(torch.as_tensor(x) for x in linear_sum_assignment(cost))"
    assert "02.1 imports something else as s" in checked(capsys, cell, "02.4", "assign")


def test_use_forces_a_wrong_one_in_and_it_shows(folder, capsys):
    lesson_calls.use("02.1", run_cells(WRONG)["class_cost"])
    assert "+p instead of -p" in capsys.readouterr().out and not folder.exists()
    lesson_calls.use("02.1", run_cells(WRONG)["class_cost"], anyway=True)
    lesson_calls.use("00.1", run_cells(WRONG)["class_cost"], anyway=True)
    out = capsys.readouterr().out
    assert "1 of 34" in out and "00.1 is not a part of the model" in out
    my, logits = my_maskformer.mine(folder), torch.tensor([[0.0, 1.0]])
    assert my.class_cost(logits, torch.tensor([0])) > 0


def test_without_copies_of_the_lessons_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MINIMASKFORMER_MINE", raising=False)
    monkeypatch.chdir(tmp_path)
    my_maskformer.hint_at_copies.cache_clear()
    assert "right on all" in (out := checked(capsys, GOOD)) and "In your own copies of the lessons" in out
    assert "right on all" in (out := checked(capsys, GOOD)) and "copies" not in out  # once is enough
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == []
    assert my_maskformer.mine().OWN == {}


def test_copies_are_found_from_within_and_by_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MINIMASKFORMER_MINE", raising=False)
    place = tmp_path / "my_lessons"
    (place / "deeper").mkdir(parents=True)
    (place / my_lessons.MANIFEST).write_text("{}")
    monkeypatch.chdir(place / "deeper")
    assert "my_lessons/my_maskformer.py now" in checked(capsys, GOOD)
    lesson_calls.progress()
    assert "passed, in my_maskformer.py" in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(my_maskformer, "FOLDER", place)
    (place / "my_maskformer.py").unlink()
    assert cli.main(["mine"]) == 0
    out = capsys.readouterr().out
    assert out.endswith("\nNext: 01.3, in 01_mask_classification.ipynb\n")
    assert "1 of 34 parts are yours" in out and "✓ 02.1  class_cost" in out and (place / "my_maskformer.py").exists()
    (place / ".mine" / "class_cost.py").write_text("def (")
    assert cli.main(["mine"]) == 1 and "class_cost.py is no Python (line 1)" in capsys.readouterr().err
    monkeypatch.setattr(my_maskformer, "FOLDER", tmp_path / "nowhere")
    assert cli.main(["mine"]) == 1 and "there is no my_maskformer.py yet" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_stops_nothing(folder, capsys):
    folder.write_text("a file")
    out = checked(capsys, GOOD)
    assert "right on all" in out and "my_maskformer.py could not be written" in out
    assert json.loads((lesson_calls.record.path()).read_text())["02.1"]["passed"]


def test_pictures_of_the_parts_and_the_certificate(solved):
    my, figure = my_maskformer.mine(solved), Figure(figsize=(11, 7.4))
    own = dict(list(my.OWN.items())[::2])
    ax = certificate.draw_parts(Figure(figsize=(11, 3.9)).subplots(), own)
    colors = [to_hex(patch.get_facecolor()) for patch in ax.patches]
    assert colors.count(certificate.OWN) == len(own) == 17 and len(colors) == len(PARTS) and "17 of 34" in ax.get_title()
    drawn = []
    certificate.draw_certificate(figure, my, {"pq": 0.654}, [3.0, 2.0], "Ada", drawn.append)
    words = " ".join(text.get_text() for text in figure.findobj(Text))
    assert "by Ada: 34 of 34 parts" in words and f"{my.LINES} lines" in words and "PQ 65.4" in words and len(drawn) == 1
