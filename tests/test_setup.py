"""The set-up cannot drift: pyproject.toml, constraints.txt, environment.yml and the imports agree."""
import ast
import base64
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(line) for line in lines] for name, lines in PROJECT["optional-dependencies"].items()}
INSTALLED = ("lessons", "dev")  # what environment and Makefile install; other extras are for single tests
DIRECT = CORE + [requirement for extra in EXTRAS.values() for requirement in extra]
PINS = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line.strip()]
PLATFORMS = [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64")]
KERNEL = {"ipython", "matplotlib-inline", "jupyter-client"}  # come with the notebooks' kernel
PACKAGE_OF = {"PIL": "pillow", "xdist": "pytest-xdist", "yaml": "pyyaml"}  # where the import has another name than the package


UPPER = {"ipykernel": "<7"}  # the reason stands in pyproject.toml


def test_requirements_are_lower_bounds_only():
    for requirement in DIRECT:
        upper = [str(s) for s in requirement.specifier if s.operator != ">="]
        assert upper == [bound for name, bound in UPPER.items() if name == requirement.name], str(requirement)
        assert len(requirement.specifier) == 1 + len(upper), f"{requirement}: one lower bound"
        assert not requirement.url and not requirement.marker, str(requirement)
    assert PROJECT["requires-python"] == ">=3.11"
    names = [canonicalize_name(r.name) for r in DIRECT]
    assert len(set(names)) == len(names), "a package is listed twice"


def test_constraints_hold_versions_and_nothing_else():
    for line in PINS:
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*( ; .+)?", line), f"not a plain version: {line!r}"
        Requirement(line)


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_constraints_pin_every_requirement_once_on_every_platform(python):
    pins = [Requirement(line) for line in PINS]
    for system, machine in PLATFORMS:
        here = {"sys_platform": system, "platform_machine": machine, "os_name": "nt" if system == "win32" else "posix",
                "python_version": python, "python_full_version": f"{python}.9", "implementation_name": "cpython"}
        for wanted in DIRECT:
            found = [next(iter(pin.specifier)).version for pin in pins
                     if canonicalize_name(pin.name) == canonicalize_name(wanted.name)
                     and (pin.marker is None or pin.marker.evaluate(here))]
            assert len(found) == 1, f"{wanted} on Python {python}, {system}: pins {found}"
            assert wanted.specifier.contains(found[0]), f"{wanted}, but constraints.txt says {found[0]}"


def test_environment_is_python_pip_and_this_project():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"] and environment["channels"] == ["conda-forge"]
    *conda, pip = environment["dependencies"]
    assert conda == [f"python{PROJECT['requires-python']},<3.15", "pip"]  # as far as the constraints are tested
    assert "Programming Language :: Python :: 3.14" in PROJECT["classifiers"]
    assert pip == {"pip": ["-c constraints.txt", f"-e .[{','.join(INSTALLED)}]"]}


def test_makefile_installs_what_the_environment_does():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"-c constraints.txt -e '.[{','.join(INSTALLED)}]'" in makefile
    for target in ("lab", "test", "train", "lessons", "site", "lint", "pins", "clean"):
        assert re.search(rf"^{target}:", makefile, re.M) and re.search(rf"^# make {target}\b", makefile, re.M), target


def test_tests_and_lessons_are_one_command():
    options = SETTINGS["tool"]["pytest"]["ini_options"]
    assert options["testpaths"] == ["tests", "lessons"]
    assert {"-n", "auto", "--nbval-current-env", "--nbval-cell-timeout=300"} <= set(options["addopts"].split())
    assert "--nbval" not in options["addopts"].split(), "plain pytest runs the tests alone"
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^test: \.venv/ok\n\t\$\(PY\) -m pytest --nbval( \$\(ARGS\))?\n\n", makefile, re.M)
    assert (ROOT / ".ci" / "run").read_text(encoding="utf-8").rstrip().endswith("\nmake test")
    assert "`pytest --nbval`" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_wheel_has_package_and_checkpoint():
    """The builder skips a missing file silently, so this test does not."""
    wheel = SETTINGS["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["only-include"] == ["minimaskformer", "data/mini.safetensors", "data/mini.json"]
    assert wheel["sources"] == {"data": "minimaskformer/_shipped"}
    for path in wheel["only-include"]:
        assert (ROOT / path).exists(), path


def imported(source, only_top=False):
    """The packages of other people that a source text imports; `only_top`: leave out those inside functions."""
    tree = ast.parse(source)
    inner = {id(node) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for node in ast.walk(f)}
    names = set()
    for node in ast.walk(tree):
        if only_top and id(node) in inner:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    own = {path.stem for folder in ("tests", "tools", "benchmarks")
           for path in [*(ROOT / folder).rglob("*.py"), *(ROOT / folder).glob("*/")]}
    names -= set(sys.stdlib_module_names) | {"minimaskformer", "tests"} | own
    return {canonicalize_name(PACKAGE_OF.get(name, name)) for name in names}


def names_of(requirements):
    return {canonicalize_name(requirement.name) for requirement in requirements}


def test_every_import_is_declared():
    core, lessons, all_of_it = map(names_of, (CORE, CORE + EXTRAS["lessons"], DIRECT))
    lessons, all_of_it = lessons | KERNEL, all_of_it | KERNEL
    for path in sorted((ROOT / "minimaskformer").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        assert imported(source, only_top=True) <= core, f"{path.name} needs more than `dependencies`"
        extra = {"export.py": "export", "hub_cache.py": "hub"}.get(path.name)  # these say what to install
        known = lessons | (names_of(EXTRAS[extra]) if extra else set())
        assert imported(source) <= known, f"{path.name} needs more than `dependencies` and the lessons extra"
    for path in [ROOT / "conftest.py", *sorted((ROOT / "tests").rglob("*.py")), *sorted((ROOT / "tools").rglob("*.py"))]:
        assert imported(path.read_text(encoding="utf-8")) <= all_of_it, path.name


def test_lessons_import_what_the_lessons_extra_installs():
    lessons = names_of(CORE + EXTRAS["lessons"]) | KERNEL
    for path in sorted((ROOT / "lessons").glob("*.ipynb")):
        for number, cell in enumerate(nbformat.read(path, as_version=4).cells):
            if cell.cell_type == "code":
                plain = [line for line in cell.source.splitlines() if not line.lstrip().startswith(("%", "!"))]
                assert imported("\n".join(plain)) <= lessons, f"{path.name}, cell {number}"


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_executed_lessons_keep_only_what_does_not_change_by_itself():
    run_lessons = tool("run_lessons")
    view = {"output_type": "display_data", "metadata": {}, "data": {"text/plain": "IntSlider(value=3)",
            "application/vnd.jupyter.widget-view+json": {"model_id": "random"}}}
    error = {"output_type": "error", "ename": "E", "evalue": "why", "traceback": ["File /anywhere/x.py", "E: why"]}
    picture = {"output_type": "display_data", "data": {"image/png": "AAAA"},
               "metadata": {"image/png": {"width": 3, "alt": "a duck"}, "needs_background": "light"}}
    cell = {"cell_type": "code", "source": "1", "execution_count": 7, "outputs": [view, error],
            "metadata": {"tags": ["exercise"], "execution": {"iopub.execute_input": "12:00"}, "scrolled": True}}
    cells = [cell, {**cell, "id": "mine"}, {**cell, "id": "mine"}]
    text = json.dumps({"nbformat": 4, "nbformat_minor": 4, "cells": cells,
                       "metadata": {"widgets": {"state": 1}, "language_info": {"name": "python", "version": "3.11.7"}}})
    once, again = (nbformat.reads(run_lessons.prepared(text, "00_x"), as_version=4) for _ in range(2))
    ids = [c.id for c in once.cells]
    assert ids == [c.id for c in again.cells] and len(set(ids)) == 3 and ids[1] == "mine"
    assert all(c.outputs == [] and c.execution_count is None for c in once.cells)
    counting = {"output_type": "stream", "name": "stdout", "text": "ready\n\rstep 1\rstep 2\rstep 3\nover\r\n"}
    once.cells[0].outputs = [nbformat.from_dict(output) for output in (view, error, picture, counting)]
    run_lessons.normalise(once)
    assert once.cells[0].metadata == {"tags": ["exercise"]}
    assert once.cells[0].outputs[0].data == {"text/plain": "IntSlider(value=3)"}
    assert once.cells[0].outputs[1].traceback == ["E: why"]
    assert once.cells[0].outputs[2].metadata == {"image/png": {"width": 3, "alt": "a duck"}}  # its size on the page
    assert once.cells[0].outputs[3].text == "ready\nstep 3\nover\r\n"
    assert set(once.metadata) == {"kernelspec", "language_info"} and once.metadata.language_info == {"name": "python"}


def test_a_lesson_keeps_its_pictures_and_as_many_of_their_pixels_as_it_has_room_for(monkeypatch):
    run_lessons = tool("run_lessons")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (80, 120, 3), dtype=np.uint8))
    noise.save(file := io.BytesIO(), "png")
    whole = base64.b64encode(file.getvalue()).decode()
    page = {"image/png": {"width": 60, "alt": "noise"}}
    output = {"output_type": "display_data", "data": {"image/png": whole, "text/plain": "noise"}, "metadata": page}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.from_dict(output)])
    notebook = nbformat.v4.new_notebook(cells=[cell])
    for budget, width in ((100_000, 120), (20_000, 108), (8_000, 84)):  # 39 kB of noise; 10 kB and 7 at 128 colours
        monkeypatch.setattr(run_lessons, "BUDGET", budget)
        cell.outputs[0].data["image/png"] = whole
        run_lessons.normalise(notebook)
        kept = Image.open(io.BytesIO(base64.b64decode(cell.outputs[0].data["image/png"])))
        assert kept.width == width and run_lessons.size_of(notebook) < budget
        assert cell.outputs[0].metadata == page and cell.outputs[0].data["text/plain"] == "noise"


def test_importing_the_package_is_light():
    heavy = ["matplotlib", "transformers", "IPython", "ipywidgets", "notebook", "jupyterlab", "torchmetrics"]
    code = f"import sys, minimaskformer; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT,
                            env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]", "import minimaskformer pulls these in"


def test_ruff_finds_nothing():
    pytest.importorskip("ruff")
    result = subprocess.run([sys.executable, "-m", "ruff", "check", "--output-format", "concise", "."],
                            capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, "\n" + result.stdout + result.stderr


def test_nobody_collects_or_tracks_the_learners_copies():
    assert "\nmy_lessons/\n" in (ROOT / ".gitignore").read_text(encoding="utf-8")
    assert '"my_lessons"' in next(line for line in (ROOT / "conftest.py").read_text(encoding="utf-8").splitlines()
                                  if line.startswith("collect_ignore = "))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^lab: \.venv/ok\n\t@\$\(PY\) -m minimaskformer lessons \$\(ARGS\)\n", makefile, re.M)
    assert "-path ./my_lessons" in makefile.split("clean:")[-1]


def test_the_front_page_leads_where_it_says():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for page in (readme, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page):
            assert link.startswith("https://") or (ROOT / link).exists(), link
    for word in ("For whom", "After the lessons", "git clone", "Colab", "VS Code", "git pull", "bibtex", "CONTRIBUTING.md", "doctor"):
        assert word in readme, word
    oldest, newest = re.search(r"Python (3\.\d+) to (3\.\d+)", readme).groups()
    assert PROJECT["requires-python"] == f">={oldest}" and f"Programming Language :: Python :: {newest}" in PROJECT["classifiers"]


def test_the_hours_on_the_front_page_are_those_of_its_table():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    minutes = [list(map(int, pair)) for pair in re.findall(r"\.ipynb\) \|.*\| (\d+) \+ (\d+) \|", readme)]
    read, exercises = (sum(column) / 60 for column in zip(*minutes))
    said = re.search(r"about (\d+) hours to read, (\d+) more for the exercises", readme).groups()
    assert (round(read), round(exercises)) == tuple(map(int, said))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version = re.search(r'__version__ = "(.+)"', (ROOT / "minimaskformer" / "__init__.py").read_text(encoding="utf-8"))[1]
    assert citation["version"] == version and citation["license"] == PROJECT["license"]
    assert citation["preferred-citation"]["title"] in (ROOT / "README.md").read_text(encoding="utf-8")
