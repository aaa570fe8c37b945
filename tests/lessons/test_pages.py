"""The course as one: README's table, lesson 00's map, the cheat sheet and the glossary name lessons that exist."""
import pkgutil
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "lessons").glob("*.ipynb"))
pages = pytest.mark.parametrize("page", ["CHEATSHEET.md", "GLOSSARY.md"])


def rows(text):
    """The cells of each row of a page's tables, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|") and not re.match(r"\|[-|: ]+\|$", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines][1:]


def title(path):
    return nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]


@pages
def test_every_name_of_the_library_resolves(page):
    text = (ROOT / "lessons" / page).read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:\w+\.)+\w+)`", text))
    assert len(names) >= 20
    for name in names:
        pkgutil.resolve_name(f"minimaskformer.{name}")  # raises for what is neither a module nor in one


@pages
def test_every_link_goes_to_the_lesson_it_names(page):
    text = (ROOT / "lessons" / page).read_text(encoding="utf-8")
    for shown, target in re.findall(r"\[([^\]]+)\]\(([^)]+)\)", text):
        if not target.startswith("https://"):
            assert (ROOT / "lessons" / target).is_file(), target
            assert target.startswith(shown), (shown, target)


def test_the_cheat_sheet_has_every_lesson_and_full_rows():
    text = (ROOT / "lessons" / "CHEATSHEET.md").read_text(encoding="utf-8")
    assert all(len(row) == 4 for row in rows(text))
    linked = set(re.findall(r"\((\d\d)_\w+\.ipynb\)", text))
    assert linked == {path.stem[:2] for path in LESSONS} - {"00"}


def test_the_glossary_is_sorted_bilingual_and_complete():
    table = rows((ROOT / "lessons" / "GLOSSARY.md").read_text(encoding="utf-8"))
    terms = [row[0].lower() for row in table]
    assert terms == sorted(terms) and len(set(terms)) == len(terms)
    for term, korean, _, where in table:
        assert re.search("[\uac00-\ud7a3]", korean) or "IoU" in korean, term
        assert re.search(r"\(\d\d_\w+\.ipynb\)", where), term


def test_readme_lists_the_lessons_with_their_titles():
    table = re.findall(r"\| \[(\d\d [^\]]+)\]\(lessons/(\w+\.ipynb)\) \|", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert [name for _, name in table] == [path.name for path in LESSONS]
    for (shown, _), path in zip(table, LESSONS):
        assert title(path).removeprefix("# ").replace(" ·", "") == shown


def test_lesson_00_maps_all_lessons_with_their_titles():
    source = "\n".join(c.source for c in nbformat.read(LESSONS[0], as_version=4).cells if c.cell_type == "markdown")
    linked = re.findall(r"\[(\d\d [^\]]+)\]\((\d\d_\w+\.ipynb)\)", source)
    shown = {name: text for text, name in linked}
    for path in LESSONS[1:]:
        assert title(path).removeprefix("# ").replace(" ·", "") == shown.get(path.name), path.name


def test_the_minutes_are_those_of_the_lessons():
    maps = {"README": (ROOT / "README.md").read_text(encoding="utf-8"), "lesson 00": "\n".join(
        c.source for c in nbformat.read(LESSONS[0], as_version=4).cells if c.cell_type == "markdown")}
    for name, text in maps.items():
        for path in LESSONS[name != "README":]:
            header = nbformat.read(path, as_version=4).cells[0].source
            minutes = re.search(r"\*\*Time\*\* (\d+) minutes to read, (\d+) for the", header)
            row = next(line for line in text.splitlines() if line.startswith("|") and path.name in line)
            assert "{} + {}".format(*minutes.groups()) in row, (name, path.name)


def test_every_lesson_leads_to_the_next():
    for path, following in zip(LESSONS, LESSONS[1:]):
        source = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown")
        assert re.search(rf"\*\*Next[^\n]*{following.stem[:2]}|\*\*Next[^\n]*\({following.name}\)", source), path.name
