"""The first hour in a real browser: `make lab`'s server, the lesson that opens, and an exercise solved, missed and stuck.

Needs Chromium (Debian: apt install chromium) and the extra `browser`; skipped where one of them is lacking.
"""
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DATA = ("README.md", "sample", "mini.safetensors", "mini.json", "mini_log.jsonl", "ablations.json", "broken_runs")
pytestmark = [pytest.mark.browser,
              pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt install chromium"),
              pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright: pip install -e '.[browser]'")]
RIGHT = "def says_no_object(class_logits):\n    return class_logits.argmax(-1) == class_logits.shape[-1] - 1"
MISSED = "def says_no_object(class_logits):\n    return class_logits.argmax(-1) == 0"
BROKEN = "def says_no_object(class_logits):\n    return class_logits.argmax(-1"
ENDLESS = "def says_no_object(class_logits):\n    while True:\n        pass"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """(folder of a copy of the course, address) of a running server, as `make lab` starts it."""
    course, home = tmp_path_factory.mktemp("course"), tmp_path_factory.mktemp("home")
    for name in ("lessons", "minimaskformer"):
        shutil.copytree(ROOT / name, course / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))
    (course / "data").mkdir()
    for name in DATA:
        copy = shutil.copytree if (ROOT / "data" / name).is_dir() else shutil.copy
        copy(ROOT / "data" / name, course / "data" / name)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "MINIMASKFORMER", "PYTEST"))}
    env |= {"HOME": str(home), "MINIMASKFORMER_HOME": str(home / "record"), "PYTHONPATH": str(course)}
    server = subprocess.Popen([sys.executable, "-m", "minimaskformer", "lessons", "--no-browser"], cwd=course, env=env,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = []
    while not lines or not lines[-1].startswith("http"):
        lines.append(server.stdout.readline().rstrip())
        assert lines[-1] or server.poll() is None, lines
    assert len(lines) == 3, lines  # quiet, the address last
    yield course, lines[-1]
    server.send_signal(signal.SIGTERM)
    server.wait(timeout=60)


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(60_000)
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/{os.environ['PYTEST_CURRENT_TEST'].split('::')[-1].split(' ')[0]}.png")
    page.close()


def choose(page, menu, item):
    page.click(f".lm-MenuBar-itemLabel:text-is('{menu}')")
    page.click(f".lm-Menu-itemLabel:text-matches('^{item}')")


def open_lesson(page, address):
    page.goto(address)
    page.wait_for_selector(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell")
    page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")


def wait_until(condition, seconds=240):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.3)
    return value


def test_the_first_lesson_opens_by_itself(lab, page):
    open_lesson(page, lab[1])
    page.wait_for_timeout(3000)
    tabs = [tab.inner_text() for tab in page.query_selector_all(".lm-DockPanel-tabBar .lm-TabBar-tabLabel")]
    assert tabs == ["00_start_here.ipynb"]
    for unwanted in (".jp-Launcher", ".Toastify__toast", ".jp-Dialog"):
        assert not page.query_selector_all(unwanted), unwanted
    page.wait_for_selector("mjx-container", state="attached")


def answer(page, source, words, interrupt=False):
    """Type a function into its cell, run it and its check, and wait for words in the check's output."""
    stub = page.locator(".jp-CodeCell", has_text="def says_no_object").first
    stub.scroll_into_view_if_needed()
    stub.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(source)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    check = page.locator(".jp-CodeCell", has_text=re.compile(r'check\("00.2"')).first
    if interrupt:
        page.wait_for_timeout(3000)
        choose(page, "Kernel", "Interrupt Kernel")
    return wait_until(lambda: (text := check.inner_text()) and words in text and text, 60)


def test_an_exercise_solved_missed_broken_and_stuck(lab, page):
    open_lesson(page, lab[1])
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Shift+Enter")  # the imports
    assert "Looks like" in answer(page, MISSED, "✗")
    assert "not judged" in answer(page, BROKEN, "syntax error")
    assert "Traceback" not in answer(page, ENDLESS, "stopped while it ran", interrupt=True)
    assert "right on all" in answer(page, RIGHT, "✓")
