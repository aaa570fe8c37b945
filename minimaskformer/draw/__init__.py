"""Every picture: of scenes and answers, of matches, features and queries, of metrics and runs.

`from minimaskformer import draw` has the ones that every lesson uses; the others are in the files of this room.
"""
from .canvas import new_figure, outline, save_figure
from .curves import draw_curves
from .matching import draw_cost, draw_matching
from .notebook import controls, in_notebook, slider
from .palette import class_colors, instance_colors
from .scenes import (
    contact_sheet,
    draw_image,
    draw_instances,
    draw_mask,
    draw_panoptic,
    draw_semantic,
    four_readings,
    legend,
)

__all__ = ["class_colors", "contact_sheet", "controls", "draw_cost", "draw_curves", "draw_image", "draw_instances",
           "draw_mask", "draw_matching", "draw_panoptic", "draw_semantic", "four_readings", "in_notebook", "legend",
           "new_figure", "outline", "save_figure", "slider"]
