"""The learner's progress: one small JSON file, by default ~/.minimaskformer/progress.json.

The folder is MINIMASKFORMER_HOME if that is set. Losing the file must never stop a lesson: an unwritable disk is
reported and ignored; a damaged file is set aside and a new one begun. Two notebooks at once lose nothing: whoever adds
an entry holds a lock while the file is read and written; without the lock none is added, and a message says so.
"""
import contextlib
import functools
import json
import os
import tempfile
from pathlib import Path

from ..system.files import says_full
from ..system.lock import taking_turns
from ..system.text import parse_json

LARGEST = 1_000_000  # bytes; with every exercise done the file has ten thousand
LONGEST = 200  # letters of a guess


def path():
    home = os.environ.get("MINIMASKFORMER_HOME")
    return (Path(home).expanduser() if home else Path.home() / ".minimaskformer") / "progress.json"


def load():
    """{id: {"passed": bool, "tries": int, maybe "said": text}}; {} where there is no file or it cannot be read.

    "said" is a guess, or of a hunt how many it has found at best, as "13 of 16".
    """
    try:
        if path().stat().st_size > LARGEST:
            return _put_aside()
        text = path().read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError) as e:  # RuntimeError: this user has no home folder
        return _put_aside() if isinstance(e, UnicodeDecodeError) else {}
    try:
        entries = parse_json(text, path())
        return {str(k): {"passed": bool(v["passed"]), "tries": int(v["tries"])}
                | ({"said": str(v["said"])[:LONGEST]} if "said" in v else {}) for k, v in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return _put_aside()


def add(exercise_id, passed, found=None, of=None):
    """Count one try; what has been passed stays passed. Returns "" or a sentence about what went wrong.

    found, of: of a hunt, how many mistakes of how many the try found; the best is kept.
    """
    def count(entries):
        old = entries.get(exercise_id, {"passed": False, "tries": 0})
        new = {**old, "passed": old["passed"] or passed, "tries": old["tries"] + 1}
        if found is not None and found >= _first_number(old.get("said", "0")):
            new["said"] = f"{found} of {of}"
        return entries | {exercise_id: new}
    return _change(count)


def keep_guess(guess_id, said):
    """(whether it is kept, "" or what went wrong): a guess may be changed until its answer was shown."""
    kept = []

    def put(entries):
        kept.append(not entries.get(guess_id, {}).get("tries"))
        return entries | ({guess_id: {"passed": False, "tries": 0, "said": said}} if kept[-1] else {})
    note = _change(put)
    return bool(kept and kept[-1]), note


def settle(guess_id, answer):
    """(what was guessed before the answer was shown, or None; "" or what went wrong). A wrong guess stays wrong."""
    entry = load().get(guess_id, {})
    said = entry.get("said")
    if said is None or entry["tries"]:
        return said, ""
    return said, _change(lambda entries: entries | {guess_id: {**entry, "passed": said == answer, "tries": 1}})


def _first_number(text):
    return int(first) if (first := text.split(" ")[0]).isdecimal() else 0


def clear():
    """Forget everything. Returns "" or a sentence about what went wrong."""
    return _change(lambda entries: {})


def _change(change):
    """Read the entries, change them and write them, while no other process does."""
    temporary = None
    try:
        target = path()
        target.parent.mkdir(parents=True, exist_ok=True)
        with taking_turns(target.with_suffix(".lock")) as alone:
            entries = change(load())
            # written beside and moved over, so that a full disk never leaves half a file
            with tempfile.NamedTemporaryFile("w", dir=target.parent, suffix=".tmp", delete=False,
                                             encoding="utf-8") as f:
                temporary = f.name
                json.dump(entries, f, indent=1, sort_keys=True)
            os.replace(temporary, target)
        if not alone:
            _note_of(target.parent)
        return ""
    except (OSError, RuntimeError) as e:
        if temporary:
            with contextlib.suppress(OSError):
                os.remove(temporary)
        full = "the disk is full, " * says_full(e)
        return f"(your progress could not be saved: {full}{e})"


@functools.cache  # said once
def _note_of(folder):
    print(f"note: {folder} is on a file system without locks: use one notebook at a time, or one may undo what the "
          f"other saved; MINIMASKFORMER_HOME may name another folder")


def _put_aside():
    try:
        os.replace(path(), path().with_suffix(".damaged.json"))
    except OSError:
        pass
    return {}
