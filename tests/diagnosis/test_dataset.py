"""inspect: the figures against what was drawn, every planted fault found and named, pictures and exit status."""
import io
import json
import re

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from minimaskformer import CocoInstance, Lakeland, draw
from minimaskformer.commands import cli
from minimaskformer.data.catalog import open_dataset
from minimaskformer.diagnosis.dataset import DRAWN, data_report, duplicate_files, inspect, write_report
from minimaskformer.draw import thumbnails as sheet
from minimaskformer.draw.thumbnails import DPI, caption, choose, class_names, fit_captions, shortened

H, W = 40, 50


def save(array, path, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array).astype(np.uint8)).save(path, **options)


@pytest.fixture
def mine(tmp_path):
    """Twelve good pictures: ground 1 with a cat 2 of 10 x 10; 4 pixels of void; class 3 never occurs."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for i in range(count):
            labels = np.full((H, W), 1)
            labels[5:15, 5 + i:15 + i], labels[30:32, 30:32] = 2, 255
            save(labels, tmp_path / "labels" / split / f"{i:02d}.png")
            save(rng.integers(0, 256, (H, W, 3)), tmp_path / "images" / split / f"{i:02d}.png")
    (tmp_path / "classes.txt").write_text("1 ground\n2 cat\n3 unicorn\n")
    return tmp_path


def looked_at(mine, **options):
    return inspect(open_dataset(f"own:{mine}", "train"), progress=False, **options)


def reasons_of(looks):
    return {found.file.rsplit("/", 1)[1]: found.reasons for found in looks if found.reasons}


def test_figures_of_a_clean_data_set(mine):
    looks = looked_at(mine)
    assert len(looks) == 12 and not any(found.error or found.reasons for found in looks)
    assert all(found.size == (H, W) and found.void == 4 and found.crowds == 0 for found in looks)
    assert looks[3].segments == {0: 1, 1: 1} and looks[3].pixels == {0: H * W - 104, 1: 100}
    text = data_report(looks, open_dataset(f"own:{mine}", "train"), "mine")
    assert "mine: 12 of 12 pictures" in text and "50 x 40 (12)" in text and "void: 0.20 %" in text
    rows = [line.split() for line in text.splitlines() if "stuff" in line]
    assert rows[1] == ["1", "2", "cat", "stuff", "12", "12", f"{100 * 100 / (H * W - 4):.2f}", "%"]
    assert rows[2][-1] == "never" and "1 of 3 classes never occur: unicorn" in text
    assert "cannot be used: 0" in text and "suspicious: 0" in text
    assert len(looked_at(mine, limit=5)) == 5 and [f.index for f in looked_at(mine, limit=3)] == [0, 4, 8]


def test_every_planted_fault_is_found(mine):
    images, labels = mine / "images" / "train", mine / "labels" / "train"
    save(np.full((H, W), 255), labels / "00.png")
    save(np.full((H, W), 1), labels / "01.png")
    few = np.full((H, W), 1)
    few[3:6, 3:8] = 2  # 15 pixels
    save(few, labels / "02.png")
    (images / "03.png").write_bytes((images / "05.png").read_bytes())
    (images / "04.png").write_bytes((mine / "images" / "val" / "01.png").read_bytes())
    rotated = Image.Exif()
    rotated[0x0112] = 6
    (images / "06.png").unlink()
    save(np.eye(H, W)[..., None].repeat(3, 2) * 255, images / "06.jpg", exif=rotated)
    save(np.full((H, W, 3), 7), images / "07.png")
    mostly = np.full((H, W), 255)
    mostly[:5, :10], mostly[5:10, :10] = 1, 2
    save(mostly, labels / "08.png")
    (images / "09.png").write_bytes((images / "09.png").read_bytes()[:-700])
    save(few + 2, labels / "10.png")
    save(few[..., None].repeat(3, 2), labels / "11.png")
    looks = looked_at(mine, other=open_dataset(f"own:{mine}", "val"))
    found = reasons_of(looks)
    for name, words in (("00.png", "void everywhere"), ("01.png", "one class only"), ("02.png", "below 16 pixels"),
                        ("04.png", "the other split"), ("05.png", "this split"), ("06.jpg", "EXIF rotation"),
                        ("07.png", "flat colour"), ("08.png", "90 % void")):
        assert any(words in reason for reason in found.pop(name)), name
    assert not found
    errors = {f.file.rsplit("/", 1)[1]: f.error for f in looks if f.error}
    assert set(errors) == {"09.png", "10.png", "11.png"}
    assert str(images / "09.png") in errors["09.png"] and "truncated" in errors["09.png"]
    assert str(labels / "10.png") in errors["10.png"] and "4 (15 pixels)" in errors["10.png"]
    assert str(labels / "11.png") in errors["11.png"] and "RGB" in errors["11.png"]
    text = data_report(looks, open_dataset(f"own:{mine}", "train"), "mine")
    assert "cannot be used: 3" in text and "suspicious: 8" in text


def test_interpolated_labels_are_suspected(mine):
    names = "\n".join(f"{v} class {v}" for v in range(0, 200))
    (mine / "classes.txt").write_text(names)
    disk = Image.fromarray((np.hypot(*np.mgrid[-60:60, -75:75]) < 45).astype(np.uint8) * 180 + 10)
    for name in ("00", "01"):
        disk.resize((W, H), Image.Resampling.BILINEAR if name == "00" else Image.Resampling.NEAREST).save(
            mine / "labels" / "train" / f"{name}.png")
    found = reasons_of(looked_at(mine))
    assert list(found) == ["00.png"] and any("single pixels" in reason for reason in found["00.png"])


def test_pictures_of_fewer_bits_than_their_file_are_nearly_black(mine):
    """The high byte of 16 bits is what counts: of 12 bits, four are left."""
    images = mine / "images" / "train"
    for name, top, kind in (("00", 4095, np.uint16), ("01", 14000, np.uint16), ("02", 60000, np.uint16), ("03", 14, np.uint8),
                            ("04", 40, np.uint8)):
        Image.fromarray(np.linspace(0, top, H * W).reshape(H, W).astype(kind)).save(images / f"{name}.png")
    found = {name: reason for name, (reason,) in reasons_of(looked_at(mine)).items()}
    assert set(found) == {"00.png", "01.png", "03.png"} and all("nearly black" in reason for reason in found.values())
    for name, words in (("00.png", ("15 of 255", "12-bit", "by 16")), ("01.png", ("63 of 255", "14-bit", "by 4")),
                        ("03.png", ("15 of 255",))):
        assert all(word in found[name] for word in words), found[name]
    assert "bit" not in found["03.png"]


def test_columns_of_wide_letters_line_up(mine):
    (mine / "classes.txt").write_text("1 \ud55c\uad6d\n2 e\u0301te\u0301\n3 unicorn\n", encoding="utf-8")
    lines = data_report(looked_at(mine), open_dataset(f"own:{mine}", "train"), "mine").splitlines()
    korean, accents, plain = (line for line in lines if " stuff " in line)
    assert korean.index("stuff") == plain.index("stuff") - 2 and accents.index("stuff") == plain.index("stuff") + 2


def test_equal_files_are_duplicates_and_equal_lengths_are_not(tmp_path):
    for name, text in (("a", "one"), ("b", "two"), ("c", "one"), ("d", "three"), ("e", "two")):
        (tmp_path / name).write_text(text)
    a, b, c, d, e = (str(tmp_path / name) for name in "abcde")
    assert duplicate_files([a, c, d]) == {c: a}  # a length that only two share
    assert duplicate_files([a, b, c, d, e]) == {c: a, e: b} and duplicate_files([a, d], [b, c]) == {a: c}


def test_the_command_leaves_report_and_sheets_and_fails_on_bad_files(mine, tmp_path, capsys):
    out = tmp_path / "look"
    assert cli.main(["inspect", "--data", f"own:{mine}", "--out", str(out)]) == 0
    assert {p.name for p in out.iterdir()} == {"report.txt", "suspicious.txt", "sheet.png"}
    assert "unicorn" in capsys.readouterr().out and (out / "suspicious.txt").read_text() == ""
    width, height = Image.open(out / "sheet.png").size
    assert width > 1000 and height > 1000
    save(np.full((H, W), 9), mine / "labels" / "train" / "03.png")
    save(np.full((H, W), 1), mine / "labels" / "train" / "04.png")
    assert cli.main(["inspect", "--data", f"own:{mine}", "--out", str(out)]) == 1
    told = capsys.readouterr()
    assert "1 of the 12 pictures cannot be used" in told.err and "labels/train/03.png" in told.out
    rows = dict(row.split("\t") for row in (out / "suspicious.txt").read_text().splitlines())
    assert {name.rsplit("/", 1)[1] for name in rows} == {"03.png", "04.png"} and (out / "suspicious.png").is_file()


def test_things_only_and_drawn_scenes(mine, tmp_path):
    square = [[5, 5, 25, 5, 25, 25, 5, 25]]
    (mine / "train.json").write_text(json.dumps({
        "images": [{"id": i, "file_name": f"{i:02d}.png", "height": H, "width": W} for i in range(12)],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1 + i, "image_id": i, "category_id": 1, "segmentation": square, "iscrowd": int(i == 2)}
                        for i in range(3)] + [{"id": 9, "image_id": 0, "category_id": 1, "segmentation": [[8, 8, 20, 8, 20, 20]]}]}))
    dataset = CocoInstance(mine / "train.json", mine / "images" / "train")
    looks = inspect(dataset, progress=False)
    assert [sum(f.segments.values()) for f in looks[:4]] == [2, 1, 0, 0] and looks[2].crowds == 1
    assert looks[0].void == 0 and looks[2].void == 400
    text = write_report(looks, dataset, "cats", tmp_path / "out")
    assert "no segment" in text and (tmp_path / "out" / "sheet.png").is_file()
    assert len(inspect(Lakeland("val", 64, length=1000), limit=3, progress=False)) == 3 and DRAWN == 200


def test_the_sheet_shows_every_class_it_can(mine):
    looks = looked_at(mine)
    looks[7].segments[2] = 1
    chosen = choose(looks, 4)
    assert len(chosen) == 4 and looks[7] in chosen and [f.index for f in chosen] == sorted(f.index for f in chosen)
    assert len(choose(looks, 50)) == 12
    table = open_dataset(f"own:{mine}", "train").classes
    assert class_names([(5, 1, 10), (6, 1, 30), (7, 0, 12)], table) == {6: "cat x 2", 7: "ground"}
    assert len(shortened("x" * 80)) == 34 and re.match("a+$", shortened("a" * 34))


@pytest.mark.parametrize("size", [(2000, 20), (20, 2000), (90, 90)])
def test_captions_end_before_the_next_panel_begins(size):
    figure, axes = draw.new_figure(11.6, 6, 2, 4)
    figure.set_layout_engine("constrained" if size[1] == 20 else "compressed")
    told = "annotations that enclose no pixel: outside the image, or made for another size?"
    for ax in axes.flat:
        draw.draw_image(ax, np.zeros((*size, 3), np.uint8))
    titles = [caption(ax, ["picture_of_a_very_long_series" * 4 + "_0001", told]) for ax in axes.flat]
    fit_captions(figure, axes, titles)
    figure.savefig(io.BytesIO(), dpi=DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    for number, title in enumerate(titles):
        following = titles[number + 1].axes.get_window_extent(renderer).x0 if number % 4 < 3 else figure.bbox.width
        assert title.get_window_extent(renderer).x1 < following
        first, second = title.get_text().split("\n")
        assert first.startswith("pict") and first.endswith("1") and "..." in first
        assert second.endswith(" ...") and re.sub("[,:]", "", f"{told} ").startswith(re.sub("[,:]", "", second[:-3]))


def test_a_sheet_of_narrow_pictures_keeps_its_captions(tmp_path, monkeypatch):
    save(np.eye(400, 10, dtype=int), tmp_path / "labels" / "train" / "a_long_name.png")
    save(np.zeros((400, 10, 3)), tmp_path / "images" / "train" / "a_long_name.png")
    told, caption = [], sheet.caption
    monkeypatch.setattr(sheet, "caption", lambda *args: told.append(caption(*args)) or told[-1])
    sheet.draw_sheet(open_dataset(f"own:{tmp_path}", "train"), looked_at(tmp_path), tmp_path / "sheet.png")
    assert [title.get_text().split("\n")[k] for title, k in zip(told, (0, 0))] == ["a_long_name", "2 segments"]
    assert told[0].get_text().endswith("\n10 x 400")
