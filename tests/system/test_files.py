"""Files that are whole or not there, and figures that other readers of JSON take."""
import errno

import pytest

from minimaskformer.system import files
from minimaskformer.system.files import without_nan, write_text

NAN = float("nan")


def test_figures_that_do_not_exist_are_nothing_in_json():
    figures = {"ap": NAN, "iou": [0.5, NAN, 1], "per_class": {"lake": {"pq": NAN, "name": "lake", "seen": None}}}
    assert without_nan(figures) == {"ap": None, "iou": [0.5, None, 1],
                                    "per_class": {"lake": {"pq": None, "name": "lake", "seen": None}}}


def test_a_disk_that_fills_up_leaves_the_earlier_file_and_no_half_one(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_text(path, "earlier")

    def fills_up(temporary, text, encoding):
        with open(temporary, "w") as file:
            file.write(text[:3])
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr("pathlib.Path.write_text", fills_up)
    for name, words in (("metrics.json", "; the earlier file of that name is intact"), ("new.json", "on device$")):
        with pytest.raises(OSError, match=f"could not write {tmp_path / name}: the disk is full, .*{words}"):
            write_text(tmp_path / name, "later, and longer")
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.json"] and path.read_text() == "earlier"


def test_a_copy_that_finds_no_room_names_the_file_it_could_not_write(tmp_path, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(source))  # as shutil says it
    monkeypatch.setattr(files.shutil, "copyfile", full)
    with pytest.raises(OSError, match="new.png") as told:
        files.copy_file(tmp_path / "old.png", tmp_path / "new.png")
    assert told.value.errno == errno.ENOSPC and "old.png" not in str(told.value)
