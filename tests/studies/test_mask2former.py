"""Mask2Former's three changes, each against a loop from its definition; and the decoder, against its own masks."""
import pytest
import torch
from torch import nn

from minimaskformer.fast.points import choose_points, most_uncertain, sample_points
from minimaskformer.studies.mask2former import (
    MaskedDecoder,
    attention_mask,
)


def test_attention_mask_at_equal_size_is_the_mask_turned_round():
    logits = torch.tensor([[[1.0, -2.0, 0.0], [-0.1, 3.0, -5.0]], [[-1.0, -1.0, -1.0], [-2.0, -3.0, -0.5]]])
    forbidden = attention_mask(logits, (2, 3))
    assert forbidden.tolist() == [[False, True, False, True, False, True], [False] * 6]  # the empty mask reads all
    assert attention_mask(logits[None, None], (2, 3)).shape == (1, 1, 2, 6)


def test_attention_mask_resizes_logits_as_means_of_cells():
    logits = torch.randn(5, 8, 12, generator=torch.Generator().manual_seed(0))
    halves = attention_mask(logits, (4, 6))  # bilinear to exactly half the size is the mean of 2 x 2
    means = logits.reshape(5, 4, 2, 6, 2).mean((2, 4)).flatten(1)
    assert torch.equal(halves, means < 0)


def test_points_are_bilinear_between_pixel_centres():
    maps = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    points = torch.rand(3, 40, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = sample_points(maps, points)
    for m in range(3):
        for p in range(40):
            x, y = (points[m, p, 0] * 7 - 0.5).clamp(0, 6), (points[m, p, 1] * 5 - 0.5).clamp(0, 4)
            value = 0.0
            for i in range(5):
                for j in range(7):
                    value += maps[m, i, j] * max(0, 1 - abs(y - i)) * max(0, 1 - abs(x - j))
            assert found[m, p] == pytest.approx(float(value))


def test_chosen_points_crowd_where_the_mask_is_uncertain():
    x = torch.linspace(-6, 6, 64)
    logits = torch.stack([x.expand(64, 64), x[:, None].expand(64, 64)])  # an edge down the middle, one across
    points = choose_points(logits, 200, generator=torch.Generator().manual_seed(0))
    assert points.shape == (2, 200, 2) and points.min() >= 0 and points.max() <= 1
    near = (points[0, :150, 0] - 0.5).abs().max(), (points[1, :150, 1] - 0.5).abs().max()
    assert max(near) < 0.15  # 150 of 600 uniform points lie within an eighth of the middle, for an eighth plus noise
    assert (points[0, 150:, 0] - 0.5).abs().max() > 0.3  # the rest is anywhere
    assert most_uncertain(torch.tensor([[3.0, -0.5, 0.1, -4.0]]), 2).tolist() == [[2, 1]]


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.classes, self.masks = nn.Linear(32, 5), nn.Linear(32, 16)


def decoder_inputs(seed=0):
    torch.manual_seed(seed)
    memories = [torch.randn(2, 32, 4 * s, 6 * s) for s in (1, 2, 4)]
    return MaskedDecoder(32, 7, num_layers=4, num_heads=4, feedforward=64).eval(), memories, torch.randn(2, 16, 32, 48), Heads()


def test_the_decoder_reads_only_inside_its_masks():
    decoder, memories, pixels, heads = decoder_inputs()
    before = decoder(memories, pixels, heads.classes, heads.masks)
    assert before.class_logits.shape == (2, 7, 5) and before.mask_logits.shape == (2, 7, 32, 48) and len(before.aux) == 4
    forbidden = attention_mask(before.aux[0].mask_logits, (4, 6)).all(1)  # cells that no query reads in the first layer
    poked = memories[0].clone()
    poked.flatten(2)[forbidden[:, None].expand(-1, 32, -1)] += 100.0
    assert forbidden.any(), "the seed should leave some cells unread"
    after = decoder([poked, *memories[1:]], pixels, heads.classes, heads.masks)
    assert torch.equal(after.aux[1].class_logits, before.aux[1].class_logits)
    everywhere = [memories[0] + 100.0 * torch.randn(2, 32, 1, 1), *memories[1:]]
    assert not torch.allclose(decoder(everywhere, pixels, heads.classes, heads.masks).aux[1].class_logits,
                              before.aux[1].class_logits)


def test_layers_take_turns_with_the_scales():
    decoder, memories, pixels, heads = decoder_inputs(3)
    before = decoder(memories, pixels, heads.classes, heads.masks)
    for level in range(3):
        changed = [m + torch.randn_like(m) if i == level else m for i, m in enumerate(memories)]
        after = decoder(changed, pixels, heads.classes, heads.masks)
        same = [torch.equal(a.class_logits, b.class_logits) for a, b in zip(after.aux, before.aux)]
        assert same[:level + 1] == [True] * (level + 1) and not any(same[level + 1:])


def test_permuted_queries_give_permuted_answers():
    decoder, memories, pixels, heads = decoder_inputs(4)
    before = decoder(memories, pixels, heads.classes, heads.masks)
    order = torch.randperm(7)
    for embedding in (decoder.query_features, decoder.query_positions):
        embedding.weight.data = embedding.weight.data[order]
    after = decoder(memories, pixels, heads.classes, heads.masks)
    torch.testing.assert_close(after.mask_logits, before.mask_logits[:, order], rtol=1e-4, atol=1e-4)
