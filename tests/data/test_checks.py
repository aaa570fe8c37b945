"""scan_labels: every bad file is found before training, named with its path; good data sets pass."""
import numpy as np
import pytest
from PIL import Image

from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.checks import even_indices, scan_labels
from minimaskformer.data.lakeland import Lakeland
from minimaskformer.data.readers.coco_panoptic import write_panoptic
from minimaskformer.data.readers.instances import InstanceFolder


@pytest.fixture
def nuclei(tmp_path):
    for part in ("images", "labels"):
        (tmp_path / part / "train").mkdir(parents=True)
    for i in range(30):
        labels = np.zeros((5, 6), np.uint8)
        labels[1:3, 2:4] = 1
        Image.fromarray(labels).save(tmp_path / "labels" / "train" / f"{i:02d}.png")
        Image.new("RGB", (6, 5)).save(tmp_path / "images" / "train" / f"{i:02d}.jpg")
    return tmp_path


def folder(nuclei):
    return InstanceFolder(nuclei / "images" / "train", nuclei / "labels" / "train")


def test_a_good_data_set_passes_and_a_drawn_one_has_no_files(nuclei):
    assert scan_labels(folder(nuclei)) == 30 and scan_labels(folder(nuclei), limit=7, workers=1) == 7
    assert scan_labels(Lakeland("train", length=1_000_000)) == 0


def test_every_bad_file_is_named_and_nothing_else(nuclei):
    labels, images = nuclei / "labels" / "train", nuclei / "images" / "train"
    Image.new("RGB", (6, 5)).save(labels / "03.png")
    (labels / "11.png").write_bytes((labels / "11.png").read_bytes()[:45])
    Image.new("RGB", (5, 6)).save(images / "17.jpg")
    (images / "29.jpg").write_text("moved to another disk")
    with pytest.raises(ValueError) as caught:
        scan_labels(folder(nuclei))
    text = str(caught.value)
    assert "4 of the 30" in text and "inspect" in text
    for path in (labels / "03.png", labels / "11.png", images / "17.jpg", images / "29.jpg"):
        assert str(path) in text
    assert "00.png" not in text and text.index("03.png") < text.index("11.png") < text.index("17.jpg")
    assert scan_labels(folder(nuclei), limit=1) == 1  # item 0 is good


def test_a_long_list_is_cut_and_counted(nuclei):
    for path in (nuclei / "labels" / "train").iterdir():
        Image.new("RGB", (6, 5)).save(path)
    with pytest.raises(ValueError, match="(?s)30 of the 30.* 10 more"):
        scan_labels(folder(nuclei))


def test_panoptic_png_and_json_that_disagree(tmp_path):
    scenes = Lakeland("val", 64, 0.5, 4)
    write_panoptic(tmp_path, (scenes[i] for i in range(4)), scenes.classes, "val")
    assert scan_labels(open_dataset(f"coco_panoptic:{tmp_path}", "val")) == 4
    png = tmp_path / "panoptic" / "val" / "000000000003.png"
    ids = np.array(Image.open(png))
    ids[0, 0] = 201
    Image.fromarray(ids).save(png)
    with pytest.raises(ValueError, match=r"(?s)1 of the 4.*000000000003\.png") as caught:
        scan_labels(open_dataset(f"coco_panoptic:{tmp_path}", "val"))
    assert "only in the PNG" in str(caught.value)


def test_a_limit_is_spread_over_the_whole(nuclei):
    assert even_indices(10, 3) == [0, 3, 6] and even_indices(3, 10) == [0, 1, 2] and even_indices(3) == [0, 1, 2]
    with pytest.raises(ValueError, match="at least 1"):
        scan_labels(folder(nuclei), limit=0)
