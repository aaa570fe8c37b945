"""COCO instance JSON: masks as pycocotools' own COCO class decodes them, overlaps, crowds, and every bad file named."""
import contextlib
import io
import json
import random
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO

from minimaskformer import CocoInstance
from minimaskformer.data.catalog import open_dataset
from minimaskformer.data.checks import scan_labels
from minimaskformer.data.transforms import view
from minimaskformer.diagnosis.dataset import data_report, inspect
from minimaskformer.mask_ap import MaskAP

H, W = 40, 60
SQUARE = [10, 5, 30, 5, 30, 25, 10, 25]
TIE = [18, 8, 22, 8, 22, 20, 18, 20]  # lies on the square
TWO = [[40, 2, 50, 2, 50, 12], [40, 20, 55, 20, 55, 35, 40, 35]]  # one object in two parts


def blob():
    mask = np.zeros((H, W), np.uint8, order="F")
    mask[28:38, 2:30] = 1
    return mask


def uncompressed(mask):
    flat, counts, value = mask.ravel(order="F"), [], 0
    while len(flat):
        run = len(flat) if (flat == value).all() else int((flat != value).argmax())
        counts.append(run)
        flat, value = flat[run:], 1 - value
    return {"counts": counts, "size": [H, W]}


def content():
    crowd = uncompressed(blob())
    code = rle.encode(np.asfortranarray(np.roll(blob(), 25, axis=1)))
    small = {"size": code["size"], "counts": code["counts"].decode()}
    boxes = [(1, 18, [SQUARE], 0), (2, 90, [TIE], 0), (3, 18, TWO, 0), (4, 90, crowd, 1), (5, 18, small, 0),
             (6, 18, [[3.2, 3.1, 3.3, 3.1, 3.3, 3.2]], 0)]  # the last encloses no pixel
    return {"images": [{"id": 7, "file_name": "a.jpg", "height": H, "width": W},
                       {"id": 4, "file_name": "empty.jpg", "height": W, "width": H}],
            "categories": [{"id": 90, "name": "brush", "supercategory": "x"}, {"id": 18, "name": "dog"}],
            "annotations": [{"id": i, "image_id": 7, "category_id": c, "segmentation": s, "iscrowd": crowd, "area": 1,
                             "bbox": [0, 0, 1, 1]} for i, c, s, crowd in boxes]}


@pytest.fixture
def coco(tmp_path):
    """COCO's own layout."""
    for place in ("annotations", "val2017"):
        (tmp_path / place).mkdir()
    write(tmp_path, content())
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (H, W, 3), dtype=np.uint8)).save(tmp_path / "val2017" / "a.jpg")
    Image.new("L", (H, W)).save(tmp_path / "val2017" / "empty.jpg")
    return tmp_path


def write(folder, data):
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(data))


def opened(folder, **options):
    return CocoInstance(folder / "annotations" / "instances_val2017.json", **options)


def test_annotations_without_a_pixel_are_reported(coco):
    data = content()
    outside = {"id": 9, "image_id": 4, "category_id": 18, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1],
               "segmentation": [[100, 100, 120, 100, 120, 120]]}  # of an image that was larger once
    write(coco, data | {"annotations": [*data["annotations"], outside]})
    dataset = opened(coco)
    assert [dataset.without_pixel(i) for i in range(2)] == [[6], [9]]
    looks = inspect(dataset, progress=False)
    assert all(any("enclose no pixel" in reason for reason in found.reasons) for found in looks)


def truth(folder):
    """Every annotation's mask as pycocotools' COCO class gives it."""
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(str(folder / "annotations" / "instances_val2017.json"))
    return {a: api.annToMask(api.anns[a]).astype(bool) for a in sorted(api.anns)}


def test_masks_are_those_of_pycocotools(coco, capsys):
    dataset, masks = open_dataset(f"coco_instance:{coco}", "val"), truth(coco)
    assert "Read mask AP" in capsys.readouterr().err
    assert len(dataset) == 2 and [dataset.name(i) for i in range(2)] == ["a", "empty"]
    assert dataset.classes.names == ("brush", "dog") and dataset.classes.ids == (90, 18)
    assert dataset.classes.things == (0, 1)
    image, target = dataset[0]
    assert image.shape == (3, H, W) and image.dtype == torch.uint8
    assert target["labels"].tolist() == [1, 0, 1, 1] and target["labels"].dtype == torch.int64
    assert not masks[6].any() and (masks[1] & masks[2]).sum() == masks[2].sum() > 0
    assert target["masks"].dtype == torch.bool
    assert (target["masks"].numpy() == np.stack([masks[i] for i in (1, 2, 3, 5)])).all()


def test_unlabelled_is_known_and_a_crowd_is_not(coco):
    target, masks = opened(coco)[0][1], truth(coco)
    single = masks[1] | masks[2] | masks[3] | masks[5]
    assert (masks[4] & single).any() and (masks[4] & ~single).any()
    assert (target["valid"].numpy() == ~(masks[4] & ~single)).all()
    crowds = [s for s in target["segments_info"] if s["iscrowd"]]
    assert len(crowds) == 1 and crowds[0]["category_id"] == 0
    assert (target["segment_map"].numpy() == crowds[0]["id"]).sum() == (masks[4] & ~single).sum() == crowds[0]["area"]


def test_in_the_map_the_smaller_lies_on_top(coco):
    target, masks = opened(coco)[0][1], truth(coco)
    ids = {tuple((s["category_id"], s["iscrowd"], s["area"])): s["id"] for s in target["segments_info"]}
    square, tie = int(masks[1].sum()), int(masks[2].sum())
    segment_map = target["segment_map"].numpy()
    assert target["segment_map"].dtype == torch.int32
    assert (segment_map == ids[0, 0, tie]).sum() == tie
    assert ((segment_map == ids[1, 0, square - tie]) == (masks[1] & ~masks[2])).all()
    everything = np.any(list(masks.values()), axis=0)
    assert ((segment_map == 0) == ~everything).all()
    assert all(s["area"] == (segment_map == s["id"]).sum() > 0 for s in target["segments_info"])


def test_background_as_a_class_of_its_own(coco):
    dataset, masks = opened(coco, background="ground"), truth(coco)
    assert dataset.classes.names == ("brush", "dog", "ground") and dataset.classes.isthing == (True, True, False)
    _, target = dataset[0]
    rest = ~np.any(list(masks.values()), axis=0)
    assert target["labels"].tolist() == [1, 0, 1, 1, 2] and (target["masks"][-1].numpy() == rest).all()
    assert (target["segment_map"] != 0).all() and target["segments_info"][-1]["area"] == rest.sum()
    assert dataset[1][1]["labels"].tolist() == [2] and dataset[1][1]["masks"].all()
    with pytest.raises(ValueError, match="category 'dog' of its own"):
        opened(coco, background="dog")


def test_an_image_without_objects_is_kept(coco):
    image, target = opened(coco)[1]
    assert image.shape == (3, W, H) and target["masks"].shape == (0, W, H) and target["labels"].shape == (0,)
    assert target["valid"].all() and target["segments_info"] == [] and (target["segment_map"] == 0).all()


def test_views_keep_overlaps_and_what_is_known(coco):
    image, target = opened(coco)[0]
    _, moved = view(image, target, H, random.Random(0), flip=False)
    left = next(x for x in range(W - H + 1) if torch.equal(moved["valid"], target["valid"][:, x:x + H]))
    for mask in moved["masks"]:
        assert any(torch.equal(mask, m[:, left:left + H]) for m in target["masks"])
    assert moved["valid"].float().mean() > 0.7  # background is not void


def test_perfect_predictions_have_ap_1(coco):
    dataset = opened(coco)
    metric = MaskAP(dataset.classes)
    _, target = dataset[0]
    info = [s for s in target["segments_info"] if not s["iscrowd"]]
    masks = torch.stack([target["segment_map"] == s["id"] for s in info])
    metric.update({"masks": masks, "labels": torch.tensor([s["category_id"] for s in info]),
                   "scores": torch.ones(len(info))}, (target["segment_map"], target["segments_info"]))
    assert metric.compute()["ap"] == 1


@pytest.mark.parametrize("place, images", [
    ("instances_train.json", "train"), ("train.json", "images/train"), ("annotations/train.json", "images"),
    ("train/_annotations.coco.json", "train"), ("annotations/instances_train2017.json", "train2017"),
])
def test_own_json_is_found_where_people_put_it(coco, tmp_path, place, images):
    home = tmp_path / "own"
    (home / place).parent.mkdir(parents=True)
    (home / images).mkdir(parents=True, exist_ok=True)
    (home / place).write_text(json.dumps(content()))
    for name in ("a.jpg", "empty.jpg"):
        (coco / "val2017" / name).rename(home / images / name)
    dataset = open_dataset(f"own:{home}", "train")
    assert isinstance(dataset, CocoInstance) and dataset[0][1]["labels"].tolist() == [1, 0, 1, 1, 2]
    assert dataset.classes.names == ("brush", "dog", "background")
    assert dataset.files(0)[0] == home / images / "a.jpg" and scan_labels(dataset) == 2


@pytest.mark.parametrize("change, words", [
    (lambda c: c["annotations"][0].update(category_id=5), ["annotation 1", "a.jpg", "id 5", "18, 90"]),
    (lambda c: c["annotations"][1].update(image_id=99), ["annotation 2", "99"]),
    (lambda c: c["annotations"][2].update(segmentation=[]), ["annotation 3", "a.jpg", "box"]),
    (lambda c: c["annotations"][2].pop("segmentation"), ["annotation 3", "segmentation"]),
    (lambda c: c["annotations"][3]["segmentation"].update(size=[W, H]), ["annotation 4", "size", "[40, 60]"]),
    (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5]]), ["annotation 1", "polygon"]),
    (lambda c: c["annotations"][0].update(segmentation=[[1, 2, float("nan"), 4, 5, 6]]), ["annotation 1", "nan"]),
    (lambda c: c["annotations"][0].update(segmentation=[[1, 2, 1e12, 4, 5, 6]]), ["annotation 1", "nowhere near"]),
    (lambda c: c["annotations"][0].update(segments_info=[]), ["panoptic", "coco_panoptic:"]),
    (lambda c: c["images"][0].pop("height"), ["height", "COCO instance JSON"]),
    (lambda c: c["images"][1].update(file_name="a.jpg"), ["more than one image", "a.jpg"]),
    (lambda c: [a.pop("segmentation") for a in c["annotations"][:3]], ["3 of the 6", "annotation 1 ", "annotation 3 ", "box"]),
    (lambda c: c["images"][1].update(id=7), ["instances_val2017.json", "more than once", "a.jpg, empty.jpg"]),
    (lambda c: c["categories"][0].update(id=18), ["repeated", "18"]),
    (lambda c: c.update(images=[]), ["images", "empty"]),
    (lambda c: [image.update(file_name="gone.jpg") for image in c["images"][:1]] + [c["images"].pop()],
     ["none of the first 1 images", "gone.jpg", "/val2017", "Put them into one of these"]),
    (lambda c: c.pop("annotations"), ["annotations", "COCO instance JSON"]),
])
def test_a_bad_json_is_refused_at_once(coco, change, words):
    bad = content()
    change(bad)
    write(coco, bad)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        opened(coco)
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_of_the_folders_that_with_most_of_the_images_is_taken(coco):
    data = content()
    data["images"].insert(0, {"id": 9, "file_name": "gone.jpg", "height": H, "width": W})
    data["images"].append({"id": 10, "file_name": "b.jpg", "height": H, "width": W})
    write(coco, data)
    (coco / "images").mkdir()
    Image.new("RGB", (W, H)).save(coco / "images" / "b.jpg")  # one image here, two in val2017
    dataset = opened(coco)
    assert dataset.files(1)[0] == coco / "val2017" / "a.jpg"
    with pytest.raises(ValueError, match=r"(?s)2 of the 4.*val2017/gone\.jpg.*val2017/b\.jpg"):
        scan_labels(dataset)


def test_an_empty_list_of_annotations_is_no_fault(coco):
    write(coco, content() | {"annotations": []})
    dataset = opened(coco, background="ground")
    assert len(dataset) == 2 and dataset[0][1]["labels"].tolist() == [2] and scan_labels(dataset) == 2
    assert "brush, dog" in data_report(inspect(dataset, progress=False), dataset, "none")


def test_what_tools_write(coco):
    """A BOM in front, null for no crowd, one name for two categories, names that differ in their suffix only."""
    data = content()
    data["annotations"][0]["iscrowd"] = None
    data["categories"][1]["name"] = "brush"
    for number, name in ((20, "a b.jpg"), (21, "a_b.jpg"), (22, "a_b.png"), (23, "a_b_2.jpg")):
        data["images"].append({"id": number, "file_name": name, "height": H, "width": W})
        Image.new("RGB", (W, H)).save(coco / "val2017" / name)
    (coco / "annotations" / "instances_val2017.json").write_text(json.dumps(data), encoding="utf-8-sig")
    dataset = opened(coco)
    assert dataset[0][1]["labels"].tolist() == [1, 0, 1, 1]
    assert dataset.classes.names == ("brush (id 90)", "brush (id 18)")
    assert [dataset.name(i) for i in range(6)] == ["a", "empty", "a_b", "a_b_2", "a_b_3", "a_b_2_2"]
    assert [dataset.files(i)[0].name for i in (2, 5)] == ["a b.jpg", "a_b_2.jpg"]


@pytest.mark.parametrize("ours, theirs", [("NFC", "NFD"), ("NFD", "NFC")])
def test_file_names_in_the_other_form_of_unicode(coco, ours, theirs):
    data = content()
    (coco / "val2017" / normalize(ours, "\ud638")).mkdir()  # a folder of the form that the JSON has, files of the other
    for image, place, name in zip(data["images"], ("", normalize(ours, "\ud638/")), ("\uac15 \u00e9.jpg", "\uc0b0.jpg")):
        (coco / "val2017" / image["file_name"]).rename(coco / "val2017" / (place + normalize(theirs, name)))
        image["file_name"] = place + normalize(ours, name)
    write(coco, data)
    dataset = opened(coco)
    assert scan_labels(dataset) == 2 and dataset[1][0].shape == (3, W, H)
    assert [dataset.name(i) for i in range(2)] == ["\uac15_\u00e9", "\ud638_\uc0b0"]


def test_no_annotation_takes_the_id_made_up_for_the_background(coco):
    bad = content()
    bad["annotations"][0]["category_id"] = 91  # one above the file's largest
    write(coco, bad)
    with pytest.raises(ValueError, match=r"category id 91.*not in .categories.; known ids: \[18, 90\]"):
        opened(coco, background="background")


def test_two_points_are_no_box(coco):
    """pycocotools would take a polygon of two points for a box."""
    data = content()
    data["annotations"][0]["segmentation"] = [[1, 2, 30, 30], SQUARE]
    write(coco, data)
    assert (opened(coco)[0][1]["masks"][0].numpy() == truth_of(SQUARE)).all()


def truth_of(polygon):
    return rle.decode(rle.merge(rle.frPyObjects([polygon], H, W))).astype(bool)


def test_bad_images_and_codes_are_named(coco):
    Image.new("RGB", (W, H + 1)).save(coco / "val2017" / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.jpg is 60 x 41.*instances_val2017\.json is 60 x 40"):
        opened(coco)[0]
    with pytest.raises(ValueError, match=r"a\.jpg is 60 x 41"):
        scan_labels(opened(coco))
    (coco / "val2017" / "empty.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"empty\.jpg"):
        opened(coco)[1]
    data = content()
    data["annotations"][3]["segmentation"]["counts"] = [5, "x"]
    write(coco, data)
    with pytest.raises(ValueError, match=r"annotation 4 .*a\.jpg.*counts"):
        opened(coco)[0]


def test_the_folder_of_images_that_is_given_is_taken(coco):
    (coco / "val2017").rename(coco / "elsewhere")
    with pytest.raises(FileNotFoundError, match="image_dir"):
        opened(coco)
    assert opened(coco, image_dir=coco / "elsewhere").files(0)[0] == coco / "elsewhere" / "a.jpg"
