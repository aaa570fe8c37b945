"""The exercises that are parts of the learner's MaskFormer, in the order of the model: which, and under which name.

The other exercises teach something that no later code calls.
"""
from importlib import import_module

SECTIONS = {  # lesson: (what it gives the model, {exercise: name of its function})
    "01": ("targets: a panoptic map as a set, and back", {"01.3": "panoptic_to_set", "01.4": "set_to_maps"}),
    "05": ("the pixel decoder", {"05.6": "pixel_decoder"}),
    "06": ("the transformer", {"06.2": "sine_positions", "06.3": "multi_head_attention", "06.4": "decoder_layer",
                               "06.5": "decoder_states"}),
    "07": ("pictures, heads, masks", {"07.5": "to_batch", "07.1": "query_masks", "07.2": "layer_answers",
                                                 "07.6": "to_picture"}),
    "02": ("the match", {"02.1": "class_cost", "02.2": "dice_cost", "02.3": "focal_cost", "02.4": "assign"}),
    "03": ("the mask losses", {"03.2": "sigmoid_focal_loss", "03.3": "dice_loss"}),
    "04": ("the set criterion", {"04.1": "classification_loss", "04.2": "matched_masks", "04.3": "batch_mask_loss",
                                 "04.4": "set_criterion", "04.5": "void_losses"}),
    "08": ("inference", {"08.1": "general_inference", "08.2": "semantic_scores_at", "08.5": "panoptic_map",
                         "08.6": "instances"}),
    "09": ("metrics", {"09.1": "confusion_matrix", "09.2": "dataset_iou", "09.3": "match_segments",
                       "09.4": "unmatched", "09.5": "mean_quality", "09.6": "average_precision"}),
    "10": ("training", {"10.1": "learning_rate", "12.1": "clip_gradients"}),
}
PARTS = {exercise_id: name for _, parts in SECTIONS.values() for exercise_id, name in parts.items()}


def exercise_of(exercise_id):
    """A part's exercise; only its own lesson is imported."""
    lesson = import_module(f"{__package__}.lessons.lesson{exercise_id[:2]}")
    return next(e for e in lesson.EXERCISES if e.id == exercise_id)
