"""`inspect`: what a data set holds, and what looks wrong with it."""
import sys
from pathlib import Path

from .options import data_options, open_data


def inspect_options(parser):
    """The options of `inspect`."""
    data_options(parser, required=True)
    parser.add_argument("--split", default="train", help="train, val, or another split that the data set has")
    parser.add_argument("--limit", type=int, help="use only this many pictures, spread evenly (default: all)")
    parser.add_argument("--out", default="runs/inspect", type=Path, help="folder for the report and the sheets")


def run_inspect(options):
    """Look at a data set; print and keep what is found. Ends with an error if pictures cannot be used."""
    from ..diagnosis.dataset import inspect, write_report
    from ..system.files import check_writable
    dataset = open_data(options, options.split)
    check_writable(options.out)
    try:
        other = open_data(options, "val" if options.split == "train" else "train")
    except (ValueError, OSError) as error:
        other = None
        print(f"note: there is no other split to compare with: {error}", file=sys.stderr)
    looks = inspect(dataset, options.limit, other)
    print(write_report(looks, dataset, f"{options.data}, {options.split}", options.out))
    print(f"report.txt, suspicious.txt and sheets of pictures are in {options.out}")
    broken = sum(bool(found.error) for found in looks)
    if broken:
        raise ValueError(f"{broken} of the {len(looks)} pictures cannot be used: see {options.out / 'report.txt'}")
