"""Execute lessons in place, and keep of a notebook only what does not change by itself.

    python tools/run_lessons.py [lessons/02_hungarian_matching.ipynb ...]

A second run of an unchanged lesson writes nothing: times, versions, widget models and tracebacks (they hold paths) are
left out, and a cell keeps its id. A cell that fails and is not tagged `raises-exception` stops the run, and that
notebook stays as it was.
"""
import argparse
import base64
import hashlib
import io
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from PIL import Image

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # holds a random model id; the text beside it stays
BUDGET = 395_000  # bytes of a lesson's file
FITS = ((0.9, 30), (0.8, 30), (0.7, 32), (0.6, 36),
        (0.55, 38), (0.5, 40), (0.5, 32), (0.5, 26), (0.45, 26), (0.4, 26))  # sides, and quality of JPEGs


def main(arguments=None):
    """Run the notebooks named on the command line, or all of lessons/; returns the exit status."""
    lessons = Path(__file__).resolve().parent.parent / "lessons"
    parser = argparse.ArgumentParser(description="Execute lessons in place, normalised.")
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of lessons/")
    parser.add_argument("--timeout", type=int, default=900, help="seconds a cell may take")
    args = parser.parse_args(arguments)
    os.environ["MINIMASKFORMER_HOME"] = tempfile.mkdtemp()  # lesson 00 prints a progress: nobody's, not yours
    for path in args.notebooks or sorted(lessons.glob("*.ipynb")):
        start = time.perf_counter()
        try:
            changed = run(path, args.timeout)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{path.name}: failed, left as it was\n{error}", file=sys.stderr)
            return 1
        print(f"{path.name}: {'updated' if changed else 'unchanged'}, {time.perf_counter() - start:.0f} s", flush=True)
    return 0


def run(path, timeout=900):
    """Execute one notebook and write it back if it changed; returns whether it did."""
    before = path.read_text(encoding="utf-8")
    for more in (True, True, False):
        notebook = nbformat.reads(prepared(before, path.stem), as_version=4)
        try:
            NotebookClient(notebook, timeout=timeout, kernel_name=KERNEL["name"], coalesce_streams=True,
                           resources={"metadata": {"path": str(path.parent)}}).execute()
            break
        except AssertionError:  # the client's own, now and then; one in a cell comes as a CellExecutionError
            if not more:
                raise
    normalise(notebook)
    after = nbformat.writes(notebook) + "\n"
    if after == before:
        return False
    half = path.with_name(path.name + ".half")
    half.write_text(after, encoding="utf-8", newline="\n")
    os.replace(half, path)
    return True


def prepared(text, stem):
    """The notebook's text with an id for each cell that has none of its own, and without the last run's outputs.

    nbformat would give missing ids too, but random ones.
    """
    notebook = json.loads(text)
    notebook["nbformat_minor"] = 5  # the first version in which cells have ids
    seen = set()
    for number, cell in enumerate(notebook["cells"]):
        if cell.get("id") in seen | {None}:
            cell["id"] = hashlib.sha1(f"{stem} {number}".encode()).hexdigest()[:8]
        seen.add(cell["id"])
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(notebook)


def normalise(notebook):
    """Drop what differs from run to run or from machine to machine."""
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter")}
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.traceback = [f"{output.ename}: {output.evalue}"]
            elif output.output_type == "stream":  # what a page shows: "\r" writes over its line
                output.text = re.sub(r"[^\n]*\r(?=[^\n])", "", output.text)
            elif "data" in output:
                output.data.pop(WIDGET_VIEW, None)
                output.metadata = {kind: about for kind, about in output.metadata.items() if kind in output.data}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("data", True)]
    fit_pictures(notebook)


def fit_pictures(notebook):
    """Keep the pictures of a lesson with as many pixels as its file has room for; when it is run they are sharp again.

    They keep their size on the page.
    """
    if size_of(notebook) < BUDGET:
        return
    pictures = [(output.data, kind) for cell in notebook.cells for output in cell.get("outputs", [])
                for kind in output.get("data", {}) if kind in ("image/png", "image/jpeg")]
    whole = [Image.open(io.BytesIO(base64.b64decode(data[kind]))).convert("RGB") for data, kind in pictures]
    for scale, quality in FITS:
        for (data, kind), picture in zip(pictures, whole):
            small = picture.resize([round(side * scale) for side in picture.size], Image.Resampling.LANCZOS)
            if kind == "image/png":
                small = small.quantize(128, dither=Image.Dither.NONE)
            small.save(file := io.BytesIO(), kind[6:], quality=quality, optimize=True)
            data[kind] = min(data[kind], base64.b64encode(file.getvalue()).decode(), key=len)
        if size_of(notebook) < BUDGET:
            return


def size_of(notebook):
    return len(nbformat.writes(notebook).encode())


if __name__ == "__main__":
    sys.exit(main())
