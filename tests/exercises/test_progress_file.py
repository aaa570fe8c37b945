"""The record of exercises: two writers, nonsense in the file, and where the file is."""
import multiprocessing
import os

import pytest

from minimaskformer.exercises import progress_file as record


def add_entries(home, first):
    os.environ["MINIMASKFORMER_HOME"] = str(home)
    for i in range(first, first + 100):
        assert record.add(f"x{i}", True) == "" and record.add("shared", False) == ""


def test_two_notebooks_lose_no_entry(quick_folder, monkeypatch):
    home = quick_folder
    processes = [multiprocessing.get_context("fork").Process(target=add_entries, args=(home, first)) for first in (0, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(home))
    entries = record.load()
    assert len(entries) == 201 and entries["shared"]["tries"] == 200 and [p.name for p in home.iterdir()] == ["progress.json"]


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": {"passed": true, "tries": 1e400}}', '{"a": {"passed": true, "tries": ' + "9" * 5000 + "}}",
                                  '{"a": "' + "x" * 2_000_000 + '"}'], ids=["nested", "infinite", "digits", "large"])
def test_a_progress_file_of_nonsense_is_put_aside(home, text):
    home.mkdir(exist_ok=True)
    (home / "progress.json").write_text(text)
    assert record.load() == {} and (home / "progress.damaged.json").exists()


def test_the_home_may_be_written_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINIMASKFORMER_HOME", "~/course")
    assert record.path() == tmp_path / "course" / "progress.json"
