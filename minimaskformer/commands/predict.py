"""`predict`: segment pictures; for each, a picture of the answer, and the answer itself for other programs."""
import json
from glob import glob
from pathlib import Path

from .options import CHECKPOINT, DEVICE, counted, data_options, open_data, whole_number

TOLD = 10  # pictures whose files are printed
NAMED = 20  # pictures that could not be read, in the error


def predict_options(parser):
    """The options of `predict`."""
    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("images", nargs="*", type=Path, metavar="PICTURE", help="files, folders, or patterns in "
                        "quotes, such as 'photos/**/*.jpg'; or none, with --data")
    data_options(parser)
    parser.add_argument("--split", default="test", help="with --data: the split to predict")
    parser.add_argument("--task", default="panoptic", choices=("semantic", "instance", "panoptic"))
    parser.add_argument("--size", type=whole_number, help="short side that the network sees (default: the model's)")
    parser.add_argument("--tiles", nargs="?", type=whole_number, const=0, metavar="SIDE", help="look at large pictures "
                        "in overlapping squares of this many pixels, each resized to --size (without a number: as many "
                        "as --size), and join the answers")
    parser.add_argument("--overlap", type=float, default=0.25, help="share of a tile that its neighbour sees too")
    parser.add_argument("--labelme", action="store_true", help="also write a folder labelme/ with the pictures and "
                        "LabelMe JSONs, to correct by hand and read back as own:")
    parser.add_argument("--out", default="predictions", type=Path)
    parser.add_argument("--device", default="auto", help=DEVICE)


def run_predict(options):
    """Segment each picture; NAME_TASK.png is for viewing, NAME_TASK_ids.png / .json / .npz for further work."""
    from tqdm.auto import tqdm

    from ..data.writers.coco_results import CocoResults
    from ..data.writers.labelme import write_labelme
    from ..system.distributed import choose_device
    from ..system.files import check_writable
    from ..weights.checkpoint import load_checkpoint
    wanted = wanted_pictures(options)
    model = load_checkpoint(options.checkpoint).to(choose_device(options.device))
    if options.task == "instance" and model.config.per_pixel:
        raise ValueError(f"{options.checkpoint} gives each pixel a class and finds no instances: choose --task "
                         f"semantic")
    if options.task == "instance" and not model.config.things:
        raise ValueError(f"no class of {options.checkpoint} is a thing, so there are no instances to find: choose "
                         f"--task semantic or panoptic")
    if not all(weight.isfinite().all() for weight in model.state_dict().values()):
        raise ValueError(f"{options.checkpoint} holds weights that are not finite: take an earlier checkpoint")
    if options.tiles and options.tiles < 32:
        raise ValueError(f"--tiles {options.tiles}: each tile is a run of the network, so a side of at least 32 pixels")
    look = {"size": options.size, "tiles": options.tiles, "overlap": options.overlap}
    if options.tiles == 0:
        look["tiles"] = options.size or model.config.short_side
    check_writable(options.out / "labelme" if options.labelme else options.out)
    results, failed = CocoResults(options.task, wanted.classes(model)), []
    for number in tqdm(range(len(wanted)), desc="predict", disable=None if len(wanted) > 1 else True):
        try:
            image, file, name = wanted.picture(number)
        except (ValueError, OSError) as error:  # the others are still processed
            failed.append(str(error))
            continue
        result, stem = model.predict(image, options.task, **look), options.out / f"{name}_{options.task}"
        write_prediction(model, image, result, options.task, stem)
        results.add(wanted.image_id(number), Path(file or f"{name}.png").name, image.size[::-1], result,
                    f"{stem.name}_ids.png")
        if options.labelme:
            write_labelme(options.out / "labelme", file, name, image, objects_of(model, result, options.task))
        if len(wanted) <= TOLD:
            print(f"{stem}.png")
    if results.images:
        told = ", ".join([counted(len(results.images), "picture"), *results.write(options.out)])
        print(f"{told}{', labelme/' * options.labelme} in {options.out}")
    if failed:
        more = [f"... and {len(failed) - NAMED} more"] * (len(failed) > NAMED)
        raise ValueError("\n".join([f"{len(failed)} of {len(wanted)} pictures could not be read:", *failed[:NAMED],
                                    *more]))


def wanted_pictures(options):
    """The pictures that the command names: files, or a split of a data set."""
    if bool(options.images) == bool(options.data):
        raise ValueError("name pictures, folders or patterns, or a data set with --data: one of the two")
    if options.data:
        return Split(open_data(options, options.split))
    return Files(picture_files(options.images))


class Files:
    """Picture files: turned upright, as a viewer shows them, and numbered from 1 in COCO's files."""

    def __init__(self, files):
        self.files = files
        stems = [path.stem for path in files]
        twice = sorted({stem for stem in stems if stems.count(stem) > 1})
        if twice:
            raise ValueError(f"several pictures are named {', '.join(twice[:5])}, and results are named after them: "
                             f"one would overwrite the other; predict them with different --out folders")

    def __len__(self):
        return len(self.files)

    def picture(self, number):
        """(Pillow picture, its file, its name)."""
        from ..data.images import open_picture
        return open_picture(self.files[number]), self.files[number], self.files[number].stem

    def image_id(self, number):
        """A picture's number in COCO's files."""
        return number + 1

    def classes(self, model):
        """The class table whose ids are the category ids."""
        from ..data.classes import classes_of
        return classes_of(model)


class Split:
    """The pictures of a data set: as they are stored, like its labels; ids of pictures and categories are its own."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def picture(self, number):
        """(Pillow picture, its file or None, its name)."""
        from PIL import Image
        image = self.dataset[number][0]  # [3, H, W]
        file = self.dataset.files(number)[0] if hasattr(self.dataset, "files") else None
        return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()), file, self.dataset.name(number)

    def image_id(self, number):
        """The id that the data set's JSON gives it, if it has one."""
        return getattr(self.dataset, "entries", {number: {}})[number].get("image_id", number + 1)

    def classes(self, model):
        """The model's classes with the data set's ids, matched by name."""
        from dataclasses import replace

        from ..data.classes import classes_of
        own, names = classes_of(model), self.dataset.classes.names
        missing = [name for name in own.names if name not in names]
        if missing:
            raise ValueError(f"the data set has no classes {', '.join(missing[:5])}, which the model finds: is this "
                             "the data set the model was trained for?")
        return replace(own, ids=tuple(self.dataset.classes.ids[names.index(name)] for name in own.names))


def picture_files(arguments):
    """The picture files that files, folders and patterns stand for, in their order; each once."""
    from ..data.readers.label_maps import IMAGE_SUFFIXES
    files = []
    for path in arguments:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.name[0] != ".")
        elif not path.exists() and any(c in str(path) for c in "*?["):
            found = sorted(Path(p) for p in glob(str(path), recursive=True) if Path(p).suffix.lower() in IMAGE_SUFFIXES)
        else:
            found = [path]
        if not found:
            raise FileNotFoundError(f"no pictures in {path}: they end in {', '.join(IMAGE_SUFFIXES)}")
        files += found
    return list(dict.fromkeys(files))


def objects_of(model, result, task):
    """[(class name, mask bool [H, W])] of an answer of any task."""
    names = model.config.class_names or tuple(f"class {k}" for k in range(model.config.num_classes))
    if task == "semantic":
        labels = result.cpu().numpy()
        return [(names[k], labels == k) for k in sorted(set(labels.ravel().tolist()))]
    if task == "instance":
        return [(names[int(k)], mask) for k, mask in zip(result["labels"], result["masks"].cpu().numpy()) if mask.any()]
    segment_map = result[0].cpu().numpy()
    return [(names[s["category_id"]], segment_map == s["id"]) for s in result[1]]


def write_prediction(model, image, result, task, stem):
    """A picture of a result, and the result itself in a form that other programs can read."""
    import numpy as np
    from PIL import Image

    from .. import draw
    from ..data.classes import classes_of
    from ..data.readers.coco_panoptic import encode_ids
    from ..system.files import replacing, save_png, write_text
    classes = classes_of(model)
    inches = min(40, max(6, max(image.size) / min(image.size)))  # of the longer side; the shorter gets an inch
    figure, ax = draw.new_figure(inches * image.width / max(image.size), inches * image.height / max(image.size))
    if task == "semantic":
        draw.draw_semantic(ax, image, result, classes, ignore=-1)  # no pixel is void
        save_png(Image.fromarray(result.cpu().numpy().astype(np.uint16)), f"{stem}_ids.png")
        write_text(f"{stem}.json", json.dumps(dict(enumerate(classes.names)), indent=1, ensure_ascii=False))
    elif task == "instance":
        draw.draw_instances(ax, image, result, classes)
        with replacing(f"{stem}.npz") as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **{name: value.cpu().numpy() for name, value in result.items()})
    else:
        segment_map, segments_info = result
        draw.draw_panoptic(ax, image, segment_map.cpu(), segments_info, classes)
        save_png(Image.fromarray(encode_ids(segment_map.cpu().numpy())), f"{stem}_ids.png")
        segments = [dict(s, category=classes.names[s["category_id"]]) for s in segments_info]
        write_text(f"{stem}.json", json.dumps(segments, indent=1, ensure_ascii=False))
    draw.save_figure(figure, f"{stem}.png")
