"""Draw the README's wide picture: one scene, one output of the shipped model, three readings.

    python tools/readme_picture.py [SCENE]
"""
import sys
from pathlib import Path

from matplotlib.figure import Figure

from minimaskformer import Lakeland, draw, load_checkpoint

scene = int(sys.argv[1]) if len(sys.argv) > 1 else 37  # one of its better ones
model, data = load_checkpoint("mini"), Lakeland("val", 128, 0.5, 1000)
image = data[scene][0]
semantic, instances, panoptic = (model.predict(image, task) for task in ("semantic", "instance", "panoptic"))
figure = Figure(figsize=(12, 3.3), layout="compressed")
draw.four_readings(figure, image, semantic, instances, panoptic, data.classes)
path = Path(__file__).parent.parent / "lessons" / "images" / "four_readings.png"
path.parent.mkdir(exist_ok=True)
draw.save_figure(figure, path, dpi=110)
print(path)
