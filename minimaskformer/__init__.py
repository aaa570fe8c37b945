"""minimaskformer: MaskFormer (Cheng et al. 2021, arXiv 2107.06278) in code short enough to read in an evening."""
from .config import MaskFormerConfig
from .data.classes import ClassTable
from .data.lakeland import Lakeland
from .data.readers.coco_instance import CocoInstance
from .data.readers.coco_panoptic import CocoPanoptic
from .data.readers.instances import InstanceFolder
from .data.readers.semantic import SemanticFolder
from .evaluation import evaluate
from .inference import general_inference, instance_inference, panoptic_inference, semantic_inference, semantic_scores
from .losses import SetCriterion, classification_loss, dice_loss, sigmoid_focal_loss
from .mask_ap import MaskAP
from .matching import hungarian_match, pairwise_cost
from .metrics import MeanIoU, PanopticQuality
from .model import MaskFormer, build_model
from .studies.baselines import PerPixelBaseline, PerPixelBaselinePlus
from .targets import panoptic_to_target, semantic_to_target, target_to_panoptic
from .tta import predict_semantic_tta
from .weights.checkpoint import load_checkpoint, save_checkpoint

__version__ = "0.1.0"

__all__ = [
    "ClassTable", "CocoInstance", "CocoPanoptic", "InstanceFolder", "Lakeland", "MaskAP", "MaskFormer",
    "MaskFormerConfig", "MeanIoU", "PanopticQuality", "PerPixelBaseline", "PerPixelBaselinePlus", "SemanticFolder",
    "SetCriterion", "build_model", "classification_loss", "dice_loss", "evaluate", "general_inference",
    "hungarian_match", "instance_inference", "load_checkpoint", "pairwise_cost", "panoptic_inference",
    "panoptic_to_target", "predict_semantic_tta", "save_checkpoint", "semantic_inference", "semantic_scores",
    "semantic_to_target", "sigmoid_focal_loss", "target_to_panoptic",
]
