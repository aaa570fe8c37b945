"""Build the course as a static site, to be read without installing anything: python tools/build_site.py

The lessons as executed, cheat sheet, glossary, data/README.md, and a reference from the docstrings go to build/site/,
with search and mathematics that need no network. Needs the extra `site`. Sphinx with MyST-NB does the work; here the
pages are only laid together.
"""
import argparse
import importlib.util
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CSS = """.highlight pre, div.cell_output pre { overflow-x: auto; font-size: 0.85em; }
div.cell_output img { max-width: 100%; height: auto; background: white; }
table.docutils { display: block; overflow-x: auto; }
mjx-container[display=true] { overflow-x: auto; overflow-y: hidden; }
"""


def main(arguments=None):
    """Lay the pages together and build the site; returns Sphinx's exit status."""
    parser = argparse.ArgumentParser(description="Build the course as a static site.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    parser.add_argument("--lessons", nargs="*", default=[], help="only these, such as 00 02 (default: all)")
    options = parser.parse_args(arguments)
    lacking = [name for name in ("sphinx", "myst_nb", "furo", "mathjax") if importlib.util.find_spec(name) is None]
    if lacking:
        print(f"{', '.join(lacking)} not installed: pip install -e '.[site]'", file=sys.stderr)
        return 1
    if options.out.exists() and not (options.out / "searchindex.js").exists():
        print(f"{options.out} exists and is no site: name another folder with --out", file=sys.stderr)
        return 1
    from sphinx.cmd.build import main as sphinx
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="site_", dir=options.out.parent) as work:
        pages, built = Path(work, "pages"), Path(work, "site")
        lay_out(pages, options.lessons)
        status = sphinx(["-q", "-b", "html", "-d", str(Path(work, "doctrees")), str(pages), str(built)])
        if status == 0:
            shutil.rmtree(built / ".doctrees", ignore_errors=True)
            if options.out.exists():
                options.out.rename(Path(work, "old"))
            built.rename(options.out)
            print(f"open {options.out / 'index.html'}")
    return status


def lay_out(pages, lessons):
    """Write all pages, at the places that their links to each other expect."""
    (pages / "_static").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "site_conf.py", pages / "conf.py")
    (pages / "_static" / "course.css").write_text(CSS)
    (pages / "_static" / "mathjax").mkdir()
    mathjax = Path(importlib.util.find_spec("mathjax").origin).parent / "static" / "mathjax" / "es5"
    shutil.copy(mathjax / "tex-svg-full.js", pages / "_static" / "mathjax")  # one file, with its letters
    api = write_reference(pages)
    (pages / "lessons").mkdir()
    shutil.copytree(ROOT / "lessons" / "images", pages / "lessons" / "images")
    chosen = [path for path in sorted((ROOT / "lessons").glob("*.ipynb")) if not lessons or path.name[:2] in lessons]
    for path in chosen:
        notebook, heading = json.loads(path.read_text(encoding="utf-8")), path.stem
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = relinked("".join(cell["source"]), pages, api)
                heading = ([heading] + re.findall(r"^#+ (.+)", cell["source"], re.M))[-1]
            else:
                describe(cell, heading)
        (pages / "lessons" / path.name).write_text(json.dumps(notebook), encoding="utf-8")
    for name in ("CHEATSHEET.md", "GLOSSARY.md"):
        text = (ROOT / "lessons" / name).read_text(encoding="utf-8")
        (pages / "lessons" / name).write_text(relinked(text, pages, api), encoding="utf-8")
    (pages / "data").mkdir(exist_ok=True)
    shutil.copy(ROOT / "data" / "README.md", pages / "data")
    (pages / "index.md").write_text(front_page(chosen), encoding="utf-8")


def is_slider(output):
    """Whether an output is a slider, of which a page could only show the Python name; its picture stands beside it."""
    data = output.get("data", {})
    words = "".join(data.get("text/plain", ""))
    in_python = re.match(r"(interactive|\w+Slider|Dropdown|[VH]Box)\(", words)
    return "application/vnd.jupyter.widget-view+json" in data or in_python is not None


def describe(cell, heading):
    """Leave out the sliders of a cell, and give its pictures their width and words.

    Words that the notebook does not keep are replaced by the section that the picture stands in.
    """
    cell["outputs"] = [output for output in cell.get("outputs", []) if not is_slider(output)]
    for output in cell["outputs"]:
        for kind in output.get("data", {}):
            if kind.startswith("image/"):
                about = output.get("metadata", {}).get(kind, {})
                size = {"width": f"{about['width']}px"} if "width" in about else {}
                alt = about.get("alt") or f"Figure in the section {heading}"
                cell["metadata"]["mystnb"] = {"image": {"alt": re.sub(r"[`$*]", "", alt), **size}}


def relinked(text, pages, api):
    """A page's text with links to modules going to the reference; other files of ours are copied beside the pages."""
    def link(match):
        target = match[1]
        if target.startswith("minimaskformer/"):
            return f"](../api/{api[target]}.md)"
        (pages / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / target, pages / target)
        return match[0]
    return re.sub(r"\]\(\.\./([^)#]+)\)", link, text)


def write_reference(pages):
    """One page for each module at the package's root and for each room; returns {path of a file: name of its page}."""
    (pages / "api").mkdir()
    package, where, order = ROOT / "minimaskformer", {}, []
    rooms = [folder for folder in sorted(package.rglob("*/")) if (folder / "__init__.py").exists()
             and folder.name != "lessons"]
    roots = [path for path in sorted(package.glob("*.py")) if not path.name.startswith("_")]
    content = {path.stem: [path] for path in roots}
    content |= {room.relative_to(package).as_posix(): sorted(room.glob("[!_]*.py")) for room in rooms}
    for page, files in content.items():
        name = page.replace("/", "_")
        parts = [f"# {page}\n\n"]
        for path in files:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            where[path.relative_to(ROOT).as_posix()] = name
            parts += [f"## {path.stem}\n\n"] * (len(files) > 1)
            parts.append(f"```{{eval-rst}}\n.. automodule:: {module}\n```\n\n")
        (pages / "api" / f"{name}.md").write_text("".join(parts), encoding="utf-8")
        order.append(name)
    listed = "\n".join(order)
    (pages / "api" / "index.md").write_text(f"# Reference\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n")
    return where


def front_page(chosen):
    """The start of README, and the table of contents."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").split("## Start")[0]
    names = "\n".join(f"lessons/{path.stem}" for path in chosen)
    pages = "lessons/CHEATSHEET\nlessons/GLOSSARY\ndata/README\napi/index"
    return f"{readme}\n{contents('Lessons', names)}\n{contents('On one page', pages)}"


def contents(caption, names):
    """A table of contents for Sphinx."""
    return f"```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n\n{names}\n```\n"


if __name__ == "__main__":
    sys.exit(main())
