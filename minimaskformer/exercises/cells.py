"""What the notebook's cells say of a function: whether its newest version is the one that a check is given."""
import ast
import re

from ..system.text import printable


def newest_is_broken(fn):
    """"" if all is well, else a sentence: the last cell that defines a function of this name has a syntax error.

    Python keeps the old function then, and a check would judge what the learner has already replaced.
    """
    name = getattr(fn, "__name__", "")
    defining = [cell for cell in cells_run() if name and re.search(rf"^def {re.escape(name)}\b", cell, re.M)]
    if not defining:
        return ""
    try:
        ast.parse(without_magics(defining[-1]))
        return ""
    except SyntaxError as error:
        lines = defining[-1].splitlines()
        line = lines[error.lineno - 1].strip() if error.lineno and error.lineno <= len(lines) else ""
        where = f" in line {error.lineno} ({printable(line)})" if line else ""
        return (f"the newest version of {name} has a syntax error{where}: {error.msg}. Python has kept the version "
                f"before it, which is not judged. Mend the cell, run it, and check again.")


def cells_run():
    """The texts of the cells that were run in this notebook, in order; [] outside one."""
    try:
        from IPython import get_ipython
    except ImportError:
        return []
    shell = get_ipython()
    return list(shell.user_ns.get("In", [])) if shell else []


def without_magics(cell):
    """A cell's text with lines such as %time and !ls, which are no Python, left empty."""
    return re.sub(r"^\s*[%!].*$", "", cell, flags=re.M)
