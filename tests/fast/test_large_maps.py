"""Maps a few at a time: the running argmax, bands and the reordering in place give what the plain operation gives."""
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minimaskformer import build_model
from minimaskformer.fast import large_maps as maps
from minimaskformer.fast.large_maps import Largest, bands, bilinear, put_in_order
from minimaskformer.predict import Sizes, read_out


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("groups", ((1,) * 7, (3, 4), (2, 1, 4), (7,)))
def test_largest_is_argmax_and_a_tie_stays_with_the_first(groups):
    values = (4 * noise(7, 9, 11)).round().clamp(min=0)  # many ties, also of zeros
    assert (values.sort(0).values[-1] == values.sort(0).values[-2]).float().mean() > 0.1
    largest = Largest((9, 11), "cpu")
    for part in values.split(groups):
        largest.add(part)
    assert torch.equal(largest.index(), values.argmax(0)) and torch.equal(largest.value, values.amax(0))


def test_largest_of_nothing_is_zero():
    assert Largest((2, 3), "cpu").index().tolist() == [[0] * 3] * 2


@pytest.mark.parametrize("size", ((130, 90), (96, 128), (250, 330)))
@pytest.mark.parametrize("rows", (1, 3, 4, 50))
def test_bands_are_the_enlarged_map_in_pieces(monkeypatch, size, rows):
    padded = tuple(side + -side % 32 for side in size)
    mask_logits = 5 * noise(5, padded[0] // 4, padded[1] // 4)
    monkeypatch.setattr(maps, "CHUNK", 1)
    monkeypatch.setattr(maps, "BAND", rows)
    pieces = list(bands(mask_logits, padded, size))
    assert [piece.shape[1] for piece in pieces[:-1]] == [rows] * (len(pieces) - 1)
    whole = bilinear(mask_logits, padded)[:, :size[0], :size[1]]
    if rows + padded[1] > 128:  # torch takes another kernel for smaller maps
        assert torch.equal(torch.cat(pieces, 1), whole)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunk", (1, 100, 10**6))
def test_in_place_order_is_plain_indexing(monkeypatch, chunk):
    monkeypatch.setattr(maps, "CHUNK", chunk)
    for order in ([3, 0, 3, 1, 2], [4, 3, 2, 1, 0], [2], []):
        values, order = noise(5, 7, 6) > 0, torch.tensor(order, dtype=torch.int64)
        want = values[order]
        put_in_order(values, order)
        assert torch.equal(values[:len(order)], want)


class Counted(TorchDispatchMode):
    """The largest tensor, in bytes, that any operation makes."""
    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **kwargs or {})
        for value in result if isinstance(result, (list, tuple)) else [result]:
            if isinstance(value, torch.Tensor):
                self.largest = max(self.largest, value.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("task", ("general", "panoptic", "instance", "semantic"))
def test_nothing_larger_than_the_answer_is_made(monkeypatch, task):
    """Forty masks of 256 x 384 pixels, all sure: no tensor holds more than a few of them, but the answer's own."""
    monkeypatch.setattr(maps, "CACHED", 2**10)
    class_logits = noise(40, 12)
    class_logits[range(40), [i % 11 for i in range(40)]] += 20
    config = build_model("mini").config
    with Counted() as counted:
        answer = read_out(config, task, class_logits, 4 * noise(40, 32, 48), Sizes((256, 384), (128, 192)))
    one = 256 * 384 * 4
    if task == "instance":
        assert len(answer["masks"]) > 15
        assert counted.largest == answer["masks"].untyped_storage().nbytes()
    else:
        assert counted.largest <= (3 if task == "semantic" else 2) * one  # semantic: 11 score maps of 128 x 192
