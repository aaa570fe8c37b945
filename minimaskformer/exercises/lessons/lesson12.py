"""Exercises of lesson 12, the full model: several processes and clipping here, Mask2Former in lesson12_points."""
import torch

from ..core import Exercise, Fixture, Mistake, issue
from .lesson12_points import attention_exercise, points_exercise, uncertain_exercise

TITLE = "The full model"


# --- 12.2 the number of masks on several GPUs -------------------------------------------------------------------------

def num_masks(counts):
    return counts.mean().clamp(min=1)


_WHOLE = "A mean need not be a whole number: 4.5 is a perfectly good number of masks."
normaliser_exercise = Exercise(
    id="12.2", title="the number of masks on several GPUs", name="num_masks", reference=num_masks,
    fixtures=(Fixture("three processes", (torch.tensor([8.0, 4.0, 2.0]),)),
              Fixture("five processes, one without targets", (torch.tensor([0.0, 9.0, 1.0, 2.0, 4.0]),)),
              Fixture("four processes, nearly nothing to find", (torch.tensor([0.0, 0.0, 1.0, 0.0]),)),
              Fixture("two processes, no target at all", (torch.tensor([0.0, 0.0]),))),
    mistakes=(
        Mistake("the sum over processes", lambda c: c.sum().clamp(min=1),
                "The gradients are averaged over processes afterwards: the sum would divide by their number once too "
                "often.",
                issue("huggingface/transformers", 26844)),
        Mistake("divided by the number of processes twice", lambda c: (c.mean() / len(c)).clamp(min=1),
                "The mean is taken once. Twice makes the mask losses too large by the number of processes, as in a "
                "widely used port.",
                issue("huggingface/transformers", 26844)),
        Mistake("the floor before a second division", lambda c: c.mean().clamp(min=1) / len(c),
                "The mean has divided by the number of processes already."),
        Mistake("each process its own number", lambda c: c.clamp(min=1),
                "Then a mask on a process with few masks counts more than one on a process with many."),
        Mistake("the first process's number", lambda c: c[0].clamp(min=1), "Average over the processes."),
        Mistake("the largest number", lambda c: c.max().clamp(min=1), "Average over the processes."),
        Mistake("the smallest number", lambda c: c.min().clamp(min=1), "Average over the processes."),
        Mistake("the median", lambda c: c.median().clamp(min=1), "Average over the processes."),
        Mistake("at least 1 on every process, before the mean", lambda c: c.clamp(min=1).mean(),
                "The floor guards against a division by 0, of the mean: it comes last."),
        Mistake("at least 1 in the sum, before the division", lambda c: c.sum().clamp(min=1) / len(c),
                "It is the result that must be at least 1: divide first."),
        Mistake("no floor", lambda c: c.mean(), "At least 1: with no target anywhere the loss would be 0 / 0."),
        Mistake("1 added instead of a floor", lambda c: c.mean() + 1, "max(mean, 1), not mean + 1."),
        Mistake("rounded down", lambda c: c.mean().floor().clamp(min=1), _WHOLE),
        Mistake("rounded up", lambda c: c.mean().ceil().clamp(min=1), _WHOLE),
        Mistake("rounded", lambda c: c.mean().round().clamp(min=1), _WHOLE),
        Mistake("processes without targets left out", lambda c: c[c > 0].mean().clamp(min=1),
                "A process without targets takes part with its 0.")),
    hints=("After the backward pass the gradients of all processes are averaged. What must each divide by, so that "
           "every mask of the joined batch counts the same?",
           "Sum over processes, divided by their number, at least 1.",
           "counts.mean().clamp(min=1)"),
    why="The mean of (sum of process r / mean count) over the processes is the sum over all masks divided by the "
        "number of all masks: what one process with the joined batch computes. In the library: "
        "`SetCriterion.num_masks`, with all_reduce in the place of the vector.")


# --- 12.1 the clip of the whole model ---------------------------------------------------------------------------------

def clip_gradients(gradients, max_norm):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    scale = (max_norm / norm).clamp(max=1)
    return tuple(g * scale for g in gradients)


def _scaled(gradients, scale):
    return tuple(g * scale for g in gradients)


def _flat(gradients):
    return torch.cat([g.flatten() for g in gradients])


def _own(gradients, max_norm):
    return tuple(g * (max_norm / g.norm()).clamp(max=1) for g in gradients)


_GRADIENTS = (torch.tensor([[0.9, -2.0], [0.3, 1.4]]), torch.tensor([-0.2, 0.5, 0.1]),
              torch.tensor([3.0, 1.1, -0.4]).reshape(1, 3, 1, 1))  # 10 numbers: not the square of 3 tensors
clip_exercise = Exercise(
    id="12.1", title="the clip of the whole model", name="clip_gradients", reference=clip_gradients,
    parts=("gradient 1", "gradient 2", "gradient 3"),
    fixtures=(Fixture("a norm of 4, at most 1.5", (_GRADIENTS, 1.5)),
              Fixture("small gradients, at most 5", (_scaled(_GRADIENTS, 0.6), 5.0)),
              Fixture("the paper's 0.01", (_scaled(_GRADIENTS[::-1], 3.0), 0.01)),
              Fixture("gradients that are all zero", (_scaled(_GRADIENTS, 0.0), 1.0))),
    mistakes=(
        Mistake("each tensor clipped by its own norm", _own,
                "One norm for the whole model, so that the direction of the step stays."),
        Mistake("each number clipped", lambda g, m: tuple(x.clamp(-m, m) for x in g),
                "Clipping by value bends the direction. Scale all numbers by one factor."),
        Mistake("scaled up too", lambda g, m: _scaled(g, m / _flat(g).norm()),
                "Gradients that are small enough stay as they are: the factor is at most 1."),
        Mistake("the norm without its root", lambda g, m: _scaled(g, (m / _flat(g).square().sum()).clamp(max=1)),
                "The norm is the root of the sum of squares."),
        Mistake("the sum of the tensors' norms", lambda g, m: _scaled(g, (m / sum(x.norm() for x in g)).clamp(max=1)),
                "Norms do not add; their squares do."),
        Mistake("the mean of the tensors' norms",
                lambda g, m: _scaled(g, (m / (sum(x.norm() for x in g) / len(g))).clamp(max=1)),
                "One norm over all numbers of all tensors."),
        Mistake("the norm divided by the number of tensors",
                lambda g, m: _scaled(g, (m / (_flat(g).norm() / len(g))).clamp(max=1)),
                "One norm over all numbers of all tensors, divided by nothing."),
        Mistake("max_norm divided among the tensors",
                lambda g, m: tuple(x * (m / len(g) / x.norm()).clamp(max=1) for x in g),
                "One norm for the whole model, so that the direction of the step stays."),
        Mistake("only the tensors above max_norm scaled",
                lambda g, m: tuple(x * m / _flat(g).norm() if x.norm() > m else x for x in g),
                "One factor for all of them, or the direction of the step changes."),
        Mistake("a gradient above max_norm thrown away", lambda g, m: _scaled(g, float(_flat(g).norm() <= m)),
                "Clipped is made shorter, not dropped: at 0.01 nothing would ever be learnt."),
        Mistake("the largest tensor's norm", lambda g, m: _scaled(g, (m / max(x.norm() for x in g)).clamp(max=1)),
                "One norm over all numbers of all tensors."),
        Mistake("the sum of absolute values", lambda g, m: _scaled(g, (m / _flat(g).abs().sum()).clamp(max=1)),
                "The Euclidean norm: the root of the sum of squares."),
        Mistake("the largest number", lambda g, m: _scaled(g, (m / _flat(g).abs().max()).clamp(max=1)),
                "The Euclidean norm: the root of the sum of squares."),
        Mistake("the mean of the squares", lambda g, m: _scaled(g, (m / _flat(g).square().mean().sqrt()).clamp(max=1)),
                "The sum of the squares, not their mean: otherwise a larger model is clipped less."),
        Mistake("divided by the norm only", lambda g, m: _scaled(g, 1 / _flat(g).norm().clamp(min=1)),
                "Multiply by max_norm / norm."),
        Mistake("scaled to a norm of 1 instead of max_norm",
                lambda g, m: _scaled(g, 1 / _flat(g).norm() if _flat(g).norm() > m else 1.0),
                "Multiply by max_norm / norm."),
        Mistake("the factor held above 1 instead of below", lambda g, m: _scaled(g, (m / _flat(g).norm()).clamp(min=1)),
                "min(1, max_norm / norm): a clip never makes anything larger."),
        Mistake("multiplied by the largest norm", lambda g, m: _scaled(g, min(1.0, m)),
                "The factor is max_norm / norm."),
        Mistake("nothing done", lambda g, m: tuple(g), "Where the norm is above max_norm, scale.")),
    hints=("How long is the gradient of the whole model, as one long vector?",
           "Square and sum over all tensors, take the root; one factor for all, never above 1.",
           "scale = min(1, max_norm / torch.cat([g.flatten() for g in gradients]).norm())"),
    why="torch.nn.utils.clip_grad_norm_ does this in place (and adds 1e-6 to the norm). At 0.01 the reference always "
        "clips: its first norms are in the hundreds. AdamW divides by the size of recent gradients anyway, so what "
        "remains of the clip is that no single batch counts for more than another.")


EXERCISES = [clip_exercise, normaliser_exercise, attention_exercise, points_exercise, uncertain_exercise]
