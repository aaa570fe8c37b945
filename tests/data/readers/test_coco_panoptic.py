"""COCO panoptic: the id code, the round trip, and a clear error for every way in which files disagree."""
import json
import shutil
from unicodedata import normalize

import numpy as np
import pytest
import torch
from PIL import Image

from minimaskformer.data.classes import ClassTable
from minimaskformer.data.images import read_image
from minimaskformer.data.readers.coco_panoptic import CocoPanoptic, decode_ids, encode_ids, write_panoptic
from minimaskformer.targets import panoptic_to_target

CLASSES = ClassTable(names=("sky", "sheep", "grass"), isthing=(False, True, False), ids=(187, 20, 193))


def item(seed=0, h=9, w=14):
    """A random image; sky above, grass below, two sheep, a crowd of sheep, void at the left."""
    g = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, h, w), generator=g, dtype=torch.uint8)
    segment_map = torch.full((h, w), 70_000, dtype=torch.int32)
    segment_map[5:], segment_map[:, 0] = 3, 0
    segment_map[4:7, 2:5], segment_map[4:7, 5:7], segment_map[2, 9:13] = 256, 16_777_215, 65_536
    info = [{"id": 70_000, "category_id": 0, "iscrowd": 0}, {"id": 3, "category_id": 2, "iscrowd": 0},
            {"id": 256, "category_id": 1, "iscrowd": 0}, {"id": 16_777_215, "category_id": 1, "iscrowd": 0},
            {"id": 65_536, "category_id": 1, "iscrowd": 1}]
    info = [{**s, "isthing": CLASSES.isthing[s["category_id"]], "area": int((segment_map == s["id"]).sum())}
            for s in info]
    return image, panoptic_to_target(segment_map, info, len(CLASSES))


@pytest.fixture
def written(tmp_path):
    write_panoptic(tmp_path, [item(0), item(1, 12, 10)], CLASSES, "val")
    return tmp_path


def edit(json_file, change):
    content = json.loads(json_file.read_text())
    change(content)
    json_file.write_text(json.dumps(content))


def fails(folder, error, *words, read=False):
    """The data set must refuse these files, with these words in the message."""
    with pytest.raises(error) as caught:
        dataset = CocoPanoptic(folder / "panoptic_val.json")
        if read:
            dataset[0]
    for word in words:
        assert word in str(caught.value), str(caught.value)


def test_ids_are_base_256_with_red_lowest():
    assert decode_ids(np.array([[[1, 2, 3]]], dtype=np.uint8)).tolist() == [[1 + 2 * 256 + 3 * 65536]]
    ids = np.array([[0, 1, 255, 256], [65535, 65536, 1_234_567, 256 ** 3 - 1]])
    rgb = encode_ids(ids)
    assert rgb.dtype == np.uint8 and rgb.shape == (2, 4, 3)
    assert decode_ids(rgb).tolist() == ids.tolist() and decode_ids(rgb).dtype == np.int32
    assert encode_ids(torch.tensor([[258]])).tolist() == [[[2, 1, 0]]]
    for bad in (-1, 256 ** 3):
        with pytest.raises(ValueError, match=str(bad)):
            encode_ids([[bad]])


def test_round_trip_is_exact(written):
    dataset = CocoPanoptic(written / "panoptic_val.json")
    assert dataset.classes == CLASSES and len(dataset) == 2
    assert [dataset.name(i) for i in range(2)] == ["000000000001", "000000000002"]
    for (image, target), (true_image, true) in zip(dataset, [item(0), item(1, 12, 10)]):
        assert image.dtype == torch.uint8 and torch.equal(image, true_image)
        assert target["segments_info"] == true["segments_info"]
        for key in ("labels", "masks", "valid", "segment_map"):
            assert target[key].dtype == true[key].dtype and torch.equal(target[key], true[key]), key


def test_written_json_says_what_pycocotools_style_readers_expect(written):
    content = json.loads((written / "panoptic_val.json").read_text())
    assert content["images"][0] == {"id": 1, "file_name": "000000000001.png", "height": 9, "width": 14}
    sheep = content["annotations"][0]["segments_info"][2]
    assert sheep == {"id": 256, "category_id": 20, "iscrowd": 0, "area": 9, "bbox": [2, 4, 3, 3]}
    assert [c["id"] for c in content["categories"]] == [187, 20, 193]
    assert [c["isthing"] for c in content["categories"]] == [0, 1, 0]
    png = np.asarray(Image.open(written / "panoptic" / "val" / "000000000001.png")).astype(int)
    assert (png @ [1, 256, 65536] == item()[1]["segment_map"].numpy()).all()


def test_coco_s_own_layout_is_found(written):
    for folder in ("annotations", "val2017"):
        (written / folder).mkdir()
    shutil.move(written / "panoptic_val.json", written / "annotations" / "panoptic_val2017.json")
    shutil.move(written / "panoptic" / "val", written / "annotations" / "panoptic_val2017")
    for file in (written / "images" / "val").iterdir():
        shutil.move(file, written / "val2017" / file.name)
    (written / "images" / "val").rmdir()
    dataset = CocoPanoptic(written / "annotations" / "panoptic_val2017.json")
    assert torch.equal(dataset[1][0], item(1, 12, 10)[0])
    moved = CocoPanoptic(written / "annotations" / "panoptic_val2017.json", image_dir=written / "val2017")
    assert torch.equal(moved[1][1]["masks"], dataset[1][1]["masks"])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        CocoPanoptic(written / "annotations" / "panoptic_val2017.json", png_dir=written / "nowhere")


@pytest.mark.parametrize("change, words", [
    (lambda c: c.pop("categories"), ["panoptic_val.json", '"categories"']),
    (lambda c: c.update(annotations=[]), ["panoptic_val.json", "empty"]),
    (lambda c: c["categories"][0].pop("isthing"), ["isthing"]),
    (lambda c: c["categories"][0].update(id=20), ["repeated", "20"]),
    (lambda c: c["annotations"][0]["segments_info"][0].update(category_id=5), ["image 1", "id 5", "20, 187, 193"]),
    (lambda c: c["annotations"][0].update(image_id=77), ["77"]),
    (lambda c: c["annotations"][0].pop("segments_info"), ["segments_info"]),
    (lambda c: c["annotations"][0]["segments_info"][0].update(id=3), ["image 1", "repeated", "3"]),
    (lambda c: c["annotations"][0]["segments_info"][0].update(id=0), ["image 1", "void"]),
    (lambda c: c["annotations"][1].update(image_id=1), ["more than one", "000000000001"]),
    (lambda c: c["images"][0].pop("height"), ["height"]),
    (lambda c: c["images"][1].update(id=1), ["panoptic_val.json", "more than once", "1", "000000000002.png"]),
    (lambda c: c.update(images=["a.png"]), ["panoptic_val.json", "form"]),
])
def test_a_bad_json_is_refused_at_once(written, change, words):
    edit(written / "panoptic_val.json", change)
    fails(written, ValueError, *words)


def test_what_tools_write(written):
    """A BOM, null for no crowd, one name for two categories, two images of one name but for the suffix, Mac's Unicode."""
    json_file = written / "panoptic_val.json"

    def change(c):
        c["categories"][0]["name"] = "sheep"
        c["annotations"][0]["segments_info"][0]["iscrowd"] = None
        for k, name in ((0, "\u00e9.png"), (1, "e\u0301.jpg")):
            c["images"][k]["file_name"], c["annotations"][k]["file_name"] = name, f"{k} {name}"
            for part, new in (("images", name), ("panoptic", f"{k} {name}")):
                file = written / part / "val" / f"00000000000{k + 1}.png"
                file.rename(file.with_name(normalize("NFC" if k else "NFD", new)))  # the other form than the JSON's

    edit(json_file, change)
    json_file.write_text(json_file.read_text(), encoding="utf-8-sig")
    dataset = CocoPanoptic(json_file)
    assert [dataset.name(i) for i in range(2)] == ["\u00e9", "\u00e9_2"]
    assert dataset.classes.names == ("sheep (id 187)", "sheep (id 20)", "grass")
    assert torch.equal(dataset[0][1]["masks"], item(0)[1]["masks"]) and torch.equal(dataset[1][0], item(1, 12, 10)[0])


def test_missing_and_truncated_files(written):
    json_file = written / "panoptic_val.json"
    png, picture = (written / f / "val" / "000000000001.png" for f in ("panoptic", "images"))
    for file in (png, picture):
        whole = file.read_bytes()
        for part in (whole[:len(whole) // 2], whole[:10], b""):
            file.write_bytes(part)
            fails(written, ValueError, str(file), "truncated", read=True)
        file.unlink()
        fails(written, FileNotFoundError, str(file), read=True)
        file.write_bytes(whole)
    shutil.rmtree(written / "panoptic")
    fails(written, FileNotFoundError, "panoptic_val", "Put them into one of these", "png_dir")
    json_file.write_text(json_file.read_text()[:100])
    fails(written, ValueError, str(json_file), "truncated")
    json_file.unlink()
    fails(written, FileNotFoundError, str(json_file))


def test_png_and_image_that_do_not_fit(written):
    json_file = written / "panoptic_val.json"
    png, picture = (written / f / "val" / "000000000001.png" for f in ("panoptic", "images"))
    edit(json_file, lambda c: c["annotations"][0]["segments_info"].pop(0))
    fails(written, ValueError, str(png), "70000", "only in the PNG", read=True)
    edit(json_file, lambda c: c["annotations"][0]["segments_info"].extend(
        [{"id": 70_000, "category_id": 187}, {"id": 4711, "category_id": 20}]))
    fails(written, ValueError, str(png), "only in the JSON [4711]", read=True)
    edit(json_file, lambda c: c["annotations"][0]["segments_info"].pop())
    CocoPanoptic(json_file)[0]
    edit(json_file, lambda c: c["images"][0].update(height=10))
    fails(written, ValueError, "000000000001", "14 x 10", "14 x 9", read=True)
    edit(json_file, lambda c: c["images"][0].update(height=9))
    whole = picture.read_bytes()
    Image.new("RGB", (9, 14)).save(picture)
    fails(written, ValueError, str(picture), "9 x 14", "14 x 9", read=True)
    picture.write_bytes(whole)
    Image.new("L", (14, 9)).save(png)
    fails(written, ValueError, str(png), "mode L", read=True)


def test_grey_palette_16_bit_and_transparent_images(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    files = {"grey": Image.fromarray(grey), "deep": Image.fromarray(grey.astype(np.uint16) * 256 + 17),
             "alpha": Image.fromarray(np.dstack([rgb, grey])), "palette": Image.fromarray(grey).convert("P"),
             "rgb": Image.fromarray(rgb)}
    for name, picture in files.items():
        picture.save(tmp_path / f"{name}.png")
        image = read_image(tmp_path / f"{name}.png")
        assert image.dtype == torch.uint8 and image.shape == (3, 3, 4), name
        assert (image.permute(1, 2, 0).numpy() == rgb).all(), name
    Image.fromarray(grey.astype(np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(ValueError, match="float.tif.*floating-point"):
        read_image(tmp_path / "float.tif")


def test_exif_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a viewer would turn it by 90 degrees
    Image.new("RGB", (8, 4), "red").save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (3, 4, 8)


def test_an_interrupted_write_leaves_no_json(tmp_path):
    def items():
        yield item(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_panoptic(tmp_path, items(), CLASSES, "val")
    assert not list(tmp_path.glob("*.json*"))
    write_panoptic(tmp_path, [item(0)], CLASSES, "val")
    with pytest.raises(FileExistsError, match="overwrite"):
        write_panoptic(tmp_path, [item(0)], CLASSES, "val")
    with pytest.raises(KeyboardInterrupt):  # and not the old JSON beside new images either
        write_panoptic(tmp_path, items(), CLASSES, "val", overwrite=True)
    assert not list(tmp_path.glob("*.json*"))


def test_names_jpg_and_bad_items(tmp_path):
    write_panoptic(tmp_path, [item(0)], CLASSES, "train", names=["lake_7"], image_format="jpg")
    dataset = CocoPanoptic(tmp_path / "panoptic_train.json")
    assert dataset.name(0) == "lake_7" and (tmp_path / "images" / "train" / "lake_7.jpg").exists()
    assert torch.equal(dataset[0][1]["segment_map"], item(0)[1]["segment_map"])
    write_panoptic(tmp_path, [item(0, w=8)], CLASSES, "narrow")  # the crowd lies outside: no pixels, no entry
    assert len(CocoPanoptic(tmp_path / "panoptic_narrow.json")[0][1]["segments_info"]) == 4
    image, target = item(0)
    unlisted = {**target, "segments_info": target["segments_info"][1:]}
    for items, names, words in (([], None, "no items"), ([(image[:, 1:], target)], None, "differ in size"),
                                ([(image, unlisted)], None, "70000"), ([item(0)], ["a/b"], "a/b"),
                                ([item(0), item(1)], ["a", "a"], "taken")):
        with pytest.raises(ValueError, match=words):
            write_panoptic(tmp_path, items, CLASSES, "val", names=names)
        assert not (tmp_path / "panoptic_val.json").exists()
