"""Several seeds, one number: mean, standard error, and paired differences (lesson 11).

A run repeated with another seed gives another figure. To compare two settings, one must know that spread.
"""
import math

import torch


def mean_and_error(values):
    """Mean and standard error over the last axis: [..., S] figures of S seeds to two float64 tensors [...].

    error = s / sqrt(S) with s^2 = sum (v - mean)^2 / (S - 1): how far the *mean* of S runs is likely to be off, while s
    says how far one run is. Raises ValueError for fewer than two seeds: one run says nothing about the spread.
    """
    values = torch.as_tensor(values, dtype=torch.float64)
    seeds = values.shape[-1] if values.ndim else 1
    if seeds < 2:
        raise ValueError(f"a standard error needs at least two seeds, got {seeds}")
    return values.mean(-1), values.std(-1, correction=1) / math.sqrt(seeds)


def paired_difference(a, b):
    """How far b is above a, seed by seed: mean and standard error of the S differences b - a, two float64 scalars.

    Runs with one seed share what it decides (here the order of the scenes and part of the initial weights); the
    difference within a pair is free of it. Raises ValueError unless a and b are [S] with one figure per seed.
    """
    a, b = torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"pairs need one figure per seed on both sides, got {list(a.shape)} and {list(b.shape)}")
    return mean_and_error(b - a)
