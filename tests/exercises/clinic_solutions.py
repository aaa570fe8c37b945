"""The banks of exercise 10.6: other ways to repair the six patients, and wrong ways that are no known mistake."""
from dataclasses import replace

import numpy as np
import torch

from minimaskformer.exercises.lessons.lesson06 import sine_positions
from minimaskformer.exercises.lessons.lesson10_clinic import HEALTHY, figures
from minimaskformer.exercises.lessons.lesson10_ward import repair

PART = {"p": "target_labels", "q": "positions", "r": "norm_states", "s": "class_probabilities", "t": "flip",
        "u": "mask_probabilities"}


def by_healthy_parts(patient):
    return figures(replace(patient, **{PART[patient.letter]: getattr(HEALTHY, PART[patient.letter])}))


def undone(patient):
    """What each patient's own part gives, turned back."""
    def flip(image, masks):
        image, masks = patient.flip(image, masks)
        return image, masks.flip(-1)

    def norm_states(states, norm):
        *early, last = patient.norm_states(states, norm)
        return torch.stack([*(norm(state) for state in early), last])

    return figures(replace(patient, **{PART[patient.letter]: {
        "p": lambda ids: [(i - 1) % 11 for i in patient.target_labels(ids)],
        "q": lambda h, w, c: torch.cat(patient.positions(h, w, c).chunk(2)[::-1]), "r": norm_states,
        "s": lambda logits: patient.class_probabilities(logits).roll(1, 1), "t": flip,
        "u": lambda logits: patient.mask_probabilities(logits).logit()}[patient.letter]}))


def by_earlier_lessons(patient):
    return figures(replace(patient, **{PART[patient.letter]: {
        "p": np.array, "q": lambda h, w, c: np.asarray(sine_positions(h, w, c)),
        "r": lambda states, norm: [list(norm(state)) for state in states],
        "s": lambda logits: (logits.double() - logits.double().logsumexp(-1, keepdim=True)).exp(),
        "t": lambda image, masks: (np.flip(image.numpy(), 2), [mask.numpy()[:, ::-1] for mask in masks]),
        "u": lambda logits: 1 / (1 + np.exp(-logits.double().numpy()))}[patient.letter]}))


def one_by_one(patient):
    if patient.letter == "p":
        patient = replace(patient, target_labels=lambda ids: torch.tensor(ids))
    elif patient.letter == "q":
        def positions(h, w, channels):
            x, y = patient.positions(h, w, channels).split(channels // 2)
            return torch.cat((y, x))
        return list(figures(replace(patient, positions=positions)))
    else:
        return repair(patient)
    return tuple(figures(patient))


def two_wrong(patient):
    """The parts of p and s taken for each other."""
    swapped = {"p": "class_probabilities", "s": "target_labels"}.get(patient.letter, PART[patient.letter])
    new = {"class_probabilities": lambda logits: logits.softmax(-1), "target_labels": lambda ids: list(ids)}
    return figures(replace(patient, **{swapped: new.get(swapped, getattr(HEALTHY, swapped))}))


CLINIC_RIGHT = [by_healthy_parts, undone, by_earlier_lessons, one_by_one]
CLINIC_WRONG = [
    two_wrong, lambda patient: figures(HEALTHY), lambda patient: replace(patient, flip=HEALTHY.flip), lambda patient: None,
    lambda patient: repair(patient)[:-1], lambda patient: figures(replace(patient, positions=lambda h, w, c: torch.zeros(c, w))),
    lambda patient: repair(patient) if patient.letter in "pqr" else figures(patient),
    lambda patient: figures(replace(patient, norm_states=lambda states, norm: states))]
