"""Image files in, tensors out: any picture as RGB uint8, any label file as integers.

Pictures of a data set are taken as stored: an EXIF orientation is *not* applied. COCO and the other data sets annotate
the stored pixels, so a turned image would no longer fit its labels. A picture to predict has no labels: it is turned.
"""
import os
import re
import warnings
from pathlib import Path, PureWindowsPath
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image, ImageOps

BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)  # what Pillow raises for bad files
ORIENTATION = 0x0112  # the EXIF tag
REDUCED = 254  # the TIFF tag NewSubfileType
if limit := os.environ.get("MINIMASKFORMER_MAX_PIXELS"):  # Pillow warns above its limit, and refuses above twice that
    if not limit.isdecimal():
        raise ValueError(f"the environment variable MINIMASKFORMER_MAX_PIXELS is a number of pixels, got {limit!r}")
    Image.MAX_IMAGE_PIXELS = int(limit) // 2
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # between the two we read: `check_pixels`


def read_image(path):
    """The picture in a file as uint8 RGB [3, H, W]; see `rgb_array` for grey, palette and 16-bit files.

    Raises FileNotFoundError for a missing file and ValueError for one that is truncated or not an image.
    """
    return torch.from_numpy(rgb_array(open_image(path), path)).permute(2, 0, 1).contiguous()  # [3, H, W]


def open_image(path):
    """A file as a loaded Pillow image; FileNotFoundError or ValueError say which file is missing or broken.

    A file with several pages or frames is refused: which of them is meant?
    """
    return open_pages(path, several=False)[0]


def open_pages(path, several=True):
    """The pages or frames of a file as loaded Pillow images, nearly always one; `open_image` accepts only one."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such image file: {path}")
    try:
        with Image.open(path) as picture:
            numbers, pages = page_numbers(picture), []
            for number in numbers if several else numbers[:1]:
                if len(numbers) > 1:
                    picture.seek(number)
                picture.load()
                pages.append(picture.copy() if len(numbers) > 1 else picture)
    except BROKEN as error:
        raise unreadable(path, error) from error
    if not several:
        check_one_page(numbers, path)
    return pages


def page_numbers(picture):
    """Which frames of an open Pillow file are pages of their own.

    A TIFF's smaller copies of a page do not count, nor what a phone puts behind the picture in a JPEG (format MPO).
    """
    if picture.format == "MPO" or not getattr(picture, "is_animated", False):
        return [0]
    every = range(picture.n_frames)
    copies = [number for number in every if is_smaller_copy(picture, number)]
    picture.seek(0)
    return [number for number in every if number not in copies or 0 in copies]


def is_smaller_copy(picture, number):
    """Whether a TIFF says that a page is another one at reduced resolution."""
    picture.seek(number)
    return picture.format == "TIFF" and bool(picture.tag_v2.get(REDUCED, 0) & 1)


def check_one_page(numbers, path):
    """ValueError unless a file has one page."""
    if len(numbers) > 1:
        raise ValueError(f"{path} holds {len(numbers)} pages or frames, but a picture or a label file has one: save "
                         "each one you want as a file of its own")


def unreadable(path, error):
    """A ValueError that says why Pillow cannot read a file."""
    if isinstance(error, Image.DecompressionBombError):
        return ValueError(f"{path} was not decoded because it could fill the memory: {too_many_pixels()}")
    return ValueError(f"{path} cannot be read as an image ({error}): is it a picture, and whole? Copy or download "
                      "it again, or remove it together with its labels")


def check_pixels(width, height, where):
    """ValueError for a picture size too large to be decoded."""
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{where} is {width} x {height}: {too_many_pixels()}")


def too_many_pixels():
    """What the limit is, and how to raise it."""
    return (f"pictures of more than {2 * Image.MAX_IMAGE_PIXELS:,} pixels are not read. If the picture is as it should "
            "be and memory is large enough, set the environment variable MINIMASKFORMER_MAX_PIXELS to a larger number")


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


def is_turned(picture):
    """Whether the EXIF orientation of an open Pillow image turns or mirrors it (0, which some write, means nothing)."""
    return picture.getexif().get(ORIENTATION, 1) in range(2, 9)


def upright_array(picture, where="the picture"):
    """`rgb_array` of a Pillow image turned upright by its EXIF orientation: a picture to predict, as a viewer shows it.

    Raises ValueError for a file that turns out to be truncated, and for pixels that `rgb_array` does not accept.
    """
    try:
        picture = ImageOps.exif_transpose(picture)
    except BROKEN as error:
        raise ValueError(f"{where} cannot be read ({error}): is the file truncated?") from error
    return rgb_array(picture, where)


def safe_name(file_name):
    """A relative file name without its suffix, as one word that is a valid file name on every system."""
    return re.sub(r"[^\w.-]", "_", re.sub(r"\.\w+$", "", normalize("NFC", str(file_name))))


def item_names(file_names):
    """`safe_name` of each of several different files, numbered where two would be the same: 1.png and 1.jpg."""
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
    """folder / name, in the Unicode form the disk uses: é may be e and an accent there, but one letter in the JSON.

    Raises ValueError for a name that leads out of the folder: absolute, with .. in it, or by a link.
    """
    place = Path(folder)
    if Path(name).is_absolute() or PureWindowsPath(name).anchor or ".." in PureWindowsPath(name).parts:
        raise ValueError(f"the file name {str(name)!r} leads out of the folder {folder}: a name in an annotation file "
                         "must be relative to the folder of its images, without ..")
    for part in [name] if name.isascii() else Path(name).parts:
        forms = dict.fromkeys((part, normalize("NFC", part), normalize("NFD", part)))
        place = next((place / form for form in forms if len(forms) > 1 and (place / form).exists()), place / part)
    if not place.resolve().is_relative_to(Path(folder).resolve()):
        raise ValueError(f"{place} is a link that leads out of the folder {folder}, to {place.resolve()}: put the file "
                         "itself there, or make the folder of the images the link")
    return place


def check_same_size(shapes, name):
    """Raise ValueError unless the files of an item agree in size. shapes: {file: (height, width)}."""
    shapes = {file: tuple(shape) for file, shape in shapes.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{file} is {width} x {height}" for file, (height, width) in shapes.items())
        hint = "The annotations belong to the original image: do not resize one without the other"
        if len(set(shapes.values())) == 2 and len({tuple(sorted(shape)) for shape in shapes.values()}) == 1:
            hint = ("Width and height are swapped: is the picture rotated by its EXIF orientation? Save it upright "
                    "(data/README.md, \"Rotated pictures\"). Or are the two swapped in the annotations?")
        raise ValueError(f"sizes (width x height) differ for image {name}: {told}. {hint}")


def open_picture(path):
    """A picture file as an RGB PIL image, upright as a viewer shows it; a clear error for anything else."""
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder: name the pictures in it, for example {path}/*.jpg")
    return Image.fromarray(upright_array(open_image(path), path))
