"""Numbers that are not class numbers: spread out for the eye, palettes in different orders, interpolated, once JPEG."""
import numpy as np
import pytest
from PIL import Image

from minimaskformer.data.checks import count_labels, scan_labels
from minimaskformer.data.readers.class_numbers import spread
from minimaskformer.data.readers.label_maps import looks_lossy, ramp_share
from minimaskformer.data.readers.semantic import SemanticFolder

H, W = 60, 80
COLORS = {"sky": (128, 128, 128), "road": (128, 64, 128), "tree": (128, 128, 0)}


def save(picture, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(np.asarray(picture).astype(np.uint8))
    picture.save(path, **options)


def folder(place, labels):
    for i, label in enumerate(labels):
        save(label, place / "labels" / f"{i}.png")
        save(np.zeros((H, W, 3)), place / "images" / f"{i}.png")
    return place / "images", place / "labels"


def scene(values=(0, 1, 2)):
    labels = np.full((H, W), values[0])
    labels[30:], labels[10:40, 20:50] = values[1], values[2]
    return labels


@pytest.mark.parametrize("values, is_spread", [
    ((0, 127, 255), True), ((0, 128, 255), True), ((0, 85, 170, 255), True), ((0, 64, 128, 191, 255), True),
    ((0, 32767, 65535), True), ((0, 1, 255), False), ((0, 255), False), ((0, 100, 255), False), (range(256), False),
    ((0, 1, 2), False), ((0, 15, 127, 255), False)])
def test_numbers_at_equal_distances_up_to_white(values, is_spread):
    assert spread(values) is is_spread and spread(list(values)[::-1]) is is_spread


def test_spread_numbers_are_refused_or_named(tmp_path):
    place = folder(tmp_path, [scene((0, 127, 255)), scene((0, 127, 127))])
    with pytest.raises(ValueError, match='hold 0, 127 and 255.*"0 NAME", "127 NAME" and "255 NAME"'):
        SemanticFolder(*place)
    assert SemanticFolder(*folder(tmp_path / "voc", [scene((0, 1, 255))])).classes.ids == (0, 1)  # 255 is the border
    with pytest.raises(ValueError, match='(?s)the labels 127.*"0 NAME", "127 NAME" and "255 NAME"'):
        SemanticFolder(*place, classes=["a", "b", "c"])[0]


def palette_file(order):
    """The scene as a palette picture whose palette has its own order of colours."""
    colors = [list(COLORS.values())[k] for k in order]
    picture = Image.fromarray(np.argsort(order)[scene()].astype(np.uint8)).convert("P")
    picture.putpalette([value for color in colors for value in color] + [0] * (768 - 9))
    return picture


def test_palettes_of_two_orders_are_refused_with_both_files(tmp_path):
    place = folder(tmp_path, [palette_file((0, 1, 2)), palette_file((0, 1, 2)), palette_file((2, 1, 0))])
    dataset = SemanticFolder(*place, classes=list(COLORS))
    with pytest.raises(ValueError) as caught:
        scan_labels(dataset, workers=1)
    assert "1 of the 3" in str(caught.value)
    for words in (str(place[1] / "2.png"), str(place[1] / "0.png"), "palettes differ in order", "(128, 128, 0)"):
        assert words in str(caught.value), str(caught.value)
    with pytest.raises(ValueError, match="palettes differ"):  # without a list of classes as well
        SemanticFolder(*place)


def test_palettes_that_agree_or_say_nothing_are_read(tmp_path):
    grey = Image.fromarray(scene().astype(np.uint8)).convert("P")  # each number its own grey
    black = palette_file((0, 1, 2))
    black.putpalette([0] * 768)
    place = folder(tmp_path, [palette_file((0, 1, 2)), grey, black])
    dataset = SemanticFolder(*place, classes=list(COLORS))
    assert scan_labels(dataset) == 3 and (dataset[1][1]["segment_map"] == dataset[0][1]["segment_map"]).all()


def resized(labels, factor, how=Image.Resampling.BILINEAR):
    picture = Image.fromarray(labels.astype(np.uint8))
    return np.asarray(picture.resize((int(W * factor), int(H * factor)), how))


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.7, 4])
@pytest.mark.parametrize("how", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC])
def test_interpolated_rectangles_are_known_by_their_ramps(factor, how):
    """Along a straight edge every pixel has an equal neighbour, so the share of single pixels tells nothing."""
    rng = np.random.default_rng(0)
    labels = np.kron(rng.choice([0, 40, 90, 160, 250], (4, 5)), np.ones((15, 16), int))
    assert looks_lossy(resized(labels, factor, how), values=5)
    assert not looks_lossy(resized(labels, factor, Image.Resampling.NEAREST), values=2)
    assert ramp_share(labels) == 0


def test_ramps_by_hand():
    assert ramp_share(np.array([[0, 0, 5, 5]])) == 0 and ramp_share(np.array([[0, 2, 5, 0, 0, 5, 5]])) == 1 / 3
    assert ramp_share(np.array([[0, 0], [2, 2], [5, 5]])) == 1 and ramp_share(np.zeros((3, 3), int)) == 0


def test_interpolated_labels_do_not_become_a_hundred_classes(tmp_path):
    small = [resized(scene((0, 90, 250)), 0.5), resized(scene((250, 0, 90)), 0.5)]
    place = folder(tmp_path, [np.asarray(Image.fromarray(s).resize((W, H), Image.Resampling.BILINEAR)) for s in small])
    with pytest.raises(ValueError, match="numbers, and look as if.*interpolation.*original"):
        SemanticFolder(*place)
    place = folder(tmp_path / "jpeg", [scene((0, 90, 200))])
    Image.open(place[1] / "0.png").save(tmp_path / "x.jpg", quality=80)
    Image.open(tmp_path / "x.jpg").save(place[1] / "0.png")
    with pytest.raises(ValueError, match="once saved as JPEG"):
        SemanticFolder(*place)
    many = np.kron(np.arange(48).reshape(6, 8), np.ones((10, 10), int))
    assert len(SemanticFolder(*folder(tmp_path / "many", [many])).classes) == 48  # clean, and many


def test_interpolated_labels_in_a_table_of_all_numbers_are_counted(tmp_path):
    place = folder(tmp_path, [resized(scene((0, 90, 250)), 0.5) for _ in range(3)])
    for i in range(3):
        save(np.zeros((H // 2, W // 2, 3)), place[0] / f"{i}.png")
    dataset = SemanticFolder(*place, classes=[f"c{k}" for k in range(256)], void=())
    labels = [dataset.numbers(i)[0] for i in range(3)]
    assert len(count_labels(dataset).lossy) == 3 * looks_lossy(labels[0])
