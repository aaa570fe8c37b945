"""Break the library in many small ways, one at a time, and see whether the tests notice.

    python tools/mutants.py                 all of them
    python tools/mutants.py --part 3/8      an eighth; with 8 parts each takes under 20 minutes on two cores
    python tools/mutants.py --only swin     those whose file, list or reason has this text
    python tools/mutants.py --first         not the whole suite for those that the tests of their file let live

The list is in mutants/*.toml: file, old text (which must occur once), new text, and why it matters; all are faults that
people have made with models of this kind. Each is made in a copy of the tree in a temporary folder, never in the tree
itself. First the tests of the file run, then the whole suite. A mutant that no test notices has survived; the exit
status is 1 if any did. Processes are forked from one that has imported PyTorch already, so this needs Linux or macOS.
"""
import argparse
import contextlib
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision.transforms.v2", "torchvision.models", "scipy.optimize", "pytest", "hypothesis",
         "safetensors.torch", "pycocotools.mask", "PIL.Image", "torch.utils.data", "tqdm.auto")
FIRST = {  # tests of a file, where they are not tests/ROOM/test_FILE.py or more than that
    "targets.py": ["test_targets", "test_public_doors", "test_properties"],
    "config.py": ["test_config", "test_model"], "matching.py": ["test_matching", "test_losses"],
    "losses.py": ["test_losses", "test_matching"],
    "model.py": ["test_network", "test_model", "test_predict", "weights/test_zoo"],
    "inference.py": ["test_inference", "test_public_doors"],
    "predict.py": ["test_predict", "test_tta", "test_inference"], "evaluation.py": ["test_evaluation"],
    "fast/competition.py": ["fast/test_competition", "test_inference"],
    "training/per_pixel_loss.py": ["commands/test_per_pixel", "studies/test_baselines"],
    "fast/large_maps.py": ["fast/test_large_maps", "test_inference", "test_predict"],
    "fast/mask_losses.py": ["test_losses"], "fast/pair_costs.py": ["test_matching", "test_losses"],
    "fast/points.py": ["test_losses", "test_matching", "studies/test_mask2former"],
    "system/arguments.py": ["test_public_doors", "test_targets", "test_inference", "test_matching"],
    "system/distributed.py": ["system/test_distributed"],
    "pixel_decoder.py": ["test_network", "test_model"],
    "transformer.py": ["test_network", "test_model", "weights/test_zoo"],
    "backbone.py": ["test_model", "test_backbone"], "swin.py": ["test_network", "test_swin"],
    "metrics.py": ["test_metrics", "test_properties"],
    "mask_ap.py": ["test_whole_masks", "test_metrics", "test_properties"],
    "train.py": ["training/test_step", "training/test_trajectory", "test_train", "training/test_resume"],
    "data/combine.py": ["data/test_combine", "data/test_catalog", "data/test_match_classes"],
    "training/optim.py": ["training/test_step", "training/test_trajectory", "test_train"],
    "training/batches.py": ["training/test_step", "test_train"],
    "training/run.py": ["training/test_step", "test_train", "training/test_resume"],
    "training/resume.py": ["training/test_resume"],
    "training/checked_data.py": ["data/test_match_classes", "test_train"],
    "training/log.py": ["training/test_step", "training/test_resume", "test_train"],
    "training/not_finite.py": ["test_train"], "training/stopping.py": ["training/test_resume", "test_train"],
    "data/classes.py": ["data/test_catalog", "test_metrics", "data/readers/test_coco_panoptic"],
    "data/images.py": ["data/readers/test_semantic", "test_predict", "data/readers/test_coco_panoptic"],
    "data/transforms.py": ["data/test_color", "data/test_transforms", "test_properties"],
    "data/folders.py": ["data/test_catalog"], "data/your_own.py": ["data/test_catalog", "data/test_readme"],
    "data/faults.py": ["data/test_faults"], "data/tally.py": ["data/test_faults", "diagnosis/test_dataset"],
    "data/readers/label_maps.py": ["data/readers/test_semantic", "data/readers/test_instances", "data/test_public"],
    "data/readers/class_files.py": ["data/readers/test_semantic", "data/test_public", "data/test_catalog"],
    "data/readers/coco_json.py": ["data/readers/test_coco_instance", "data/readers/test_coco_panoptic"],
    "data/readers/coco_instance.py": ["data/readers/test_coco_instance", "data/test_catalog"],
    "data/readers/labelme.py": ["data/test_recognise_tools", "data/test_recognise_pictures"],
    "data/readers/yolo.py": ["data/test_recognise_tools", "data/test_recognise_pictures"],
    "data/recognise/yolo_yaml.py": ["data/test_yolo_places", "data/test_recognise_tools"],
    "data/recognise/label_pictures.py": ["data/test_recognise_pictures"],
    "data/readers/mask_files.py": ["data/test_recognise_tools", "data/test_recognise_pictures"],
    "data/readers/coco_content.py": ["data/test_recognise_tools", "data/test_recognise_pictures"],
    "data/readers/colors.py": ["data/test_recognise_tools", "data/test_recognise_pictures"],
    "data/readers/segmentations.py": ["data/readers/test_hostile_annotations", "data/readers/test_coco_instance"],
    "data/readers/objects.py": ["data/readers/test_coco_instance", "data/test_catalog"],
    "weights/zoo.py": ["test_config", "weights/test_zoo"],
    "weights/renaming.py": ["weights/test_zoo", "weights/test_hub"],
    "weights/hub_pictures.py": ["weights/test_hub_pictures", "weights/test_hub"],
    "weights/hub_export.py": ["weights/test_hub_cache", "test_port"],
    "weights/hub_cache.py": ["weights/test_hub_cache"], "weights/shards.py": ["weights/test_hub_cache"],
    "system/files.py": ["system/test_files", "weights/test_checkpoint", "test_evaluation", "commands/test_cli"],
    "system/tensors.py": ["weights/test_hostile_files", "training/test_damaged_runs"],
    "system/pickles.py": ["weights/test_hostile_files", "weights/test_zoo"],
    "system/model_fields.py": ["test_config", "weights/test_hostile_files", "test_public_doors"],
    "data/torchvision_dataset.py": ["data/test_convert"],
}


def mutants():
    """All entries of the list, each a dict with file, old, new and why, and which list it is from."""
    return [entry | {"list": path.stem} for path in sorted((ROOT / "tools" / "mutants").glob("*.toml"))
            for entry in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]]


def mutated(entry, source):
    """A file's text with the change; ValueError unless the old text occurs exactly once."""
    if source.count(entry["old"]) != 1:
        raise ValueError(f"{entry['file']}: {source.count(entry['old'])} places have {entry['old']!r}")
    return source.replace(entry["old"], entry["new"])


def first_tests(file, folder):
    """The test files of a library file that the copy has."""
    path = Path(file)
    names = FIRST.get(file, [str(path.parent / f"test_{path.stem}")])
    return [f"tests/{name}.py" for name in names if (folder / "tests" / f"{name}.py").is_file()]


def copy_tree(folder):
    """What git tracks or would track, as it is on the disk."""
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT,
                            check=True, capture_output=True, text=True).stdout.split("\0")
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def run_tests(folder, tests, seconds):
    """("pass", "fail" or "broken", the first failure or what else ended it) of pytest in a fork, inside the copy.

    Broken is a run that says nothing about the tests: pytest could not start, found none, or was killed from outside.

    Some files run in that process, which has imported PyTorch, with no plugin but xdist, for which conftest.py has
    hooks: installed plugins cost each start ten times what it needs. The whole suite (no `tests`) runs as for everyone.
    """
    output = folder / "pytest.txt"
    child = os.fork()
    if child == 0:
        os.setsid()  # so that its own children can be ended with it
        with open(output, "w") as file:
            os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder)
        quiet = ["-x", "-q", "-p", "no:cacheprovider", "--no-header"]
        if not tests:
            quiet += ["--ignore=tests/test_mutants.py"]  # which finds every change: by its text, not by what it does
            os.execv(sys.executable, [sys.executable, "-m", "pytest", *quiet, "tests"])
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        sys.path[:] = [str(folder), *(place for place in sys.path if Path(place or ".").resolve() != ROOT / "tools")]
        status = 3
        with contextlib.suppress(BaseException):
            status = int(sys.modules["pytest"].main(["-o", "addopts=--import-mode=importlib", "-p", "xdist.plugin",
                                                     "-n", "0", *quiet, *tests]))
        sys.stdout.flush()
        os._exit(status)
    ended, begun = 0, time.monotonic()
    while not ended and time.monotonic() - begun < seconds:
        time.sleep(0.05)
        ended, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it may have left, or itself
    if not ended:
        os.waitpid(child, 0)
        return "fail", f"still running after {seconds} s"
    text = output.read_text(errors="replace").splitlines()
    told = [line for line in text if line.startswith(("FAILED", "ERROR"))] or text[-1:] or ["no word"]
    code = os.waitstatus_to_exitcode(status)  # 1: a test failed, 2: a test file could not be imported, < 0: a signal
    verdict = "pass" if code == 0 else "fail" if code in (1, 2) or code < 0 and code != -signal.SIGKILL else "broken"
    if verdict == "broken" and code > 0 and re.fullmatch(r"[.sxX]*[FE]+", told[0]):
        verdict = "fail"  # a test failed, and what it left behind then ended pytest before its summary
    return verdict, told[0][:160]


@contextlib.contextmanager
def changed(path, text):
    """A file of the copy with other text, and no bytecode of the old one (which goes by the second and the size)."""
    before = path.read_text(encoding="utf-8")

    def write(content):
        path.write_text(content, encoding="utf-8")
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
    write(text)
    try:
        yield
    finally:
        write(before)


def judge(entry, folder, good, options):
    """("fail": noticed, "pass": survived, "broken": nobody knows; by which tests; what they said) of one mutant.

    good: how tests end without any change, filled here; where they do not pass, their failing would mean nothing.
    """
    path = folder / "minimaskformer" / entry["file"]
    stages = [(test, [test], options.timeout) for test in first_tests(entry["file"], folder)]
    if not options.first:
        stages.append(("the suite", [], 4 * options.timeout))
    for name, tests, seconds in stages:
        if name not in good:
            good[name] = run_tests(folder, tests, seconds)
        if good[name][0] != "pass":
            return "broken", name, f"{name} does not pass without any change: {good[name][1]}"
        with changed(path, mutated(entry, path.read_text(encoding="utf-8"))):
            verdict, told = run_tests(folder, tests, seconds)
        if verdict != "pass":
            return verdict, "the suite" if name == "the suite" else "tests of the file", told
    return ("pass" if stages else "broken"), "", "no tests to run"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", default="1/1", help="which part of the list, such as 3/8")
    parser.add_argument("--only", default="", help="mutants whose file, list or reason has this text")
    parser.add_argument("--first", action="store_true", help="only the tests of the file, not the whole suite")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for one run of tests [900]")
    options = parser.parse_args()
    part, parts = map(int, options.part.split("/"))
    chosen = [m for m in mutants()[part - 1::parts] if any(options.only in m[name] for name in ("file", "why", "list"))]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in HEAVY:
        importlib.import_module(name)
    survivors, killed, not_run = [], {"tests of the file": 0, "the suite": 0}, []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tree"
        copy_tree(folder)
        good = {}
        for number, entry in enumerate(chosen, start=1):
            begun = time.monotonic()
            verdict, stage, told = judge(entry, folder, good, options)
            if verdict == "fail":
                killed[stage] += 1
            else:
                (survivors if verdict == "pass" else not_run).append(entry)
            word = {"pass": "SURVIVED", "fail": "killed", "broken": "NOT RUN"}[verdict]
            print(f"{number:3}/{len(chosen)} {word:8} {time.monotonic() - begun:5.1f} s  {entry['file']}: "
                  f"{entry['why']}{'' if verdict == 'pass' else '  <- ' + told}", flush=True)
    print(f"\n{len(chosen)} mutants: " + ", ".join(f"{count} killed by {stage}" for stage, count in killed.items())
          + f", {len(survivors)} survived, {len(not_run)} not run")
    for entry in survivors:
        print(f"  {entry['file']}: {entry['why']}\n    - {entry['old'].strip()}\n    + {entry['new'].strip()}")
    return 1 if survivors or not_run else 0


if __name__ == "__main__":
    sys.exit(main())
