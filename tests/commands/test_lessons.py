"""`python -m minimaskformer lessons`: the copies are made, JupyterLab is started on one, and the address is said last."""
import json
import os
import socket
import subprocess
import types
from pathlib import Path

import pytest

import minimaskformer.commands.lessons as lessons
from minimaskformer.commands.cli import main
from minimaskformer.exercises import my_lessons

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """In place of a process: it listens where it was told to, and ends when it is waited for."""

    def __init__(self, command, env, status=0, starts=True):
        self.command, self.env, self.status, self.ended = command, env, status, not starts
        port = int(next(o for o in command if o.startswith("--ServerApp.port=")).split("=")[1])
        self.socket = socket.create_server(("localhost", port)) if starts else None

    @property
    def returncode(self):
        return self.poll()

    def poll(self):
        return self.status if self.ended else None

    def wait(self, timeout=None):
        self.ended = True
        self.socket.close()
        return self.status

    def terminate(self):
        self.wait()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkout with two lessons."""
    (tmp_path / "lessons").mkdir()
    for name in ("00_start_here", "05_next"):
        (tmp_path / "lessons" / f"{name}.ipynb").write_bytes(b'{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    folder = tmp_path / "my_lessons"
    monkeypatch.setattr(my_lessons, "FOLDER", folder)
    monkeypatch.setattr(my_lessons.update, "__defaults__", (folder, tmp_path / "lessons"))
    return folder


@pytest.fixture
def started(monkeypatch):
    """The servers that were started."""
    started = []

    def start(command, env):
        started.append(Server(command, env))
        return started[-1]
    monkeypatch.setattr(lessons, "subprocess", types.SimpleNamespace(Popen=start, TimeoutExpired=subprocess.TimeoutExpired))
    return started


def test_copies_are_made_and_the_address_is_the_last_of_three_lines(folder, started, capsys):
    assert main(["lessons"]) == 0
    [server], lines = started, capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith(f"2 lessons copied to {folder}") and "Ctrl-C" in lines[1]
    port = server.socket and next(o for o in server.command if "ServerApp.port=" in o).split("=")[1]
    assert lines[2] == f"http://localhost:{port}/lab/tree/my_lessons/00_start_here.ipynb?token={server.env['JUPYTER_TOKEN']}"
    assert f"--ServerApp.root_dir={folder.parent}" in server.command
    overrides = Path(server.env["JUPYTER_CONFIG_PATH"].split(os.pathsep)[-1]) / "labconfig" / "default_setting_overrides.json"
    assert json.loads(overrides.read_text())["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"
    assert server.env["JUPYTER_TOKEN"] not in " ".join(server.command)  # others on this machine see it


def test_another_lesson_and_another_port(folder, started, capsys):
    port = lessons.free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert lessons.free_port() != port
    assert main(["lessons", "5", "--port", str(port), "--no-browser"]) == 0
    assert f"localhost:{port}/lab/tree/my_lessons/05_next.ipynb" in capsys.readouterr().out.splitlines()[-1]
    assert "--ServerApp.open_browser=False" in started[0].command
    assert main(["lessons", "7"]) == 1 and "there is: 00, 05" in capsys.readouterr().err


def test_only_bringing_up_to_date(folder, started, capsys):
    assert main(["lessons", "--update-only"]) == 0 and not started and (folder / "05_next.ipynb").exists()
    assert main(["lessons", "--update-only"]) == 0 and "up to date" in capsys.readouterr().out


def test_a_browser_is_opened_where_there_is_a_display(monkeypatch):
    options = types.SimpleNamespace(no_browser=False)
    for name in ("CI", "SSH_CONNECTION", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(lessons.sys, "platform", "linux")
    assert lessons.no_browser(options)
    monkeypatch.setenv("DISPLAY", ":0")
    assert not lessons.no_browser(options)
    monkeypatch.setenv("SSH_CONNECTION", "1 2 3 4")
    assert lessons.no_browser(options)


def test_a_server_that_cannot_start_is_a_sentence(folder, monkeypatch, capsys):
    monkeypatch.setattr(lessons, "subprocess", types.SimpleNamespace(
        Popen=lambda command, env: Server(command, env, status=1, starts=False), TimeoutExpired=subprocess.TimeoutExpired))
    assert main(["lessons"]) == 1
    assert "JupyterLab could not start (exit status 1)" in capsys.readouterr().err
    monkeypatch.setattr(lessons, "find_spec", lambda name: None)
    assert main(["lessons"]) == 1 and "pip install -e '.[lessons]'" in capsys.readouterr().err


def test_ctrl_c_ends_the_server_and_is_no_error(folder, started, monkeypatch, capsys):
    interrupted = []

    def wait(self, timeout=None):
        if not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        self.ended = True
        self.socket.close()
    monkeypatch.setattr(Server, "wait", wait)
    assert main(["lessons"]) == 0 and started[0].ended and "Traceback" not in capsys.readouterr().err
