"""Exercises with checks that recognise mistakes: check, hint, solution, example and progress, for the notebooks."""
from .core import check, example, hint, progress, solution

__all__ = ["check", "example", "hint", "progress", "solution"]
