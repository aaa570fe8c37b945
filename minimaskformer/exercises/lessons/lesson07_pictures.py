"""Exercises 07.5 and 07.6 of lesson 07: from pictures to a batch, from mask logits back to a picture."""
import math

import torch
import torch.nn.functional as F

from ..core import Exercise, Fixture, Mistake, issue
from .lesson07_parts import numbers

# --- 07.5 pictures to a batch -----------------------------------------------------------------------------------------

def to_batch(pictures, mean, std, divisibility):
    height, width = (max(side) for side in zip(*(p.shape[-2:] for p in pictures)))
    height, width = height + -height % divisibility, width + -width % divisibility  # up to the next multiple
    batch = torch.zeros(len(pictures), 3, height, width, dtype=mean.dtype)
    image_mask = torch.zeros(len(pictures), height, width, dtype=torch.bool)
    for i, picture in enumerate(pictures):
        h, w = picture.shape[-2:]
        batch[i, :, :h, :w] = (picture - mean[:, None, None]) / std[:, None, None]
        image_mask[i, :h, :w] = True
    return batch, image_mask


def _up(side, d):
    return side + -side % d


def _corner(canvas, size):
    return 0, 0


def _scaled(p, mean, std):
    return (p - mean[:, None, None]) / std[:, None, None]


def _batch(pictures, mean, std, d, scaled=_scaled, fill=None, up=_up, place=_corner, square=False, marked=None):
    """The batch with knobs to get wrong; fill: a raw value that is normalised with the picture."""
    height, width = (up(max(side), d) for side in zip(*(p.shape[-2:] for p in pictures)))
    if square:
        height = width = max(height, width)
    rest = 0.0 if fill is None else scaled(torch.full((3, 1, 1), float(fill), dtype=mean.dtype), mean, std)
    batch = torch.zeros(len(pictures), 3, height, width, dtype=mean.dtype) + rest
    mask = torch.zeros(len(pictures), height, width, dtype=torch.bool)
    for i, picture in enumerate(pictures):
        x = scaled(picture.to(mean.dtype), mean, std)[:, :height, :width]
        y0, x0 = place((height, width), x.shape[-2:])
        batch[i, :, y0:y0 + x.shape[1], x0:x0 + x.shape[2]] = x
        mask[i, y0:y0 + x.shape[1], x0:x0 + x.shape[2]] = True
    return batch, mask if marked is None else marked(mask)


def batch_with(**knobs):
    return lambda *args: _batch(*args, **knobs)


def _scaled_by(subtract=lambda p, m, s: m, divide=lambda p, m, s: s, before=lambda p: p):
    def scaled(p, mean, std):
        p = before(p)
        return (p - subtract(p, mean, std)[:, None, None]) / divide(p, mean, std)[:, None, None]
    return batch_with(scaled=scaled)


def _stretched(pictures, mean, std, d):
    batch, mask = _batch(pictures, mean, std, d)
    full = [F.interpolate(_scaled(p, mean, std)[None], size=mask.shape[-2:], mode="bilinear") for p in pictures]
    return torch.cat(full), torch.ones_like(mask)


def _padded_twice(pictures, mean, std, d):
    mask = _batch(pictures, mean, std, d)[1]
    height, width = (max(side) for side in zip(*(p.shape[-2:] for p in pictures)))
    pictures = [F.pad(p, (0, width - p.shape[2], 0, height - p.shape[1])) for p in pictures]
    return _batch(pictures, mean, std, d)[0], mask


def _found_in_batch(pictures, mean, std, d):
    batch, _ = _batch(pictures, mean, std, d)
    return batch, (batch != 0).any(1)


def _turned_mask(pictures, mean, std, d):
    batch, mask = _batch(pictures, mean, std, d)
    mask = torch.zeros_like(mask)
    for row, picture in zip(mask, pictures):
        row[:picture.shape[2], :picture.shape[1]] = True
    return batch, mask


def _up_to_the_largest(pictures, mean, std, d):
    batch, mask = _batch(pictures, mean, std, d)
    mask[:, :max(p.shape[1] for p in pictures), :max(p.shape[2] for p in pictures)] = True
    return batch, mask


def _from_the_largest(pictures, *rest):
    """The pictures in order of their heights."""
    return _batch(sorted(pictures, key=lambda p: -p.shape[1]), *rest)


def _bytes(seed, *size, first=None):
    """A picture of random bytes; first: the colour of its top left pixel, if not a random one."""
    picture = torch.randint(0, 256, (3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    if first:
        picture[:, 0, 0] = torch.tensor(first, dtype=torch.uint8)
    return picture


_MEAN, _STD = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
batch_exercise = Exercise(
    id="07.5", title="pictures to a batch", name="to_batch", reference=to_batch, parts=("batch", "image_mask"),
    fixtures=(Fixture("5 x 6 and 4 x 9, multiples of 4", ([_bytes(1, 5, 6), _bytes(2, 4, 9)], _MEAN, _STD, 4)),
              Fixture("8 x 2 and 3 x 4, multiples of 4: no more is needed; one pixel has the mean colour",
                      ([_bytes(3, 8, 2), _bytes(4, 3, 4, first=(100, 50, 150))], torch.tensor([100.0, 50.0, 150.0]),
                       torch.tensor([20.0, 80.0, 40.0]), 4)),
              Fixture("2 x 7 and 5 x 3, multiples of 3",
                      ([_bytes(6, 2, 7), _bytes(5, 5, 3)], torch.tensor([90.0, 120.0, 30.5]),
                       torch.tensor([35.0, 60.0, 25.0]), 3)),
              Fixture("one picture of 3 x 6, multiples of 4", ([_bytes(7, 3, 6)], _MEAN, _STD, 4))),
    mistakes=(
        Mistake("padded with 0 before normalising", batch_with(fill=0),
                "Raw 0 is black: normalised it is about -2, a dark frame around the picture. Normalise, then pad with "
                "0, which is the mean colour."),
        Mistake("padded with 128 before normalising", batch_with(fill=128),
                "Near the mean, but not at it. Normalise first, then pad with exactly 0."),
        Mistake("divided by 255 first", _scaled_by(before=lambda p: p / 255),
                "Mean and std are given for values 0 ... 255. Everything would become almost the same dark grey."),
        Mistake("mean and std divided by 255, the picture not",
                _scaled_by(lambda p, m, s: m / 255, lambda p, m, s: s / 255),
                "Mean and std are given for values 0 ... 255, and that is what the picture holds."),
        Mistake("divided by 255, mean and std not used",
                _scaled_by(lambda p, m, s: 0 * m, lambda p, m, s: torch.full_like(s, 255)), "(value - mean) / std"),
        Mistake("not normalised at all", _scaled_by(lambda p, m, s: 0 * m, lambda p, m, s: torch.ones_like(s)),
                "(value - mean) / std"),
        Mistake("padded to a common size before normalising, to the multiple afterwards", _padded_twice,
                "What was padded first is normalised too and becomes black. Normalise each picture, then pad once."),
        Mistake("mean and std exchanged", _scaled_by(lambda p, m, s: s, lambda p, m, s: m),
                "Subtract the mean, divide by the std."),
        Mistake("mean not subtracted", _scaled_by(lambda p, m, s: 0 * m), "(value - mean) / std"),
        Mistake("not divided by std", _scaled_by(divide=lambda p, m, s: torch.ones_like(s)), "(value - mean) / std"),
        Mistake("divided by the variance", _scaled_by(divide=lambda p, m, s: s * s), "(value - mean) / std"),
        Mistake("channels in the order BGR", _scaled_by(before=lambda p: p.flip(0)),
                "The pictures are RGB, and so are mean and std. OpenCV reads BGR: convert once, when you load."),
        Mistake("mean and std in the order BGR", _scaled_by(lambda p, m, s: m.flip(0), lambda p, m, s: s.flip(0)),
                "Mean and std belong to the channels in the order given."),
        Mistake("one mean and one std for all channels",
                _scaled_by(lambda p, m, s: m.mean().expand(3), lambda p, m, s: s.mean().expand(3)),
                "Each channel has its own: mean[:, None, None] and std[:, None, None]."),
        Mistake("each picture's own mean and std",
                _scaled_by(lambda p, m, s: p.mean((1, 2)), lambda p, m, s: p.std((1, 2))),
                "The constants are those the backbone was trained with, the same for every picture."),
        Mistake("padded at the left and top",
                batch_with(place=lambda canvas, size: (canvas[0] - size[0], canvas[1] - size[1])),
                "At the right and bottom: then a pixel keeps its coordinates and cropping is [:h, :w]."),
        Mistake("padded on all sides",
                batch_with(place=lambda canvas, size: ((canvas[0] - size[0]) // 2, (canvas[1] - size[1]) // 2)),
                "At the right and bottom: then a pixel keeps its coordinates and cropping is [:h, :w]."),
        Mistake("not padded to a multiple", batch_with(up=lambda side, d: side),
                "After the largest height and width comes the next multiple: the network halves them five times."),
        Mistake("the tallest picture first", _from_the_largest, "The pictures keep their order: targets follow it."),
        Mistake("cut to a multiple", batch_with(up=lambda side, d: side // d * d), "Pad up, do not cut away."),
        Mistake("one block too many where the side is a multiple already",
                batch_with(up=lambda side, d: side + d - side % d),
                "-side % d is 0 for a multiple; d - side % d is d."),
        Mistake("a square canvas", batch_with(square=True), "Height and width need not be alike."),
        Mistake("stretched instead of padded", _stretched, "Sizes are kept; what is missing is filled with 0."),
        Mistake("the mask True on the padding", batch_with(marked=lambda mask: ~mask),
                "Here True is image. (torch's key_padding_mask has it the other way round.)"),
        Mistake("the mask where the batch is not 0", _found_in_batch,
                "A pixel of the mean colour is 0 after normalising, and is image. Mark by the sizes."),
        Mistake("the mask with height and width exchanged", _turned_mask, "image_mask[i, :h, :w], rows first."),
        Mistake("the mask up to the largest height and width", _up_to_the_largest,
                "Each picture's own: where a smaller one ends, its padding begins."),
        Mistake("the mask True everywhere", batch_with(marked=torch.ones_like),
                "The padding is not image: attention must be able to skip it.",
                issue("huggingface/transformers", 39382))),
    hints=("Which raw value would have to be padded, so that it is 0 after the normalisation?",
           "None that is the same for all channels: normalise first. The canvas is the largest height and the largest "
           "width, each rounded up; every picture lies in its top left corner.",
           "side + -side % divisibility; batch[i, :, :h, :w] = (picture - mean[:, None, None]) / std[:, None, None]; "
           "image_mask[i, :h, :w] = True"),
    why="After normalisation 0 is the mean colour, the least surprising thing to put beside a picture, and zeros are "
        "what every convolution puts around its map anyway. The reference code pads twice: with 128 before "
        "normalisation in its data mapper, with 0 after it in its batcher.")


# --- 07.6 masks back to the picture -----------------------------------------------------------------------------------

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
