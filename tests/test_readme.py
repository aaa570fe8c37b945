"""What README.md shows of the library is run as it stands there."""
import re
from pathlib import Path

import pytest
import torch
from torchvision import tv_tensors

from minimaskformer import SetCriterion
from minimaskformer.model import Output

TEXT = (Path(__file__).parents[1] / "README.md").read_text("utf-8")


def detection_dataset(masks_as):
    """Batches as torchvision's detection references make them, but stacked: boxes, areas and crowds come along."""
    for seed in range(2):
        g = torch.Generator().manual_seed(seed)
        images, targets = torch.randint(0, 256, (2, 3, 64, 64), generator=g, dtype=torch.uint8), []
        for count in (2, 0):  # the second picture has no object
            masks = torch.zeros(count, 64, 64, dtype=torch.uint8)
            for i in range(count):
                masks[i, 8:30, 20 * i:20 * i + 15] = 1
            targets.append({"boxes": tv_tensors.BoundingBoxes(torch.zeros(count, 4), format="XYXY", canvas_size=(64, 64)),
                            "labels": torch.arange(1, count + 1), "masks": masks_as(masks), "image_id": seed,
                            "area": torch.ones(count), "iscrowd": torch.zeros(count, dtype=torch.int64)})
        yield tv_tensors.Image(images), targets


@pytest.mark.parametrize("masks_as", [tv_tensors.Mask, lambda masks: masks, lambda masks: masks.bool()])
def test_a_loop_of_ones_own(masks_as):
    (script,) = [text for text in re.findall(r"```python\n(.*?)```", TEXT, re.S) if "SetCriterion" in text]
    torch.manual_seed(0)
    names = {"loader": detection_dataset(masks_as)}
    exec(compile(script, "README.md", "exec"), names)
    assert names["losses"]["loss"].isfinite() and {"class_0", "focal", "dice"} <= set(names["losses"])
    assert all(p.grad is not None and p.grad.isfinite().all() for p in names["model"].parameters())


def test_masks_of_torchvision_mean_what_ours_mean():
    g = torch.Generator().manual_seed(0)
    output = Output(torch.randn(2, 5, 4, generator=g), torch.randn(2, 5, 16, 16, generator=g))
    losses = [SetCriterion(3)(output, next(detection_dataset(kind))[1])["loss"].item()
              for kind in (tv_tensors.Mask, lambda masks: masks, lambda masks: masks.bool())]
    assert losses[0] == losses[1] == losses[2]
    wrong = next(detection_dataset(lambda masks: 255 * masks))[1]
    with pytest.raises(ValueError, match="mask > 0"):
        SetCriterion(3)(output, wrong)


def test_the_package_says_that_it_is_typed():
    """The wheel takes the whole folder of the package (see test_setup.py), so a file in it is in the wheel."""
    import minimaskformer
    assert (Path(minimaskformer.__file__).parent / "py.typed").is_file()
