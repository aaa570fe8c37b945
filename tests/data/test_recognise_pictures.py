"""Label pictures in any layout: colours, labels with other names, one file per object, and patterns for where files are."""
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.checks import scan_labels
from minimaskformer.data.readers.colors import color_table
from minimaskformer.data.recognise.patterns import FolderLayout

H, W = 12, 16
TABLE = {"background": (0, 0, 0), "road": (128, 64, 128), "traffic light": (250, 170, 30), "void": (9, 9, 9)}


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def classes_of(seed):
    """A label map of the classes 0 ... 2 and void (3), blocks of 4 x 4."""
    return np.kron(np.random.default_rng(seed).permutation([0, 1, 2, 3] * 3).reshape(3, 4), np.ones((4, 4), int))


def colored(labels):
    return np.array(list(TABLE.values()), np.uint8)[labels]  # [H, W, 3]


def learnt(dataset, index):
    """Class names as a map; None where it is void."""
    _, target = dataset[index]
    found = np.full(target["valid"].shape, None, object)
    for k, mask in zip(target["labels"].tolist(), target["masks"].numpy()):
        found[mask] = dataset.classes.names[k]
    assert (target["valid"].numpy() == (found != None)).all()  # noqa: E711 elementwise
    return found.tolist()


def named(labels, names=tuple(TABLE)):
    return [[None if names[v] == "void" else names[v] for v in row] for row in labels]


TEXTS = {"labelmap.txt": "# label:color_rgb:parts:actions\n" + "".join(f"{n}:{r},{g},{b}::\n" for n, (r, g, b) in TABLE.items()),
         "class_dict.csv": "name,r,g,b\n" + "".join(f"{n}, {r}, {g}, {b}\n" for n, (r, g, b) in TABLE.items()),
         "classes.txt": "".join(f"{r} {g} {b} {n}\n" for n, (r, g, b) in TABLE.items()),
         "label_colors.txt": "".join(f"{r} {g} {b}\t\t{n}\n" for n, (r, g, b) in TABLE.items())}


@pytest.mark.parametrize("file", TEXTS)
@pytest.mark.parametrize("tree", ["images/{}+labels/{}", "{}+{}_labels", "{}/images+{}/masks"])
def test_colours_are_classes(tmp_path, file, tree):
    pictures, labels = (place.replace("{}", "{split}") for place in tree.split("+"))
    for split in ("train", "val"):
        for i in range(2):
            save(np.zeros((H, W, 3)), tmp_path / pictures.format(split=split) / f"p{i}.png")
            save(colored(classes_of(i)), tmp_path / labels.format(split=split) / f"p{i}.png")
    (tmp_path / file).write_text(TEXTS[file])
    for split in ("train", "val"):
        dataset = open_dataset(f"own:{tmp_path}", split)
        assert dataset.classes.names == ("background", "road", "traffic light")
        assert [learnt(dataset, i) for i in range(2)] == [named(classes_of(i)) for i in range(2)]
        assert scan_labels(dataset) == 2


def test_palettes_may_differ_in_order_where_colours_are_named(tmp_path):
    for i, order in enumerate(([0, 1, 2, 3], [3, 1, 0, 2], [2, 3, 1, 0])):
        picture = Image.fromarray(np.argsort(order).astype(np.uint8)[classes_of(i)], "P")
        picture.putpalette([c for k in order for c in list(TABLE.values())[k]] + [0] * (768 - 12))
        save(np.zeros((H, W, 3)), tmp_path / "images" / "train" / f"p{i}.png")
        (tmp_path / "labels" / "train").mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "labels" / "train" / f"p{i}.png")
    (tmp_path / "colors.txt").write_text(TEXTS["classes.txt"])
    dataset = open_dataset(f"own:{tmp_path}", "train")
    assert [learnt(dataset, i) for i in range(3)] == [named(classes_of(i)) for i in range(3)]


@pytest.mark.parametrize("files", [["train/a", "train/b", "val/c"], ["train/a", "val/b", "val/c"]])
def test_palettes_that_differ_in_order_are_no_class_numbers(tmp_path, files):
    """Within a split, and between splits."""
    for name, order in zip(files, ([0, 1, 2, 3], [3, 1, 0, 2], [3, 1, 0, 2])):
        picture = Image.fromarray(np.argsort(order).astype(np.uint8)[classes_of(1)], "P")
        picture.putpalette([c for k in order for c in list(TABLE.values())[k]] + [0] * (768 - 12))
        save(np.zeros((H, W, 3)), tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "labels" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(ValueError, match="palettes differ in order"):
        [scan_labels(open_dataset(f"own:{tmp_path}", split)) for split in ("train", "val")]


def test_a_colour_that_no_line_names(tmp_path):
    labels = colored(classes_of(0))
    labels[0, :2] = 1, 2, 3
    save(np.zeros((H, W, 3)), tmp_path / "images" / "train" / "p.png")
    save(labels, tmp_path / "labels" / "train" / "p.png")
    (tmp_path / "class_dict.csv").write_text(TEXTS["class_dict.csv"])
    with pytest.raises(ValueError, match=r"labels/train/p.png.*1,2,3 \(2 pixels\).*void"):
        open_dataset(f"own:{tmp_path}", "train")[0]
    Image.fromarray(np.kron(colored(classes_of(0)), np.ones((8, 8, 1), np.uint8))).save(tmp_path / "x.jpg", quality=60)
    save(np.zeros((8 * H, 8 * W, 3)), tmp_path / "images" / "train" / "p.png")
    save(np.asarray(Image.open(tmp_path / "x.jpg")), tmp_path / "labels" / "train" / "p.png")
    with pytest.raises(ValueError, match="JPEG"):
        open_dataset(f"own:{tmp_path}", "train")[0]


@pytest.mark.parametrize("line, row", [
    ("128 64 128 traffic light thing", ("traffic light", (128, 64, 128), "thing")), ("road 128 64 128", ("road", (128, 64, 128), "")),
    ("3 128 64 128 road", ("road", (128, 64, 128), "")), ("class 1 12 13 14", ("class 1", (12, 13, 14), "")),
    ("car:1,2,3:wheel,door:run", ("car", (1, 2, 3), "")), ("1;2;3;road", ("road", (1, 2, 3), ""))])
def test_lines_of_colours(tmp_path, line, row):
    (tmp_path / "t.txt").write_text(f"{line}\n")
    assert color_table(tmp_path / "t.txt") == [row]


def test_lists_that_are_no_colours(tmp_path):
    path = tmp_path / "t.txt"
    for text in ("cat\ndog\n", "0 unlabelled void\n1 road stuff\n"):
        path.write_text(text)
        assert color_table(path) is None
    for text, words in (("1 2 3 a\nb\n", "line 2"), ("1 2 300 a\n", "line 1"), ("1 2 3 a\n1 2 3 b\n", "colour"), ("1 2 3 a\n1 2 4 a\n", "name a")):
        path.write_text(text)
        with pytest.raises(ValueError, match=words):
            color_table(path)


def test_voc_like_export_with_lists_and_instances(tmp_path):
    for i in range(4):
        save(np.zeros((H, W, 3)), tmp_path / "JPEGImages" / f"c{i}.jpg")
        save(colored(classes_of(i)), tmp_path / "SegmentationClass" / f"c{i}.png")
        instances = np.zeros((H, W, 3))
        instances[:, :5], instances[:, 5:9] = (200, 0, 9), (7, 8, 9)
        save(instances, tmp_path / "SegmentationObject" / f"c{i}.png")
    (tmp_path / "labelmap.txt").write_text(TEXTS["labelmap.txt"])
    for name, lines in (("train", "c2\nc0\n"), ("val", "c3\n")):
        (tmp_path / "ImageSets" / "Segmentation").mkdir(parents=True, exist_ok=True)
        (tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(lines)
    train, val = (open_dataset(f"own:{tmp_path}", split) for split in ("train", "val"))
    assert [train.name(i) for i in range(2)] == ["c2", "c0"] and len(val) == 1
    assert learnt(train, 0) == named(classes_of(2))
    panoptic = open_dataset(f"own:{tmp_path}", "val", FolderLayout(kind="panoptic"))
    assert panoptic.classes.isthing == (False, True, True)
    road, numbers = classes_of(3) == 1, np.zeros((H, W), int)
    numbers[:, :5], numbers[:, 5:9] = 1, 2
    _, target = panoptic[0]
    masks = {m.numpy().tobytes() for m, k in zip(target["masks"], target["labels"]) if k == 1}
    assert masks == {(road & (numbers == n)).tobytes() for n in (1, 2) if (road & (numbers == n)).any()}
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("c3\nc9\n")
    with pytest.raises(FileNotFoundError, match="val.txt.*c9"):
        open_dataset(f"own:{tmp_path}", "train")


def test_roboflow_semantic(tmp_path):
    for part, count in (("train", 2), ("valid", 1), ("test", 1)):
        for i in range(count):
            save(np.zeros((H, W, 3)), tmp_path / part / f"r{i}.jpg")
            save(classes_of(i), tmp_path / part / f"r{i}_mask.png")
        (tmp_path / part / "_classes.csv").write_text("Pixel Value, Class\n0, a\n1, b\n2, c, d\n3, e\n")
    found = {split: open_dataset(f"own:{tmp_path}", split) for split in ("train", "val", "test")}
    assert [len(d) for d in found.values()] == [2, 1, 1]
    assert learnt(found["train"], 1) == named(classes_of(1), ("a", "b", "c, d", "e"))
    (tmp_path / "test" / "_classes.csv").write_text("Pixel Value, Class\n0, a\n1, b\n")
    with pytest.raises(ValueError, match="different classes"):
        open_dataset(f"own:{tmp_path}", "train")


@pytest.mark.parametrize("image, label", [("{}", "{}_mask"), ("{}", "mask_{}"), ("img_{}", "lab_{}"), ("{}_rgb", "{}_gt"), ("{}", "a-{}-b")])
def test_labels_called_otherwise_are_paired(tmp_path, image, label, capsys):
    for split in ("train", "val"):
        for i, name in enumerate(("10", "1", "x 1", "1_10")):
            save(np.zeros((H, W, 3)), tmp_path / "images" / split / f"{image.format(name)}.jpg")
            save(np.full((H, W), i), tmp_path / "labels" / split / f"{label.format(name)}.png")
    dataset = open_dataset(f"own:{tmp_path}", "train")
    pairs = {dataset.files(i)[0].stem: learnt(dataset, i)[0][0] for i in range(4)}
    assert pairs == {image.format(name): f"label {i}" for i, name in enumerate(("10", "1", "x 1", "1_10"))}
    assert label.replace("{}", "NAME") in capsys.readouterr().err
    (tmp_path / "labels" / "train" / f"{label.format('1')}.png").unlink()
    with pytest.raises(FileNotFoundError) as caught:
        open_dataset(f"own:{tmp_path}", "train")
    assert len(str(caught.value)) < 700 and "{stem}" in str(caught.value)


def test_two_folders_without_splits(tmp_path):
    for i in range(6):
        save(np.full((H, W, 3), 40 * i), tmp_path / "photos" / f"{i}.png")
        save(np.full((H, W), i), tmp_path / "masks" / f"{i}.png")
    train, val = (open_dataset(f"own:{tmp_path}", split) for split in ("train", "val"))
    assert [val.name(i) for i in range(len(val))] == ["0", "5"] and train.classes == val.classes and len(train.classes) == 6
    assert all(int(d[i][0][0, 0, 0]) == 40 * int(d.name(i)) and learnt(d, i)[0][0] == f"label {d.name(i)}" for d in (train, val) for i in range(len(d)))


def three_masks(place):
    for i, columns in enumerate(((0, 3), (2, 6), (8, 9))):  # the first two overlap
        mask = np.zeros((H, W))
        mask[:, slice(*columns)] = 255
        save(mask, place / f"m{i}.png")


def test_a_folder_for_each_picture(tmp_path):
    for name in ("n1", "n2", "n3"):
        save(np.zeros((H, W, 3)), tmp_path / name / "images" / f"{name}.png")
        three_masks(tmp_path / name / "masks")
    train, val = (open_dataset(f"own:{tmp_path}", split) for split in ("train", "val"))
    assert [d.name(i) for d in (val, train) for i in range(len(d))] == ["n1", "n2", "n3"]
    assert train.classes.names == ("object", "background")
    _, target = train[0]
    assert target["labels"].tolist() == [0, 0, 0, 1] and [int(m.sum()) for m in target["masks"]] == [3 * H, 4 * H, H, (W - 7) * H]
    assert open_dataset(f"own:{tmp_path}", "val", FolderLayout(classes="nucleus")).classes.names == ("nucleus", "background")
    same = open_dataset(f"instances:{tmp_path}", "train", FolderLayout("{stem}/images/*", "{stem}/masks/*.png"))
    assert all((a == b).all() for a, b in zip(same[0][1]["masks"], target["masks"])) and scan_labels(same) == 2
    mask = np.zeros((H, W))
    mask[0, :3] = 1, 2, 3
    save(mask, tmp_path / "n3" / "masks" / "m1.png")
    with pytest.raises(ValueError, match="m1.png holds the values 1, 2, 3"):
        train[1]
    save(np.ones((H, W + 1)), tmp_path / "n3" / "masks" / "m1.png")
    with pytest.raises(ValueError, match="m1.png is 17 x 12"):
        train[1]


def penn_fudan(home, images="PNGImages", labels="PedMasks", ending="_mask"):
    numbers = np.kron([[0, 1], [2, 0]], np.ones((H // 2, W // 2)))
    for i in range(5):
        save(np.zeros((H, W, 3)), home / images / f"Ped{i}.png")
        save(numbers, home / labels / f"Ped{i}{ending}.png")
    return home


def test_numbered_pedestrians(tmp_path):
    for kind in ("own", "instances"):
        train, val = (open_dataset(f"{kind}:{penn_fudan(tmp_path)}", split) for split in ("train", "val"))
        assert (len(train), len(val)) == (4, 1) and train[0][1]["labels"].tolist() == [0, 0, 1]
    layout = FolderLayout("shots/*.png", "people/{stem}-seg.png", kind="instances", classes="person, street", val_share=0.4)
    penn_fudan(tmp_path, "shots", "people", "-seg")
    dataset = open_dataset(f"own:{tmp_path}", "val", layout)
    assert len(dataset) == 2 and dataset.classes.names == ("person", "street") and dataset[0][1]["labels"].tolist() == [0, 0, 1]


def test_numbers_of_objects_are_not_taken_for_classes(tmp_path):
    blocks = np.kron(np.arange(12).reshape(3, 4), np.ones((4, 4), int))
    for i in range(4):
        save(np.zeros((H, W, 3)), tmp_path / "images" / "train" / f"{i}.png")
        save(blocks % (6 + i), tmp_path / "labels" / "train" / f"{i}.png")
    with pytest.raises(ValueError, match=r"5 \.\.\. 8: do they number objects\?.*--kind instances"):
        open_dataset(f"own:{tmp_path}", "train")
    assert len(open_dataset(f"own:{tmp_path}", "train", FolderLayout(kind="instances"))[3][1]["labels"]) == 9
    save(blocks % 9 + (blocks % 9 > 2), tmp_path / "labels" / "train" / "0.png")
    assert len(open_dataset(f"own:{tmp_path}", "train").classes) == 10  # a gap: classes


def test_patterns_with_splits_lists_and_names(tmp_path):
    for split, names in (("training", "ab"), ("validation", "c")):
        for name in names:
            save(np.zeros((H, W, 3)), tmp_path / "in" / split / "city" / f"{name}_left.png")
            save(classes_of(ord(name)), tmp_path / "gt" / split / "city" / f"{name}_ids.png")
            save(np.ones((H, W)), tmp_path / "gt" / split / "city" / f"{name}_inst.png")
    layout = FolderLayout("in/{split}/*/{stem}_left.png", "gt/{split}/*/{stem}_ids.png", classes="a,b,c,void")
    train, val = (open_dataset(f"own:{tmp_path}", split, layout) for split in ("train", "val"))
    assert [len(train), len(val)] == [2, 1] and learnt(val, 0) == named(classes_of(ord("c")), ("a", "b", "c", "void"))
    with pytest.raises(FileNotFoundError, match="'test'"):
        open_dataset(f"own:{tmp_path}", "test", layout)
    (tmp_path / "names.txt").write_text("0 a stuff\n1 b thing\n2 c void\n3 d thing\n")
    panoptic = FolderLayout("in/{split}/**/{stem}_left.png", "gt/{split}/**/{stem}_ids.png", "gt/{split}/**/{stem}_inst.png", kind="panoptic",
                            classes="names.txt")
    assert open_dataset(f"own:{tmp_path}", "val", panoptic).classes.things == (1, 2)
    flat = FolderLayout("in/**/{stem}_left.png", "gt/**/{stem}_ids.png", lists="{split}_set.txt", classes="a,b,c,d")
    (tmp_path / "train_set.txt").write_text("in/training/city/a_left.png\nb_left\n")
    (tmp_path / "val_set.txt").write_text("c_left.png 3\n")
    assert [len(open_dataset(f"own:{tmp_path}", split, flat)) for split in ("train", "val")] == [2, 1]


@pytest.mark.parametrize("layout, words", [
    (("PNGImages/*.png", "PedMasks/{stem}.png"), ["5 of 5 names", "PedMasks/{stem}_mask.png"]),
    (("PNGImages/*.jpg", "PedMasks/{stem}.png"), ["--images 'PNGImages/*.jpg' finds no files"]),
    (("PNGImages/*.png", "masks/{stem}.png"), ["--labels 'masks/{stem}.png' finds no files"]),
    (("*/*.png", "PedMasks/{stem}_mask.png"), ["have no labels"]),
    (("PNGImages/*.png", "PedMasks/{stem}*.png"), ["kind instances"])])
def test_patterns_that_do_not_pair(tmp_path, layout, words):
    penn_fudan(tmp_path)
    (tmp_path / "PedMasks" / "Ped1_mask2.png").write_bytes((tmp_path / "PedMasks" / "Ped1_mask.png").read_bytes())
    if "{stem}*" not in layout[1]:
        (tmp_path / "PedMasks" / "Ped1_mask2.png").unlink()
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        open_dataset(f"own:{tmp_path}", "train", FolderLayout(*layout))
    for word in words:
        assert word in str(caught.value), str(caught.value)
    assert len(str(caught.value)) < 600


def test_patterns_never_lead_out():
    for pattern in ("../x/*.png", "/etc/*", "C:/x/*", "a/../../b/*"):
        with pytest.raises(ValueError, match="lead out"):
            FolderLayout(pattern, "labels/{stem}.png")
    for layout in (dict(images="a/*"), dict(kind="boxes"), dict(images="a/*", labels="b/{name}.png")):
        with pytest.raises(ValueError):
            FolderLayout(**layout)
    with pytest.raises(ValueError, match="own:PATH and instances:PATH"):
        open_dataset("lakeland", "val", FolderLayout(val_share=0.5))


def test_nothing_recognised_says_how_to_say_it(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"(?s)1 \.txt.*--images .*--labels"):
        open_dataset(f"own:{tmp_path}", "train")
    assert Path(tmp_path).is_dir()
