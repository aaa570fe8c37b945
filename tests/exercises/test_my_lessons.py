"""The learner's copies of the lessons: made once, brought up to date by a real pull, and never overwritten."""
import json
import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest

from minimaskformer.exercises.my_lessons import FOLDER, SOURCE, update

ROOT = Path(__file__).resolve().parents[2]
STUB = 'def f(x):\n    raise NotImplementedError("your turn")'


def git(folder, *arguments):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *arguments], cwd=folder, check=True, capture_output=True)


def lesson(title, *more):
    cells = [nbformat.v4.new_markdown_cell(f"# {title}", id="1"), nbformat.v4.new_code_cell(STUB, id="2", metadata={"tags": ["exercise"]}),
             nbformat.v4.new_code_cell('check("00.1", f)', id="3"), *more]
    return nbformat.v4.new_notebook(cells=cells)


@pytest.fixture
def course(tmp_path):
    """A repository with two lessons, a page and a picture."""
    folder = tmp_path / "upstream"
    (folder / "lessons" / "images").mkdir(parents=True)
    for name in ("00_start_here", "01_next"):
        nbformat.write(lesson(name), folder / "lessons" / f"{name}.ipynb")
    (folder / "lessons" / "GLOSSARY.md").write_text("words")
    (folder / "lessons" / "images" / "a.png").write_bytes(b"png")
    shutil.copy(ROOT / ".gitignore", folder)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    git(tmp_path, "clone", "-q", str(folder), "mine")
    return folder


@pytest.fixture
def mine(course):
    return course.with_name("mine")


def copies(mine):
    return update(mine / "my_lessons", mine / "lessons")


def solve(path, source="def f(x):\n    return x"):
    """What JupyterLab leaves of a lesson in which somebody has worked."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].source = source
    notebook.metadata["language_info"] = {"name": "python", "version": "3.13.1"}
    nbformat.write(notebook, path)


def test_the_first_time_all_is_copied_and_git_does_not_see_it(mine):
    [told] = copies(mine)
    assert told.startswith("2 lessons copied to") and "no update touches what you write" in told
    for path in (mine / "lessons").rglob("*.*"):
        if path.is_file():
            assert (mine / "my_lessons" / path.relative_to(mine / "lessons")).read_bytes() == path.read_bytes()
    assert subprocess.run(["git", "status", "--porcelain"], cwd=mine, capture_output=True, text=True).stdout == ""
    solve(mine / "my_lessons" / "01_next.ipynb")
    before = (mine / "my_lessons" / "01_next.ipynb").read_bytes()
    assert "up to date" in copies(mine)[0] and (mine / "my_lessons" / "01_next.ipynb").read_bytes() == before


def test_a_real_pull_over_changed_lessons(course, mine):
    copies(mine)
    folder = mine / "my_lessons"
    solve(folder / "01_next.ipynb")
    (folder / "my_maskformer.py").write_text("mine")
    before = (folder / "01_next.ipynb").read_bytes()
    for name in ("00_start_here", "01_next"):
        nbformat.write(lesson(f"{name}, better", nbformat.v4.new_markdown_cell("more", id="4")), course / "lessons" / f"{name}.ipynb")
    nbformat.write(lesson("new"), course / "lessons" / "02_new.ipynb")
    (course / "lessons" / "GLOSSARY.md").write_text("more words")
    git(course, "add", "-A")
    git(course, "commit", "-qm", "second")
    git(mine, "pull", "-q")  # nothing in its way
    told = copies(mine)
    assert f"New in {folder}: 02_new.ipynb." in told and any("without work" in line and "00_start" in line for line in told)
    [line] = [line for line in told if line.startswith("01_next.ipynb has a new version")]
    assert "your solutions of 00.1" in line
    [kept] = folder.glob("01_next_before_*.ipynb")
    assert kept.read_bytes() == before and kept.name in line
    merged = nbformat.read(folder / "01_next.ipynb", as_version=4)
    nbformat.validate(merged)
    assert [cell.source for cell in merged.cells] == ["# 01_next, better", "def f(x):\n    return x", 'check("00.1", f)', "more"]
    for name in ("00_start_here.ipynb", "02_new.ipynb", "GLOSSARY.md"):
        assert (folder / name).read_bytes() == (mine / "lessons" / name).read_bytes()
    assert len(list(folder.glob("*_before_*"))) == 1 and (folder / "my_maskformer.py").read_text() == "mine"
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert "up to date" in copies(mine)[0]
    assert files == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def change(mine, name="01_next"):
    nbformat.write(lesson("changed"), mine / "lessons" / f"{name}.ipynb")


@pytest.mark.parametrize("content", ["<<<<<<< conflict", "[]", '{"cells": 3}', "", '{"cells": [1]}'])
def test_a_broken_copy_is_left_alone_and_said(mine, content):
    copies(mine)
    broken = mine / "my_lessons" / "01_next.ipynb"
    broken.write_text(content)
    change(mine)
    change(mine, "00_start_here")
    for _ in range(2):
        told = copies(mine)
        assert broken.read_text() == content
        [line] = [line for line in told if line.startswith("01_next.ipynb: your copy cannot be read")]
        assert "rename it" in line
    assert (mine / "my_lessons" / "00_start_here.ipynb").read_bytes() == (mine / "lessons" / "00_start_here.ipynb").read_bytes()
    broken.rename(broken.with_name("old.ipynb"))
    assert "New in" in copies(mine)[0] and nbformat.read(broken, as_version=4).cells[0].source == "# changed"


def test_a_page_with_notes_is_kept_beside_the_new_one(mine):
    copies(mine)
    (mine / "my_lessons" / "GLOSSARY.md").write_text("words and notes")
    (mine / "lessons" / "GLOSSARY.md").write_text("better words")
    [told] = copies(mine)
    [kept] = (mine / "my_lessons").glob("GLOSSARY_before_*.md")
    assert kept.read_text() == "words and notes" and kept.name in told
    assert (mine / "my_lessons" / "GLOSSARY.md").read_text() == "better words"


def test_two_updates_on_one_day_keep_both_old_versions(mine):
    copies(mine)
    for title in ("second", "third"):
        solve(mine / "my_lessons" / "01_next.ipynb", f"def f(x):\n    return '{title}'")
        nbformat.write(lesson(title), mine / "lessons" / "01_next.ipynb")
        copies(mine)
    assert len(list((mine / "my_lessons").glob("01_next_before_*.ipynb"))) == 2


def test_a_file_of_that_name_from_elsewhere_is_left_alone(mine):
    (mine / "my_lessons").mkdir()
    nbformat.write(lesson("my own"), mine / "my_lessons" / "01_next.ipynb")
    for _ in range(2):
        assert any("01_next.ipynb was already there" in line for line in copies(mine))
    assert nbformat.read(mine / "my_lessons" / "01_next.ipynb", as_version=4).cells[0].source == "# my own"


@pytest.mark.parametrize("writes", range(4))
def test_killed_in_between_nothing_is_lost(mine, monkeypatch, writes):
    """The update of one lesson is a few moves of whole files; it is stopped before each of them in turn."""
    copies(mine)
    solve(mine / "my_lessons" / "01_next.ipynb")
    change(mine)
    real, done = os.replace, []

    def replace(*names):
        done.append(names)
        if len(done) > writes:
            raise KeyboardInterrupt
        real(*names)
    monkeypatch.setattr(os, "replace", replace)
    try:
        copies(mine)
    except KeyboardInterrupt:
        pass
    monkeypatch.undo()
    copies(mine)
    merged = nbformat.read(mine / "my_lessons" / "01_next.ipynb", as_version=4)
    assert merged.cells[0].source == "# changed" and merged.cells[1].source == "def f(x):\n    return x" and len(merged.cells) == 3
    assert not list((mine / "my_lessons").glob("*.tmp"))


def test_what_stands_in_the_way_is_a_sentence(mine, tmp_path):
    with pytest.raises(ValueError, match="come with the repository"):
        update(mine / "my_lessons", tmp_path)
    copies(mine)
    (mine / "my_lessons" / ".lessons.json").write_text("{")
    with pytest.raises(ValueError, match="is damaged.*Rename the folder"):
        copies(mine)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, but a folder is needed"):
        update(tmp_path / "file", mine / "lessons")


def test_the_shipped_lessons_come_back_unchanged_and_with_every_exercise(tmp_path):
    """All real lessons: copied, solved by a comment, changed upstream: the merged ones hold every solution, in place."""
    source = tmp_path / "lessons"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns(".*"))
    update(tmp_path / "my_lessons", source)
    for path in sorted(source.glob("*.ipynb")):
        mine = json.loads((tmp_path / "my_lessons" / path.name).read_text(encoding="utf-8"))
        for cell in mine["cells"]:
            if "exercise" in cell["metadata"].get("tags", []):
                cell["source"] = [*cell["source"], "\n    # mine"]
        (tmp_path / "my_lessons" / path.name).write_text(json.dumps(mine), encoding="utf-8")
        theirs = json.loads(path.read_text(encoding="utf-8"))
        theirs["cells"][0]["source"] += ["\n\nchanged"]
        path.write_text(json.dumps(theirs), encoding="utf-8")
    update(tmp_path / "my_lessons", source)
    for path in sorted(source.glob("*.ipynb")):
        old, new = (json.loads((folder / path.name).read_text(encoding="utf-8"))["cells"] for folder in (source, tmp_path / "my_lessons"))
        assert len(old) == len(new)
        for a, b in zip(old, new):
            exercise = "exercise" in a["metadata"].get("tags", [])
            assert "".join(b["source"]) == "".join(a["source"]) + "\n    # mine" * exercise, a["id"]


def test_paths_of_the_lessons_mean_the_same_in_the_copies():
    assert FOLDER.parent == SOURCE.parent == ROOT
    for path in SOURCE.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            assert "../lessons" not in cell.source and '"lessons/' not in cell.source, path.name


def test_copies_whose_record_is_lost_are_left_as_they_are(mine):
    copies(mine)
    solve(mine / "my_lessons" / "01_next.ipynb")
    before = (mine / "my_lessons" / "01_next.ipynb").read_bytes()
    (mine / "my_lessons" / ".lessons.json").unlink()
    assert copies(mine) == ["01_next.ipynb was already there: it is left as it is (rename it to get the lesson)"]
    assert (mine / "my_lessons" / "01_next.ipynb").read_bytes() == before
