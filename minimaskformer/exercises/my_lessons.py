"""The learner's own copies of the lessons, in my_lessons/: made once, kept up to date, never overwritten.

A small manifest beside the copies keeps, for every file, the hash of the version it was copied from and, for a lesson,
those of its cells. So a copy without work in it is simply replaced when the lesson changes; otherwise the old version
stays beside the new one, which has the learner's work in it.
"""
import ast
import functools
import hashlib
import json
import time
from pathlib import Path

from ..system.files import replacing, write_text
from ..system.lock import taking_turns
from ..system.text import parse_json, printable
from .carry_over import carry_over, exercise_cells, fingerprints, source_of, untouched

SOURCE = Path(__file__).resolve().parents[2] / "lessons"  # in a checkout; a wheel has none
FOLDER = SOURCE.with_name("my_lessons")  # beside it, so that paths such as ../data mean the same
MANIFEST = ".lessons.json"
FIRST = "00_start_here.ipynb"


def update(folder=FOLDER, source=SOURCE):
    """Copy the lessons into a folder, or bring its copies up to date; the sentences to print.

    Raises ValueError if there are no lessons to copy, OSError if the folder cannot be written.
    """
    source, folder = Path(source), Path(folder)
    if not (source / FIRST).is_file():
        raise ValueError(f"there are no lessons at {source}: they come with the repository (git clone), not with the "
                         f"installed package")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, but a folder is needed for your copies of the lessons: move it away")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with taking_turns(folder / ".lessons.lock"):
            return bring_up_to_date(folder, source)
    except OSError as error:
        if not error.strerror:  # already a sentence: a full disk, or another process's turn
            raise
        raise OSError(f"cannot write to {folder} ({error.strerror}): clone the repository into a folder of your "
                      f"own, or get write access to this one") from error


def bring_up_to_date(folder, source):
    """The work of `update`."""
    manifest = read_manifest(folder / MANIFEST)
    first, added, replaced, told = not manifest, [], [], []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source).as_posix()
        if not path.is_file() or any(part.startswith(".") for part in Path(name).parts) or name.endswith(".half"):
            continue
        text, copy = path.read_bytes(), folder / name
        entry, version = manifest.get(name), hashlib.sha256(text).hexdigest()
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(copy, text)
            added.append(name)
        elif entry is None:
            if copy.read_bytes() != text:
                told.append(f"{name} was already there: it is left as it is (rename it to get the lesson)")
                continue
        elif entry["version"] == version:
            continue
        elif name.endswith(".ipynb"):
            if not (sentence := renew_notebook(copy, text, entry["cells"])):
                replaced.append(name)
            elif sentence.startswith(BROKEN):
                told.append(f"{name}: {sentence}")
                continue  # the manifest still knows the version it came from
            else:
                told.append(f"{name} has a new version: {sentence}")
        elif hashlib.sha256(copy.read_bytes()).hexdigest() != entry["version"]:
            told.append(f"{name} has a new version; yours is kept as {put_beside(copy).name}")
            write_bytes(copy, text)
        else:
            write_bytes(copy, text)
            replaced.append(name)
        manifest[name] = {"version": version}
        if name.endswith(".ipynb"):
            manifest[name]["cells"] = fingerprints(json.loads(text))
        write_text(folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True))  # after each: a kill loses none
    return sentences(folder, first, added, replaced, told)


def sentences(folder, first, added, replaced, told):
    """What was done, for the learner."""
    lessons, renewed = ([n for n in names if n.endswith(".ipynb")] for names in (added, replaced))
    lines = []
    if first and lessons:
        lines.append(f"{len(lessons)} lessons copied to {folder}: work there; no update touches what you write.")
    elif lessons:
        lines.append(f"New in {folder}: {', '.join(lessons)}.")
    if renewed:
        lines.append(f"Replaced by the new version (copies without work of yours): {', '.join(renewed)}.")
    return [*lines, *told] or [f"Your copies of the lessons are in {folder}, and up to date."]


BROKEN = "your copy cannot be read as a notebook"


def renew_notebook(copy, text, old):
    """Put the new version in place of a copy; "" if there was no work in it, else a sentence."""
    try:
        mine = parse_json(copy.read_text(encoding="utf-8"), copy.name, finite=False)
        blank, carried = untouched(mine, old), carry_over(json.loads(text), mine, old)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return f"{BROKEN} ({printable(error)}): it is left as it is; rename it to get the new version"
    if blank:
        write_bytes(copy, text)
        return ""
    kept = put_beside(copy)
    write_text(copy, json.dumps(carried.notebook, indent=1, ensure_ascii=False) + "\n")
    work = [f"your solutions of {', '.join(sorted(carried.exercises))}"] * bool(carried.exercises)
    work += [f"{carried.others} other cell{'s' * (carried.others > 1)} of yours"] * bool(carried.others)
    return f"{' and '.join(work) or 'nothing of yours'} carried over; the old one is kept as {kept.name}"


def put_beside(path):
    """A copy of a file under a name with today's date that no file has yet; returns its path."""
    day, number = time.strftime("%Y-%m-%d"), 1
    while True:
        kept = path.with_name(f"{path.stem}_before_{day}{f'_{number}' * (number > 1)}{path.suffix}")
        if not kept.exists():
            write_bytes(kept, path.read_bytes())
            return kept
        number += 1


def write_bytes(path, content):
    """Write a file so that an interruption leaves the old one or the new one, never half."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read_manifest(path):
    """{name: {"version": hash, "cells": [(id, fingerprint)]}}; ValueError if it is damaged."""
    if not path.exists():
        return {}
    try:
        manifest = parse_json(path.read_text(encoding="utf-8"), path)
        for name, entry in manifest.items():
            assert isinstance(entry["version"], str) and (name[-6:] != ".ipynb" or dict(entry["cells"]) is not None)
        return manifest
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError):
        raise ValueError(f"{path}, which records the versions of your copies, is damaged. Rename the folder, and the "
                         f"lessons are copied anew; your work stays in the renamed one") from None


@functools.cache
def stub_docstrings(source=SOURCE):
    """{exercise: its stub's docstring, which says the shapes}; without those of lessons that cannot be read."""
    found = {}
    for path in sorted(source.glob("*.ipynb")):
        try:
            notebook = parse_json(path.read_text(encoding="utf-8"), path)
            for (number, kind), i in exercise_cells(notebook).items():
                stub = ast.parse(source_of(notebook["cells"][i])).body[0]
                if kind == "stub" and (text := ast.get_docstring(stub)):
                    found[number] = text
        except (OSError, ValueError, SyntaxError, LookupError, TypeError, AttributeError):
            continue
    return found


def lesson_of(exercise_id, folder=SOURCE):
    """The name of the notebook that an exercise stands in."""
    files = sorted(Path(folder).glob(f"{exercise_id[:2]}_*.ipynb")) or sorted(SOURCE.glob(f"{exercise_id[:2]}_*.ipynb"))
    return files[0].name if files else f"lesson {exercise_id[:2]}"
