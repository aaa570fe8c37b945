"""Label pictures: what values become, instance numbers, more than 255 classes, and every bad file named."""
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer import SemanticFolder, build_model, evaluate
from minimaskformer.data.checks import scan_labels
from minimaskformer.data.classes import ClassTable
from minimaskformer.data.readers.class_files import find_class_file, read_class_file
from minimaskformer.data.readers.label_maps import isolated_share, label_segments, looks_lossy, remap_table, spans
from minimaskformer.metrics import MeanIoU, PanopticQuality
from minimaskformer.targets import panoptic_to_semantic, semantic_to_target

LABELS = np.array([[0, 7, 7, 255], [0, 7, 3, 3], [0, 0, 3, 3]])  # [3, 4]: not square, so a swap of sides shows
TABLE = ClassTable(names=("road", "sky"), isthing=(False, False), ids=(7, 3))  # not in the order of the values


def save(array, path, dtype=np.uint8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array).astype(dtype)).save(path)


@pytest.fixture
def folder(tmp_path):
    save(LABELS, tmp_path / "labels" / "a.png")
    save(np.full((3, 4), 3), tmp_path / "labels" / "b.png")
    save(np.arange(36).reshape(3, 4, 3), tmp_path / "images" / "a.png")
    save(np.zeros((3, 4, 3)), tmp_path / "images" / "b.jpg")
    return tmp_path


def open_folder(folder, *args, **options):
    return SemanticFolder(folder / "images", folder / "labels", *args, **options)


def test_values_become_class_indices_by_the_table_alone(folder):
    dataset = open_folder(folder, TABLE, void=(0, 255))
    image, target = dataset[0]
    assert len(dataset) == 2 and [dataset.name(i) for i in range(2)] == ["a", "b"] and dataset.classes == TABLE
    assert image.dtype == torch.uint8 and image[:, 2, 3].tolist() == [33, 34, 35]
    assert target["labels"].tolist() == [0, 1] and target["masks"].dtype == torch.bool
    assert (target["masks"].numpy() == np.stack([LABELS == 7, LABELS == 3])).all()
    assert (target["valid"].numpy() == ((LABELS != 0) & (LABELS != 255))).all()
    back = panoptic_to_semantic(target["segment_map"], target["segments_info"])
    assert (back.numpy() == np.select([LABELS == 7, LABELS == 3], [0, 1], 255)).all()
    assert [s["area"] for s in target["segments_info"]] == [3, 4]


def test_targets_are_those_of_semantic_to_target(folder):
    names = [f"c{v}" for v in range(8)]
    target = open_folder(folder, names)[0][1]
    other = semantic_to_target(LABELS, 8)
    for key in ("labels", "masks", "valid", "segment_map"):
        assert torch.equal(target[key], other[key]) and target[key].dtype == other[key].dtype, key
    assert target["segments_info"] == other["segments_info"]


def test_without_a_table_the_values_are_the_classes_and_the_remap_says_so(folder):
    dataset = open_folder(folder)
    assert dataset.classes.ids == (0, 3, 7) and dataset.classes.names == ("label 0", "label 3", "label 7")
    assert [line.split() for line in dataset.remap().splitlines()[1:]][1][:2] == ["3", "1"]
    assert "255, 65535" in dataset.remap() and "void" in dataset.remap()
    assert open_folder(folder, void=(0, 255)).classes.ids == (3, 7)
    save(np.full((3, 4), 255), folder / "labels" / "a.png")
    save(np.full((3, 4), 255), folder / "labels" / "b.png")
    with pytest.raises(ValueError, match="void everywhere"):
        open_folder(folder)
    save(np.eye(3, 4) * 255, folder / "labels" / "b.png")  # a black and white mask: is 255 the object, or void?
    with pytest.raises(ValueError, match="hold 0 and 255.*255 object"):
        open_folder(folder)
    table = ClassTable(("background", "object"), (False, False), (0, 255))
    assert open_folder(folder, table)[1][1]["masks"][1].sum() == 3


def test_a_value_outside_the_table_is_named_with_file_and_count(folder):
    dataset = open_folder(folder, TABLE)  # 0 is now neither class nor void
    for read in (lambda: dataset[0], lambda: scan_labels(dataset)):
        with pytest.raises(ValueError) as caught:
            read()
        for words in (str(folder / "labels" / "a.png"), "0 (4 pixels)", "3, 7", "255"):
            assert words in str(caught.value), str(caught.value)
    with pytest.raises(ValueError, match="both a class and void"):
        open_folder(folder, TABLE, void=(7,))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_847_classes_in_16_bits(tmp_path, suffix):
    """ADE20K-Full is labelled so: 0 ... 846, void 65535, and 255 is a class like any other."""
    labels = np.array([[255, 846, 65535], [256, 0, 0]])
    save(labels, tmp_path / "labels" / f"a.{suffix}", np.uint16)
    save(np.zeros((2, 3, 3)), tmp_path / "images" / "a.png")
    target = open_folder(tmp_path, [f"class {k}" for k in range(847)])[0][1]
    assert target["labels"].tolist() == [0, 255, 256, 846]
    assert (~target["valid"]).nonzero().tolist() == [[0, 2]] and target["masks"][1].nonzero().tolist() == [[0, 0]]


def test_instances_part_things_and_nothing_else(folder):
    table = ClassTable(names=("car", "sky"), isthing=(True, False), ids=(7, 3))
    numbers = np.array([[0, 300, 9, 5], [0, 0, 1, 2], [0, 0, 0, 1]])
    for name in "ab":
        save(numbers, folder / "instances" / f"{name}.png", np.uint16)
    dataset = open_folder(folder, table, void=(0, 255), instances_dir=folder / "instances")
    _, target = dataset[0]
    crowd = [s for s in target["segments_info"] if s["iscrowd"]]
    assert len(crowd) == 1 and crowd[0]["category_id"] == 0 and crowd[0]["area"] == 1  # a car without a number
    assert target["labels"].tolist() == [1, 0, 0]  # the sky is one, whatever numbers lie on it
    assert (target["masks"][0].numpy() == (LABELS == 3)).all()
    assert [m.nonzero().tolist() for m in target["masks"][1:]] == [[[0, 2]], [[0, 1]]]
    assert not target["valid"][1, 1] and not target["valid"][0, 3] and target["valid"].sum() == 6
    PanopticQuality(table).update((target["segment_map"], target["segments_info"]),
                                  (target["segment_map"], target["segments_info"]))
    found = open_folder(folder, void=(0, 255), instances_dir=folder / "instances").classes
    assert found.ids == (3, 7) and found.isthing == (True, True)  # numbers lie on both
    semantic = open_folder(folder, table, void=(0, 255))
    assert semantic.classes.things == () and "stuff here: car" in semantic.remap()  # no instance files, no things
    assert "stuff here" not in dataset.remap()


def test_random_maps_against_a_slow_loop():
    rng = np.random.default_rng(0)
    table = ClassTable(("a", "b", "c", "d"), (True, False, True, False), (9, 4, 200, 5))
    labels, numbers = rng.choice([9, 4, 200, 5, 0], (17, 23)), rng.integers(0, 4, (17, 23))
    segment_map, info = label_segments(labels, table, (0,), numbers)
    of = {s["id"]: s for s in info}
    assert sorted(of) == sorted(set(segment_map.ravel()) - {0}) and len(of) == len(info)
    seen = {}
    for y, x in np.ndindex(labels.shape):
        value, number, segment = labels[y, x], numbers[y, x], segment_map[y, x]
        if value == 0:
            assert segment == 0
            continue
        k = table.index(value)
        key = (k, number if table.isthing[k] else None)
        assert of[segment]["category_id"] == k and of[segment]["iscrowd"] == (table.isthing[k] and number == 0)
        assert seen.setdefault(key, segment) == segment
    assert len(set(seen.values())) == len(seen)
    assert all(s["area"] == (segment_map == s["id"]).sum() for s in info)


@pytest.mark.parametrize("break_it, error, words", [
    (lambda f: (f / "labels" / "b.png").unlink(), FileNotFoundError, ["label file", "b.jpg"]),
    (lambda f: (f / "images" / "b.jpg").unlink(), FileNotFoundError, ["no image", "b.png"]),
    (lambda f: save(np.zeros((4, 3)), f / "labels" / "a.png"), ValueError, ["a.png is 3 x 4", "4 x 3", "EXIF"]),
    (lambda f: save(np.zeros((3, 5)), f / "labels" / "a.png"), ValueError, ["a.png is 5 x 3", "4 x 3", "resize"]),
    (lambda f: save(np.eye(3)[..., None].repeat(3, 2), f / "labels" / "a.png"), ValueError, ["a.png", "RGB", "equal"]),
    (lambda f: save(np.arange(36).reshape(3, 4, 3), f / "labels" / "a.png"), ValueError, ["a.png", "colours"]),
    (lambda f: save(np.zeros((3, 4)), f / "labels" / "a.tif", np.float32), ValueError, ["a.tif", "same name"]),
    (lambda f: (f / "labels" / "a.png").write_bytes((f / "labels" / "a.png").read_bytes()[:50]), ValueError,
     ["labels/a.png", "truncated"]),
    (lambda f: (f / "images" / "a.png").write_bytes((f / "images" / "a.png").read_bytes()[:50]), ValueError,
     ["images/a.png", "truncated"]),
    (lambda f: [p.rename(p.with_suffix(".jpg")) for p in sorted((f / "labels").iterdir())], ValueError,
     ["labels", ".jpg", "JPEG"]),
    (lambda f: (f / "labels" / "b.png").rename(f / "labels" / "b.jpg"), FileNotFoundError, ["There is b.jpg", "JPEG"]),
    (lambda f: [p.rename(p.with_suffix(".GIF")) for p in (f / "images" / "b.jpg", f / "labels" / "b.png")], ValueError,
     ["1 pictures in", "images", "b.GIF", "PNG"]),
    (lambda f: [p.rename(p.with_suffix(".exr")) for p in sorted((f / "images").iterdir())], ValueError, ["images", ".exr"]),
    (lambda f: save(np.zeros((3, 4)), f / "images" / "city" / "c.png"), ValueError,
     ["1 files lie in folders inside", "images/city/c.png", "move them"]),
    (lambda f: [save(np.zeros((3, 4)), f / part / "a b" / "c" / "c.png") for part in ("images", "labels")], ValueError,
     ["images/a b/c/c.png"]),
])
def test_bad_folders(folder, break_it, error, words):
    break_it(folder)
    with pytest.raises(error) as caught:
        open_folder(folder, ["x"] * 8)[0]
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_folders_inside_without_pictures_are_passed_over(folder):
    for name in (".thumbs/a.png", "empty/notes.txt", "empty/._a.png"):
        (folder / "images" / name).parent.mkdir(exist_ok=True)
        (folder / "images" / name).touch()
    assert len(open_folder(folder, ["x"] * 8)) == 2


def test_names_in_both_of_unicode_s_forms_are_one(folder):
    """A Mac writes é as e and an accent, and Korean syllables as their letters; other machines do not."""
    for form, part, suffix in (("NFD", "images", "jpg"), ("NFC", "labels", "png"), ("NFD", "instances", "png")):
        for name in ("é", "강"):
            save(np.ones((3, 4)), folder / part / f"{normalize(form, name)}.{suffix}")
    for name in "ab":
        save(np.ones((3, 4)), folder / "instances" / f"{name}.png")
    dataset = open_folder(folder, ["x"] * 8, instances_dir=folder / "instances")
    assert [dataset.name(i) for i in range(4)] == ["a", "b", "é", "강"]
    assert dataset[3][1]["labels"].tolist() == [1] and scan_labels(dataset) == 4


def test_float_labels_are_refused(folder):
    (folder / "labels" / "a.png").unlink()
    save(LABELS, folder / "labels" / "a.tif", np.float32)
    with pytest.raises(ValueError, match=r"a\.tif.*mode F.*integers"):
        open_folder(folder, ["x"] * 8)[0]


def test_labels_once_saved_as_jpeg_are_suspected(tmp_path):
    yy, xx = np.mgrid[:120, :160]
    labels = np.select([(yy - 60) ** 2 + (xx - 50) ** 2 < 900, xx + yy > 170], [90, 30], 12).astype(np.uint8)
    assert not looks_lossy(labels) and isolated_share(labels) == 0
    many = (xx // 8 + 20 * (yy // 8)).astype(np.uint16)  # 300 clean values
    assert not looks_lossy(many)
    Image.fromarray(labels).save(tmp_path / "x.jpg", quality=85)
    lossy = np.asarray(Image.open(tmp_path / "x.jpg"))
    assert looks_lossy(lossy)
    smooth = np.asarray(Image.fromarray(labels).resize((113, 97), Image.Resampling.BILINEAR))
    assert looks_lossy(smooth)
    with pytest.raises(ValueError, match="JPEG"):
        label_segments(lossy.astype(np.int32), TABLE)


def test_spans_and_remap():
    assert spans([5, 1, 2, 3, 9, 8]) == "1 ... 3, 5, 8, 9" and spans([]) == "none"
    table = ClassTable(("a", "b", "c", "d"), (False,) * 4, (1, 2, 3, 11))
    rows = [line.split() for line in remap_table(table, (0, 255)).splitlines()]
    assert rows[1] == ["1", "...", "3", "0", "...", "2", "a", "...", "c"] and rows[2] == ["11", "3", "d"]
    assert rows[3][:3] == ["0,", "255", "void"]


@pytest.mark.parametrize("name, text, names, ids, things, void", [
    ("classes.txt", "road\n\n# a remark\ntraffic light thing\n", ("road", "traffic light"), (0, 1), (1,), None),
    ("classes.txt", "0 unlabelled void\n7 road stuff\n9 hot dog thing\n255 edge void\n", ("road", "hot dog"), (7, 9), (1,),
     (0, 255)),
    ("classes.txt", "thing\n", ("thing",), (0,), (), None),
    ("classes.txt", "0 sky STUFF\n1 cat Thing\n2 edge VOID\n", ("sky", "cat"), (0, 1), (1,), (2,)),
    ("classes.txt", "7 Void\n8\tgrass\n", ("grass",), (8,), (), (7,)),
    ("classes.txt", "void\ngrass, short\nroad 66\n3d printer thing\n", ("grass, short", "road 66", "3d printer"), (1, 2, 3),
     (2,), (0,)),
    ("classes.txt", "0 void stuff\n1 10 euro note\n", ("void", "10 euro note"), (0, 1), (), None),
    ("classes.json", '["Void", "sky"]', ("sky",), (1,), (), (0,)),
    ("classes.json", '[{"id": 0, "name": "void", "void": false}]', ("void",), (0,), (), None),
    ("classes.json", '["road", "sky"]', ("road", "sky"), (0, 1), (), None),
    ("classes.json", '[{"id": 3, "name": "cat", "isthing": true}, {"id": 0, "name": "?", "void": true}]', ("cat",), (3,),
     (0,), (0,)),
])
def test_class_files(tmp_path, name, text, names, ids, things, void):
    (tmp_path / name).write_text(text)
    table, found = read_class_file(find_class_file(tmp_path))
    assert (table.names, table.ids, table.things, found) == (names, ids, things, void)


@pytest.mark.parametrize("name, text, words", [
    ("classes.txt", "0 road\nsky\n", ["classes.txt, line 2", "'sky'"]),
    ("classes.txt", "0 road\n0 sky\n", ["labels 0 occur more than once"]),
    ("classes.txt", "road\nroad\n", ["'road'", "more than once"]),
    ("classes.txt", "0 nothing void\n", ["names no class"]),
    *(("classes.txt", f"# labels\n\n{line}\n", [f"line 3: {line!r}", "1 road stuff"]) for line in (
        "1: grass", "1,grass,stuff", "1;grass", "1 ; grass", "1=grass", "1. grass", "1 - grass", "1) grass", "1 grass, stuff",
        "1 grass:Thing", "1 128 64 128 road", "grass, thing", "grass: 1", "road:128,64,128::")),
    ("classes.json", '{"road": 0}', ["list"]),
    ("classes.json", '[{"name": "road"}]', ["entry 0", "id"]),
    ("classes.json", '["road"', ["valid JSON"]),
])
def test_bad_class_files(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError) as caught:
        read_class_file(tmp_path / name)
    for word in [name, *words]:
        assert word in str(caught.value), str(caught.value)
    (tmp_path / "classes.txt").touch(), (tmp_path / "classes.json").touch()
    with pytest.raises(ValueError, match="remove one"):
        find_class_file(tmp_path)


def test_more_than_255_classes_are_evaluated(tmp_path):
    """A label map's usual void, 255, is a class here: it must be neither lost nor taken for void."""
    labels = np.zeros((32, 32))
    labels[:, 16:], labels[:2] = 255, 65535
    save(labels, tmp_path / "labels" / "a.png", np.uint16)
    save(np.zeros((32, 32, 3)), tmp_path / "images" / "a.png")
    dataset = open_folder(tmp_path, [f"class {k}" for k in range(300)])
    model = build_model("mini", 300, num_queries=4, short_side=32)
    results = evaluate(model, dataset, progress=False)
    iou = results["semantic"]["iou"]
    assert len(iou) == 300 and not np.isnan(iou[0]) and not np.isnan(iou[255])
    metric = MeanIoU(300, -1)
    predicted = model.predict(dataset[0][0], "semantic").numpy()
    metric.update(predicted, np.where(labels == 65535, -1, labels).astype(int))
    assert results["miou"] == metric.compute()["miou"]
