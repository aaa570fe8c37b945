"""What queries read: equal to the model's own forward, and pictures that show the numbers they are given."""
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from minimaskformer.draw import attention as attention_maps
from minimaskformer.model import build_model
from minimaskformer.studies import queries

SIZES = [(64, 96), (32, 56)]


def images(seed=0):
    batch = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(seed))
    batch[1, :, 32:], batch[1, :, :, 56:] = 0, 0
    return batch


@pytest.mark.parametrize("changes", [{}, {"memory": "res5", "memory_positions": False, "pixel_positions": False},
                                     {"memory": "encoder", "encoder_level": "res5", "dim": 64, "hidden_dim": 64}])
def test_reading_is_the_models_forward(changes):
    torch.manual_seed(0)
    model = build_model("mini", **changes).eval()
    for sizes in (None, SIZES):
        output, reading = model(images(), sizes), queries.read_queries(model, images(), sizes)
        for layer, want in enumerate((*output.aux, output)):
            torch.testing.assert_close(reading.class_logits[layer], want.class_logits)
            torch.testing.assert_close(reading.mask_logits[layer], want.mask_logits)
        assert reading.attention.shape[:4] == (3, 2, 4, 32)
        torch.testing.assert_close(reading.attention.sum((-2, -1)), torch.ones(3, 2, 4, 32))
    h, w = reading.attention.shape[-2:]
    assert reading.attention[:, 1, ..., h // 2:, :].abs().max() == 0  # below the second picture is padding
    assert reading.attention[:, 0, ..., h // 2:, :].min() > 0


def test_share_on_mask_counts_cells():
    attention = torch.tensor([[[0.1, 0.2, 0.3], [0.15, 0.25, 0.0]]])  # [1, 2, 3]
    mask_logits = torch.full((1, 4, 6), -1.0)
    mask_logits[0, :2, :2] = 1.0  # the whole first cell
    mask_logits[0, 2:, 3] = 1.0  # half of the cell in the middle of the second row
    assert queries.share_on_mask(attention, mask_logits).item() == pytest.approx(0.1 + 0.5 * 0.25)
    assert queries.share_on_mask(attention.expand(4, 3, 1, 2, 3), mask_logits.expand(4, 3, 1, 4, 6)).shape == (4, 3, 1)


def test_mask_centres():
    mask_logits = torch.full((2, 1, 4, 8), -2.0)
    mask_logits[0, 0, 1, 2:4] = 0.5
    x, y = queries.mask_centres(mask_logits)[0, 0].tolist()
    assert (x, y) == pytest.approx((3 / 8, 1.5 / 4)) and queries.mask_centres(mask_logits)[1, 0].isnan().all()


def test_attention_is_brightest_where_the_weight_is():
    ax = Figure().subplots()
    attention = torch.zeros(2, 4)
    attention[1, 2] = 0.3
    attention_maps.draw_attention(ax, attention, np.zeros((32, 64, 3), np.uint8))
    picture = ax.images[0].get_array()
    size = picture.shape[0] // 2
    yellow = np.argwhere(picture[..., 0] > 200)
    assert yellow[:, 0].min() == size and yellow[:, 1].min() == 2 * size and yellow[:, 1].max() == 3 * size - 1
    for wrong in (attention[0], -attention, 0 * attention, attention / 0):
        with pytest.raises(ValueError, match="attention is"):
            attention_maps.draw_attention(ax, wrong, np.zeros((32, 64, 3), np.uint8))


def test_a_reading_has_two_panels_per_layer():
    torch.manual_seed(0)
    model = build_model("mini").eval()
    reading = queries.read_queries(model, images())
    figure = Figure()
    axes = attention_maps.draw_reading(figure, np.zeros((64, 96, 3), np.uint8), reading, (5, 9),
                                  [*map(str, range(11)), "none"])
    assert axes.shape == (2, 6) and axes[1, 0].get_ylabel() == "query 9"
    probs = reading.class_logits[1, 0, 9].softmax(-1)
    assert axes[1, 3].get_title().endswith(f"{probs.max():.2f}")
    share = queries.share_on_mask(reading.attention[1, 0, :, 9].mean(0)[None], reading.mask_logits[1, 0, 9][None])
    assert axes[1, 2].get_title() == f"layer 1: {share.item():.0%} inside"
    figure.savefig("/dev/null", format="png")


def test_specialisation_sorts_by_favourite():
    counts = torch.tensor([[0, 1, 3], [0, 0, 4], [4, 0, 0], [0, 4, 0], [1, 0, 3]])  # 4 scenes, 2 classes
    ax = Figure().subplots()
    order = attention_maps.draw_specialisation(ax, counts, 4, ["sky", "duck", "none"])
    assert list(order) == [2, 4, 3, 0, 1]  # sky often, sky, duck often, duck, silent
    assert np.array_equal(ax.images[0].get_array(), counts.numpy()[order].T / 4)
    assert [t.get_text() for t in ax.texts].count("100") == 3
    for bad, scenes in ((counts, 5), (counts[:, :2], 4), (counts[0], 4)):
        with pytest.raises(ValueError, match="counts are"):
            attention_maps.draw_specialisation(ax, bad, scenes, ["sky", "duck", "none"])


def test_divided_places_are_relative_to_the_scene():
    centres = torch.tensor([[[0.2, 0.5], [0.4, 0.5], [0.9, 0.9]], [[0.6, 0.4], [0.8, 0.6], [0.9, 0.9]],
                            [[0.1, 0.1], [0.1, 0.1], [0.9, 0.9]], [[0.3, 0.3], [torch.nan, torch.nan], [0.5, 0.5]]])
    speaks = torch.tensor([[True, True, True]] * 4)
    ax = Figure().subplots()
    attention_maps.draw_divided_places(ax, centres, speaks, [0, 1], "two")
    clouds = [c for c in ax.collections if len(c.get_offsets()) > 1]
    assert np.allclose(clouds[0].get_offsets(), [[-0.1, 0], [-0.1, -0.1]], atol=1e-6)  # scenes 2 and 3 are left out
    assert np.allclose(clouds[1].get_offsets(), [[0.1, 0], [0.1, 0.1]], atol=1e-6)
    low, high = ax.get_ylim()
    assert low > high  # down is down
    assert to_rgb(clouds[0].get_facecolor()[0, :3]) != to_rgb(clouds[1].get_facecolor()[0, :3])
