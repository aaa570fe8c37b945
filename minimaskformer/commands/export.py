"""`export`: a checkpoint's network as ONNX, for other programs."""
from pathlib import Path

from .options import CHECKPOINT


def export_options(parser):
    """The options of `export`."""
    parser.add_argument("checkpoint", help=CHECKPOINT)
    parser.add_argument("--out", default="model.onnx", type=Path, help="the file to write")


def run_export(options):
    """Write a checkpoint's network as ONNX, and say how far it is from the model."""
    from ..system.files import check_writable
    from ..weights.checkpoint import load_checkpoint
    from ..weights.export import difference, need, write_onnx
    need("onnx", "onnxscript", "onnxruntime")
    model = load_checkpoint(options.checkpoint)
    if model.config.per_pixel:
        raise ValueError(f"{options.checkpoint} is a per-pixel baseline: `export` writes MaskFormers only")
    check_writable(options.out.parent)
    write_onnx(model, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.1f} MB, {model.config.num_classes} classes; on a random "
          f"picture its logits differ from the model's by {difference(model, options.out):.0e} of the largest")
