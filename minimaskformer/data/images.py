"""Image files in, tensors out: any picture as RGB uint8, any label file as integers.

Pictures are taken as stored: an EXIF orientation is *not* applied. COCO and the other data sets annotate the stored
pixels, so turning the image would part it from its labels.
"""
import os
import re
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image, ImageOps

BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what Pillow raises for bad files
if "MINIMASKFORMER_MAX_PIXELS" in os.environ:  # Pillow warns from its limit on, and refuses twice as many
    Image.MAX_IMAGE_PIXELS = int(os.environ["MINIMASKFORMER_MAX_PIXELS"]) // 2


def read_image(path):
    """The picture in a file as uint8 RGB [3, H, W]; see `rgb_array` for grey, palette and 16-bit files.

    Raises FileNotFoundError for a missing file and ValueError for one that is truncated or no image.
    """
    return torch.from_numpy(rgb_array(open_image(path), path)).permute(2, 0, 1).contiguous()  # [3, H, W]


def open_image(path):
    """A file as a loaded Pillow image; FileNotFoundError or ValueError say which file is missing or broken."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such image file: {path}")
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except BROKEN as error:
        raise unreadable(path, error) from error


def unreadable(path, error):
    """What to say of a file that Pillow does not read: a ValueError."""
    if isinstance(error, Image.DecompressionBombError):
        return ValueError(f"{path} is not decoded, it could fill the memory: {too_many_pixels()}")
    return ValueError(f"{path} cannot be read as an image ({error}): is it truncated? Copy or download it again, or "
                      "remove it together with its labels")


def check_pixels(width, height, where):
    """ValueError if a picture of that size would not be decoded."""
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{where} is {width} x {height}: {too_many_pixels()}")


def too_many_pixels():
    """What the limit is, and how to raise it."""
    return (f"more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels are not read. If the picture is what it should be and "
            "the memory large enough, set the environment variable MINIMASKFORMER_MAX_PIXELS to a larger number")


def rgb_array(picture, where="image"):
    """A Pillow image as uint8 RGB [H, W, 3]: grey is repeated, palettes are looked up, transparency is dropped.

    16-bit grey keeps its high byte (65535 becomes 255), so a 12-bit camera's file comes out nearly black: rescale it
    first. `inspect` finds such files.
    Raises ValueError for floating-point pictures, which have no agreed white.
    """
    if picture.mode == "F":
        raise ValueError(f"{where} holds floating-point pixels: save it as 8-bit or 16-bit first")
    if picture.mode.startswith("I"):  # I;16, I;16B, or I: 16-bit grey in 32 bits
        grey = np.array(picture)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"{where} holds pixel values {grey.min()} ... {grey.max()}, outside 16 bits: "
                             "save it as 8-bit or 16-bit first")
        return np.repeat((grey >> 8).astype(np.uint8)[:, :, None], 3, axis=2)  # [H, W, 3]
    return np.array(picture.convert("RGB"))  # [H, W, 3]


def safe_name(file_name):
    """A relative file name without its suffix, as one word that is a good file name everywhere."""
    return re.sub(r"[^\w.-]", "_", re.sub(r"\.\w+$", "", normalize("NFC", str(file_name))))


def item_names(file_names):
    """`safe_name` of each of several different files, numbered where it would be the same: 1.png and 1.jpg."""
    names, taken = [], set()
    for file_name in file_names:
        name, number = safe_name(file_name), 1
        while name in taken:
            number += 1
            name = f"{safe_name(file_name)}_{number}"
        taken.add(name)
        names.append(name)
    return names


def stored_file(folder, name):
    """folder / name, in the forms of Unicode that the disk has: there é may be e and an accent, and not in the JSON."""
    place = Path(folder)
    for part in [name] if name.isascii() else Path(name).parts:
        forms = dict.fromkeys((part, normalize("NFC", part), normalize("NFD", part)))
        place = next((place / form for form in forms if len(forms) > 1 and (place / form).exists()), place / part)
    return place


def check_same_size(shapes, name):
    """Raise ValueError unless the files of an item agree in size. shapes: {file: (height, width)}."""
    shapes = {file: tuple(shape) for file, shape in shapes.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{file} is {width} x {height}" for file, (height, width) in shapes.items())
        hint = "The annotations belong to the original image: do not resize one without the other"
        if len(set(shapes.values())) == 2 and len({tuple(sorted(shape)) for shape in shapes.values()}) == 1:
            hint = ("Width and height are exchanged: is the picture rotated by its EXIF orientation? Save it upright "
                    "(data/README.md, \"Rotated pictures\")")
        raise ValueError(f"sizes (width x height) differ for image {name}: {told}. {hint}")


def open_picture(path):
    """A picture file as RGB PIL image, upright as a viewer shows it; a clear error for anything else."""
    from ..data.images import open_image, rgb_array
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: name the pictures in it, for example {path}/*.jpg")
    return Image.fromarray(rgb_array(ImageOps.exif_transpose(open_image(path)), path))
