"""A new version of a lesson with the learner's work from the old one in it.

Three versions meet: the old lesson as it was copied (the hashes of its cells are kept), the learner's, and the new one.
Exercises are identified by number, other cells by their text, so a lesson may be renumbered and rearranged.
"""
import copy
import hashlib
import re
from dataclasses import dataclass

CHECK = re.compile(r"""\bcheck\(\s*["'](\d\d\.\d+)["']\s*,\s*(\w+)""")  # check("02.1", class_cost)
NEW_STUB = "# The lesson has a new stub for this exercise:"
OLD_CODE = "# Your version of the cell above; the lesson has changed it:"
OLD_TEXT = "*Your version of the text above; the lesson has changed it:*"


@dataclass(frozen=True)
class CarriedOver:
    """The new notebook, and what of the learner's work is in it: exercise numbers, and the count of other cells."""
    notebook: dict
    exercises: list
    others: int


def source_of(cell):
    """A cell's text; in the file it may be a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def fingerprint(cell):
    """A short hash of a cell's kind and text."""
    return hashlib.sha256(f"{cell.get('cell_type')}\n{source_of(cell).rstrip()}".encode()).hexdigest()[:16]


def fingerprints(notebook):
    """[[id, fingerprint]] of the cells, in order: all that must be known about a lesson later.

    An exercise that is solved there has "" as its fingerprint: somebody worked in the lesson itself, and it is theirs.
    """
    solved = {i for (_, kind), i in exercise_cells(notebook).items()
              if kind == "stub" and "NotImplementedError" not in source_of(notebook["cells"][i])}
    return [[str(cell.get("id", "")), "" if i in solved else fingerprint(cell)]
            for i, cell in enumerate(notebook["cells"])]


def untouched(notebook, old):
    """Whether the learner's notebook has the cells of the old lesson, executed or not."""
    return [fingerprint(cell) for cell in notebook["cells"]] == [mark for _, mark in old]


def exercise_cells(notebook):
    """{(exercise number, "stub" or "check"): place of the cell}.

    The stub is the last cell above the check that defines the function, or the nearest that is tagged `exercise`.
    """
    places, cells = {}, notebook["cells"]
    for i, cell in enumerate(cells):
        if cell.get("cell_type") != "code":
            continue
        for number, name in CHECK.findall(source_of(cell)):
            places[number, "check"] = i
            above = [j for j in range(i + 1) if cells[j].get("cell_type") == "code"]
            defined = [j for j in above if re.search(rf"^def {name}\b", source_of(cells[j]), re.M)]
            tagged = [j for j in above if "exercise" in cells[j].get("metadata", {}).get("tags", [])]
            if defined or tagged:
                places[number, "stub"] = (defined or tagged)[-1]
    return places


def carry_over(new, mine, old):
    """The new notebook with the learner's work; CarriedOver. old: the `fingerprints` of the lesson `mine` came from."""
    result, marks = copy.deepcopy(new), dict(old)
    known = set(marks.values()) - {""}
    home = homes(new, mine, marks)
    in_place = {fingerprint(cell) for cell in mine["cells"] if cell.get("id") in marks}
    stubs = {i: number for (number, kind), i in exercise_cells(mine).items() if kind == "stub"}
    beneath = {i: [] for i in range(-1, len(new["cells"]))}  # cells to put after cell i of the new lesson
    exercises, others, place = [], 0, -1
    for i, cell in enumerate(mine["cells"]):
        place, mark = home.get(i, place), fingerprint(cell)
        there = fingerprint(new["cells"][place]) if i in home else None
        pasted = cell.get("id") not in marks and mark in in_place  # a copy of one of the lesson's cells
        if mark == there or (mark in known and not pasted) or not source_of(cell).strip():
            continue  # the lesson's own text
        others += i not in stubs or there is None
        if there is None:  # a cell that the learner added, or changed and that the lesson no longer has
            beneath[place].append(copy.deepcopy(cell))
        elif i in stubs:
            take_over(result["cells"][place], cell)
            if there not in known:
                result["cells"][place]["source"] += commented(NEW_STUB, source_of(new["cells"][place]))
            exercises.append(stubs[i])
        elif there == marks.get(cell.get("id")) or CHECK.search(source_of(cell)):
            take_over(result["cells"][place], cell)
        else:
            beneath[place].append(changed_by_both(cell))
    result["cells"] = [*beneath[-1], *(c for i, cell in enumerate(result["cells"]) for c in (cell, *beneath[i]))]
    unique_ids(result["cells"])
    return CarriedOver(result, exercises, others)


def homes(new, mine, marks):
    """{place in `mine`: place in `new`}: by exercise number, by text, by the old text, by the cell's id."""
    there, here = exercise_cells(new), exercise_cells(mine)
    found = {here[key]: there[key] for key in here if key in there}
    texts, ids = {}, {}
    for i, cell in enumerate(new["cells"]):
        texts.setdefault(fingerprint(cell), i)
        ids.setdefault(cell.get("id"), i)
    now = [fingerprint(cell) for cell in mine["cells"]]
    then = [marks.get(cell.get("id")) for cell in mine["cells"]]  # for the text that the lesson had here
    for mark_of in (now, then):
        for i, mark in enumerate(mark_of):
            if i not in found and mark in texts and texts[mark] not in found.values():
                found[i] = texts[mark]
    for i, cell in enumerate(mine["cells"]):
        if i not in found and cell.get("id") in marks and ids.get(cell["id"], -1) not in (-1, *found.values()):
            found[i] = ids[cell["id"]]
    return found


def take_over(theirs, mine):
    """Put the learner's text and outputs into a cell of the new lesson."""
    theirs["source"] = source_of(mine)
    if theirs.get("cell_type") == mine.get("cell_type") == "code":
        theirs["outputs"], theirs["execution_count"] = mine.get("outputs", []), mine.get("execution_count")


def changed_by_both(cell):
    """A cell that keeps the learner's version of one that the lesson changed too; code is commented out."""
    kept = copy.deepcopy(cell)
    if cell.get("cell_type") == "code":
        kept.update(source=commented(OLD_CODE, source_of(cell)).lstrip(), outputs=[], execution_count=None)
    else:
        kept["source"] = f"{OLD_TEXT}\n\n{source_of(cell)}"
    return kept


def commented(title, source):
    return "\n\n" + "\n".join([title, *(f"# {line}".rstrip() for line in source.splitlines())])


def unique_ids(cells):
    """Give a second cell with the same id a new id."""
    seen = set()
    for cell in cells:
        while cell.get("id") in seen:
            cell["id"] = f"{cell['id'][:56]}-mine"
        seen.add(cell.get("id", id(cell)))
