"""`python -m minimaskformer lessons`: the copies are made, JupyterLab is started on one, and the address is said last."""
import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import types
from pathlib import Path

import pytest

import minimaskformer.commands.lessons as lessons
from minimaskformer.commands.cli import main
from minimaskformer.exercises import my_lessons

ROOT = Path(__file__).resolve().parents[2]


def http_server(port, token):
    """A server in a thread that knows its token, as Jupyter's does."""
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.headers["Authorization"] == f"token {token}" else 403)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass
    server = http.server.ThreadingHTTPServer(("localhost", port), Answer)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class Server:
    """In place of a process: it listens where it was told to, and ends when it is waited for."""

    def __init__(self, command, env, status=0, starts=True):
        self.command, self.env, self.status, self.ended = command, env, status, not starts
        port = int(next(o for o in command if o.startswith("--ServerApp.port=")).split("=")[1])
        self.socket = http_server(port, env["JUPYTER_TOKEN"]) if starts else None

    @property
    def returncode(self):
        return self.poll()

    def poll(self):
        return self.status if self.ended else None

    def wait(self, timeout=None):
        self.ended = True
        self.socket.shutdown()
        self.socket.server_close()
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
        self.socket.shutdown()
        self.socket.server_close()
    monkeypatch.setattr(Server, "wait", wait)
    assert main(["lessons"]) == 0 and started[0].ended and "Traceback" not in capsys.readouterr().err


def test_the_address_of_another_server_that_has_the_port_is_not_given(folder, monkeypatch, capsys):
    other = http_server(lessons.free_port(), "another token")
    ends = []

    class Late(Server):
        def poll(self):
            ends.append(True)
            self.ended = len(ends) > 5  # it finds out only after a while
            return super().poll()
    monkeypatch.setattr(lessons, "subprocess", types.SimpleNamespace(
        Popen=lambda command, env: Late(command, env, status=1, starts=False), TimeoutExpired=subprocess.TimeoutExpired))
    assert main(["lessons", "--port", str(other.server_port)]) == 1
    told = capsys.readouterr()
    assert "could not start" in told.err and "token=" not in told.out
    other.shutdown()
    other.server_close()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_server_that_starts_is_spared_the_ctrl_c(terminal, folder, started, monkeypatch):
    """Without a terminal it would ignore Ctrl-C for good, and so would whatever runs in its own terminals."""
    monkeypatch.setattr(lessons.sys, "stdin", types.SimpleNamespace(isatty=lambda: terminal))
    seen, start = [], lessons.subprocess.Popen
    monkeypatch.setattr(lessons.subprocess, "Popen",
                        lambda command, env: seen.append(signal.getsignal(signal.SIGINT)) or start(command, env))
    before = signal.getsignal(signal.SIGINT)
    assert main(["lessons"]) == 0 and seen == [signal.SIG_IGN if terminal else before]
    assert signal.getsignal(signal.SIGINT) is before
