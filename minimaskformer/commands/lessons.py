"""`lessons`: the learner's copies of the lessons, made or brought up to date, and opened in JupyterLab."""
import argparse
import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection, HTTPException
from importlib.util import find_spec
from pathlib import Path

from .options import whole_number

SETTINGS = Path(__file__).with_name("jupyter")  # no news, no questions: defaults, which the learner's own settings beat
PORTS = range(8888, 8988)
SECONDS = 120  # after which a server that does not answer is taken to hang; a cold start on a slow disk takes 20
PATIENCE = 20  # for a server that answers, but not to our token


def lessons_options(parser):
    """The options of `lessons`."""
    parser.add_argument("lesson", nargs="?", default="00", help="which one to open, by its number or file name")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--port", type=port_number, help="of JupyterLab; default: the first free one from 8888 on")
    parser.add_argument("--update-only", action="store_true", help="bring the copies up to date, but open nothing")


def port_number(text):
    """The type of --port."""
    if (number := whole_number(text)) > 65535:
        raise argparse.ArgumentTypeError(f"expected a port, 1 ... 65535, got {text!r}")
    return number


def run_lessons(options):
    """Make or update the copies in my_lessons/, and open a lesson there."""
    from ..exercises.my_lessons import FOLDER, update
    told = update()
    lesson = find_lesson(FOLDER, options.lesson)
    if options.update_only:
        print("\n".join(told))
    else:
        open_lab(FOLDER, lesson, told, options)


def find_lesson(folder, number):
    """The file name of a lesson by its number or name; ValueError with the known numbers."""
    names = {path.name[:2]: path.name for path in sorted(folder.glob("*.ipynb"))
             if re.fullmatch(r"\d\d_[a-z_0-9]+\.ipynb", path.name) and "_before_" not in path.name}
    if (name := Path(number).stem + ".ipynb") in names.values():
        return name
    if number.zfill(2) not in names:
        raise ValueError(f"there is no lesson {number!r}; there is: {', '.join(names)}")
    return names[number.zfill(2)]


def open_lab(folder, lesson, told, options):
    """Start JupyterLab on a notebook and stay until it ends; the address is the last line printed.

    Raises OSError if it cannot be started. All its settings are given here: the learner's own stay untouched.
    """
    if find_spec("jupyterlab") is None:
        raise OSError("JupyterLab is not installed: pip install -e '.[lessons]'")
    port, token = options.port or free_port(), secrets.token_hex(24)
    known = [os.environ[name] for name in ("JUPYTER_CONFIG_PATH",) if os.environ.get(name)]
    quiet = {**os.environ, "JUPYTER_TOKEN": token, "PYDEVD_DISABLE_FILE_VALIDATION": "1",
             "JUPYTER_CONFIG_PATH": os.pathsep.join([*known, str(SETTINGS)])}
    command = [sys.executable, "-m", "jupyterlab", *server_options(folder, lesson, port, options)]
    before, interrupt = signal.signal(signal.SIGTERM, end), signal.getsignal(signal.SIGINT)
    if sys.stdin and sys.stdin.isatty():  # a Ctrl-C while it starts is ours alone; without a terminal, all would be
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = subprocess.Popen(command, env=quiet)
    finally:
        signal.signal(signal.SIGINT, interrupt)
    try:
        wait_for(server, port, token)
        print("\n".join([*told, "JupyterLab runs until you press Ctrl-C here. Open this address in a browser" +
                         ("" if no_browser(options) else ", if it does not open automatically") + ":",
                         f"http://localhost:{port}{address(folder, lesson)}?token={token}"]), flush=True)
        if server.wait():
            raise OSError(f"JupyterLab ended with exit status {server.returncode}; its output is above")
    except KeyboardInterrupt:
        print(flush=True)
    finally:
        if server.poll() is None:
            server.terminate()
            try:
                server.wait(timeout=20)
            except subprocess.TimeoutExpired:  # a kernel that does not end; it does when its server is gone
                server.kill()
                server.wait()
        signal.signal(signal.SIGTERM, before)


def end(*_):
    """On SIGTERM: leave as after an error, so that the server is ended too."""
    raise SystemExit(143)


def address(folder, lesson):
    """The path under which JupyterLab opens a lesson; its root is the checkout, so that ../ works in the lessons."""
    return f"/lab/tree/{folder.name}/{lesson}"


def server_options(folder, lesson, port, options):
    """The command line of JupyterLab: one notebook, no launcher, no news, no questions, silence except for errors."""
    return [f"--ServerApp.root_dir={folder.parent}", f"--LabApp.default_url={address(folder, lesson)}",
            f"--LabApp.workspaces_dir={folder / '.workspaces'}",
            "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
            f"--ServerApp.port={port}", "--ServerApp.port_retries=0", "--ServerApp.answer_yes=True",
            "--ServerApp.log_level=ERROR", "--LabApp.log_level=ERROR",
            *["--ServerApp.open_browser=False"] * no_browser(options),
            *["--ServerApp.allow_root=True"] * (getattr(os, "geteuid", lambda: 1)() == 0)]


def no_browser(options):
    """Whether to print the address only: on request, or because there is no display."""
    display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    return options.no_browser or not display or any(os.environ.get(name) for name in ("CI", "SSH_CONNECTION"))


def free_port():
    """The first free port of PORTS; OSError if all are taken."""
    for port in PORTS:
        with socket.socket() as test:
            if os.name == "posix":
                test.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                test.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError(f"the ports {PORTS[0]} to {PORTS[-1]} are all in use: end some servers, or name one with --port")


def wait_for(server, port, token):
    """Return when the server answers; OSError if it ends first, or never does.

    If another server has the port, it answers, but not to this token; then ours is about to end. If ours lives on, its
    owner's settings give it another token or address.
    """
    answered = None
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            raise OSError(f"JupyterLab could not start (exit status {server.returncode}); its output is above")
        try:
            with contextlib.closing(HTTPConnection("localhost", port, timeout=5)) as asked:
                asked.request("GET", "/api/status", headers={"Authorization": f"token {token}"})
                status, answered = asked.getresponse().status, answered or time.monotonic()
            if status == 200 or time.monotonic() > answered + PATIENCE:
                return
        except (OSError, HTTPException):
            pass
        time.sleep(0.1)
    raise OSError(f"JupyterLab did not answer for {SECONDS} seconds")
