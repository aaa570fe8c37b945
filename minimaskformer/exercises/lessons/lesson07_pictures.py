"""Exercise 07.6: masks back to the picture, and the ways people get them wrong."""
import math

import torch
import torch.nn.functional as F

from ..core import Exercise, Fixture, Mistake, issue
from .lesson07_parts import numbers


def to_picture(mask_logits, padded, size, picture_size):
    def resize(maps, to):
        return F.interpolate(maps[None], size=to, mode="bilinear", align_corners=False)[0]

    mask_logits = resize(mask_logits, padded)[:, :size[0], :size[1]]  # [N, *size]: the padding is cut off
    return resize(mask_logits, picture_size)  # [N, *picture_size]


def _resize(maps, to, mode="bilinear", **options):
    options = {"align_corners": False} | options if mode != "nearest" else options
    return F.interpolate(maps[None], size=tuple(to), mode=mode, **options)[0]


def _picture(x, padded, size, picture, first=_resize, second=_resize, crop=lambda x, s, p: x[:, :s[0], :s[1]],
             before=lambda x: x, after=lambda x: x):
    """Back to the picture with knobs to get wrong."""
    return after(second(crop(first(before(x), padded), size, picture), picture))


def picture_with(**knobs):
    return lambda *args: _picture(*args, **knobs)


def _with_options(*steps, **options):
    """Other options of F.interpolate in the first step, the second, or both."""
    def resize(maps, to):
        return _resize(maps, to, **options)
    return picture_with(**{step: resize for step in steps})


def _crop_coarse(whole):
    """The crop at stride 4; `whole` makes a number of cells of a fraction."""
    def wrong(x, padded, size, picture):
        height, width = (whole(side * cells / full) for side, cells, full in zip(size, x.shape[1:], padded))
        return _resize(x[:, :height, :width], picture)
    return wrong


def _one_step(x, padded, size, picture):
    """The whole padded input at the picture's scale, then the crop."""
    return _resize(x, [round(p * full / part) for p, full, part in zip(picture, padded, size)])[
        :, :picture[0], :picture[1]]


def _middle(x, size, picture):
    top, left = (x.shape[1] - size[0]) // 2, (x.shape[2] - size[1]) // 2
    return x[:, top:top + size[0], left:left + size[1]]


_STEPS = ("first", "second"), ("first",), ("second",)
picture_exercise = Exercise(
    id="07.6", title="masks back to the picture", name="to_picture", reference=to_picture,
    fixtures=(Fixture("16 x 24 with 9 x 18 of image, picture 18 x 36",
                      (numbers(200, 2, 4, 6, scale=3.0), (16, 24), (9, 18), (18, 36))),
              Fixture("20 x 12 with 13 x 7 of image, picture 8 x 5, smaller",
                      (numbers(201, 3, 5, 3, scale=3.0), (20, 12), (13, 7), (8, 5)))),
    mistakes=(
        Mistake("no crop", picture_with(crop=lambda x, s, p: x),
                "The padding is squeezed into the picture: every mask shrinks towards the top left."),
        Mistake("one resize, and nothing cut off", lambda x, padded, size, picture: _resize(x, picture),
                "The maps cover the padded input, not the picture. Go to its size first and cut the padding off; at "
                "stride 4 a crop to the true size would cut nothing."),
        *(Mistake("cropped at stride 4, then one resize", _crop_coarse(whole),
                  "The image's edge seldom lies between two cells of 4 x 4 pixels: the crop is up to 3 pixels off.")
          for whole in (math.ceil, math.floor, round)),
        Mistake("one step to the picture's scale, then the crop", _one_step,
                "Nearly, but the reference code takes two steps, with the crop between them, at the input's size; its "
                "numbers are measured that way."),
        Mistake("resized to `size` where `padded` was meant",
                picture_with(first=lambda x, to: x, crop=lambda x, s, p: _resize(x, s)),
                "The maps cover the padded input: enlarge to `padded`, then cut `size` out of it."),
        Mistake("the second resize forgotten", picture_with(second=lambda x, to: x),
                "The result must have the picture's own size.", issue("huggingface/transformers", 21313)),
        *(Mistake("align_corners=True", _with_options(*steps, align_corners=True),
                  "Then the centres of the corner pixels are kept and not the edges: everything is stretched a little. "
                  "Truth and image were resized with align_corners=False.") for steps in _STEPS),
        *(Mistake("nearest instead of bilinear", _with_options(*steps, mode="nearest"),
                  "Logits are smooth: bilinear, both times. (F.interpolate takes nearest unless told otherwise.)")
          for steps in _STEPS),
        Mistake("bicubic instead of bilinear", _with_options(*_STEPS[0], mode="bicubic"), "Bilinear, both times."),
        Mistake("antialiased", _with_options(*_STEPS[0], antialias=True),
                "Plain bilinear, also where the picture is smaller. (Images are antialiased when they are shrunk.)"),
        Mistake("sigmoid before resizing", picture_with(before=torch.sigmoid),
                "Resize logits: the line p = 0.5 of resized probabilities lies elsewhere."),
        Mistake("sigmoid after the first resize", picture_with(crop=lambda x, s, p: x[:, :s[0], :s[1]].sigmoid()),
                "Logits all the way, and logits out."),
        Mistake("sigmoid at the end", picture_with(after=torch.sigmoid),
                "Logits are wanted; the inference rule takes the sigmoid."),
        Mistake("masks cut at 0", picture_with(after=lambda x: (x > 0).to(x.dtype)),
                "Logits are wanted: the panoptic rule compares probabilities."),
        Mistake("cropped at the wrong corner", picture_with(crop=lambda x, s, p: x[:, -s[0]:, -s[1]:]),
                "The padding is at the right and bottom, so the image is [:h, :w]."),
        Mistake("cropped in the middle", picture_with(crop=_middle),
                "The padding is at the right and bottom, so the image is [:h, :w]."),
        Mistake("cropped to the picture's size", picture_with(crop=lambda x, s, p: x[:, :p[0], :p[1]]),
                "The crop cuts the padding off, to the size that the network's image had: `size`."),
        Mistake("the crop with height and width exchanged", picture_with(crop=lambda x, s, p: x[:, :s[1], :s[0]]),
                "Sizes are (height, width) everywhere."),
        Mistake("the picture with height and width exchanged", picture_with(second=lambda x, to: _resize(x, to[::-1])),
                "Sizes are (height, width) everywhere; PIL's .size is (width, height)."),
    ),
    hints=("The maps cover the padded input at stride 4. At which resolution can the padding be cut off exactly?",
           "At the input's own: resize to `padded`, crop to `size`, resize to `picture_size`. Logits all the way.",
           "F.interpolate(x[None], size=padded, mode=\"bilinear\", align_corners=False)[0][:, :h, :w], then the same "
           "once more to picture_size"),
    why="Two bilinear steps are what the reference code does, so its published numbers are measured this way. The "
        "library's `predict` does exactly this for panoptic and instance results.")
