"""`predict`: segment pictures; of each a picture of the answer, and the answer itself for other programs."""
import json
from pathlib import Path

from .options import CHECKPOINT, DEVICE


def predict_options(parser):
    """The options of `predict`."""
    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--task", default="panoptic", choices=("semantic", "instance", "panoptic"))
    parser.add_argument("--out", default="predictions", type=Path)
    parser.add_argument("--device", default="auto", help=DEVICE)


def run_predict(options):
    """Segment each picture; NAME_TASK.png is for looking, NAME_TASK_ids.png / .json / .npz for working on."""
    from ..data.images import open_picture
    from ..system.distributed import choose_device
    from ..system.files import check_writable
    from ..weights.checkpoint import load_checkpoint
    stems = [path.stem for path in options.images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(f"several pictures are called {', '.join(twice[:5])}, and results are named after them: one "
                         f"would overwrite the other; predict them with different --out folders")
    model = load_checkpoint(options.checkpoint).to(choose_device(options.device))
    if options.task == "instance" and not model.config.things:
        raise ValueError(f"no class of {options.checkpoint} is a thing, so there are no instances to find: choose "
                         f"--task semantic or panoptic")
    if not all(weight.isfinite().all() for weight in model.state_dict().values()):
        raise ValueError(f"{options.checkpoint} holds weights that are not finite: take an earlier checkpoint")
    check_writable(options.out)
    failed = []
    for path in options.images:
        try:
            image = open_picture(path)
        except (ValueError, OSError) as error:  # the others are done all the same
            failed.append(str(error))
            continue
        result = model.predict(image, options.task)
        write_prediction(model, image, result, options.task, options.out / f"{path.stem}_{options.task}")
    if failed:
        raise ValueError("\n".join([f"{len(failed)} of {len(options.images)} pictures could not be read:", *failed]))


def write_prediction(model, image, result, task, stem):
    """A picture of a result, and the result itself in a form other programs read."""
    import numpy as np
    from PIL import Image

    from .. import draw
    from ..data.classes import classes_of
    from ..data.readers.coco_panoptic import encode_ids
    classes = classes_of(model)
    inches = min(40, max(6, max(image.size) / min(image.size)))  # of the longer side; the shorter gets an inch
    figure, ax = draw.new_figure(inches * image.width / max(image.size), inches * image.height / max(image.size))
    if task == "semantic":
        draw.draw_semantic(ax, image, result, classes, ignore=-1)  # no pixel is void
        Image.fromarray(result.cpu().numpy().astype(np.uint16)).save(f"{stem}_ids.png")
        Path(f"{stem}.json").write_text(json.dumps(dict(enumerate(classes.names)), indent=1, ensure_ascii=False),
                                        encoding="utf-8")
    elif task == "instance":
        draw.draw_instances(ax, image, result, classes)
        np.savez_compressed(f"{stem}.npz", **{name: value.cpu().numpy() for name, value in result.items()})
    else:
        segment_map, segments_info = result
        draw.draw_panoptic(ax, image, segment_map.cpu(), segments_info, classes)
        Image.fromarray(encode_ids(segment_map.cpu().numpy())).save(f"{stem}_ids.png")
        Path(f"{stem}.json").write_text(json.dumps(
            [dict(s, category=classes.names[s["category_id"]]) for s in segments_info], indent=1, ensure_ascii=False),
            encoding="utf-8")
    draw.save_figure(figure, f"{stem}.png")
    print(f"{stem}.png")
