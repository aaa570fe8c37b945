"""Which pictures a step sees: a function of the seed and the step alone, so a run can stop and go on anywhere."""
from functools import lru_cache

import torch
from torch.utils.data import Sampler


class Order:
    """The pictures as one endless row, a new permutation each epoch, cut into batches of `batch_size`."""

    def __init__(self, length, batch_size, seed=0):
        self.length, self.batch_size, self.seed = length, batch_size, seed
        self.permutation = lru_cache(2)(self._permutation)  # a batch may lie across two epochs

    def _permutation(self, epoch):
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        return torch.randperm(self.length, generator=generator)

    def batch(self, step):
        """The (epoch, index) pairs of a step's whole batch; steps count from 1."""
        places = range((step - 1) * self.batch_size, step * self.batch_size)
        return [(place // self.length, self.permutation(place // self.length)[place % self.length].item())
                for place in places]

    def piece(self, step, piece, pieces, rank=0, world_size=1):
        """What one process works on at once: the step's batch cut into pieces, and each piece shared out evenly."""
        size = self.batch_size // (pieces * world_size)
        start = (piece * world_size + rank) * size
        return self.batch(step)[start:start + size]


class Pieces(Sampler):
    """The DataLoader's view of an Order: one process's pieces of the steps first ... last, one after the other."""

    def __init__(self, order, first, last, pieces=1, rank=0, world_size=1):
        self.order, self.steps, self.pieces = order, range(first, last + 1), pieces
        self.rank, self.world_size = rank, world_size

    def __len__(self):
        return len(self.steps) * self.pieces

    def __iter__(self):
        for step in self.steps:
            for piece in range(self.pieces):
                yield self.order.piece(step, piece, self.pieces, self.rank, self.world_size)
