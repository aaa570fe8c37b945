"""A model for other programs: one graph without Python, as torch.export's program or as an ONNX file.

    picture -> resize, normalise, zero-pad -> [the graph: class logits, mask logits] -> the rules of lesson 08

The graph is the network alone. What comes before and after it is short, and what it must know about the model is in
the file's metadata: mean and standard deviation, sides, divisibility, class names, thresholds.
"""
import json
import logging
from pathlib import Path

import torch
from torch import nn

from ..system.files import replacing

INPUT, OUTPUTS = "images", ("class_logits", "mask_logits")
EXAMPLE = 3, 3, 288, 544  # the shape that is traced (several windows of a Swin); batch, height and width stay free
FACTS = ("pixel_mean", "pixel_std", "short_side", "long_side", "size_divisibility", "class_names", "things",
         "score_threshold", "overlap_threshold")


class Network(nn.Module):
    """A MaskFormer as (images) -> (class logits, mask logits) of the last decoder layer."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images):
        return tuple(self.model(images)[:2])


def export_program(model):
    """The network of a MaskFormer, in eval mode, as a torch.export.ExportedProgram for any batch, height and width.

    Its `module(check_guards=False)` takes normalised float images [B, 3, H, W] and gives class logits [B, N, K+1] and
    mask logits [B, N, H/4, W/4], padded as in `MaskFormer.forward`. H and W must be at least 33, because a compiler
    treats a map of one cell as a special case. (The guards are what torch.export saw in its example, such as a batch
    above 1; the graph does not depend on them.) It takes seconds for a ResNet, up to a minute for a Swin.
    """
    was_training = model.training
    example = torch.zeros(EXAMPLE, device=model.pixel_mean.device)
    free = {dim: torch.export.Dim.DYNAMIC for dim in (0, 2, 3)}
    model.eval()
    try:
        with torch.no_grad():
            return torch.export.export(Network(model), (example,), dynamic_shapes=(free,))
    finally:
        model.train(was_training)


def write_onnx(model, path, program=None):
    """Write the network of a MaskFormer as ONNX: input `images`, outputs `class_logits` and `mask_logits`, as above.

    program: what `export_program` returned for the model, if you have it. The metadata `minimaskformer` is JSON. Raises
    ValueError without the packages of the extra `export`, or for a name that does not end in .onnx.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"an ONNX model is a file named something.onnx, not {path.name!r}")
    need("onnx", "onnxscript")
    logging.getLogger("onnxscript").setLevel(logging.ERROR)  # it reports every constant that it leaves as it is
    made = torch.onnx.export(program or export_program(model), dynamo=True, input_names=[INPUT],
                             output_names=list(OUTPUTS), verbose=False)
    config = model.config
    shapes = {INPUT: ["batch", 3, "height", "width"],
              OUTPUTS[0]: ["batch", config.num_queries, config.num_classes + 1],
              OUTPUTS[1]: ["batch", config.num_queries, "mask_height", "mask_width"]}
    for value in (*made.model.graph.inputs, *made.model.graph.outputs):  # readable names for the free sizes
        value.shape = type(value.shape)(shapes[value.name])
    made.model.metadata_props["minimaskformer"] = json.dumps({name: getattr(config, name) for name in FACTS})
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        made.save(temporary)


def difference(model, path, shape=(1, 3, 96, 160)):
    """How far the file's logits are from the model's on a random picture: max |a - b| over max |a|.

    a is the model's, b what onnxruntime computes from the file.
    """
    need("onnxruntime")
    import onnxruntime
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            wanted = model(images.to(model.pixel_mean.device))[:2]
    finally:
        model.train(was_training)
    found = session.run(list(OUTPUTS), {INPUT: images.numpy()})
    return max(float((a.cpu() - torch.from_numpy(b)).abs().max() / a.abs().max()) for a, b in zip(wanted, found))


def need(*packages):
    """Raise ValueError, saying what to install, unless the packages can be imported."""
    for name in packages:
        try:
            __import__(name)
        except ImportError as error:
            raise ValueError(f"ONNX needs the package {name}: pip install onnx onnxscript onnxruntime, or this "
                             f"library with its extra `export`") from error
