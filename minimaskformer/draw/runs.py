"""Pictures of training runs side by side: curves against a right run, losses by layer, scores of the queries."""
import json


def draw_run(model, validation, folder):
    """curves.png and scenes.png of a finished run."""
    from .. import draw
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    draw.draw_curves(rows, folder / "curves.png")
    draw_scenes(model, validation, folder / "scenes.png")


def draw_scenes(model, dataset, path, count=8):
    """Image, truth and panoptic prediction of the first few pictures of a data set."""
    from .. import draw
    items = []
    for i in range(min(count, len(dataset))):
        image, target = dataset[i]
        truth = target["segment_map"], target["segments_info"]
        items.append((image, truth, model.predict(image, "panoptic", things=dataset.classes.things), dataset.name(i)))
    draw.contact_sheet(items, dataset.classes, path)
