"""How a checkpoint from the hub wants its pictures: preprocessor_config.json beside the weights, in our terms.

There x' = (x * rescale - mean) / std; here x' = (x - pixel_mean) / pixel_std, so ours are theirs divided by rescale.
"""
import json
import math
from pathlib import Path

FILE = "preprocessor_config.json"
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}  # what a missing entry means
SIZE = {"shortest_edge": 800, "longest_edge": 1333}
BILINEAR = 2  # Pillow's number
NO_LIMIT = 100_000  # a long side that no picture has, and the largest that a configuration may have
HARMLESS = ("do_resize", "do_rescale", "do_normalize", "do_reduce_labels", "do_convert_rgb", "do_pad")


def picture_settings(folder):
    """({field of MaskFormerConfig: value}, [what cannot be done here, as text]); both empty without the file.

    It reads mean, std, rescale factor and size, under the names of all versions of the `transformers` package. Raises
    ValueError with file, name and value for an invalid one.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return {}, []
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(settings, dict):
        raise ValueError(f"{path} is not a JSON object")
    flags = {name: flag(settings, name, path) for name in ("do_resize", "do_rescale", "do_normalize")}
    rescale = numbers_of(settings, "rescale_factor", 1 / 255, path, positive=True)[0] if flags["do_rescale"] else 1.0
    mean, std = [0.0] * 3, [1.0] * 3
    if flags["do_normalize"]:
        mean = numbers_of(settings, "image_mean", IMAGENET["image_mean"], path, count=3)
        std = numbers_of(settings, "image_std", IMAGENET["image_std"], path, count=3, positive=True)
    sides, undone = picture_size(settings, path)
    changes = {"pixel_mean": tuple(round(m / rescale, 6) for m in mean),
               "pixel_std": tuple(round(s / rescale, 6) for s in std)} | sides
    if not flags["do_resize"]:
        undone = [f"do_resize is false, but here pictures are always resized, to a short side of {sides['short_side']}"]
    divisor = settings.get("size_divisor", settings.get("size_divisibility"))
    if flags["do_resize"] and divisor not in (None, 0, 1):
        undone.append(f"size_divisor {divisor}: there pictures are stretched to a multiple of it, here they are padded")
    if settings.get("resample", BILINEAR) != BILINEAR:
        undone.append(f"resample {settings['resample']}: here pictures are resized bilinearly ({BILINEAR})")
    undone += [f"{name}: not done here" for name, value in settings.items()
               if name.startswith("do_") and name not in HARMLESS and value]
    return changes, undone


def picture_size(settings, path):
    """(short_side and long_side, [what cannot be done]) from "size", a number or a dict, and the older "max_size"."""
    size = settings.get("size", SIZE)
    if not isinstance(size, dict):
        size = {"shortest_edge": size, "longest_edge": settings.get("max_size")}
    if size.get("shortest_edge") is not None:
        long_side = size.get("longest_edge", settings.get("max_size"))
        return {"short_side": side(size["shortest_edge"], path),
                "long_side": NO_LIMIT if long_side is None else side(long_side, path)}, []
    for names, how in ((("height", "width"), "stretched to this shape"),
                       (("max_height", "max_width"), "made to fit into this shape")):
        if all(size.get(name) is not None for name in names):
            short, long = sorted(side(size[name], path) for name in names)
            return {"short_side": short, "long_side": long}, [
                f"size {size}: there pictures are {how}, here they keep their shape, with a short side of {short} and "
                f"a long side of {long} at most"]
    raise ValueError(f"{path}: size = {size!r}; known are a number, shortest_edge with longest_edge, height with width")


def flag(settings, name, path):
    """True or false; true if it is missing."""
    value = settings.get(name, True)
    if not isinstance(value, bool):
        raise ValueError(f"{path}: {name} = {value!r}, expected true or false")
    return value


def numbers_of(settings, name, default, path, count=1, positive=False):
    """`count` finite numbers as a list; one number may stand for all of them."""
    given = settings.get(name)
    given = default if given is None else given
    values = given if isinstance(given, list) else [given] * count
    good = [isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) and (v > 0 or not positive)
            for v in values]
    if len(values) != count or not all(good):
        raise ValueError(f"{path}: {name} = {given!r}, expected {count} finite number{'s' * (count > 1)}"
                         + " above 0" * positive)
    return [float(v) for v in values]


def side(value, path):
    """A length in pixels."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{path}: size = {value!r}, expected a whole number of pixels, from 1 on")
    return value
