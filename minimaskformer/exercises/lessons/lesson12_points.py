"""Lesson 12: Mask2Former's masked attention and point losses, and the ways people get them wrong."""
import numpy as np
import torch
import torch.nn.functional as F

from ...fast.points import most_uncertain, sample_points
from ...studies.mask2former import attention_mask
from ..core import Exercise, Fixture, Mistake


def _random(seed, *shape, scale=1.0, shift=0.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + shift


# --- 12.3 what a query must not read ----------------------------------------------------------------------------------

def _resized(x, size, **how):
    how = {"mode": "bilinear", "align_corners": False} | how
    if how["mode"] in ("nearest", "area"):
        how.pop("align_corners")
    return F.interpolate(x[None], size=size, **how)[0].flatten(1)  # [N, h * w]


def _opened(forbidden):
    return forbidden & ~forbidden.all(1, keepdim=True)


def _columns(x, size):
    return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False)[0].mT.flatten(1) < 0


def _mask_examples():
    """Query 1 draws nothing; query 2 a speck that is gone at the memory's size; no size divides the other evenly."""
    for seed, shape, size in ((11, (4, 12, 16), (3, 5)), (5, (3, 9, 10), (4, 3))):
        logits = _random(seed, *shape, scale=2.0, shift=-0.3)
        logits[1] = -logits[1].abs() - 0.2
        logits[2] = -logits[2].abs() - 1.0
        logits[2, 0, -1] = 0.4
        yield logits, size


_HALF = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 1.0]], [[3.0, 0.0, 0.0], [1.0, 0.0, 0.0]]])
_FIRST, _SECOND = _mask_examples()
attention_exercise = Exercise(
    id="12.3", title="what a query must not read", name="attention_mask", reference=attention_mask,
    fixtures=(Fixture("4 queries, 12 x 16 to 3 x 5 cells", _FIRST), Fixture("3 queries, 9 x 10 to 4 x 3", _SECOND),
              Fixture("2 queries that draw nothing", (-_random(2, 2, 4, 6).abs() - 0.3, (2, 5))),
              Fixture("2 queries, none empty", (_random(3, 2, 7, 8, scale=2.0), (2, 3))),
              Fixture("2 queries with cells at exactly one half", (_HALF, (2, 3)))),
    mistakes=(
        Mistake("turned round: True where the query may read", lambda x, s: ~attention_mask(x, s),
                "torch's attn_mask says what is *forbidden*: True takes a cell away."),
        Mistake("turned round, and empty masks not opened", lambda x, s: _resized(x, s) >= 0,
                "True takes a cell away; and a query whose mask is empty must read everything."),
        Mistake("turned round: True where the query may read", lambda x, s: _opened(_resized(x, s) > 0),
                "torch's attn_mask says what is *forbidden*: True takes a cell away."),
        Mistake("emptiness judged over the queries instead of the cells", lambda x, s: (_resized(x, s) < 0) & ~(
            _resized(x, s) < 0).all(0, keepdim=True), "all(1), over the cells of a query: a row is a query."),
        Mistake("bicubic instead of bilinear", lambda x, s: _opened(_resized(x, s, mode="bicubic") < 0),
                "Bilinear mixes the four pixels around the cell's centre."),
        Mistake("a query with an empty mask reads nothing", lambda x, s: _resized(x, s) < 0,
                "Softmax over no cell at all is nan. Where every cell of a query is forbidden, forbid none."),
        Mistake("empty masks judged before the resize", lambda x, s: (_resized(x, s) < 0) & (
            x.flatten(1) >= 0).any(1, keepdim=True),
                "A speck can be gone at the memory's size. What counts is whether any *cell* is left."),
        Mistake("emptiness judged for all queries at once", lambda x, s: (_resized(x, s) < 0) & ~(
            _resized(x, s) < 0).all(), "Each query for itself: all(1, keepdim=True)."),
        Mistake("empty masks opened in one cell only", lambda x, s: torch.cat([
            (_resized(x, s) < 0)[:, :1] & ~(_resized(x, s) < 0).all(1, keepdim=True), (_resized(x, s) < 0)[:, 1:]], 1),
                "Such a query reads *everything*: the whole row becomes False."),
        Mistake("nearest instead of bilinear", lambda x, s: _opened(_resized(x, s, mode="nearest") < 0),
                "Nearest looks at one pixel of each cell; resize the logits bilinearly."),
        Mistake("averaged over the cell instead of bilinear", lambda x, s: _opened(_resized(x, s, mode="area") < 0),
                "Bilinear without antialiasing mixes the four pixels around the cell's centre."),
        Mistake("the largest logit of the cell instead of bilinear",
                lambda x, s: _opened(F.adaptive_max_pool2d(x, s).flatten(1) < 0),
                "One pixel would open the whole cell. The mask is resized bilinearly."),
        Mistake("cells at exactly one half forbidden", lambda x, s: _opened(_resized(x, s) <= 0),
                "Forbidden is what lies *below* 0.5; one half itself belongs to the mask."),
        Mistake("antialiased", lambda x, s: _opened(_resized(x, s, antialias=True) < 0),
                "The mask is resized plainly, as everywhere in this library: antialias stays off."),
        Mistake("corners aligned", lambda x, s: _opened(_resized(x, s, align_corners=True) < 0),
                "align_corners=True stretches the picture by a pixel; we have False everywhere."),
        Mistake("thresholded first, resized after", lambda x, s: _opened(_resized((x > 0).to(x.dtype), s) < 0.5),
                "A hard mask forgets how sure each pixel was. Resize the logits, then compare."),
        Mistake("probabilities resized instead of logits", lambda x, s: _opened(_resized(x.sigmoid(), s) < 0.5),
                "A very sure pixel outvotes three unsure ones as logits, not as probabilities. Resize the logits."),
        Mistake("logits compared with 0.5", lambda x, s: _opened(_resized(x, s) < 0.5),
                "Probability 0.5 is logit 0."),
        Mistake("one empty mask opens every query's row", lambda x, s: (_resized(x, s) < 0) & ~(
            _resized(x, s) < 0).all(1).any(), "Each query for itself: only its own row is opened."),
        Mistake("nothing is ever forbidden", lambda x, s: _resized(x, s) != _resized(x, s),
                "Every cell comes out False. (A sigmoid taken twice does it: of a probability it is 0.5 or more.)"),
        Mistake("cells in columns first", lambda x, s: _opened(_columns(x, s)),
                "The memory is flattened row by row: flatten(-2) of [N, h, w]."),
        Mistake("size taken as (width, height)", lambda x, s: _opened(_resized(x, (s[1], s[0])) < 0),
                "size is (h, w): rows first.")),
    hints=("Which cells lie outside the mask, at the memory's size? What does a query do whose mask is empty there?",
           "Resize the logits, compare with 0, flatten; then look for rows in which everything is forbidden.",
           "forbidden = F.interpolate(mask_logits[None], size=size, mode=\"bilinear\", align_corners=False)[0]"
           ".flatten(1) < 0; forbidden & ~forbidden.all(1, keepdim=True)"),
    why="The library's function takes a batch too; the logits stay logits until the comparison, and an empty row is "
        "opened again, because softmax over nothing is 0 / 0.")


# --- 12.4 reading a mask between its pixels ---------------------------------------------------------------------------

def _sampled(maps, points, **how):
    how = {"padding_mode": "border", "align_corners": False} | how
    return F.grid_sample(maps[:, None], 2 * points[:, None] - 1, **how)[:, 0, 0]


def _raw_grid(maps, points):
    return F.grid_sample(maps[:, None], points[:, None], padding_mode="border", align_corners=False)[:, 0, 0]


def _whole_pixels(maps, points, shift):
    """Bilinear by hand at pixel coordinates point * size - shift; a shift of 0.5 is right."""
    H, W = maps.shape[-2:]
    x, y = points[..., 0] * W - shift, points[..., 1] * H - shift
    grid = torch.stack([(x + 0.5) / W, (y + 0.5) / H], -1)
    return _sampled(maps, grid)


def _corner_pixel(maps, points):
    H, W = maps.shape[-2:]
    x, y = (points[..., k] * n - 0.5 for k, n in ((0, W), (1, H)))
    x, y = x.floor().clamp(min=0).long(), y.floor().clamp(min=0).long()
    return torch.stack([m[b, a] for m, a, b in zip(maps, x, y)])


def _by_hand(maps, points, exchanged=False, clamped=True):
    """Bilinear from the four neighbours, with two things to get wrong."""
    M, H, W = maps.shape
    x, y = points[..., 0] * W - 0.5, points[..., 1] * H - 0.5
    x, y = (x.clamp(0, W - 1), y.clamp(0, H - 1)) if clamped else (x, y)
    left, top = x.floor().long().clamp(0, W - 2), y.floor().long().clamp(0, H - 2)
    a, b, m = x - left, y - top, torch.arange(M)[:, None]
    a, b = (1 - a, 1 - b) if exchanged else (a, b)
    return ((1 - b) * ((1 - a) * maps[m, top, left] + a * maps[m, top, left + 1])
            + b * ((1 - a) * maps[m, top + 1, left] + a * maps[m, top + 1, left + 1]))


_POINTS = torch.tensor([[[0.30, 0.62], [0.02, 0.97], [0.71, 0.11], [0.55, 0.48]],
                        [[0.88, 0.35], [0.43, 0.04], [0.985, 0.52], [0.17, 0.81]]])  # some beyond the outermost centres
points_exercise = Exercise(
    id="12.4", title="a mask between its pixels", name="sample_points", reference=sample_points,
    fixtures=(Fixture("2 masks of 4 x 7, 4 points", (_random(1, 2, 4, 7, scale=3.0), _POINTS)),
              Fixture("2 masks of 6 x 3", (_random(4, 2, 6, 3, scale=3.0), _POINTS.flip(1)))),
    mistakes=(
        Mistake("x and y exchanged", lambda m, p: _sampled(m, p.flip(-1)),
                "A point is (x, y), the column first; a mask is indexed [row, column]."),
        Mistake("points not brought to -1 ... 1", _raw_grid,
                "grid_sample counts from -1 (left, top) to 1: 2 * point - 1."),
        Mistake("points not brought to -1 ... 1, and x and y exchanged", lambda m, p: _raw_grid(m, p.flip(-1)),
                "grid_sample takes (x, y) in -1 ... 1: 2 * point - 1, in the order it came."),
        Mistake("corners aligned", lambda m, p: _sampled(m, p, align_corners=True),
                "With align_corners=True 0 and 1 are the outermost pixel *centres*; here they are the edges."),
        Mistake("nearest instead of bilinear", lambda m, p: _sampled(m, p, mode="nearest"),
                "Between pixels the value is mixed from the four around it: mode=\"bilinear\"."),
        Mistake("bicubic instead of bilinear", lambda m, p: _sampled(m, p, mode="bicubic"),
                "Four neighbours, straight lines between them: bilinear."),
        Mistake("zeros beyond the outermost pixels", lambda m, p: _sampled(m, p, padding_mode="zeros"),
                "grid_sample's default mixes in zeros at the border, and a logit of 0 looks uncertain. "
                "padding_mode=\"border\" keeps the nearest pixel."),
        Mistake("half a pixel off", lambda m, p: _whole_pixels(m, p, 0.0),
                "The centre of pixel j lies at (j + 0.5) / W, so its coordinate is x * W - 0.5."),
        Mistake("the pixel to the left and above, not mixed", _corner_pixel,
                "Between pixels the value is mixed from the four around it: mode=\"bilinear\"."),
        Mistake("the neighbours' shares exchanged", lambda m, p: _by_hand(m, p, exchanged=True),
                "The nearer pixel counts more: 1 - a for the left one, a for the right, a the distance from the left."),
        Mistake("carried on beyond the outermost pixels", lambda m, p: _by_hand(m, p, clamped=False),
                "There the nearest pixel counts: clamp the coordinate, not only the index."),
        Mistake("y counted from the bottom", lambda m, p: _sampled(m.flip(1), p), "y counts from the top edge."),
        Mistake("the first mask's points for all masks", lambda m, p: _sampled(m, p[:1].expand_as(p)),
                "Mask i is read at points[i]."),
        Mistake("pixel centres taken at (j + 1) / W", lambda m, p: _whole_pixels(m, p, 1.0),
                "The centre of pixel j lies at (j + 0.5) / W, so its coordinate is x * W - 0.5."),
        Mistake("one mask for all points", lambda m, p: _sampled(m[:1].expand_as(m), p),
                "Mask i is read at points[i]."),
        Mistake("probabilities instead of logits", lambda m, p: _sampled(m, p).sigmoid(),
                "The maps come out as they went in."),
        Mistake("sigmoid before reading", lambda m, p: _sampled(m.sigmoid(), p), "The maps come out as they went in.")),
    hints=("Which function of torch reads a picture at given places, and in which coordinates?",
           "F.grid_sample wants [M, 1, H, W], a grid [M, 1, P, 2] from -1 to 1, and a choice for the border.",
           "F.grid_sample(maps[:, None], 2 * points[:, None] - 1, padding_mode=\"border\", "
           "align_corners=False)[:, 0, 0]"),
    why="One call for all masks and points. The border matters: zeros there would look like the most uncertain logits.")


# --- 12.5 where a mask can still change its mind ----------------------------------------------------------------------

def _flat_all(x, count):
    flat = x.abs().flatten().argsort()[:count * len(x)]
    return (flat % x.shape[1]).reshape(len(x), count)


_LOGITS = torch.tensor([[2.9, -0.3, 4.1, -6.0, 0.8, -1.7, 0.45, 5.2], [-0.9, 3.3, -0.15, 7.0, -5.1, 0.6, 2.2, -2.6]])
uncertain_exercise = Exercise(
    id="12.5", title="where a mask can still change its mind", name="most_uncertain", reference=most_uncertain,
    canonical=lambda arrays: [np.sort(a, -1) if a.ndim else a for a in arrays],
    fixtures=(Fixture("2 masks, 8 points, 3 wanted", (_LOGITS, 3)),
              Fixture("3 masks, 6 points, 2 wanted", (torch.tensor([
                  [-8.0, 0.7, 1.9, -0.2, 0.95, -2.4], [0.55, -3.0, -0.1, 2.0, -1.2, 9.0],
                  [14.0, 5.0, -6.0, 6.5, 3.0, 9.5]]), 2))),
    mistakes=(
        Mistake("the surest instead of the least sure", lambda x, n: x.abs().topk(n, 1).indices,
                "Uncertain is a logit near 0, where sigmoid is near 0.5: the *smallest* |logit|."),
        Mistake("the largest logits", lambda x, n: x.topk(n, 1).indices,
                "A large logit is a sure yes. Uncertain is near 0, on either side."),
        Mistake("the smallest logits", lambda x, n: x.topk(n, 1, largest=False).indices,
                "A very negative logit is a sure no, and so is a probability near 0. Take the absolute value first."),
        Mistake("the smallest positive logits", lambda x, n: torch.where(
            x > 0, x, torch.inf).topk(n, 1, largest=False).indices,
                "Logits just below 0 are as unsure as those just above."),
        Mistake("nearest to 0.5 instead of 0", lambda x, n: (x - 0.5).abs().topk(n, 1, largest=False).indices,
                "Probability 0.5 is logit 0."),
        Mistake("chosen among all masks together", _flat_all, "Each mask chooses for itself: topk along dim 1."),
        Mistake("places counted through all masks",
                lambda x, n: x.abs().flatten().argsort()[:n * len(x)].view(len(x), n),
                "Each mask chooses for itself, and counts its own places: topk along dim 1."),
        Mistake("the values as well", lambda x, n: tuple(x.abs().topk(n, 1, largest=False)),
                "topk returns two things: take .indices."),
        Mistake("the values instead of their places", lambda x, n: x.abs().topk(n, 1, largest=False).values,
                "Return the indices."),
        Mistake("the logits at those places", lambda x, n: x.gather(1, most_uncertain(x, n)), "Return the indices."),
        Mistake("one too many left out", lambda x, n: x.abs().argsort(1)[:, 1:n + 1],
                "argsort begins with the nearest: take [:, :count]."),
        Mistake("the first mask's places for all", lambda x, n: most_uncertain(x, n)[:1].expand(len(x), n),
                "Each mask has uncertain places of its own.")),
    hints=("Which probability says \"I do not know\", and which logit is that?",
           "The distance of a logit from 0 measures how sure it is. Take the smallest ones of each row.",
           "logits.abs().topk(count, dim=1, largest=False).indices"),
    why="|logit| orders points as |probability - 0.5| does, and needs no sigmoid.")
