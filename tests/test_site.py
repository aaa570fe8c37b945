"""The static site: every internal link and picture is there, and nothing comes from the network. Needs the extra `site`."""
import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

ROOT = Path(__file__).resolve().parents[1]
LACKING = [name for name in ("sphinx", "myst_nb", "furo", "mathjax") if importlib.util.find_spec(name) is None]


class Page(HTMLParser):
    """What a page links to, what it loads, and the names of its places."""

    def __init__(self, path):
        super().__init__()
        self.links, self.loads, self.places, self.pictures = [], [], set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places |= {attributes.get("id"), attributes.get("name")}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "img":
            self.pictures.append(attributes)
        if tag in ("script", "img", "iframe") and attributes.get("src"):
            self.loads.append(attributes["src"])
        if tag == "link" and "stylesheet" in (attributes.get("rel") or ""):
            self.loads.append(attributes["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if LACKING:
        pytest.skip(f"the extra `site` is not installed: {', '.join(LACKING)}")
    out = tmp_path_factory.mktemp("site") / "site"
    run = subprocess.run([sys.executable, str(ROOT / "tools" / "build_site.py"), "--out", str(out)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "WARNING" not in run.stderr, run.stderr
    return {path.relative_to(out).as_posix(): Page(path) for path in out.rglob("*.html")}, out


def test_every_lesson_and_page_is_there(site):
    pages, _ = site
    for path in [*(ROOT / "lessons").glob("*.ipynb"), *(ROOT / "lessons").glob("*.md")]:
        assert f"lessons/{path.stem}.html" in pages
    assert {"index.html", "search.html", "data/README.html", "api/matching.html", "api/draw.html"} <= set(pages)


def test_internal_links_lead_somewhere(site):
    pages, out = site
    wrong = []
    for name, page in pages.items():
        for link in page.links + page.loads:
            target, place = urldefrag(link)
            if re.match(r"[a-z]+:", link):
                continue
            path = (out / name).parent / unquote(target.split("?")[0]) if target else out / name
            if not path.exists():
                wrong.append(f"{name}: {link}")
            elif place and path.suffix == ".html":
                there = pages[path.resolve().relative_to(out.resolve()).as_posix()].places
                wrong += [f"{name}: {link}"] * (unquote(place) not in there)
    assert not wrong, "\n".join(wrong[:20])


def test_nothing_is_loaded_from_the_network(site):
    pages, out = site
    for name, page in pages.items():
        assert not [load for load in page.loads if re.match(r"(https?:)?//", load)], name
    assert (out / "_static" / "mathjax" / "tex-svg-full.js").stat().st_size > 10**6


def test_every_picture_has_words_and_no_slider_is_left(site):
    pages, out = site
    for name, page in pages.items():
        assert all(picture.get("alt") and "_images/" not in picture["alt"] for picture in page.pictures), name
        if name.startswith("lessons/"):
            assert not re.search(r"interactive\(children|Slider\(value", (out / name).read_text(encoding="utf-8")), name


def test_the_reference_has_every_public_function(site):
    _, out = site
    for module, name in (("matching", "hungarian_match"), ("losses", "SetCriterion"), ("inference", "panoptic_inference")):
        assert f'id="minimaskformer.{module}.{name}"' in (out / "api" / f"{module}.html").read_text(encoding="utf-8")
