"""Exercises of lesson 09, metrics; each is in a file that is named after it."""
from .lesson09_ap import ap_exercise
from .lesson09_confusion import confusion_exercise
from .lesson09_iou import iou_exercise
from .lesson09_panoptic import errors_exercise, match_exercise
from .lesson09_quality import quality_exercise

TITLE = "How good is it?"

EXERCISES = [confusion_exercise, iou_exercise, match_exercise, errors_exercise, quality_exercise, ap_exercise]
