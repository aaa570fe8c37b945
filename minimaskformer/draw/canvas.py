"""What every picture of a segmentation is made of: pictures in any form, flat colours over grey, stripes, outlines.

Figures are plain matplotlib Figure objects: nothing here uses pyplot, so no figure stays open in a long run.
"""
import io
import re
from pathlib import Path

import numpy as np
from matplotlib import rcParams
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

from ..system.files import replacing
from ..system.tensors import to_numpy

SIDE = 512  # small pictures are enlarged to about this before matplotlib shrinks them to the screen: even pixels
INK = "0.12"  # outlines and text
CJK_LETTERS = re.compile(r"[\u1100-\u11ff\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
CJK = ("Noto Sans CJK KR", "Noto Sans CJK JP", "Noto Sans CJK SC", "NanumGothic", "Apple SD Gothic Neo",
       "Hiragino Sans", "Malgun Gothic", "Yu Gothic", "Microsoft YaHei", "Arial Unicode MS")


def with_cjk(families, installed):
    """Font families, then the installed ones with the Korean, Japanese or Chinese letters that DejaVu lacks."""
    return [*families, *(name for name in CJK if name in installed and name not in families)]


def find_letters(texts):
    """Give texts with Korean, Japanese or Chinese letters a font that has them, if one is installed.

    Only these texts: for a bold title matplotlib would complain that such a font has no bold.
    """
    families = with_cjk(rcParams["font.family"], {font.name for font in fontManager.ttflist})
    for text in texts:
        if CJK_LETTERS.search(text.get_text()):
            text.set_fontfamily(families)


def new_figure(width=3.2, height=None, rows=1, columns=1, layout="compressed", **ratios):
    """A Figure of a size in inches, and its axes (one, or an array [rows, columns] squeezed as in plt.subplots).

    layout: "constrained" where captions need the room that narrow pictures leave. ratios: width_ratios, height_ratios.
    """
    figure = Figure(figsize=(width, height or width * rows / columns), layout=layout)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    return figure, figure.subplots(rows, columns, **ratios)


def save_figure(figure, path, dpi=150):
    """Write a figure in its suffix's format (PNG without one); readers never see half a file, nor lose the old one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    find_letters(figure.findobj(Text))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=dpi, format=path.suffix[1:] or "png", bbox_inches="tight", pad_inches=0.04)
    return path


def small_png(figure, dpi=100, colors=256):
    """A figure as the bytes of a palette PNG."""
    large, small = io.BytesIO(), io.BytesIO()
    figure.savefig(large, dpi=dpi, format="png", bbox_inches="tight", pad_inches=0.04)
    picture = Image.open(large).convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    picture.save(small, "png", optimize=True)
    return small.getvalue()


def no_math(text):
    """A name escaped so that matplotlib draws every letter: otherwise text between two $ is a formula."""
    return str(text).replace("$", r"\$")


def as_image(image):
    """uint8 [H, W, 3] from a tensor [3, H, W], an array [H, W, 3] or a PIL picture; floats mean 0 ... 1.

    Raises ValueError for another shape, and for floats outside 0 ... 1 (usually a picture that is still normalised).
    """
    if hasattr(image, "convert"):
        return np.asarray(image.convert("RGB"))
    array, tensor = to_numpy(image), hasattr(image, "detach")
    if array.ndim != 3 or array.shape[0 if tensor else 2] != 3:
        raise ValueError(f"a picture is a tensor [3, H, W], an array [H, W, 3] or a PIL image; got "
                         f"{'a tensor' if tensor else 'an array'} of shape {list(array.shape)}")
    array = array.transpose(1, 2, 0) if tensor else array  # [H, W, 3]
    if array.dtype.kind == "f":
        if not (array.min() >= 0 and array.max() <= 1):
            raise ValueError(f"a picture of floats must lie in 0 ... 1, but this one lies in {array.min():.3g} ... "
                             f"{array.max():.3g}: draw the picture from before the normalisation")
        array = (array * 255).round()
    elif array.dtype != np.uint8:
        raise ValueError(f"a picture is uint8 or floats in 0 ... 1, got {array.dtype}")
    return array.astype(np.uint8)


def image_of_size(image, shape, what):
    """The picture as uint8 [H, W, 3] (None stays None); raises ValueError unless it is as large as the map over it."""
    if image is None:
        return None
    image = as_image(image)
    if image.shape[:2] != tuple(shape):
        raise ValueError(f"the picture is {image.shape[0]} x {image.shape[1]} (H x W) but the {what} is "
                         f"{shape[0]} x {shape[1]}: resize one of them first")
    return image


def show(ax, rgb, hatched=None):
    """An [H, W, 3] picture, pixel coordinates, thin frame, no ticks; striped where `hatched` [H, W] is True."""
    h, w = rgb.shape[:2]
    large = enlarge(to_bytes(rgb))
    if hatched is not None and hatched.any():
        large = hatch(large, enlarge(hatched))
    ax.imshow(large, extent=(-0.5, w - 0.5, h - 0.5, -0.5), interpolation="antialiased")
    ax.set(xticks=[], yticks=[], xlim=(-0.5, w - 0.5), ylim=(h - 0.5, -0.5))
    ax.spines[:].set(visible=True, linewidth=0.5, color="0.4")
    return ax


def hatch(rgb, where):
    """Diagonal stripes of a darker and a lighter tone of each colour where the mask [H, W] is True; uint8."""
    y, x = np.ogrid[:where.shape[0], :where.shape[1]]
    period = max(8, max(where.shape) // 32)
    dark = ((x + y) % period < 0.4 * period) & where
    light = where & ~dark
    rgb = rgb.copy()
    rgb[dark] = 0.55 * rgb[dark]
    rgb[light] = 0.6 * rgb[light] + 0.4 * 255
    return rgb


def to_bytes(rgb):
    """Colours as uint8; floats mean 0 ... 1."""
    return rgb if rgb.dtype == np.uint8 else (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8)


def enlarge(array):
    """Every pixel as a block, so that the larger side is about SIDE: exact squares, never blurred."""
    times = max(1, round(SIDE / max(array.shape[:2])))
    return array.repeat(times, 0).repeat(times, 1)


def grey(image):
    """The picture in lighter greys, float [H, W, 3], so that the only colours are the palette's."""
    light = image @ np.array([0.299, 0.587, 0.114]) / 255
    return np.repeat((0.35 + 0.65 * light)[..., None], 3, 2)


def tint(image, colors, alpha):
    """Flat colours [H, W, 3] over the grey picture; alpha a number or [H, W, 1]. Without a picture: over white."""
    return alpha * colors + (1 - alpha) * (1.0 if image is None else grey(image))


def outline(ax, segments, color=INK, width=0.8, **options):
    """Lines of constant width along the pixel edges where a map [H, W] changes its value."""
    lines = boundary_lines(segments)
    ax.add_collection(LineCollection(lines, colors=[color], linewidths=width, capstyle="projecting", **options),
                      autolim=False)
    return ax


def boundary_lines(segments):
    """Ends [(x, y), (x, y)] of all straight pieces of boundary in a map [H, W]: float [L, 2, 2], pixel coordinates."""
    across = runs(segments[1:] != segments[:-1])  # between two rows: (row, first, after last)
    down = runs((segments[:, 1:] != segments[:, :-1]).T)
    lines = np.zeros((len(across) + len(down), 2, 2))
    lines[:len(across), :, 0], lines[:len(across), :, 1] = across[:, 1:] - 0.5, across[:, :1] + 0.5
    lines[len(across):, :, 1], lines[len(across):, :, 0] = down[:, 1:] - 0.5, down[:, :1] + 0.5
    return lines


def runs(flags):
    """The runs of True in each row of flags [R, C]: int [M, 3] of (row, first column, column after the last)."""
    edges = np.diff(np.pad(flags.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    row, first = np.nonzero(edges == 1)
    return np.stack([row, first, np.nonzero(edges == -1)[1]], 1)
