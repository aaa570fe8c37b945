"""A new version of a lesson with the learner's work in it: three small notebooks at a time."""
import copy
import json

import nbformat
import pytest

from minimaskformer.exercises.carry_over import carry_over, fingerprints, source_of, untouched

STUB = 'def f(x):\n    """x -> y."""\n    raise NotImplementedError("your turn")'


def code(name, source, *tags):
    return nbformat.v4.new_code_cell(source, id=name, metadata={"tags": list(tags)} if tags else {})


def text(name, source):
    return nbformat.v4.new_markdown_cell(source, id=name)


@pytest.fixture
def old():
    return nbformat.v4.new_notebook(cells=[
        text("1", "# A lesson"), code("2", "scene = 3"), text("3", "### 02.1"), code("4", STUB, "exercise"),
        code("5", 'check("02.1", f)'), code("6", STUB.replace("f(", "g("), "exercise"), code("7", 'check("02.2", g)')])


@pytest.fixture
def new(old):
    """The course has changed the title, put a cell in front, and numbered all cells anew."""
    cells = [text("0", "read this first"), *copy.deepcopy(old.cells)]
    cells[1].source = "# A better lesson"
    for i, cell in enumerate(cells):
        cell.id = str(i + 1)
    return nbformat.v4.new_notebook(cells=cells)


def learner(old):
    mine = copy.deepcopy(old)
    mine.metadata["language_info"] = {"name": "python", "version": "3.13.1"}  # as JupyterLab leaves it
    return mine


def sources(carried):
    nbformat.validate(nbformat.from_dict(carried.notebook))
    return [source_of(cell) for cell in carried.notebook["cells"]]


def test_a_notebook_that_was_only_run_is_untouched(old):
    mine = learner(old)
    mine.cells[1].update(execution_count=4, outputs=[nbformat.v4.new_output("stream", text="3")])
    assert untouched(mine, fingerprints(old))
    mine.cells[1].source = "scene = 4"
    assert not untouched(mine, fingerprints(old))


def test_solutions_go_into_their_cells_though_all_ids_have_moved(old, new):
    mine = learner(old)
    mine.cells[3].update(source="def f(x):\n    return x + 1", execution_count=9)
    carried = carry_over(new, mine, fingerprints(old))
    want = [cell.source for cell in new.cells]
    want[4] = "def f(x):\n    return x + 1"
    assert sources(carried) == want and carried.exercises == ["02.1"] and carried.others == 0
    assert carried.notebook["cells"][4]["execution_count"] == 9
    assert new.cells[4].source == STUB  # the course's own is not written to


def test_nothing_of_the_learner_means_the_new_lesson(old, new):
    assert sources(carry_over(new, learner(old), fingerprints(old))) == [cell.source for cell in new.cells]


def test_cells_of_ones_own_stay_behind_the_cell_they_stood_behind(old, new):
    mine = learner(old)
    mine.cells.insert(2, code("own", "print(scene)"))
    mine.cells.insert(0, text("top", "my notes"))
    mine.cells.append(code("end", "1 / 3"))
    mine.cells.append(code("again", "scene = 3"))  # a lesson's cell, pasted
    carried = carry_over(new, mine, fingerprints(old))
    got = sources(carried)
    assert got[0] == "my notes" and got[got.index("scene = 3") + 1] == "print(scene)" and got[-2:] == ["1 / 3", "scene = 3"]
    assert carried.others == 4 and not carried.exercises
    ids = [cell["id"] for cell in carried.notebook["cells"]]
    assert len(set(ids)) == len(ids)


def test_a_cell_that_was_moved_is_not_doubled(old, new):
    mine = learner(old)
    cell = mine.cells.pop(1)
    cell.id = "moved"
    mine.cells.append(cell)
    assert sources(carry_over(new, mine, fingerprints(old))).count("scene = 3") == 1


def test_a_setting_of_the_learner_stays_where_the_lesson_did_not_change_it(old, new):
    mine = learner(old)
    mine.cells[1].source = "scene = 77"
    got = sources(carry_over(new, mine, fingerprints(old)))
    assert "scene = 77" in got and "scene = 3" not in got


def test_where_both_changed_a_cell_the_lessons_runs_and_the_learners_is_kept_beneath(old, new):
    mine = learner(old)
    mine.cells[1].source, mine.cells[0].source = "scene = 77", "# A lesson (done!)"
    new.cells[2].source, new.cells[2].id, new.cells[1].id = "scene = Lakeland()", "2", "1"
    new.cells[0].id = "zero"
    got = sources(carry_over(new, mine, fingerprints(old)))
    assert got[1] == "# A better lesson" and got[2].endswith("# A lesson (done!)")
    assert got[3] == "scene = Lakeland()" and got[4].splitlines()[-1] == "# scene = 77"


def test_a_new_stub_is_shown_beneath_the_old_solution(old, new):
    mine = learner(old)
    mine.cells[3].source = "def f(x):\n    return x + 1"
    new.cells[4].source = STUB.replace("f(x)", "f(x, y=2)")
    got = sources(carry_over(new, mine, fingerprints(old)))[4]
    assert got.startswith("def f(x):\n    return x + 1\n") and "# def f(x, y=2):" in got
    compile(got, "cell", "exec")


def test_a_solution_under_another_name_comes_with_its_check(old, new):
    mine = learner(old)
    mine.cells[3].source, mine.cells[4].source = "def mine(x):\n    return x", 'check("02.1", mine)'
    got = sources(carry_over(new, mine, fingerprints(old)))
    assert got[4:6] == ["def mine(x):\n    return x", 'check("02.1", mine)']


def test_a_second_attempt_in_a_cell_of_its_own(old, new):
    mine = learner(old)
    mine.cells[3].source = "def f(x):\n    return 1"
    mine.cells.insert(4, code("own", "def f(x):\n    return 2"))
    got = sources(carry_over(new, mine, fingerprints(old)))
    assert "def f(x):\n    return 1" in got and got.index("def f(x):\n    return 2") + 1 == got.index('check("02.1", f)')


def test_work_for_an_exercise_that_is_no_more_is_kept(old, new):
    mine = learner(old)
    mine.cells[5].source = "def g(x):\n    return 5"
    del new.cells[6:]
    assert "def g(x):\n    return 5" in sources(carry_over(new, mine, fingerprints(old)))


def test_a_lesson_that_was_solved_before_it_was_copied_counts_as_work(old, new):
    old.cells[3].source = "def f(x):\n    return x + 1"
    marks = json.loads(json.dumps(fingerprints(old)))
    assert not untouched(old, marks)
    assert carry_over(new, learner(old), marks).exercises == ["02.1"]


def test_doing_it_twice_changes_nothing(old, new):
    mine = learner(old)
    mine.cells[3].source = "def f(x):\n    return x + 1"
    mine.cells.append(code("end", "1 / 3"))
    once = carry_over(new, mine, fingerprints(old))
    assert sources(carry_over(new, once.notebook, fingerprints(new))) == sources(once)
    assert sources(carry_over(new, once.notebook, fingerprints(old))) == sources(once)  # killed before it was noted
