"""The files of a model of the hub: its folder in any form, and weights in one file or in several with an index."""
import re
from pathlib import Path

from ..system.tensors import read_tensors
from ..system.text import check_inside, parse_json, printable
from .hub_cache import snapshot

FILES = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")  # model-00001-of-00003.safetensors


def weights_file(folder):
    """The file with the weights in a folder, or the index of those; FileNotFoundError if there is none.

    A cache folder models--ORG--NAME stands for the version in it that is meant.
    """
    folder = Path(folder)
    if (folder / "snapshots").is_dir():
        folder = snapshot(folder)
    for name in FILES:
        for path in (folder / name, folder / (name + INDEX)):
            if path.is_file():
                return path
            if path.is_symlink():
                raise FileNotFoundError(f"{path} is a link to a file that is not there, {path.readlink()}: was its "
                                        f"download interrupted? Download the model again")
    raise FileNotFoundError(f"the folder {folder} has no weights: neither {' nor '.join(FILES)}, nor either's {INDEX}")


def read_all_tensors(path):
    """`read_tensors`; of an index (NAME.index.json) the tensors of all files that it names.

    Raises ValueError for a file that is one of several by its name, and naming every file and tensor of an index that
    is missing.
    """
    if SHARD.search(path.name):
        raise ValueError(f"{path} holds a part of a model's weights: give the folder, or the {INDEX} file that lists "
                         f"all parts")
    return read_index(path) if path.name.endswith(INDEX) else read_tensors(path)


def read_index(path):
    """The {name: tensor} of all files that an index names, and the header of one of them."""
    content = parse_json(path.read_text(encoding="utf-8"), path)
    file_of = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(file_of, dict) or not file_of or not all(isinstance(name, str) for name in file_of.values()):
        raise ValueError(f"{path} is no index of weights: it has no table \"weight_map\" of names and files")
    files = sorted({check_inside(name, path) for name in file_of.values()})
    missing = [name for name in files if not (path.parent / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{path} names {len(files)} files of weights, and {len(missing)} are not there: "
                                f"{', '.join(map(printable, missing[:5]))}{' ...' * (len(missing) > 5)}. Download the "
                                f"model again")
    tensors, header = {}, None
    for name in files:
        found, header = read_tensors(path.parent / name)
        tensors |= found
    lost = [name for name in file_of if name not in tensors]
    if lost:
        raise ValueError(f"{path} names {len(file_of)} tensors, and {len(lost)} are in none of its files, such as "
                         f"{printable(lost[0])}: are the files of one download? Download the model again")
    return {name: tensors[name] for name in file_of}, header
