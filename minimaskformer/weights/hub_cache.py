"""A model of the Hugging Face hub by its name: downloaded, or from the cache that its tools keep.

    hub/models--ORG--NAME/refs/main             the hash of the version that is meant
    hub/models--ORG--NAME/snapshots/HASH/       its files, mostly links to blobs/

Without the package huggingface_hub, or without a network, the cache is read as it is.
"""
import os
import re
from pathlib import Path

from ..system.distributed import say_once
from ..system.text import printable

NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # ORG/NAME
FILES_OF_WEIGHTS = re.compile(r"\.(safetensors|bin|pt|pth|pkl|pickle|json|onnx)$")
SETTINGS = ("config.json", "preprocessor_config.json")
WANTED = ("*.safetensors", "model.safetensors.index.json"), ("pytorch_model*.bin", "pytorch_model.bin.index.json")


def is_hub_name(text):
    """Whether a text that is no file or folder can only be a name on the hub, ORG/NAME."""
    return bool(NAME.fullmatch(text)) and not FILES_OF_WEIGHTS.search(text) and not Path(text).parent.is_dir()


def hub_cache():
    """The folder in which the hub's tools keep what they downloaded: HF_HUB_CACHE, or hub/ in HF_HOME."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def hub_folder(name):
    """The folder with the files of a model of the hub, such as "facebook/maskformer-resnet50-ade".

    Downloaded by huggingface_hub where it is installed and there is a network, else from its cache. Raises
    FileNotFoundError with the commands to run where it is in neither.
    """
    cached = hub_cache() / f"models--{name.replace('/', '--')}"
    try:
        return download(name)
    except ImportError:
        why, first = "the package huggingface_hub is not installed", "pip install huggingface_hub, and try again"
    except Exception as error:  # its own kinds, and those of the connection, which differ from version to version
        told, *_ = [*str(error).strip().splitlines(), type(error).__name__]
        why, first = f"it could not be downloaded ({printable(told)})", "try again"
    if cached.is_dir():
        folder = snapshot(cached)
        say_once(f"note: {name} is read from {folder}: {why}")
        return folder
    raise FileNotFoundError(
        f"{name} is no file or folder here, it is not in the hub's cache {hub_cache()}, and {why}. With a "
        f"network, {first}; or download it elsewhere, {download_command(name)}, and give the folder in place of the "
        f"name")


def download(name):
    """The folder into which huggingface_hub downloads a model: settings, and weights as safetensors or, without any,
    as .bin files."""
    from huggingface_hub import snapshot_download
    for patterns in WANTED:
        folder = Path(snapshot_download(name, cache_dir=hub_cache(), allow_patterns=[*SETTINGS, *patterns]))
        if any(any(folder.glob(pattern)) for pattern in patterns):
            break
    return folder


def download_command(name):
    """The command that downloads a model of the hub into a folder."""
    return f"hf download {name} --local-dir {name.rpartition('/')[2]}"


def snapshot(folder):
    """The folder with the files inside a cache folder models--ORG--NAME: the version that refs/main names.

    Raises FileNotFoundError where that is not there, and ValueError where several are and none is named.
    """
    main, versions = folder / "refs" / "main", sorted(path for path in folder.glob("snapshots/*") if path.is_dir())
    again = f"download it again: {download_command(folder.name.removeprefix('models--').replace('--', '/'))}"
    if main.is_file():
        version = main.read_text(encoding="utf-8", errors="replace").strip()
        found = [path for path in versions if path.name == version]
        if not found:
            raise FileNotFoundError(f"{folder} has no version {printable(version)}, which refs/main names: {again}")
        return found[0]
    if len(versions) != 1:
        raise (ValueError if versions else FileNotFoundError)(
            f"{folder} holds {len(versions)} versions and no refs/main that names one: " + (
                f"give one of them, such as {versions[0]}" if versions else again))
    return versions[0]
