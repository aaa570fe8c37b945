"""Pictures of segmentations, checked on the drawn pixels: colours, stripes, outlines, names that never overlap."""
import ast
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from minimaskformer import draw
from minimaskformer.data.classes import ClassTable
from minimaskformer.data.lakeland import LAKELAND_CLASSES, Lakeland
from minimaskformer.draw import canvas
from minimaskformer.draw.names import Labels, middle, window_sums
from minimaskformer.draw.palette import VOID_COLOR, class_colors, instance_colors
from minimaskformer.draw.scenes import large_regions

CLASSES = ClassTable(("grass", "sheep", "boat"), (False, True, True), (4, 8, 9))
MAP = np.zeros((40, 60), np.int32)  # void on the left, two sheep that touch, a crowd of boats below right
MAP[:, 12:], MAP[8:24, 20:30], MAP[8:24, 30:40], MAP[30:, 42:] = 1, 2, 3, 9
INFO = [{"id": 1, "category_id": 0, "isthing": False, "iscrowd": 0}, {"id": 2, "category_id": 1, "isthing": True,
        "iscrowd": 0}, {"id": 3, "category_id": 1, "isthing": True}, {"id": 9, "category_id": 2, "iscrowd": 1}]
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def full_axes(width, height):
    """Axes as large as the figure: one picture pixel becomes 10 x 10 pixels of the page."""
    figure = Figure(figsize=(width / 10, height / 10), dpi=100)
    return figure.add_axes([0, 0, 1, 1])


def agg(ax):
    """The figure drawn by the pixel renderer."""
    drawn = FigureCanvasAgg(ax.figure)
    drawn.draw()
    return drawn


def page(ax):
    return np.asarray(agg(ax).buffer_rgba())[..., :3] / 255


def boxes(ax):
    """The drawn boxes around the visible names: array [M, 4] of x0, y0, x1, y1 in pixels of the page."""
    renderer = agg(ax).get_renderer()
    return np.array([text.get_bbox_patch().get_window_extent(renderer).extents for text in ax.texts
                     if text.get_visible()]).reshape(-1, 4)


def overlaps(a, b):
    return min(a[2], b[2]) > max(a[0], b[0]) + 0.01 and min(a[3], b[3]) > max(a[1], b[1]) + 0.01


def test_flat_panoptic_has_the_colors_of_the_palette_and_hatches_void_and_crowd():
    ax = full_axes(60, 40)
    draw.draw_panoptic(ax, None, MAP, INFO, CLASSES, labels=False)
    pixels, colors = page(ax), instance_colors([0, 1, 1, 2], CLASSES)

    def inside(y0, y1, x0, x1):  # away from the outlines
        return pixels[10 * y0 + 5:10 * y1 - 5, 10 * x0 + 5:10 * x1 - 5].reshape(-1, 3)

    assert np.abs(inside(0, 8, 12, 60) - colors[0]).max() < 0.01
    assert np.abs(inside(8, 24, 20, 30) - colors[1]).max() < 0.01
    assert np.abs(inside(8, 24, 30, 40) - colors[2]).max() < 0.01
    assert np.abs(colors[1] - colors[2]).max() > 0.05  # the two sheep differ
    for patch, color in ((inside(0, 40, 0, 12), VOID_COLOR), (inside(30, 40, 42, 60), colors[3])):
        dark, light = (np.abs(patch - tone).max(1) < 0.01 for tone in (0.55 * color, 0.6 * color + 0.4))
        assert 0.25 < dark.mean() < 0.55 and 0.4 < light.mean() < 0.7 and dark.mean() + light.mean() > 0.75
    outline = pixels[10 * 15, 10 * 30 - 4:10 * 30 + 4]  # between the sheep a dark line
    assert outline.min() < 0.3


def test_overlay_turns_the_picture_grey_before_it_is_tinted():
    ax = full_axes(60, 40)
    draw.draw_panoptic(ax, PICTURE, MAP, INFO, CLASSES, alpha=0.65, labels=False)
    shown, color = ax.images[0].get_array()[5 * 9, 50 * 9] / 255, class_colors(CLASSES)[0]  # enlarged by 512 / 60
    assert ax.images[0].get_array().shape == (40 * 9, 60 * 9, 3)
    shown = ax.images[0].get_array()[5 * 9 + 4, 50 * 9 + 4] / 255
    grey = (shown - 0.65 * color) / 0.35
    light = PICTURE[5, 50] @ [0.299, 0.587, 0.114] / 255
    assert np.allclose(grey, 0.35 + 0.65 * light, atol=0.02)
    assert ax.get_xlim() == (-0.5, 59.5) and ax.get_ylim() == (39.5, -0.5)


def test_pictures_in_every_form_are_the_same():
    forms = [PICTURE, torch.from_numpy(PICTURE).permute(2, 0, 1), torch.from_numpy(PICTURE).permute(2, 0, 1) / 255,
             PICTURE.astype(np.float64) / 255, Image.fromarray(PICTURE)]
    for form in forms:
        assert np.array_equal(canvas.as_image(form), PICTURE)
    ax = draw.draw_image(None, forms[1], title="scene")
    assert ax.get_title() == "scene" and ax.images[0].get_array().shape[:2] == (360, 540)
    assert canvas.as_image(Image.fromarray(PICTURE).convert("L")).shape == (40, 60, 3)


@pytest.mark.parametrize("image, words", [
    (torch.zeros(40, 60, 3), r"\[3, H, W\].*tensor of shape \[40, 60, 3\]"),
    (np.zeros((3, 40, 60), np.uint8), r"array of shape \[3, 40, 60\]"),
    (np.full((40, 60, 3), -1.5), "normalisation"), (np.full((4, 6, 3), np.nan), "0 ... 1"),
    (np.zeros((40, 60, 3), np.int64), "int64")])
def test_what_is_no_picture(image, words):
    with pytest.raises(ValueError, match=words):
        draw.draw_image(None, image)


def test_boundary_lines_against_a_loop():
    segments = np.random.default_rng(1).integers(0, 3, (9, 7))
    expected = set()
    for y in range(9):
        for x in range(7):
            if y + 1 < 9 and segments[y, x] != segments[y + 1, x]:
                expected.add((x - 0.5, y + 0.5, x + 0.5, y + 0.5))
            if x + 1 < 7 and segments[y, x] != segments[y, x + 1]:
                expected.add((x + 0.5, y - 0.5, x + 0.5, y + 0.5))
    found = []
    for (x0, y0), (x1, y1) in canvas.boundary_lines(segments):
        for t in range(int(x1 - x0 + y1 - y0)):  # a run in pieces of one pixel
            found.append((x0 + t, y0, x0 + t + 1, y0) if y0 == y1 else (x0, y0 + t, x0, y0 + t + 1))
    assert len(found) == len(set(found)) and set(found) == expected
    assert len(canvas.boundary_lines(np.zeros((4, 4)))) == 0


@pytest.mark.parametrize("inches, dpi", [(1.6, 100), (3, 72), (3, 150)])
def test_names_never_overlap_and_stay_in_the_picture(inches, dpi):
    data = Lakeland("val", 128, 1.0, 20)
    shown = 0
    for i in (2, 6):
        image, target = data[i]
        figure, ax = draw.new_figure(inches, inches)
        figure.set_dpi(dpi)
        draw.draw_panoptic(ax, image, target["segment_map"], target["segments_info"], data.classes)
        found, frame = boxes(ax), ax.get_window_extent().extents
        shown += len(found)
        assert (found[:, :2] >= frame[:2] - 1).all() and (found[:, 2:] <= frame[2:] + 1).all()
        for a in range(len(found)):
            assert not any(overlaps(found[a], found[b]) for b in range(a))
    assert shown > (12 if inches < 2 else 20)  # and they are not simply left out


def test_names_move_with_the_size_of_the_page_and_settle():
    ax = draw.draw_panoptic(None, PICTURE, MAP, INFO, CLASSES)
    names = {text.get_text() for text in ax.texts}
    assert names == {"grass", "sheep 1", "sheep 2", "boat (crowd)"}
    agg(ax)
    once = [text.get_position() for text in ax.texts]
    agg(ax)
    assert once == [text.get_position() for text in ax.texts]
    ax.figure.set_size_inches(1.2, 1.2)
    found = boxes(ax)
    assert not any(overlaps(found[a], found[b]) for a in range(len(found)) for b in range(a))


def test_names_sit_on_their_stuff_and_only_where_there_is_room():
    label_map = np.zeros((64, 64), int)
    label_map[:, 32:] = 1
    classes = ClassTable(("left", "right"), (False, False), (0, 1))
    ax = draw.draw_semantic(full_axes(30, 30), None, label_map, classes)
    boxes(ax)
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert places["left"][0] < 31 < places["right"][0]
    tiny = draw.draw_semantic(Figure(figsize=(0.12, 0.12)).subplots(), None, label_map, classes)
    assert len(boxes(tiny)) == 0  # no room: no name, no error


def test_crowded_pictures_lose_names_not_order():
    classes = ClassTable(("thing with a long name",), (True,), (0,))
    checkers = np.add.outer(np.arange(60) // 5 * 12, np.arange(60) // 5) + 1
    info = [{"id": int(i), "category_id": 0, "isthing": True} for i in np.unique(checkers)]
    ax = draw.draw_panoptic(full_axes(32, 32), None, checkers, info, classes)
    found = boxes(ax)
    assert 10 < len(found) < 144 == len(ax.texts)
    names = next(artist for artist in ax.get_children() if isinstance(artist, Labels))
    for text, (y, x) in zip(names.texts, names.anchors):  # each one near the square it names
        away = np.hypot(text.get_position()[0] + 0.5 - x, text.get_position()[1] + 0.5 - y)
        assert not text.get_visible() or away < 0.3 * 60 + 1
    assert not any(overlaps(found[a], found[b]) for a in range(len(found)) for b in range(a))


def test_parts_of_the_placing_against_loops():
    rng = np.random.default_rng(2)
    values = rng.random((7, 9))
    slow = [[values[y:y + 3, x:x + 4].sum() for x in range(6)] for y in range(5)]
    assert np.allclose(window_sums(values, (3, 4)), slow)
    region = np.zeros((20, 30), bool)
    region[2:18, 4:15], region[5:8, 15:29] = True, True  # a block with an arm: the name belongs into the block
    y, x = middle(region)
    assert 8 < y < 12 and 8 < x < 11


def test_chosen_names_only():
    ax = draw.draw_panoptic(None, None, MAP, INFO, CLASSES, labels={3: "dropped: overlap"})
    assert [text.get_text() for text in ax.texts] == ["dropped: overlap"]
    ax = draw.draw_panoptic(None, None, MAP, INFO, CLASSES, labels=False)
    assert not ax.texts and not any(isinstance(artist, Labels) for artist in ax.get_children())


@pytest.mark.parametrize("segment_map, info, image, words", [
    (MAP, INFO, PICTURE[:20], "picture is 20 x 60.*segment map is 40 x 60"),
    (MAP, INFO[:3], None, r"ids \[9\] that no entry describes"),
    (MAP, [dict(INFO[0], category_id=3), *INFO[1:]], None, r"labels \[3\] are outside \[0, 3\)"),
    (MAP, [*INFO, INFO[0]], None, "repeated segment ids"),
    (MAP[None], INFO, None, r"integer array \[H, W\].*\[1, 40, 60\]"),
    (MAP.astype(float), INFO, None, "float64")])
def test_wrong_panoptic_input(segment_map, info, image, words):
    with pytest.raises(ValueError, match=words):
        draw.draw_panoptic(None, image, segment_map, info, CLASSES)


def test_semantic_colors_names_and_void():
    label_map = np.where(MAP == 0, 255, np.where(MAP == 1, 0, 1))
    ax = draw.draw_semantic(full_axes(60, 40), None, torch.from_numpy(label_map), CLASSES, labels=False)
    pixels, colors = page(ax), class_colors(CLASSES)
    assert np.abs(pixels[40, 300] - colors[0]).max() < 0.01 and np.abs(pixels[150, 250] - colors[1]).max() < 0.01
    assert np.abs(pixels[150, 300] - colors[1]).max() < 0.01  # two sheep, one class: no line between them
    assert len(np.unique(pixels[50:350, 20:100].reshape(-1, 3).round(2), axis=0)) > 1
    ax = draw.draw_semantic(None, PICTURE, label_map, CLASSES)
    assert sorted(text.get_text() for text in ax.texts) == ["grass", "sheep", "sheep"]  # sheep: two large regions
    specks = np.zeros((20, 20), bool)
    specks[:10], specks[15, 3], specks[18, ::4] = True, True, True
    assert [int(region.sum()) for region in large_regions(specks)] == [200]
    specks[:10] = False
    assert [int(region.sum()) for region in large_regions(specks)] == [1]  # the largest, however small
    for wrong in (3, -1, 254):
        with pytest.raises(ValueError, match=rf"labels \[{wrong}\] are outside \[0, 3\)"):
            draw.draw_semantic(None, None, np.where(label_map == 1, wrong, label_map), CLASSES)
    ax = draw.draw_semantic(None, None, np.where(MAP == 0, 7, 0), CLASSES, ignore=7)
    assert [text.get_text() for text in ax.texts] == ["grass"]


def test_instances_overlap_and_carry_scores():
    masks = torch.zeros(3, 40, 60, dtype=torch.bool)
    masks[0, 5:25, 5:35], masks[1, 15:35, 20:50], masks[2, 0:5, 50:60] = True, True, True
    result = {"masks": masks, "labels": torch.tensor([1, 1, 2]), "scores": torch.tensor([0.6, 0.9, 0.3])}
    ax = draw.draw_instances(full_axes(60, 40), None, result, CLASSES, alpha=1.0)
    assert sorted(text.get_text() for text in ax.texts) == ["sheep 0.60", "sheep 0.90"]
    for text in ax.texts:
        text.set_alpha(0), text.get_bbox_patch().set_alpha(0)
    pixels, colors = page(ax), instance_colors([1, 1], CLASSES)
    assert np.abs(pixels[200, 250] - colors[0]).max() < 0.01  # where they overlap the better one is on top
    assert np.abs(pixels[100, 100] - colors[1]).max() < 0.01 and pixels[20, 550].min() > 0.99
    both = pixels[150 - 3:150 + 3, 245:255].min()  # the upper edge of the better one, inside the other
    assert both < 0.3
    everything = draw.draw_instances(None, PICTURE, result, CLASSES, min_score=0.0)
    assert len(everything.texts) == 3
    nothing = {"masks": masks[:0], "labels": torch.zeros(0, dtype=torch.int64), "scores": torch.zeros(0)}
    assert len(draw.draw_instances(None, PICTURE, nothing, CLASSES).texts) == 0
    with pytest.raises(ValueError, match=r"labels \[5\]"):
        draw.draw_instances(None, None, dict(result, labels=torch.tensor([1, 5, 1])), CLASSES)
    with pytest.raises(ValueError, match=r"shapes \[3, 40, 60\], \[2\], \[3\]"):
        draw.draw_instances(None, None, dict(result, labels=torch.tensor([1, 1])), CLASSES)
    with pytest.raises(ValueError, match="picture is 40 x 59"):
        draw.draw_instances(None, PICTURE[:, :59], result, CLASSES)


def test_masks_and_their_probabilities():
    probs = np.linspace(0, 1, 60)[None].repeat(40, 0)
    ax = draw.draw_mask(None, torch.from_numpy(probs))
    line = ax.collections[0].get_paths()[0].vertices
    assert np.allclose(line[:, 0], 29.5, atol=0.01)  # where the ramp crosses 0.5
    ax = draw.draw_mask(full_axes(60, 40), MAP == 2, color=(0, 0, 1.0))
    assert np.allclose(page(ax)[150, 250], [0, 0, 1]) and page(ax)[300, 100].min() > 0.9
    assert draw.draw_mask(None, np.zeros((4, 4)), PICTURE[:4, :4]) is not None  # nothing crosses: no line, no warning
    with pytest.raises(ValueError, match="sigmoid"):
        draw.draw_mask(None, probs * 8 - 4)
    with pytest.raises(ValueError, match="picture is 40 x 60.*mask is 10 x 15"):
        draw.draw_mask(None, np.zeros((10, 15), bool), PICTURE)


def test_four_readings_contact_sheet_and_legend(tmp_path):
    data = Lakeland("val", 64, 0.5, 5)
    image, target = data[0]
    pair = target["segment_map"], target["segments_info"]
    label_map = np.zeros((64, 64), int)
    result = {"masks": target["masks"], "labels": target["labels"], "scores": torch.ones(len(target["labels"]))}
    axes = draw.four_readings(Figure(figsize=(12, 3.3), layout="compressed"), image, label_map, result, pair,
                              data.classes)
    assert [ax.get_title().split(":")[0] for ax in axes] == ["image", "semantic", "instance", "panoptic"]
    items = [(image, pair, pair, data.name(i)) for i in range(2)]
    figure = draw.contact_sheet(items, data.classes, tmp_path / "new" / "sheet.png")
    assert [ax.get_title(loc="left") for ax in figure.axes[:3]] == [data.name(0), "truth", "prediction"]
    assert len(figure.axes) == 6 and [p.name for p in (tmp_path / "new").iterdir()] == ["sheet.png"]
    named = {text.get_text() for text in figure.legends[0].get_texts()}
    assert named == {data.classes.names[s["category_id"]] for s in pair[1]} | {"void"}
    with pytest.raises(ValueError, match="at least one"):
        draw.contact_sheet([], data.classes)
    ax = draw.legend(None, LAKELAND_CLASSES)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [*LAKELAND_CLASSES.names, "void"]


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = draw.save_figure(draw.new_figure()[0], tmp_path / "a.png")
    before = path.read_bytes()
    assert before[:4] == b"\x89PNG"

    def broken(self, part, **options):
        Path(part).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", broken)
    with pytest.raises(OSError, match="disk full"):
        draw.save_figure(draw.new_figure()[0], path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_small_png_is_the_same_picture_in_fewer_bytes():
    figure = draw.draw_panoptic(None, PICTURE, MAP, INFO, CLASSES).figure
    small = canvas.small_png(figure)
    figure.savefig(large := canvas.io.BytesIO(), dpi=100, bbox_inches="tight", pad_inches=0.04)
    a, b = (np.asarray(Image.open(file).convert("RGB"), float) for file in (canvas.io.BytesIO(small), large))
    assert a.shape == b.shape and np.abs(a - b).mean() < 4
    assert len(small) < 0.7 * len(large.getvalue())


def test_nothing_stays_open_and_nobody_imports_pyplot():
    ax = draw.draw_panoptic(None, PICTURE, MAP, INFO, CLASSES)
    agg(ax)
    assert plt.get_fignums() == []
    for path in Path(draw.__file__).parents[1].rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not any("pyplot" in name for node in ast.walk(tree) for name in imported(node)), path


def imported(node):
    """The dotted names an import statement brings in."""
    names = [alias.name for alias in node.names] if isinstance(node, (ast.Import, ast.ImportFrom)) else []
    return [f"{node.module}.{name}" for name in names] if isinstance(node, ast.ImportFrom) and node.module else names


def test_letters_that_the_first_font_lacks_come_from_an_installed_one():
    assert canvas.with_cjk(["sans-serif"], {"DejaVu Sans"}) == ["sans-serif"]
    assert canvas.with_cjk(["sans-serif"], {"DejaVu Sans", "NanumGothic"}) == ["sans-serif", "NanumGothic"]
    assert canvas.with_cjk(["NanumGothic"], {"NanumGothic"}) == ["NanumGothic"]
    figure, ax = draw.new_figure()
    latin, korean = ax.text(0, 0, "é ∑ →", weight="bold"), ax.text(0, 0, "고양이")
    before = latin.get_fontfamily()
    canvas.find_letters([latin, korean])
    assert latin.get_fontfamily() == before == plt.rcParams["font.family"] == ["sans-serif"]
    assert korean.get_fontfamily()[0] == "sans-serif"


def test_dollars_in_names_are_dollars(tmp_path):
    classes = ClassTable(("price $5_x^ or $6", "$\\frac{1$", "boat"), (False, True, True), (4, 8, 9))
    pair = MAP, INFO
    figure = draw.contact_sheet([(PICTURE, pair, pair, "$\\frac{1$")], classes, tmp_path / "sheet.png")
    _, ax = draw.new_figure()
    draw.draw_panoptic(ax, PICTURE, *pair, classes)
    draw.save_figure(ax.figure, tmp_path / "panoptic.png")  # as a formula it would end in a ParseSyntaxException
    assert (tmp_path / "panoptic.png").is_file() and len(figure.legends) == 1


@pytest.mark.parametrize("classes", [4, 40])
def test_the_legend_of_a_contact_sheet_has_room_and_says_what_it_leaves_out(classes):
    table = ClassTable(tuple(f"a rather long class name {k}" for k in range(classes)), (True,) * classes, tuple(range(1, classes + 1)))
    segments = np.arange(40 * 60).reshape(40, 60) % classes + 1
    pair = segments, [{"id": k + 1, "category_id": k, "isthing": True, "iscrowd": 0} for k in range(classes)]
    figure = draw.contact_sheet([(PICTURE, pair, pair, "one")], table)
    FigureCanvasAgg(figure).draw()
    top = figure.legends[0].get_window_extent().y1
    assert all(ax.get_window_extent().y0 >= top for ax in figure.axes)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("and 17 more" in texts) == (classes == 40)
