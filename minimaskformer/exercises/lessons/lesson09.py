"""Exercises of lesson 09, metrics: they are in lesson09_iou, lesson09_panoptic and lesson09_quality."""
from .lesson09_iou import confusion_exercise, iou_exercise
from .lesson09_panoptic import errors_exercise, match_exercise
from .lesson09_quality import ap_exercise, quality_exercise

TITLE = "How good is it?"

EXERCISES = [confusion_exercise, iou_exercise, match_exercise, errors_exercise, quality_exercise, ap_exercise]
