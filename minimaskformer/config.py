"""Configuration: one frozen dataclass for the model, and the presets by name.

Every field's default is the reference code's value; a preset says where it differs, and why.
"""
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches

from .system.model_fields import checked_fields


@dataclass(frozen=True)
class MaskFormerConfig:
    """Everything that decides the shape and the arithmetic of a MaskFormer.

    ValueError for a field that cannot be meant; lists and NumPy's numbers become tuples and Python's.
    """
    # what it predicts
    num_classes: int = 150
    class_names: tuple[str, ...] = ()  # K names, or empty
    things: tuple[int, ...] = ()  # class indices that are things; the others are stuff
    per_pixel: bool = False  # no queries: a class for each pixel, the paper's PerPixelBaseline (section 4)
    # backbone and pixel decoder
    backbone: str = "resnet50"
    frozen_norm: bool = True  # BatchNorm frozen; False trains it (needed from scratch)
    window: int = 7  # Swin: attention sees window x window cells
    stochastic_depth: float = 0.3  # Swin, in training: probability of skipping a branch of the last block
    dim: int = 256  # channels of the feature pyramid
    mask_dim: int = 256  # channels of pixel and mask embeddings
    encoder_layers: int = 0  # transformer encoder layers inside the pyramid ...
    encoder_level: str = "res5"  # ... on the projected res5 (the paper's panoptic model), or on a pyramid map p2 ... p5
    # transformer
    memory: str = "res5"  # what the queries read: a backbone map res2 ... res5, a pyramid map p2 ... p5, or "encoder"
    memory_positions: bool = False  # also add the sine positions to the memory itself, so that a query can *read* where
    hidden_dim: int = 256
    num_queries: int = 100
    num_heads: int = 8
    decoder_layers: int = 6
    feedforward: int = 2048
    dropout: float = 0.1
    # pixels
    pixel_positions: bool = False  # add sine positions to what the mask embeddings are compared with
    size_divisibility: int = 32  # images are padded at the right and bottom to a multiple of this; 1: not at all
    pixel_mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # RGB, of values 0 ... 255
    pixel_std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    short_side: int = 512  # `predict` resizes an image so that its short side has this length ...
    long_side: int = 2048  # ... unless its long side would pass this
    # panoptic inference
    score_threshold: float = 0.8
    overlap_threshold: float = 0.8

    def __post_init__(self):
        for name, value in checked_fields(vars(self)).items():
            object.__setattr__(self, name, value)  # the way past frozen


MAPS = ("res2", "res3", "res4", "res5", "p2", "p3", "p4", "p5", "encoder")  # what queries can read
ENCODER_LEVELS = ("res5", "p2", "p3", "p4", "p5")
LAKELAND_NAMES = ("sky", "mountain", "water", "grass", "path", "house", "tree", "sheep", "boat", "balloon", "duck")

COCO_PANOPTIC = MaskFormerConfig(num_classes=133, things=tuple(range(80)), encoder_layers=6, memory="encoder",
                                 size_divisibility=1, short_side=800, long_side=1333)
COCO_SWIN = replace(COCO_PANOPTIC, encoder_layers=0, memory="res5")
# For a laptop's CPU. Queries read the pyramid at stride 8, not 32: at 128 x 128, res5 is a 4 x 4 map, in which
# two sheep are one cell.
MINI = MaskFormerConfig(
    num_classes=11, class_names=LAKELAND_NAMES, things=(5, 6, 7, 8, 9, 10), backbone="mini", frozen_norm=False,
    dim=96, mask_dim=96, encoder_layers=2, encoder_level="p3", memory="p3", memory_positions=True, hidden_dim=128,
    num_queries=32, num_heads=4, decoder_layers=3, feedforward=512, dropout=0.0, pixel_positions=True,
    short_side=128, long_side=512)
# No dropout, unlike the paper: a new model's queries differ by 3 %, but by 41 % with the noise of dropout 0.1. In a
# short run the matching then assigns targets by that noise, and the queries never specialise: all looks well in train
# mode, but in eval mode they all say the same (data/README.md has the figures).
LAPTOP = MaskFormerConfig(backbone="resnet18", dim=128, mask_dim=128, hidden_dim=128, num_heads=4, decoder_layers=3,
                          feedforward=512, dropout=0.0, short_side=256, long_side=1024)
# Small objects: queries read at stride 8 and know where they are, as in mini. On nuclei of 20 pixels 400 steps ended at
# a PQ of things of 11.4 with these, 3.4 without.
FINE = dict(encoder_layers=2, encoder_level="p3", memory="p3", memory_positions=True, pixel_positions=True)

PRESETS = {
    "mini": MINI,
    # For a laptop, a pretrained backbone (build_model(..., backbone_weights="DEFAULT")) and pictures of 256 pixels:
    # half the paper's widths, because 256 channels at stride 4 would cost more than a small backbone itself; three
    # decoder layers, because most of the gain is in the first (the paper: 43.0 mIoU with one, 44.5 with six).
    "r18": LAPTOP,
    "mobilenet_v2": replace(LAPTOP, backbone="mobilenet_v2"),
    "r18_fine": replace(LAPTOP, **FINE),
    "mobilenet_v2_fine": replace(LAPTOP, backbone="mobilenet_v2", **FINE),
    # The paper's models: ADE20K-150 semantic ...
    "r50": MaskFormerConfig(),
    "r101": MaskFormerConfig(backbone="resnet101"),
    # ... and COCO panoptic, 80 things and 53 stuff classes: six encoder layers on res5, which the queries read.
    "r50_panoptic": COCO_PANOPTIC,
    "r101_panoptic": replace(COCO_PANOPTIC, backbone="resnet101"),
    # Swin models have no encoder, not even on COCO. B and L were trained on 384 x 384 images, hence the larger window.
    "swin_t": MaskFormerConfig(backbone="swin_t"),
    "swin_s": MaskFormerConfig(backbone="swin_s"),
    "swin_b": MaskFormerConfig(backbone="swin_b", window=12, short_side=640, long_side=2560),
    "swin_l": MaskFormerConfig(backbone="swin_l", window=12, short_side=640, long_side=2560),
    "swin_t_panoptic": replace(COCO_SWIN, backbone="swin_t"),
    "swin_s_panoptic": replace(COCO_SWIN, backbone="swin_s"),
    "swin_b_panoptic": replace(COCO_SWIN, backbone="swin_b", window=12),
    "swin_l_panoptic": replace(COCO_SWIN, backbone="swin_l", window=12),
    # The paper's per-pixel baseline, to see what mask classification is worth on one's own data.
    "per_pixel_mini": replace(MINI, per_pixel=True),
    "per_pixel_r18": replace(LAPTOP, per_pixel=True),
    "per_pixel_r50": MaskFormerConfig(per_pixel=True),
}


def get_config(preset, **changes):
    """The configuration of a preset name (or a MaskFormerConfig itself), with fields changed by keyword.

    With `num_classes` different from the preset's, give class_names and things too, or they become empty. Raises
    ValueError for a preset or a field that is unknown, and for values that cannot be meant.
    """
    if isinstance(preset, str) and preset in PRESETS:
        preset = PRESETS[preset]
    if not isinstance(preset, MaskFormerConfig):
        raise ValueError(f"unknown preset {preset!r}; known presets: {', '.join(PRESETS)}")
    known = [field.name for field in fields(MaskFormerConfig)]
    for name in changes:
        if name not in known:
            near = get_close_matches(name, known) or known
            raise ValueError(f"a configuration has no field {name!r}; there is {', '.join(near)}")
    if changes.get("num_classes", preset.num_classes) != preset.num_classes:
        changes = {"class_names": (), "things": ()} | changes
    return replace(preset, **changes)


def check_maps(config):
    """Raise ValueError unless the maps that queries and encoder read exist in this configuration."""
    if config.memory not in MAPS:
        raise ValueError(f"unknown memory {config.memory!r}; known: {', '.join(MAPS)}")
    if config.encoder_layers and config.encoder_level not in ENCODER_LEVELS:
        raise ValueError(f"unknown encoder_level {config.encoder_level!r}; known: {', '.join(ENCODER_LEVELS)}")
    if config.memory == "encoder" and not (config.encoder_layers and config.encoder_level == "res5"):
        raise ValueError("memory='encoder' needs encoder_layers > 0 and encoder_level='res5'")
