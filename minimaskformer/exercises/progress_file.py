"""The learner's progress: one small JSON file, by default ~/.minimaskformer/progress.json.

The folder is MINIMASKFORMER_HOME where that is set. Losing the file must never stop a lesson: a disk that cannot be
written is reported and forgotten, a damaged file is kept aside and a new one begun.
"""
import json
import os
import tempfile
from pathlib import Path


def path():
    home = os.environ.get("MINIMASKFORMER_HOME")
    return (Path(home) if home else Path.home() / ".minimaskformer") / "progress.json"


def load():
    """{exercise id: {"passed": bool, "tries": int}}; {} where there is no file or it cannot be read."""
    try:
        text = path().read_text(encoding="utf-8")
    except (OSError, RuntimeError, UnicodeDecodeError) as e:  # RuntimeError: this user has no home folder
        return _put_aside() if isinstance(e, UnicodeDecodeError) else {}
    try:
        entries = json.loads(text)
        return {str(k): {"passed": bool(v["passed"]), "tries": int(v["tries"])} for k, v in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError):
        return _put_aside()


def add(exercise_id, passed):
    """Count one try; what has been passed stays passed. Returns "" or a sentence about what went wrong."""
    entries = load()
    old = entries.get(exercise_id, {"passed": False, "tries": 0})
    entries[exercise_id] = {"passed": old["passed"] or passed, "tries": old["tries"] + 1}
    return _save(entries)


def clear():
    """Forget everything. Returns "" or a sentence about what went wrong."""
    return _save({})


def _save(entries):
    temporary = None
    try:
        target = path()
        target.parent.mkdir(parents=True, exist_ok=True)
        # written beside and moved over, so that two notebooks or a full disk never leave half a file
        with tempfile.NamedTemporaryFile("w", dir=target.parent, suffix=".tmp", delete=False, encoding="utf-8") as f:
            temporary = f.name
            json.dump(entries, f, indent=1, sort_keys=True)
        os.replace(temporary, target)
        return ""
    except (OSError, RuntimeError) as e:
        if temporary and os.path.exists(temporary):
            os.remove(temporary)
        return f"(your progress could not be saved: {e})"


def _put_aside():
    try:
        os.replace(path(), path().with_suffix(".damaged.json"))
    except OSError:
        pass
    return {}
