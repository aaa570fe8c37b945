"""Every command line gets a sentence and the right exit status; no traceback, nothing left half done."""
import os
import sys
import urllib.error

import pytest
import torch
from commands.outcomes import OUTCOMES, answer, last_line, lay_out

import minimaskformer.train
from minimaskformer.commands import cli
from minimaskformer.exercises import my_lessons
from minimaskformer.training.run import check_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outcomes")
    lay_out(folder)
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(folder / "home"))
    monkeypatch.setattr(my_lessons, "FOLDER", folder / "my_lessons")
    monkeypatch.setattr(my_lessons.update, "__defaults__", (folder / "my_lessons", my_lessons.SOURCE))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("minimaskformer.weights.export.need", lambda *packages: None)  # of an extra

    def train(model, training, validation, config, folder, resume, scan=None):
        check_folder(folder, resume)
        pytest.fail("this command line should not get as far as training")
    monkeypatch.setattr(minimaskformer.train, "train", train)


@pytest.mark.filterwarnings("ignore:.*damaged and left out")
@pytest.mark.parametrize("arguments, status, words", OUTCOMES, ids=[arguments or "nothing" for arguments, _, _ in OUTCOMES])
def test_the_answer_is_a_sentence_with_the_right_status(arguments, status, words):
    ended, out, err = answer(arguments)
    assert ended == status, err
    assert words in (err if status else out)
    assert "Traceback" not in err and "Errno" not in err
    if status:
        line = last_line(ended, out, err)
        assert len(line.split()) >= 4 and (err.count("\n") == 1 or status == 1)
        assert status == 1 or line.endswith("(--help lists the options)")


def test_there_are_many_and_none_twice():
    assert len(OUTCOMES) >= 80 and len({arguments for arguments, _, _ in OUTCOMES}) == len(OUTCOMES)
    assert {arguments.split()[0] for arguments, _, _ in OUTCOMES if arguments} >= set(cli.COMMANDS)


def test_without_a_network_the_answer_names_the_file_to_fetch(monkeypatch):
    def fail(*arguments, **options):
        raise urllib.error.URLError("Name or service not known")
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    ended, _, err = answer("train --preset mobilenet_v2 --backbone-weights DEFAULT")
    assert ended == 1 and "could not download https://" in err and "give its path instead of DEFAULT" in err


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission(folder):
    (folder / "locked").mkdir(mode=0o500)
    for command in ("scenes --count 1 --out locked", "predict mini photo.png --out locked", "inspect --data own:data --out locked"):
        ended, _, err = answer(command)
        assert ended == 1 and "cannot write to the folder locked (Permission denied)" in err


def test_a_full_disk_is_said_to_be_full(monkeypatch):
    def full(*arguments, **options):
        raise OSError(28, "No space left on device")
    for what, words in (("minimaskformer.system.files.tempfile.TemporaryFile", "cannot write to the folder new_scenes (the disk is full)"),
                        ("PIL.Image.Image.save", "minimaskformer: the disk is full\n")):
        with monkeypatch.context() as patched:
            patched.setattr(what, full)
            ended, _, err = answer("scenes --count 1 --size 64 --out new_scenes")
        assert ended == 1 and words in err


@pytest.mark.parametrize("where", ["minimaskformer.data.lakeland.Lakeland", "minimaskformer.system.files.check_writable"])
def test_ctrl_c_at_any_time_is_a_clean_stop(where, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt
    monkeypatch.setattr(where, interrupted)
    assert answer("scenes --count 1 --out stopped") == (130, "", "stopped\n")


def test_ctrl_c_while_python_imports_is_a_clean_stop(monkeypatch, capsys):
    class Interrupting:
        def find_spec(self, name, path=None, target=None):
            if name == "minimaskformer.studies.cost":
                raise KeyboardInterrupt
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    monkeypatch.delitem(sys.modules, "minimaskformer.studies.cost", raising=False)

    def slow(options):
        import minimaskformer.studies.cost  # noqa: F401
    monkeypatch.setitem(cli.COMMANDS, "progress", (cli.progress_options, slow, ""))
    assert answer("progress") == (130, "", "stopped\n")


def test_nothing_is_made_where_there_is_nothing_to_resume(folder):
    answer("train --resume --out misspelt")
    assert not (folder / "misspelt").exists()
