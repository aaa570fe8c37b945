"""Exercises with checks that recognise mistakes: check, hint, solution, example and progress, for the notebooks."""
__all__ = ["check", "example", "hint", "progress", "solution"]


def __getattr__(name):  # on first use: the learner's copies of the lessons are made without torch
    if name in __all__:
        from . import core
        return getattr(core, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
