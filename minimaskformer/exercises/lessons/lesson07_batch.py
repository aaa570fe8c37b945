"""Exercise 07.5: pictures to a batch, and the ways people get it wrong."""
import torch
import torch.nn.functional as F

from ..core import Exercise, Fixture, Mistake, issue


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
