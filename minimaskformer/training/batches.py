"""Which pictures a step sees: a function of the seed and the step alone, so a run can stop and go on anywhere."""
from functools import lru_cache

import torch
from torch.utils.data import Sampler


class BatchOrder:
    """The pictures as one endless sequence, a new permutation each epoch, cut into batches of `batch_size`."""

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

    def micro_batch(self, step, i, count=1, rank=0, world_size=1):
        """What one process works on at once: a step's batch cut into `count` micro-batches, each shared evenly."""
        size = self.batch_size // (count * world_size)
        start = (i * world_size + rank) * size
        return self.batch(step)[start:start + size]


class MicroBatches(Sampler):
    """The DataLoader's view of a BatchOrder: one process's micro-batches of the steps first ... last, in order."""

    def __init__(self, order, first, last, count=1, rank=0, world_size=1):
        self.order, self.steps, self.count = order, range(first, last + 1), count
        self.rank, self.world_size = rank, world_size

    def __len__(self):
        return len(self.steps) * self.count

    def __iter__(self):
        for step in self.steps:
            for i in range(self.count):
                yield self.order.micro_batch(step, i, self.count, self.rank, self.world_size)
