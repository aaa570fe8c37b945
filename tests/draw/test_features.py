"""Pictures of feature maps: colours mean what they say, sums are sums, and bad input is refused."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from minimaskformer.draw import features


def picture(ax):
    return np.asarray(ax.images[0].get_array())


def pixel(ax, row, column):
    rgb = picture(ax)
    times = rgb.shape[0] // round(abs(np.subtract(*ax.get_ylim())))  # each cell is a block
    return rgb[row * times, column * times].astype(int)


def test_red_is_up_blue_is_down_white_is_zero():
    ax = features.draw_map(None, torch.tensor([[2.0, 0.0], [-2.0, -1.0]]))
    up, zero, down, half = (pixel(ax, *cell) for cell in ((0, 0), (0, 1), (1, 0), (1, 1)))
    assert up[0] > up[2] and down[2] > down[0] and zero.min() >= 254
    assert down[0] < half[0] < 255
    fixed = features.draw_map(None, torch.tensor([[2.0, 0.0], [-2.0, -1.0]]), limit=20)
    assert pixel(fixed, 0, 0).min() > up.min()


def test_numbers_and_frame_are_drawn_and_checked():
    ax = features.draw_map(None, torch.tensor([[1.0, -2.0, 0.0]]), numbers=True, cell=(0, 2), title="t")
    assert [t.get_text() for t in ax.texts] == ["1", "\N{MINUS SIGN}2", "0"] and len(ax.patches) == 1
    assert ax.patches[0].get_xy() == (1.5, -0.5)
    with pytest.raises(ValueError, match="no cell"):
        features.draw_map(None, torch.zeros(2, 2), cell=(0, 2))
    with pytest.raises(ValueError, match="finite"):
        features.draw_map(None, torch.tensor([[torch.nan]]))
    with pytest.raises(ValueError, match=r"\[1, 2, 2\]"):
        features.draw_map(None, torch.zeros(1, 2, 2))
    features.draw_map(None, torch.zeros(2, 2))  # nothing but zeros


def test_borders_of_segments_lie_between_their_cells():
    ids = torch.tensor([[1, 1, 2, 2]]).repeat_interleave(2, 0).repeat_interleave(4, 1)  # [2, 16]
    ax = features.draw_map(None, torch.zeros(1, 8), segments=ids)
    assert [np.asarray(p).tolist() for p in ax.collections[0].get_segments()] == [[[3.5, -0.5], [3.5, 0.5]]]


def test_equal_embeddings_get_equal_colours_and_unequal_ones_do_not():
    vectors = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    owner = torch.tensor([[0, 0, 1], [2, 1, 1]])
    colors = features.embedding_colors(vectors[owner].permute(2, 0, 1))
    assert colors.shape == (2, 3, 3) and colors.min() >= 0 and colors.max() <= 1
    same = owner.flatten()[:, None] == owner.flatten()
    gaps = np.abs(colors.reshape(6, 1, 3) - colors.reshape(1, 6, 3)).sum(-1)
    assert gaps[same.numpy()].max() < 1e-9 < 0.1 < gaps[~same.numpy()].min()
    mirrored = features.embedding_colors(vectors[owner].permute(2, 0, 1).flip(2))
    np.testing.assert_allclose(mirrored, colors[:, ::-1], atol=1e-6)
    half = features.embedding_colors(vectors[owner[:1]].permute(2, 0, 1), scale=vectors[owner].permute(2, 0, 1))
    np.testing.assert_allclose(half, colors[:1], atol=1e-6)  # the same directions, the same colours
    ax = features.draw_embeddings(None, vectors[owner].permute(2, 0, 1), title="t")
    np.testing.assert_array_equal(pixel(ax, 1, 0), (colors[1, 0] * 255).round())
    with pytest.raises(ValueError, match="3 channels"):
        features.embedding_colors(torch.zeros(2, 4, 4))


def test_the_last_sum_is_the_dot_product():
    g = torch.Generator().manual_seed(0)
    m, e = torch.randn(6, generator=g), torch.randn(6, 3, 4, generator=g)
    figure = features.draw_terms(plt.figure(), m, e, sums=(1, 2))
    axes = np.reshape(figure.axes, (2, 4))
    total = torch.einsum("c,chw->hw", m, e)
    expected = features.draw_map(None, total, limit=0.25 * total.abs().max().item())
    np.testing.assert_array_equal(picture(axes[1, 2]), picture(expected))
    assert axes[1, 2].get_title() == "all: the mask logits" and not axes[1, 3].axison
    first = int((m[:, None, None] * e).std((1, 2)).argmax())
    assert axes[0, 0].get_title() == f"channel {first}"
    plt.close(figure)
