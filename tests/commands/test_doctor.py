"""`python -m minimaskformer doctor`: what is sound is said to be, and each fault is named with what to do."""
import importlib.metadata
import io
import os
import shutil
import sys
import types
from collections import namedtuple

import jupyter_client.kernelspec
import pytest
import torch

import minimaskformer.commands.doctor as doctor
from minimaskformer.commands.cli import main
from minimaskformer.exercises import my_lessons


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(my_lessons, "FOLDER", tmp_path / "my_lessons")
    return tmp_path


def test_here_nothing_must_be_fixed(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 12 and all(line[0] in "✓○" for line in lines[:-1]) and lines[-1].startswith("Everything")
    assert torch.__version__.split("+")[0] in lines[1]


def test_one_thing_that_must_be_fixed_is_an_error_and_the_rest_is_looked_at(home, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "weights", lambda: 1 / 0)
    monkeypatch.setattr(doctor.weights, "__name__", "weights")
    assert main(["doctor"]) == 1
    told = capsys.readouterr()
    assert "✗ weights: ZeroDivisionError" in told.out and told.out.count("\n") == 11
    assert "1 of 11 things must be fixed" in told.err


@pytest.mark.parametrize("version, kind, words", [
    ((3, 10, 2), "fix", "install Python 3.11 or newer"), ((3, 11, 0), "fine", "3.10.2"), ((3, 14, 0), "fine", ""), ((3, 15, 0), "note", "up to 3.14")])
def test_python(version, kind, words, monkeypatch):
    monkeypatch.setattr(doctor, "sys", types.SimpleNamespace(version_info=version, version="3.10.2 (main)", executable="/x/python"))
    found = doctor.python()
    assert found.kind == kind and words in found.text and "/x/python" in found.text


@pytest.mark.parametrize("version, lacking", [("0.9", "torch is 0.9, needed is 2.11 or newer"), (None, "torch is not installed")])
def test_packages(version, lacking, monkeypatch):
    real = importlib.metadata.version

    def changed(name):
        if name == "torch" and version is None:
            raise importlib.metadata.PackageNotFoundError
        return version if name == "torch" else real(name)
    monkeypatch.setattr(importlib.metadata, "version", changed)
    found = doctor.packages()
    assert found.kind == "fix" and lacking in found.text and "pip install" in found.text


def test_the_bounds_are_those_of_pyproject():
    bounds = {name: (least, below) for name, least, below in doctor.needed()}
    assert bounds["torch"][0] == "2.11" and bounds["jupyterlab"][0] and bounds["ipykernel"][1] == "7" and "pytest" not in bounds


def test_a_gpu_that_pytorch_cannot_use(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/" + name)
    assert doctor.device().kind == "note" and "pytorch.org" in doctor.device().text
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda i: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: types.SimpleNamespace(total_memory=8e9))
    assert doctor.device() == doctor.Diagnosis("fine", "GPU: A GPU, 8 GB; used by train and predict")


def test_what_is_not_installed_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jupyter_client.kernelspec", None)
    assert main(["doctor"]) == 1
    [line] = [line for line in capsys.readouterr().out.splitlines() if line[0] == "✗"]
    assert line.startswith("✗ kernel") and "pip install -e" in line


@pytest.mark.parametrize("free, kind", [(1e8, "fix"), (1e9, "note"), (1e10, "fine")])
def test_disk(free, kind, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: namedtuple("usage", "total used free")(1e12, 0, free))
    assert doctor.disk().kind == kind and f"{free / 1e9:.1f} GB free" in doctor.disk().text


def test_folders_that_cannot_be_written(home, monkeypatch):
    assert doctor.record_folder().kind == doctor.copies().kind == "fine"
    (home / "file").write_text("")
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(home / "file" / "home"))
    monkeypatch.setattr(my_lessons, "FOLDER", home / "file")
    for found, words in ((doctor.record_folder(), "MINIMASKFORMER_HOME"), (doctor.copies(), "clone")):
        assert found.kind == "fix" and "Not a directory" in found.text and words in found.text
    assert not list((home / "home").glob("*")) if (home / "home").exists() else True  # nothing is left behind


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 1}', '{"cells": [{"cell_ty'])
def test_a_copy_that_is_no_notebook_any_more(content, home):
    (home / "my_lessons").mkdir()
    (home / "my_lessons" / "00_start_here.ipynb").write_text('{"cells": []}')
    (home / "my_lessons" / "mine.ipynb").write_text(content)  # no lesson: nothing would be copied anew
    assert doctor.copies().kind == "fine"
    copy = home / "my_lessons" / "01_mask_classification.ipynb"
    copy.write_text(content)
    found = doctor.copies()
    assert found.kind == "fix" and found.text.startswith("01_mask_classification.ipynb in") and "rename" in found.text
    copy.rename(home / "my_lessons" / "01_broken.ipynb")
    assert doctor.copies().kind == "fine"


def test_kernels(monkeypatch, home):
    class Manager:
        def get_kernel_spec(self, name):
            if not argv:
                raise jupyter_client.kernelspec.NoSuchKernel(name)
            return types.SimpleNamespace(argv=argv)
    monkeypatch.setattr(jupyter_client.kernelspec, "KernelSpecManager", Manager)
    argv = ["python", "-m", "ipykernel_launcher"]
    assert doctor.kernel().kind == "fine"
    argv = [str(home / "other" / "python")]
    assert doctor.kernel().kind == "fix" and "ipykernel install" in doctor.kernel().text
    argv = []
    assert doctor.kernel().kind == "fix" and "there is no kernel" in doctor.kernel().text


def test_sliders_and_fonts(monkeypatch, home):
    assert doctor.widgets().kind == "fine"
    monkeypatch.setattr(doctor.sys, "prefix", str(home))
    monkeypatch.setattr(doctor.sys, "base_prefix", str(home))
    assert doctor.widgets().kind == "note" and "ipywidgets" in doctor.widgets().text
    import matplotlib.font_manager as fonts
    for names, kind in ((["DejaVu Sans", "NanumGothic"], "fine"), (["DejaVu Sans"], "note"), ([], "fix")):
        monkeypatch.setattr(fonts, "fontManager", types.SimpleNamespace(ttflist=[types.SimpleNamespace(name=n) for n in names]))
        assert doctor.fonts().kind == kind


def test_a_console_without_check_marks(monkeypatch):
    monkeypatch.setattr(doctor.sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    assert doctor.console().kind == "note"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_folder_without_permission(home, monkeypatch):
    (home / "locked").mkdir(mode=0o500)
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(home / "locked"))
    assert doctor.record_folder().kind == "fix"
