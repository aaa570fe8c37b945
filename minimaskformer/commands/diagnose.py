"""`diagnose`: what went wrong in a training run."""
import json
from pathlib import Path

from .evaluate import by_name, matching_options
from .options import DEVICE, data_options, open_data


def diagnose_options(parser):
    """The options of `diagnose`."""
    parser.add_argument("run", type=Path, help="folder of the run")
    data_options(parser, default="lakeland")
    matching_options(parser)
    parser.add_argument("--split", default="val")
    parser.add_argument("--limit", type=int, default=50, help="number of pictures to try the checkpoint on, spread "
                        "evenly over the data set")
    parser.add_argument("--device", default="auto", help=DEVICE)


def run_diagnose(options):
    """Read a run's log, try its checkpoint on some pictures, and print the likely causes of what is wrong."""
    from ..diagnosis.measurements import measure
    from ..diagnosis.run import diagnose, read_run, report
    from ..system.distributed import choose_device
    from ..system.files import without_nan, write_text
    from ..weights.checkpoint import load_checkpoint
    rows, evidence, config = read_run(options.run)
    if config.get("model", {}).get("per_pixel"):
        print("a per-pixel model has no queries to look at: only the log is read")
    elif (options.run / "model.safetensors").is_file():
        model = load_checkpoint(options.run / "model.safetensors").to(choose_device(options.device))
        dataset = by_name(model, open_data(options, options.split), options)
        evidence = measure(model, dataset, options.limit)
        write_text(options.run / "evidence.json", json.dumps(without_nan(evidence), indent=1))
    elif not rows and evidence is None:
        raise ValueError(f"no line of {options.run / 'log.jsonl'} can be read, and there is no model.safetensors: "
                         f"there is nothing to diagnose")
    elif evidence is None:
        print(f"{options.run} has no model.safetensors: reading only the log")
    print(report(diagnose(rows, evidence, config), evidence))
