"""The competition tile by tile has the winners and the pixel counts of the competition on whole maps, to the last one."""
import pytest
import torch

from minimaskformer import inference
from minimaskformer.fast import competition as tiled
from minimaskformer.fast.competition import those_that_matter, worth_tiling
from minimaskformer.fast.large_maps import ToPicture

SIZES = ((320, 256), (317, 250), (128, 480), (131, 129), (600, 128))


def blobs(n, h, w, generator):
    """Mask logits [n, h, w] that are positive in a disc and far below zero around it, as a trained model's."""
    y, x, radius = torch.rand(3, n, 1, 1, generator=generator)
    rows, columns = torch.linspace(0, 1, h)[:, None], torch.linspace(0, 1, w)
    return 6 - 6 * ((rows - y) ** 2 + (columns - x) ** 2) / (0.05 + 0.3 * radius) ** 2


def noise(n, h, w, generator):
    return 8 * torch.randn(n, h, w, generator=generator)


def steps(n, h, w, generator):
    """Few values, so that masks often tie, and huge ones, whose probabilities are all 0 or 1."""
    return 1000.0 * torch.randint(-1, 2, (n, h, w), generator=generator)


def wide(n, h, w, generator):
    return torch.linspace(-1e6, 1e6, n)[:, None, None] * blobs(n, h, w, generator)


def both(scores, mask_logits, kept, resize, monkeypatch):
    """(winner, won, covered) of `compete` in tiles and on whole maps."""
    assert worth_tiling(mask_logits, resize)
    in_tiles = inference.compete(scores, mask_logits, kept, resize)
    monkeypatch.setattr(inference, "worth_tiling", lambda *_: False)
    return in_tiles, inference.compete(scores, mask_logits, kept, resize)


@pytest.mark.parametrize("make", (blobs, noise, steps, wide))
@pytest.mark.parametrize("size", SIZES)
def test_tiles_and_whole_maps_agree(monkeypatch, make, size):
    generator = torch.Generator().manual_seed(sum(size))
    padded = tuple(side + -side % 32 for side in size)
    mask_logits = make(12, padded[0] // 4, padded[1] // 4, generator)
    scores, kept = 0.5 + 0.5 * torch.rand(12, generator=generator), [1, 2, 4, 5, 7, 8, 9, 11]
    got, want = both(scores, mask_logits, kept, ToPicture(padded, size, size), monkeypatch)
    assert torch.equal(got[0], want[0]) and got[1:] == want[1:]
    assert len(got[0].unique()) > 1 and sum(got[1].values()) == size[0] * size[1]


def test_equal_masks_go_to_the_first(monkeypatch):
    mask_logits = blobs(1, 64, 64, torch.Generator().manual_seed(0)).repeat(4, 1, 1)
    got, want = both(torch.full((4,), 0.9), mask_logits, [0, 1, 2, 3], ToPicture(*[(256, 256)] * 3), monkeypatch)
    assert torch.equal(got[0], want[0]) and got[0].max() == 0 and got[1:] == want[1:]


def test_masks_that_cannot_matter_are_left_out():
    places = torch.tensor([[5.0, 6.0], [-9.0, -8.0], [-9.0, 4.0], [-1.0, 0.0]])  # [4 queries, 2 pixels]
    assert those_that_matter(torch.ones(4), places).tolist() == [0, 2, 3]
    assert those_that_matter(torch.ones(2), places[[1, 1]]).tolist() == [0, 1]  # nobody is better: both may win


def test_a_tile_has_fewer_masks_than_the_whole(monkeypatch):
    counted = []
    monkeypatch.setattr(tiled, "those_that_matter", lambda *args: counted.append(q := those_that_matter(*args)) or q)
    mask_logits = blobs(20, 120, 160, torch.Generator().manual_seed(1))
    tiled.tiled_competition(torch.ones(20), mask_logits, list(range(20)), ToPicture(*[(480, 640)] * 3))
    assert len(counted) == 25 and 1 <= sum(map(len, counted)) / 25 < 15


@pytest.mark.parametrize("resize", (None, lambda x: x, ToPicture((256, 256), (256, 256), (300, 300)),
                                    ToPicture((512, 512), (512, 512), (512, 512))))
def test_other_sizes_are_not_tiled(resize):
    assert not worth_tiling(torch.zeros(3, 64, 64), resize)
    assert not worth_tiling(torch.zeros(3, 31, 64), ToPicture(*[(124, 256)] * 3))


def test_nan_in_a_mask_is_an_error():
    mask_logits = blobs(4, 64, 64, torch.Generator().manual_seed(0))
    mask_logits[2, 60, 60] = float("nan")
    with pytest.raises(FloatingPointError):
        inference.compete(torch.ones(4), mask_logits, [0, 2], ToPicture(*[(256, 256)] * 3))
