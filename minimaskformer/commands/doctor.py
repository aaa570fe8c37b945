"""`doctor`: is everything here that the course needs? Each line says what was found, and what to do if need be."""
import importlib.metadata
import os
import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..system.text import parse_json

OLDEST, NEWEST = (3, 11), (3, 14)  # Python, as in pyproject.toml
INSTALL = "install it with: pip install -e '.[lessons,dev]' (or make lab)"
LEAST_DISK, GOOD_DISK = 0.2e9, 2e9  # bytes: to work through the lessons; to train and keep some runs too
MARKS = {"fine": "✓", "note": "○", "fix": "✗"}


@dataclass(frozen=True)
class Diagnosis:
    """One thing that was checked: "fine", a "note" on something missing but not needed, or something to "fix"."""
    kind: str
    text: str


def doctor_options(parser):
    """`doctor` has no options."""


def run_doctor(options):
    """Check everything and print a line for each thing; ValueError at the end if something must be fixed."""
    from ..exercises.lesson_calls import say
    found = []
    for look in (python, packages, device, weights, disk, record_folder, copies, kernel, widgets, fonts, console):
        try:
            found.append(look())
        except Exception as error:  # whatever is broken, the rest is still checked
            remedy = f": {INSTALL}" if isinstance(error, ImportError) else ""
            name = look.__name__.replace("_", " ")
            found.append(Diagnosis("fix", f"{name}: {type(error).__name__}: {error}{remedy}"))
        say(f"{MARKS[found[-1].kind]} {found[-1].text}")
    broken = sum(one.kind == "fix" for one in found)
    if broken:
        raise ValueError(f"{broken} of {len(found)} things must be fixed: the lines that begin with {MARKS['fix']} say "
                         f"how")
    say("Everything that the course needs is here.")


def python():
    """Python's version, and where it is."""
    version, name = sys.version_info[:2], f"Python {sys.version.split()[0]} at {sys.executable}"
    if version < OLDEST:
        return Diagnosis("fix", f"{name} is too old: install Python {OLDEST[0]}.{OLDEST[1]} or newer")
    if version > NEWEST:
        return Diagnosis("note", f"{name} is newer than the course was tested with (up to {NEWEST[0]}.{NEWEST[1]})")
    return Diagnosis("fine", name)


def packages():
    """The packages that the course is built on, against the version bounds in the installed metadata."""
    told, wrong = [], []
    for name, least, below in needed():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{name} is not installed")
            continue
        here = version_numbers(version)
        if here < version_numbers(least) or below and here >= version_numbers(below):
            wrong.append(f"{name} is {version}, needed is {least} or newer{f', below {below}' * bool(below)}")
        if name in ("torch", "torchvision", "numpy", "scipy", "matplotlib", "jupyterlab"):
            told.append(f"{name} {version}")
    if wrong:
        return Diagnosis("fix", f"packages: {'; '.join(wrong)}: {INSTALL}")
    return Diagnosis("fine", ", ".join(told))


def needed():
    """[(name, oldest version, first version that is too new or None)] of the course's packages, from our metadata."""
    try:
        lines = importlib.metadata.requires("minimaskformer") or []
    except importlib.metadata.PackageNotFoundError:
        raise ModuleNotFoundError("minimaskformer itself is not installed") from None
    for line in lines:
        parts = re.match(r"([\w.-]+)\s*([^;]*)(?:;.*extra == ['\"](\w+))?", line)
        if parts and parts[3] in (None, "lessons") or parts and parts[1] == "ipykernel":
            bounds = dict(re.findall(r"(>=|<)\s*([\w.]+)", parts[2]))
            yield parts[1], bounds.get(">=", "0"), bounds.get("<")


def version_numbers(version):
    return [int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3]]


def device():
    """The GPU, if there is one that PyTorch can use."""
    import torch
    if torch.cuda.is_available():
        name, memory = torch.cuda.get_device_name(0), torch.cuda.get_device_properties(0).total_memory / 1e9
        return Diagnosis("fine", f"GPU: {name}, {memory:.0f} GB; used by train and predict")
    if shutil.which("nvidia-smi"):
        return Diagnosis("note", f"GPU: there is an NVIDIA driver, but PyTorch (built for "
                         f"{torch.version.cuda or 'the CPU only'}) cannot use it: install the build for your driver "
                         f"from pytorch.org; the lessons need none")
    return Diagnosis("fine", f"no GPU, and none is needed; {os.cpu_count()} CPU cores")


def weights():
    """The shipped model: is it here, and intact?"""
    from ..weights.checkpoint import load_checkpoint
    model = load_checkpoint("mini")
    return Diagnosis("fine", f"the shipped model mini is intact, {sum(p.numel() for p in model.parameters()):,} "
                     f"parameters")


def disk():
    """Free disk space where the course is."""
    from ..exercises.my_lessons import SOURCE
    free = shutil.disk_usage(SOURCE.parent).free
    text = f"disk: {free / 1e9:.1f} GB free at {SOURCE.parent}"
    if free < LEAST_DISK:
        return Diagnosis("fix", f"{text}: make room, at least {LEAST_DISK / 1e9} GB")
    if free < GOOD_DISK:
        return Diagnosis("note", f"{text}: enough for the lessons, but little for your own runs")
    return Diagnosis("fine", text)


def record_folder():
    """Can the progress through the exercises be saved?"""
    from ..exercises import progress_file
    folder = progress_file.path().parent
    if trouble := unwritable(folder):
        return Diagnosis("fix", f"your progress cannot be saved in {folder} ({trouble}): make it writable, or set "
                         f"MINIMASKFORMER_HOME to another folder")
    done = sum(entry["passed"] for entry in progress_file.load().values())
    return Diagnosis("fine", f"your progress is kept in {folder}; {done} exercises passed so far")


def copies():
    """Do the learner's copies of the lessons exist, and can they be written?"""
    from ..exercises.my_lessons import FIRST, FOLDER, SOURCE
    if not (SOURCE / FIRST).is_file():
        return Diagnosis("note", "the lessons are not here: they come with the repository (git clone), not with the "
                         "installed package")
    if trouble := unwritable(FOLDER):
        return Diagnosis("fix", f"{FOLDER} cannot be written ({trouble}): clone the repository into a folder of your "
                         f"own")
    lessons = sorted(path for path in FOLDER.glob("*.ipynb") if "_before_" not in path.name)
    if broken := [path.name for path in lessons if (SOURCE / path.name).is_file() and not is_notebook(path)]:
        return Diagnosis("fix", f"{', '.join(broken)} in {FOLDER} cannot be read as a notebook: rename it, and `make "
                         f"lab` copies the lesson anew")
    count = len(lessons)
    return Diagnosis("fine", f"{count} lessons in {FOLDER}" if count else f"no copies of the lessons yet: make lab (or "
                     f"python -m minimaskformer lessons) puts them into {FOLDER}")


def is_notebook(path):
    """Whether a file is the JSON of a notebook."""
    try:
        return isinstance(parse_json(path.read_text(encoding="utf-8"), path.name)["cells"], list)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def unwritable(folder):
    """"" if a file can be written in a folder, or in the one that it would be made in; else why not."""
    place = Path(folder)
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return error.strerror or str(error)


def kernel():
    """Does the notebooks' kernel run with this Python?"""
    from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    try:
        found = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Diagnosis("fix", f"kernel: there is no kernel python3: {INSTALL}")
    here = shutil.which(found) or found
    if Path(found).name == found or Path(here).parent.resolve() == Path(sys.executable).parent.resolve():
        return Diagnosis("fine", f"kernel python3, ipykernel {importlib.metadata.version('ipykernel')}")
    return Diagnosis("fix", f"kernel: python3 is {found}, not this Python: {sys.executable} -m ipykernel install "
                     f"--sys-prefix")


def widgets():
    """Will the sliders be shown?"""
    version = importlib.metadata.version("ipywidgets")
    folders = [Path(sys.prefix, "share/jupyter/labextensions"), Path(sys.base_prefix, "share/jupyter/labextensions")]
    if any((folder / "@jupyter-widgets/jupyterlab-manager").is_dir() for folder in folders):
        return Diagnosis("fine", f"sliders: ipywidgets {version} and its part of JupyterLab")
    return Diagnosis("note", "sliders: jupyterlab_widgets is not installed for this JupyterLab: pip install --upgrade "
                     "ipywidgets (VS Code and Colab have their own)")


def fonts():
    """Can matplotlib draw text, Korean, Japanese and Chinese class names included?"""
    from matplotlib.font_manager import fontManager

    from ..draw.canvas import CJK
    names = {font.name for font in fontManager.ttflist}
    if "DejaVu Sans" not in names:
        return Diagnosis("fix", "fonts: matplotlib has lost its own DejaVu Sans: pip install --force-reinstall "
                         "matplotlib")
    asian = [name for name in CJK if name in names]
    return Diagnosis("fine", f"fonts: DejaVu Sans, {asian[0]}") if asian else Diagnosis(
        "note", "fonts: DejaVu Sans; none for Korean, Japanese or Chinese class names in pictures (Debian: apt install "
        "fonts-noto-cjk), which only your own data may need")


def console():
    """Can this terminal show the marks of the exercises?"""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    try:
        "✓✗○".encode(encoding)
    except UnicodeEncodeError:
        return Diagnosis("note", f"console: its encoding {encoding} has no check marks; + x - stand in for them")
    return Diagnosis("fine", f"console: {encoding}")
