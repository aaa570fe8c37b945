"""Every notebook in lessons/: its form and budgets, its links and names, and a run with all solutions spliced in."""
import ast
import importlib
import json
import re
from pathlib import Path

import nbformat
import pytest
from lessons.kernel import run_cells
from lessons.splice import CHECK, splice_solutions

from minimaskformer.exercises import core

FOLDER = Path(__file__).resolve().parents[2] / "lessons"
LESSONS = sorted(FOLDER.glob("*.ipynb"))
each = pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem[:2])


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook, *tags):
    cells = [c for c in notebook.cells if c.cell_type == "code"]
    return [c for c in cells if set(tags) <= set(c.metadata.get("tags", []))]


def text(notebook):
    return "\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def is_check(cell):
    return bool(CHECK.search(cell.source))


def test_there_are_lessons():
    assert LESSONS and all(re.fullmatch(r"\d\d_[a-z_]+", p.stem) for p in LESSONS)


@each
def test_header(path):
    header = read(path).cells[0]
    assert header.cell_type == "markdown" and header.source.startswith(f"# {path.stem[:2]} ")
    assert re.search(r"\bable to\b", header.source) and re.search(r"\d+ minutes", header.source)
    assert re.search(r"\b[CG]PU\b", header.source)


@each
def test_budgets(path):
    notebook = read(path)
    assert path.stat().st_size <= 400_000
    assert len(text(notebook).split()) <= 2500
    for cell in code_cells(notebook):
        lines = cell.source.splitlines()
        is_train_step = cell.id == "10-08"  # the library's own lines
        assert len(lines) <= (21 if is_train_step else 15), cell.id
        assert all(len(line) <= (120 if is_train_step else 100) for line in lines), cell.id  # beside a file list


@each
def test_executed_from_top_to_bottom_without_errors(path):
    cells = code_cells(read(path))
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1))
    assert not any(o.output_type == "error" for c in cells for o in c.outputs)
    assert not any(o.get("name") == "stderr" for c in cells for o in c.outputs)


@each
def test_normalised(path):
    notebook = read(path)
    ids = [c.id for c in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3" and "widget-view+json" not in path.read_text(encoding="utf-8")
    json.loads(path.read_text(encoding="utf-8"))


@each
def test_ends_with_recap_questions_and_next(path):
    source = text(read(path))
    assert re.search(r"^## Recap", source, re.M) and source.count("<details>") >= 3
    assert source.count("<details>") == source.count("</details>") == source.count("<summary>")
    assert "**Next" in source.split("## Recap")[1]


@each
def test_links(path):
    source = text(read(path))
    links = re.findall(r"\]\(([^)\s]+)\)", source)
    for link in links:
        if not link.startswith("https://"):
            assert (FOLDER / link.split("#")[0]).is_file(), link
    assert "http://" not in source and "![" not in source  # no remote pictures


@each
def test_threads_carry_the_number_they_link_to(path):
    for shown, linked in re.findall(r"#(\d+)\]\(https://github.com/[^)]*?/(?:issues|pull)/(\d+)\)", text(read(path))):
        assert shown == linked


@each
def test_library_names_resolve(path):
    """Every import from the library works, and every attribute of an imported module of it exists."""
    tree = ast.parse("\n".join(c.source for c in code_cells(read(path))))
    modules = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "minimaskformer":
            for alias in node.names:
                modules[alias.asname or alias.name] = resolve(node.module, alias.name)
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)]
    for node in used:
        owner = modules.get(node.value.id)
        if type(owner).__name__ == "module":
            assert hasattr(owner, node.attr), f"{node.value.id}.{node.attr}"
    assert modules


def resolve(module, name):
    owner = importlib.import_module(module)
    return getattr(owner, name) if hasattr(owner, name) else importlib.import_module(f"{module}.{name}")


@each
def test_exercises(path):
    """Each stub is followed by its check; every exercise of the lesson occurs once; no other cell uses a stub."""
    cells = code_cells(read(path))
    stubs = [i for i, c in enumerate(cells) if "exercise" in c.metadata.get("tags", [])]
    found, names = [], set()
    for i in stubs:
        (function,) = ast.parse(cells[i].source).body
        [(number, name)] = CHECK.findall(cells[i + 1].source)
        assert name == function.name == core.find(number).name
        assert "NotImplementedError" in cells[i].source and ast.get_docstring(function)
        assert "nbval-ignore-output" in cells[i + 1].metadata.tags
        found.append(number)
        names.add(name)
    module = core.lessons().get(path.stem[:2])
    assert found == [e.id for e in module.EXERCISES] if module else not found
    for i, cell in enumerate(cells):
        if i not in stubs and i - 1 not in stubs:
            used = {n.id for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Name)}
            assert not used & names, f"cell {cell.id} uses a stub: {used & names}"


@each
def test_runs_solved_under_strict_checks(path, tmp_path, monkeypatch, one_kernel_starts):
    notebook = read(path)
    done = splice_solutions(notebook)
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(tmp_path))
    monkeypatch.setenv("MINIMASKFORMER_STRICT", "1")
    run_cells(code_cells(notebook), FOLDER, one_kernel_starts)
    checks = [c for c in code_cells(notebook) if is_check(c)]
    assert len(checks) == len(done)
    for cell in checks:
        assert cell.outputs[0].text.startswith("✓"), cell.outputs
    if done:
        progress = json.loads((tmp_path / "progress.json").read_text())
        assert {i for i, entry in progress.items() if entry["passed"]} == set(done)


def test_splicing_refuses_a_stub_that_nothing_checks():
    cell = nbformat.v4.new_code_cell("def f(x):\n    pass", metadata={"tags": ["exercise"]})
    with pytest.raises(ValueError, match="never checked"):
        splice_solutions(nbformat.v4.new_notebook(cells=[cell]))
    check = nbformat.v4.new_code_cell('check("02.5", f)')
    with pytest.raises(ValueError, match="is about query_of_target"):
        splice_solutions(nbformat.v4.new_notebook(cells=[cell, check]))
