"""The learner's MaskFormer: one file, my_maskformer.py, of the functions that passed their checks.

The source of each part is kept in .mine/ beside the learner's copies of the lessons, earlier versions in
.mine/earlier/. The file is made anew from these; a part that is not there yet is borrowed from the library.
"""
import ast
import functools
import inspect
import linecache
import os
import re
import sys
import time
import types
from pathlib import Path

from ..system.files import write_text
from ..system.lock import taking_turns
from .core import judge
from .my_lessons import FOLDER, MANIFEST, lesson_of, put_beside, stub_docstrings
from .parts import PARTS, SECTIONS, exercise_of
from .standalone import HEADER, NotAlone, Standalone, check_speed, names_defined, names_read, take

FILE, KEPT = "my_maskformer.py", ".mine"
TAKEN = "  It is in"  # how the sentence begins that says so
TITLE = '''\
"""My MaskFormer: {own} of its {all} parts are mine, {lines} line{s}; the rest is borrowed from the library.

In the order of the data, not of the lessons. {begin}
The forward pass that calls them is `query_states` and `every_answer`; the training loop is `fit`.

This file is made anew whenever an exercise passes. To change a part, change it in the notebook and check it again.
"""
'''


def mine_folder(also=None):
    """Where the learner's file is kept: MINIMASKFORMER_MINE, or the copies of the lessons around the working directory.

    None if there is neither, as for lessons that were opened in place: then nothing is written. also: a folder to take
    if it holds copies of the lessons.
    """
    if os.environ.get("MINIMASKFORMER_MINE"):
        return Path(os.environ["MINIMASKFORMER_MINE"]).expanduser()
    here = Path.cwd()
    places = [place for place in (here, *here.parents, also) if place and (place / MANIFEST).is_file()]
    return places[0] if places else None


def keep(exercise, fn, anyway=False):
    """Take a function that passed into the learner's file; a sentence about it, "" if it is no part of the model."""
    if exercise.id not in PARTS:
        return ""
    folder = mine_folder()
    if folder is None:
        return next(hint_at_copies(), "")
    try:
        part = take(fn, exercise.name, reserved_names() - {exercise.name})
        if not anyway:
            check_alone(exercise, part)
        return store(folder, exercise, part)
    except NotAlone as error:
        return f"  Not in {FILE} yet: {error}."
    except (OSError, ValueError) as error:
        return f"  ({FILE} could not be written: {error})"


def check_alone(exercise, part):
    """Raise NotAlone unless the text alone passes the exercise's check, and ends on what the model gives it."""
    try:
        alone = run_alone(exercise.id, part)
        outcome = judge(exercise, alone)
        if outcome.kind == "passed":
            check_speed(alone, exercise.growing, exercise.slow)
    except NotAlone:
        raise
    except Exception as error:
        raise NotAlone(f"run from its text alone it stops with {type(error).__name__}: {error}") from None
    if outcome.kind != "passed":
        raise NotAlone("run from its text alone it is not right any more: another cell changes something that it uses")


def run_alone(exercise_id, part):
    """The function that a text defines, in a namespace that has nothing else but the imports and the other parts."""
    namespace = {"__name__": "my_maskformer"}
    exec(HEADER, namespace)
    for other, name in PARTS.items():
        if other != exercise_id and name in names_read(part.source):
            namespace[name] = exercise_of(other).reference
    text = "\n".join([*part.imports, part.source])
    name = f"<my {exercise_id}>"
    linecache.cache[name] = len(text), None, text.splitlines(True), name
    exec(compile(text, name, "exec"), namespace)
    return namespace[PARTS[exercise_id]]


@functools.cache
def reserved_names():
    """The names of the frame's own functions and constants."""
    names = {name for text in frame_texts() for name in names_defined(text)}
    return frozenset(names | {"OWN", "LINES"})


@functools.cache
def hint_at_copies():
    """One sentence in an iterator: it is said once."""
    return iter(() if os.environ.get("MINIMASKFORMER_STRICT") == "1" else (
        f"  (In your own copies of the lessons, which `make lab` makes, this would go into {FILE}.)",))


def store(folder, exercise, part):
    """Keep a part's text and make the file anew; nobody else writes meanwhile."""
    kept = folder / KEPT
    kept.mkdir(parents=True, exist_ok=True)
    with taking_turns(kept / "lock"):
        parts = kept_parts(folder)
        for other, theirs in parts.items():
            clash = bound(theirs.imports).items() ^ bound(part.imports).items() if other != exercise.id else ()
            twice = {name for name, _ in clash if name in bound(theirs.imports) and name in bound(part.imports)}
            if twice:
                raise NotAlone(f"{other} imports something else as {', '.join(sorted(twice))}: give it another name")
        path, text = kept / f"{exercise.name}.py", as_text(part)
        if path.exists() and (old := path.read_text(encoding="utf-8")) != text:
            (kept / "earlier").mkdir(exist_ok=True)
            write_text(free_name(kept / "earlier", exercise.name), old)
        before = made_of(parts)
        write_text(path, text)
        write_file(folder, {**parts, exercise.id: part}, before)
    return f"{TAKEN} {folder.name}/{FILE} now: {len({*parts, exercise.id})} of {len(PARTS)} parts are yours."


def write_file(folder, parts, before=None):
    """Write my_maskformer.py; one that somebody has edited is kept beside it."""
    path, text = folder / FILE, made_of(parts)
    if path.exists() and path.read_text(encoding="utf-8") not in (text, before):
        put_beside(path)
    write_text(path, text)


def make_anew(folder):
    """Make the file anew from the kept texts; what to print."""
    (folder / KEPT).mkdir(parents=True, exist_ok=True)
    with taking_turns(folder / KEPT / "lock"):
        parts = kept_parts(folder)
        write_file(folder, parts)
    lines = [f"{folder / FILE}: {len(parts)} of {len(PARTS)} parts are yours"]
    for lesson, (title, ids) in SECTIONS.items():
        lines.append(f"Lesson {lesson}  {title}")
        lines += [f"  {'✓' if i in parts else '○'} {i}  {name:<24}{'yours' if i in parts else 'borrowed'}"
                  for i, name in ids.items()]
    missing = next((i for i in sorted(PARTS) if i not in parts), None)
    return [*lines, f"Next: {missing}, in {lesson_of(missing, folder)}" if missing else
            f"All parts are yours; see them at work in {lesson_of('13', folder)}"]


def kept_parts(folder):
    """{exercise: Standalone} of the texts that are kept; ValueError for one that is no Python any more."""
    found = {}
    for exercise_id, name in PARTS.items():
        path = folder / KEPT / f"{name}.py"  # by name: a new version of the course may number its exercises anew
        if path.exists():
            text = path.read_text(encoding="utf-8")
            try:
                ast.parse(text)
            except SyntaxError as error:
                raise ValueError(f"{path} is no Python (line {error.lineno}): mend or remove it; earlier versions are "
                                 f"in {path.parent / 'earlier'}") from None
            imports, _, source = text.partition("\n\n\n") if text.startswith(("import ", "from ")) else ("", "", text)
            found[exercise_id] = Standalone(tuple(imports.splitlines()), source.strip("\n"))
    return found


def is_kept(folder, exercise_id):
    """Whether a part is the learner's."""
    return exercise_id in PARTS and (folder / KEPT / f"{PARTS[exercise_id]}.py").is_file()


def as_text(part):
    return "\n".join(part.imports) + "\n\n\n" * bool(part.imports) + part.source + "\n"


def bound(imports):
    """{name: the import line that binds it}."""
    return {line.split()[-1]: line for line in imports}


def free_name(folder, name):
    """A name with today's date and time that no file has yet."""
    stamp, number = time.strftime("%Y-%m-%d_%H%M%S"), 1
    while (path := folder / f"{name}_{stamp}{f'_{number}' * (number > 1)}.py").exists():
        number += 1
    return path


def made_of(parts):
    """The text of my_maskformer.py: imports, what is borrowed, the learner's parts by lesson, and the frame."""
    extra = sorted({line for part in parts.values() for line in part.imports})
    borrowed = [f"from minimaskformer.exercises.borrowed import {name}  # {i}: borrowed, not yet mine"
                for i, name in PARTS.items() if i not in parts]
    own = "".join(f"    {i!r}: {name!r},\n" for i, name in PARTS.items() if i in parts)
    lines = sum(len(part.source.splitlines()) for part in parts.values())
    blocks = [f"OWN = {{  # the parts that are mine\n{own}}}\nLINES = {lines}  # of them"]
    for lesson, (title, ids) in SECTIONS.items():
        head = f"# ===== Lesson {lesson}: {title} ".ljust(120, "=")
        own = [f"# {i} {exercise_of(i).title}\n{shapes_of(i, parts[i])}{parts[i].source}" for i in ids if i in parts]
        absent = [f"# {i} {name}: borrowed, see the top" for i, name in ids.items() if i not in parts]
        blocks += ["\n".join([head, *absent]), *own]
    body = "\n\n\n".join([*blocks, *(text.strip("\n") for text in frame_texts())]) + "\n"
    header = [line for line in HEADER.splitlines() if not line or re.search(rf"\b{line.split()[-1]}\b", body)]
    body = "\n".join([*header, *extra, *borrowed]) + "\n\n" + body
    begin = "None of the parts is mine yet."
    if first := next((i for i in PARTS if i in parts), None):
        above = body.partition(f"\n# {first} {exercise_of(first).title}\n")[0]
        begin = f"My own parts begin in line {(TITLE + above).count(chr(10)) + 2}."
    return TITLE.format(own=len(parts), all=len(PARTS), lines=lines, s="s" * (lines != 1), begin=begin) + body


def shapes_of(exercise_id, part):
    """The docstring of the stub as a comment, for a part that has none of its own."""
    own = any(ast.get_docstring(node) for node in ast.parse(part.source).body
              if isinstance(node, (ast.FunctionDef, ast.ClassDef)))
    lines = [] if own else stub_docstrings().get(exercise_id, "").splitlines()
    return "".join(f"# {line}".rstrip() + "\n" for line in lines)


@functools.cache
def frame_texts():
    """The course's part of the file: what stands below the line in frame_model.py and frame_training.py."""
    texts = [Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")
             for name in ("frame_model", "frame_training")]
    return tuple(text[re.search(r"^# =====", text, re.M).start():] for text in texts)


def mine(folder=None):
    """The learner's MaskFormer as a module, run from the kept texts.

    Its OWN names the parts that are theirs, LINES counts their lines, TEXT is the file. Where nothing is kept, all is
    borrowed.
    """
    folder = mine_folder() if folder is None else folder
    text, name = made_of(kept_parts(folder) if folder else {}), "my_maskformer"
    linecache.cache["<my_maskformer>"] = len(text), None, text.splitlines(True), "<my_maskformer>"
    module = types.ModuleType(name, inspect.getdoc(sys.modules[__name__]))
    exec(compile(text, "<my_maskformer>", "exec"), module.__dict__)
    module.TEXT = text
    return module


def make_nearest():
    """`make_anew` for the command line; ValueError where there are no copies of the lessons."""
    folder = mine_folder(FOLDER)
    if folder is None:
        raise ValueError("there is no my_maskformer.py yet: it grows beside your own copies of the lessons, which "
                         "`python -m minimaskformer lessons` makes")
    return make_anew(folder)
