"""The command line: python -m minimaskformer COMMAND. Nothing here imports torch: help and errors come at once."""
import argparse
import os
import select
import sys
from pathlib import Path

from ..system.text import printable
from .convert import convert_options, run_convert
from .diagnose import diagnose_options, run_diagnose
from .doctor import doctor_options, run_doctor
from .evaluate import evaluate_options, run_evaluate
from .export import export_options, run_export
from .inspect import inspect_options, run_inspect
from .lessons import lessons_options, run_lessons
from .options import any_number, any_whole_number, counted, whole_number
from .predict import predict_options, run_predict
from .train import run_train, train_options


def main(arguments=None):
    """Run one command; errors the user can fix are one line on stderr and exit status 1."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments:
        build_parser().print_help()
        return 0
    parser = build_parser()
    if arguments[0].startswith("-") and arguments[0] not in ("-h", "--help", "--version"):
        parser.error(f"the COMMAND comes first, then its options, got {arguments[0]}")
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        options.command(options)
        print(end="", flush=True)  # what is still to be written meets its errors here
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            return 1
        print(printable(f"minimaskformer: {sentence(error)}", lines=True), file=sys.stderr)  # it may quote a file
        return 1
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        told = str(error).split("DefaultCPUAllocator: ")[-1] or "the memory is full"
        print(f"minimaskformer: {told.splitlines()[0]}\nTo use less memory: a smaller --size; for train also --amp, "
              f"--accumulate 2 or more (the same step in smaller parts) or a smaller --batch-size", file=sys.stderr)
        return 1
    leave_processes()  # not after an error: the others may be waiting for us, and torchrun ends them
    return 0


def nobody_reads():
    """Whether the reader of the output is gone: `... | head` has seen enough. What is still to be written goes nowhere.
    """
    try:
        output = sys.stdout.fileno()
    except (OSError, AttributeError):  # in a test; without any output
        return False
    if hasattr(select, "poll"):  # not on Windows
        watch = select.poll()
        watch.register(output, 0)
        if not watch.poll(0):
            return False  # it was another pipe, to a process that ended
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def out_of_memory(error):
    """Whether an error says that memory was full; torch's class for GPUs cannot be imported without torch."""
    return (isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
            or "DefaultCPUAllocator" in str(error))


def sentence(error):
    """What an error says, without the number of the operating system's."""
    if isinstance(error, OSError) and error.strerror and str(error).startswith("[Errno"):
        from ..system.files import says_full
        reason = "the disk is full" if says_full(error) else error.strerror
        return reason + f": {error.filename}" * bool(error.filename)
    return error


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one sentence, not a screen of usage."""

    def __init__(self, **options):
        super().__init__(**options)
        self.register("type", int, any_whole_number)  # instead of "invalid int value: 'x'"
        self.register("type", float, any_number)

    def error(self, message):
        self.exit(2, f"{self.prog}: {message} (--help lists the options)\n")


class Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that tells the default of an option where it says something: not of flags, nor of what is left out."""

    def _get_help_string(self, action):
        silent = action.default is None or action.default is False
        return action.help if silent else super()._get_help_string(action)


def build_parser():
    """All commands and options."""
    top = Parser(prog="python -m minimaskformer", description="MaskFormer on the command line: train, use and "
                 "understand a model.", epilog="COMMAND --help explains one command.")
    top.add_argument("--version", action=Version, nargs=0, help="print the version and exit")
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, (add_options, function, help) in COMMANDS.items():
        sub = commands.add_parser(name, help=help, description=help,
                                  formatter_class=Help)
        add_options(sub)
        sub.set_defaults(command=function, parser=sub)
    return top


class Version(argparse.Action):
    """Print the version and exit."""

    def __call__(self, parser, *_):
        from .. import __version__
        print(f"minimaskformer {__version__}")
        parser.exit()


def leave_processes():
    """Leave the other processes of a torchrun, if a command has joined them."""
    if distributed := sys.modules.get("minimaskformer.system.distributed"):
        distributed.finish()


def scenes_options(parser):
    """The options of `scenes`."""
    parser.add_argument("--out", default="data/lakeland", type=Path, help="the folder to write")
    parser.add_argument("--split", default="val", choices=("train", "val"), help="val: textures that train has not")
    parser.add_argument("--count", type=whole_number, default=100, help="how many scenes")
    parser.add_argument("--size", type=int, default=128, help="sides of a scene in pixels, 64 ... 512")
    parser.add_argument("--difficulty", type=float, default=0.5, help="0 ... 1: more things, haze and noise")


def run_scenes(options):
    """Write Lakeland scenes in COCO panoptic format."""
    from tqdm.auto import tqdm

    from ..data.lakeland import Lakeland
    from ..data.readers.coco_panoptic import write_panoptic
    from ..system.files import check_writable
    dataset = Lakeland(options.split, options.size, options.difficulty, options.count)
    check_writable(options.out)
    progress_bar = tqdm(range(len(dataset)), desc="scenes", disable=None)  # None: only in a terminal
    write_panoptic(options.out, (dataset[i] for i in progress_bar), dataset.classes, options.split)
    print(f"{counted(options.count, 'scene')} in {options.out}; use them with --data coco_panoptic:{options.out}")


def progress_options(parser):
    """The options of `progress`."""
    parser.add_argument("--reset", action="store_true", help="start again")


def run_progress(options):
    """Show or reset the learner's progress."""
    from ..exercises import progress
    progress(reset=options.reset)


def mine_options(parser):
    """`mine` has no options."""


def run_mine(options):
    """Make my_maskformer.py anew, and say which of its parts are the learner's."""
    from ..exercises.lesson_calls import say
    from ..exercises.my_maskformer import make_nearest
    say("\n".join(make_nearest()))


COMMANDS = {
    "train": (train_options, run_train, "train a model and leave checkpoint, log, metrics and pictures in a folder"),
    "evaluate": (evaluate_options, run_evaluate, "mIoU, PQ and mask AP of a checkpoint on a data set"),
    "inspect": (inspect_options, run_inspect, "what a data set holds: class counts, sizes, suspicious files, a "
                "contact sheet"),
    "convert": (convert_options, run_convert, "write a data set of any format as COCO panoptic or COCO instance files"),
    "predict": (predict_options, run_predict,
                "segment pictures; writes a picture and the raw result for each: NAME_semantic_ids.png holds class "
                "indices (NAME_semantic.json names them), NAME_panoptic_ids.png segment ids as in COCO (in colours; "
                "NAME_panoptic.json), NAME_instance.npz masks, labels and scores"),
    "export": (export_options, run_export, "write a checkpoint's network as ONNX, for other programs: input `images`, "
               "normalised, of any size; outputs `class_logits` and `mask_logits`"),
    "diagnose": (diagnose_options, run_diagnose, "what went wrong in a training run? the usual causes, with numbers"),
    "scenes": (scenes_options, run_scenes, "write Lakeland scenes as COCO panoptic images, PNG and JSON"),
    "doctor": (doctor_options, run_doctor, "is all here that the course needs? says what to fix where it is not"),
    "lessons": (lessons_options, run_lessons, "your own copies of the lessons, in my_lessons/, opened in JupyterLab"),
    "progress": (progress_options, run_progress, "your progress through the exercises"),
    "mine": (mine_options, run_mine, "my_maskformer.py, the model that you write: its parts, and the file made anew"),
}
