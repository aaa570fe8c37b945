"""Instance-label folders: what the labels become, and errors that name the file."""
import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer.data.readers.instances import InstanceFolder

LABELS = np.array([[0, 0, 5, 5], [1, 0, 5, 261], [1, 1, 0, 261]])  # 261 is 5 in 8 bits


@pytest.fixture
def folder(tmp_path):
    """Two pairs: "a" with three nuclei (16 bit, gaps in the ids), "b" without any (8 bit)."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(tmp_path / "images" / "a.png")
    Image.fromarray(np.zeros((3, 4, 3), dtype=np.uint8)).save(tmp_path / "images" / "b.jpg")
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / "labels" / "a.png")
    Image.fromarray(np.zeros((3, 4), dtype=np.uint8)).save(tmp_path / "labels" / "b.png")
    (tmp_path / "images" / ".DS_Store").write_bytes(b"")
    return tmp_path


def open_folder(folder, **options):
    return InstanceFolder(folder / "images", folder / "labels", **options)


def test_instances_are_things_and_background_is_one_stuff_segment(folder):
    dataset = open_folder(folder, thing_name="nucleus")
    assert dataset.classes.names == ("nucleus", "background") and dataset.classes.things == (0,)
    assert len(dataset) == 2 and [dataset.name(i) for i in range(2)] == ["a", "b"]
    image, target = dataset[0]
    assert image.dtype == torch.uint8 and image.shape == (3, 3, 4) and image[2, 1, 1] == 5
    assert target["labels"].tolist() == [0, 0, 0, 1] and target["valid"].all()
    for label, mask in zip((1, 5, 261, 0), target["masks"]):
        assert (mask.numpy() == (LABELS == label)).all()
    assert [s["area"] for s in target["segments_info"]] == [3, 3, 2, 4]
    assert [s["isthing"] for s in target["segments_info"]] == [True, True, True, False]
    assert target["segment_map"].dtype == torch.int32 and (target["segment_map"] > 0).all()


def test_an_image_without_instances_and_one_without_background(folder):
    target = open_folder(folder)[1][1]
    assert target["labels"].tolist() == [1] and target["masks"].all()
    Image.fromarray(np.full((3, 4), 255, dtype=np.uint8)).save(folder / "labels" / "b.png")
    target = open_folder(folder)[1][1]
    assert target["labels"].tolist() == [0] and target["segments_info"][0]["area"] == 12


def test_palette_labels_are_read_as_numbers(folder):
    picture = Image.fromarray(np.array([[0, 1, 2, 2]] * 3, dtype=np.uint8)).convert("P")
    picture.putpalette([9, 9, 9] * 3)  # equal colours: only the indices tell the instances apart
    picture.save(folder / "labels" / "b.png")
    assert open_folder(folder)[1][1]["labels"].tolist() == [0, 0, 1]


@pytest.mark.parametrize("break_it, error, words", [
    (lambda f: (f / "labels" / "b.png").unlink(), FileNotFoundError, ["label file", "'b'"]),
    (lambda f: (f / "images" / "b.jpg").unlink(), FileNotFoundError, ["no image", "'b'"]),
    (lambda f: Image.new("L", (4, 3)).save(f / "images" / "a.bmp"), ValueError, ["a.bmp", "a.png", "same name"]),
    (lambda f: Image.new("L", (3, 4)).save(f / "labels" / "a.png"), ValueError, ["a.png is 4 x 3", "3 x 4"]),
    (lambda f: Image.new("RGB", (4, 3)).save(f / "labels" / "a.png"), ValueError, ["a.png", "mode RGB", "numbers"]),
    (lambda f: (f / "labels" / "a.png").write_bytes((f / "labels" / "a.png").read_bytes()[:60]), ValueError,
     ["a.png", "truncated"]),
    (lambda f: (f / "images" / "a.png").write_text("no image"), ValueError, ["a.png", "is it a picture"]),
    (lambda f: [p.unlink() for p in (f / "images").iterdir()], ValueError, ["images", "holds no files"]),
    (lambda f: (f / "images").rename(f / "pictures"), FileNotFoundError, ["no such folder", "images"]),
])
def test_bad_folders(folder, break_it, error, words):
    break_it(folder)
    with pytest.raises(error) as caught:
        open_folder(folder)[0]
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_the_background_takes_no_number_of_an_object(folder):
    numbers = np.array([[0, 2, 2, 0], [3, 3, 2, 0], [0, 0, 0, 0]], dtype=np.uint8)  # two objects, the second is number 3
    Image.fromarray(numbers).save(folder / "labels" / "a.png")
    segment_map, info = open_folder(folder).read_map(0)
    assert [(s["id"], s["category_id"], s["area"]) for s in info] == [(2, 0, 3), (3, 0, 2), (4, 1, 7)]
    assert [int((segment_map == s["id"]).sum()) for s in info] == [3, 2, 7]
