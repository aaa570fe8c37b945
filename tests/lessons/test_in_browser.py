"""The first hour in a real browser: `make lab`'s server, whole lessons, a slider, and an exercise solved, missed and stuck.

Needs Chromium (Debian: apt install chromium) and the extra `browser`; skipped where one of them is lacking. With
SCREENSHOTS=FOLDER it leaves pictures there, light and dark.
"""
import base64
import importlib.util
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimaskformer.exercises.lessons.lesson03_hunt import focal_hunt

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DATA = ("README.md", "sample", "mini.safetensors", "mini.json", "mini_log.jsonl", "ablations.json", "broken_runs",
        "five_minutes.json")
pytestmark = [pytest.mark.browser,
              pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here: apt install chromium"),
              pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="no playwright: pip install -e '.[browser]'")]
RIGHT = "return class_logits.argmax(-1) == class_logits.shape[-1] - 1"
MISSED = "return class_logits.argmax(-1) == 0"
BROKEN = "return class_logits.argmax(-1"
ENDLESS = "print('started')\n    while True:\n        pass"
DICE = """def dice_loss(mask_logits, masks, num_masks):
    prob, masks = mask_logits.sigmoid().flatten(1), masks.flatten(1)
    return (1 - (2 * (prob * masks).sum(1) + 1) / (prob.sum(1) + masks.sum(1) + 1)).sum() / num_masks"""
BOOK = "jupyterapp.shell.currentWidget"


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
    (home / "jupyter_lab_config.json").write_text('{"LabApp": {"expose_app_in_browser": true}}')  # so that we can ask it
    env = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "MINIMASKFORMER", "PYTEST"))}
    env |= {"HOME": str(home), "MINIMASKFORMER_HOME": str(home / "record"), "PYTHONPATH": str(course), "JUPYTER_CONFIG_PATH": str(home),
            "MINIMASKFORMER_QUICK": "1"}
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


@pytest.fixture(scope="module")
def new_page(browser):
    """Opens a page; the kernel of a page before it ends."""
    pages = []

    def new():
        for old in pages:
            old.evaluate("() => jupyterapp.serviceManager.sessions.shutdownAll()")
            old.close()
        pages[:] = [browser.new_page(viewport={"width": 1280, "height": 900})]
        pages[0].set_default_timeout(300_000)
        return pages[0]
    return new


@pytest.fixture(scope="module")
def first(lab, new_page):
    """The page of the first lesson, opened by the address that `make lab` prints."""
    page = new_page()
    open_lesson(page, lab[1])
    return page


def open_lesson(page, address, name="00_start_here", workspace=""):
    """Open a lesson, in a workspace where nothing else is open, and wait for its kernel."""
    page.goto(address.replace("00_start_here", name).replace("/lab/", f"/lab/workspaces/{workspace}/" if workspace else "/lab/"))
    page.wait_for_function("window.jupyterapp && jupyterapp.restored.then(() => true)")
    page.wait_for_function(f"{BOOK}?.context?.isReady && {BOOK}.sessionContext.session?.kernel?.status == 'idle'")
    assert page.evaluate(f"{BOOK}.context.path") == f"my_lessons/{name}.ipynb"


def command(page, name, **arguments):
    """Do what a menu entry of JupyterLab does, and wait until it is done."""
    page.evaluate("""([name, arguments]) => {window.done = false;
        jupyterapp.commands.execute(name, arguments).then(() => {window.done = true}); }""", [name, arguments])
    page.wait_for_function("window.done")


def cells(page):
    return page.evaluate(f"() => {BOOK}.content.model.toJSON().cells")


def text_of(cell):
    """What a reader sees below a code cell, pictures aside."""
    return "".join("".join(output.get("text") or output.get("data", {}).get("text/plain", "")) for output in cell["outputs"])


def place_of(page, words):
    """The number of the first code cell with some words in it."""
    return next(i for i, cell in enumerate(cells(page)) if cell["cell_type"] == "code" and words in "".join(cell["source"]))


def show(page, number):
    """Make a cell the active one, in view."""
    page.evaluate(f"number => {{{BOOK}.content.activeCellIndex = number; return {BOOK}.content.scrollToItem(number, 'center')}}", number)


def shoot(page, name):
    """Screenshots of what is in view, light and dark, if they are wanted."""
    if folder := os.environ.get("SCREENSHOTS"):
        for theme in ("Dark", "Light"):
            command(page, "apputils:change-theme", theme=f"JupyterLab {theme}")
            page.wait_for_selector(f"body[data-jp-theme-name='JupyterLab {theme}']", state="attached")
            page.screenshot(path=f"{folder}/{name}_{theme.lower()}.png")


def pictures(page):
    return set(page.evaluate("() => [...document.querySelectorAll('.jp-OutputArea-output img')].map(image => image.src)"))


def test_the_first_lesson_opens_by_itself(first):
    tabs = [tab.inner_text() for tab in first.query_selector_all(".lm-DockPanel-tabBar .lm-TabBar-tabLabel")]
    assert tabs == ["00_start_here.ipynb"]
    for unwanted in (".jp-Launcher", ".Toastify__toast", ".jp-toast", ".jp-Dialog"):
        assert not first.query_selector_all(unwanted), unwanted
    shoot(first, "opened")


def test_it_runs_whole_without_an_error(first):
    runs_whole(first, "00_start_here")


def test_an_exercise_solved_missed_broken_and_stuck(first):
    assert "Looks like" in answer(first, MISSED, "✗")
    shoot(first, "missed")
    assert "not judged" in answer(first, BROKEN, "syntax error")
    shoot(first, "broken")
    assert "Traceback" not in answer(first, ENDLESS, "stopped while it ran")
    shoot(first, "stuck")
    assert "right on all" in answer(first, RIGHT, "✓")
    shoot(first, "solved")


@pytest.mark.parametrize("name", ["02_hungarian_matching", "08_inference"])
def test_other_lessons_run_whole_without_an_error(lab, new_page, name):
    page = new_page()
    open_lesson(page, lab[1], name, workspace=name)
    runs_whole(page, name)


def test_a_guess_a_hunt_and_a_part_arrive_in_the_last_lesson(lab, new_page):
    course, page = lab[0], new_page()
    open_lesson(page, lab[1], "03_mask_losses", workspace="three")
    guess = place_of(page, 'guess("03.a"')
    show(page, guess)
    command(page, "notebook:run-all-above")
    command(page, "notebook:run-cell")
    page.locator(".jp-Cell.jp-mod-active .widget-toggle-button").nth(1).click()
    page.locator(".jp-Cell.jp-mod-active", has_text="you guess focal").wait_for()
    shoot(page, "guessed")
    show(page, reveal := place_of(page, 'reveal("03.a"'))
    command(page, "notebook:run-all-above")  # the question again, too: the guess stands
    assert "as you guessed" in typed(page, reveal, None, "03.a: ")
    hunt = place_of(page, 'hunt("03.h"')
    assert "Still hidden" in typed(page, hunt, None, "tells")
    assert "None is left" in typed(page, hunt, f"hunt('03.h', *{focal_hunt.solution!r})", "None is left")
    shoot(page, "hunted")
    typed(page, place_of(page, "def dice_loss"), DICE, None)
    assert "my_maskformer.py" in typed(page, place_of(page, 'check("03.3"'), None, "✓")
    assert DICE in (course / "my_lessons" / "my_maskformer.py").read_text(encoding="utf-8")
    open_lesson(page, lab[1], "13_your_maskformer", workspace="thirteen")
    runs_whole(page, "13_your_maskformer")
    parts = next(output for cell in cells(page) for output in cell.get("outputs", ()) if "parts are yours" in str(output.get("metadata")))
    assert "1 of 34 parts are yours" in str(parts["metadata"])
    kind = next(kind for kind in parts["data"] if kind.startswith("image/"))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(parts["data"][kind]))).convert("RGB")).astype(int)
    assert (np.abs(pixels - (159, 216, 164)).max(-1) < 12).sum() > 2000  # one green box
    shoot(page, "certificate")


def typed(page, number, code, words):
    """Run a cell, with other code if there is any, and wait for words below it; returns what stands there."""
    show(page, number)
    if code is not None:
        page.locator(".jp-Cell.jp-mod-active .cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(code)
        page.keyboard.press("Escape")
    command(page, "notebook:run-cell")
    if words is not None:
        page.wait_for_function(f"([number, words]) => JSON.stringify({BOOK}.content.model.toJSON().cells[number].outputs)"
                               ".includes(words)", arg=[number, words])
    return text_of(cells(page)[number])


def runs_whole(page, name):
    """Run all cells; then no cell has an error or wrote to stderr, formulas are set, and a slider moves its picture."""
    command(page, "notebook:clear-all-cell-outputs")
    start = time.monotonic()
    page.evaluate("() => {window.done = false; jupyterapp.commands.execute('notebook:run-all-cells').then(() => {window.done = true})}")
    page.wait_for_function(f"""{BOOK}.content.model.toJSON().cells.some(cell =>
        (cell.outputs || []).some(output => output.data && (output.data['image/png'] || output.data['image/jpeg'])))""")
    first = time.monotonic() - start  # printed only: here others may be at work
    page.wait_for_function("window.done")
    print(f"{name}: first picture after {first:.1f} s, all after {time.monotonic() - start:.1f} s")
    for cell in cells(page):
        if cell["cell_type"] == "code" and "".join(cell["source"]).strip():
            assert cell["execution_count"], cell["source"]
            assert not [o for o in cell["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"], cell
    mathematics_is_rendered(page, name)
    if any("Slider(" in text_of(cell) for cell in cells(page) if cell["cell_type"] == "code"):
        a_slider_changes_its_picture(page, name)


def mathematics_is_rendered(page, name):
    with_formulas = [i for i, cell in enumerate(cells(page)) if cell["cell_type"] == "markdown" and "$" in "".join(cell["source"])]
    for i in with_formulas:
        show(page, i)
        page.wait_for_function(f"number => {BOOK}.content.widgets[number].node.querySelector('mjx-container')", arg=i)
        left, wrong = page.evaluate(f"""number => {{const node = {BOOK}.content.widgets[number].node;
            return [node.querySelector('.jp-RenderedMarkdown').innerText, node.querySelectorAll('mjx-merror').length]}}""", i)
        assert not wrong and not re.search(r"\$|\\[a-z]+\{", left), left
    if with_formulas:
        show(page, with_formulas[0])
        shoot(page, f"{name}_formulas")


def a_slider_changes_its_picture(page, name):
    number = page.evaluate(f"""() => {BOOK}.content.model.toJSON().cells.findIndex(cell =>
        (cell.outputs || []).some(output => output.data && output.data['application/vnd.jupyter.widget-view+json']
            && String(output.data['text/plain']).includes('Slider(')))""")
    show(page, number)
    handle = page.locator(".jp-Cell.jp-mod-active .noUi-handle").first
    handle.wait_for()
    handle.scroll_into_view_if_needed()
    before = pictures(page)
    handle.focus()
    page.keyboard.press("Home")  # one step to the right may leave a picture as it was
    page.wait_for_function("""before => [...document.querySelectorAll('.jp-OutputArea-output img')].some(
        image => image.complete && !before.includes(image.src))""", arg=list(before))
    shoot(page, f"{name}_slider")


def answer(page, body, words):
    """Type a function into its cell, run it and its check, and wait for words in the check's output; returns that."""
    stub, check = place_of(page, "def says_no_object"), place_of(page, 'check("00.2"')
    show(page, stub)
    page.locator(".jp-Cell.jp-mod-active .cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(f"def says_no_object(class_logits):\n    {body}")
    page.keyboard.press("Shift+Enter")
    show(page, check)
    page.keyboard.press("Shift+Enter")
    says = f"([number, words]) => JSON.stringify({BOOK}.content.model.toJSON().cells[number].outputs).includes(words)"
    if body == ENDLESS:
        page.wait_for_function(says, arg=[check, "started"])
        command(page, "notebook:interrupt-kernel")
    page.wait_for_function(f"{says} && {BOOK}.sessionContext.session.kernel.status == 'idle'", arg=[check, words])
    return text_of(cells(page)[check])
