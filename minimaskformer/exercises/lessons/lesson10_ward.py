"""The ward of lesson 10: six damaged models under letters, and the exercise that repairs them."""
import functools
from dataclasses import replace

import torch

from ..core import Exercise, Fixture, Mistake
from .lesson10_clinic import HEALTHY, PARTS, Figures, figures, parts_of


def _admitted(letter, **wrong):
    patient = replace(HEALTHY, letter=letter, **wrong)
    return replace(patient, admitted=parts_of(patient))


WARD = (_admitted("p", target_labels=lambda ids: [(i + 1) % 11 for i in ids]),
        _admitted("q", positions=lambda h, w, c: HEALTHY.positions(h, w, c).roll(c // 2, 0)),
        _admitted("r", norm_states=lambda states, norm: [*states[:-1], norm(states[-1])]),
        _admitted("s", class_probabilities=lambda logits: logits.softmax(-1).roll(-1, -1)),
        _admitted("t", flip=lambda image, masks: (image.flip(-1), masks)),
        _admitted("u", mask_probabilities=lambda logits: logits.sigmoid().sigmoid()))


# --- 10.6 the clinic --------------------------------------------------------------------------------------------------

def repair(patient):
    parts = {"p": {"target_labels": lambda ids: ids},
             "q": {"positions": lambda h, w, channels: patient.positions(h, w, channels).roll(channels // 2, 0)},
             "r": {"norm_states": lambda states, norm: [norm(state) for state in states]},
             "s": {"class_probabilities": lambda logits: logits.softmax(-1)},
             "t": {"flip": lambda image, masks: (image.flip(-1), masks.flip(-1))},
             "u": {"mask_probabilities": lambda logits: logits.sigmoid()}}
    return figures(replace(patient, **parts[patient.letter]))


_examined = functools.lru_cache(256)(figures)  # the same mistakes are tried in every check
_NEW = {"class_probabilities": lambda logits: logits.softmax(-1), "mask_probabilities": lambda logits: logits.sigmoid(),
        "positions": lambda h, w, c: HEALTHY.positions(h, w, c), "norm_states": lambda s, norm: [norm(x) for x in s],
        "target_labels": lambda ids: list(ids), "flip": lambda image, masks: (image.flip(-1), masks.flip(-1))}


def _broken_part(patient):
    return next(name for name in PARTS if getattr(patient, name) is not getattr(HEALTHY, name))


def _but(letter, **parts):
    """Repair all patients rightly but the one of this letter, in which these parts are exchanged instead."""
    def wrong(patient):
        name = _broken_part(patient)
        return _examined(replace(patient, **(parts if patient.letter == letter else {name: _NEW[name]})))
    return wrong


def _still_ill(letter):
    """Exchange a part of the patient of this letter, whole or not, and leave the fault in."""
    name = "flip" if letter != "t" else "target_labels"
    return _but(letter, **{name: _NEW[name]})


def _without_no_object(logits):
    return torch.cat([logits[:, :-1].softmax(-1), torch.zeros(len(logits), 1)], 1)


def _y_twice(height, width, channels):
    y = HEALTHY.positions(height, width, channels)[:channels // 2]
    return torch.cat([y, y])


def _mirrored(height, width, channels):
    return HEALTHY.positions(height, width, channels).flip(-1)


_SIGNS = {"p": "p answers well, and its masks fit. What is compared with its classes?",
          "q": "In q the logits of all layers have moved, the first too: something that acts before the first query "
               "reads.",
          "r": "In r the last layer's logits are right to the last digit, those before it are not. What is done to "
               "each layer's state before the heads read it?",
          "s": "No logit of s has moved, and yet every class is another. Who says \"no object\" in s?",
          "t": "t is healthy as long as nobody turns the scene round. What must turn together?",
          "u": "No mask probability of u is small, though its logits are right. What makes probabilities of them?"}
clinic_exercise = Exercise(
    id="10.6", title="the clinic", name="repair", reference=repair, parts=Figures._fields,
    fixtures=tuple(Fixture(f"patient {patient.letter}", (patient,)) for patient in WARD),
    mistakes=(
        Mistake("nobody treated", _examined,
                "replace(patient, flip=my_flip) exchanges a part; which one, you say for each letter."),
        Mistake("every part exchanged", lambda patient: _examined(replace(patient, **_NEW)),
                "One part is broken. Exchange that one: who replaces everything never learns what was wrong."),
        *(Mistake(f"the fault of {letter} still there: another part exchanged, or this one for one like it",
                  _still_ill(letter), sign)
          for letter, sign in _SIGNS.items()),
        Mistake("the labels of p moved by one to the other side",
                _but("p", target_labels=lambda ids: [(i - 1) % 11 for i in ids]),
                "target_labels is given the true ids: give them back. Or subtract one from what p makes of them."),
        Mistake("y in both halves of q's channels", _but("q", positions=_y_twice),
                "y in the first half of the channels, x in the second."),
        Mistake("q's positions mirrored", _but("q", positions=_mirrored),
                "Nothing runs backwards in q; two things have changed places."),
        Mistake("only the second layer of r mended", _but("r", norm_states=lambda states, norm: [
            states[0], *map(norm, states[1:])]), "The heads read all three layers, each after the norm."),
        Mistake("only the first layer of r mended", _but("r", norm_states=lambda states, norm: [
            norm(states[0]), states[1], norm(states[2])]), "The heads read all three layers, each after the norm."),
        Mistake("the last state of r normed twice", _but("r", norm_states=lambda states, norm: [
            *map(norm, states[:-1]), norm(norm(states[-1]))]), "Each state goes through the norm once."),
        Mistake("\"no object\" taken out of the softmax of s", _but("s", class_probabilities=_without_no_object),
                "\"No object\" competes with the classes: softmax over all K+1 logits. It stands last."),
        Mistake("a softmax over the queries in s", _but("s", class_probabilities=lambda logits: logits.softmax(0)),
                "Each query has one distribution over the classes: softmax over the last axis."),
        Mistake("image and masks of t turned upside down", _but("t", flip=lambda image, masks: (
            image.flip(-2), masks.flip(-2))), "Left for right: columns are the last axis. No scene has its sky below."),
        Mistake("neither image nor masks of t mirrored", _but("t", flip=lambda image, masks: (image, masks)),
                "A flip is there to show the model something else: mirror both."),
        Mistake("the masks of t mirrored instead of the image", _but("t", flip=lambda image, masks: (
            image, masks.flip(-1))), "Image and masks belong together: mirror both."),
        Mistake("the masks of t mirrored top for bottom", _but("t", flip=lambda image, masks: (
            image.flip(-1), masks.flip(-2))), "Columns are the last axis, of the image and of the masks."),
        Mistake("no sigmoid left in u", _but("u", mask_probabilities=lambda logits: logits),
                "One of the two sigmoids is right."),
        Mistake("the masks of u cut at one half", _but("u", mask_probabilities=lambda logits: (logits > 0).float()),
                "The losses and the readout ask how sure each pixel is: one sigmoid, and no cut."),
        Mistake("a softmax over the queries in u", _but("u", mask_probabilities=lambda logits: logits.softmax(0)),
                "Masks do not compete: each pixel of each mask is a yes or no of its own, a sigmoid.")),
    hints=("Which figures of a patient are off, and which are right to the last digit? What comes before the first "
           "that is off?",
           "Two patients have moved logits: one in all layers, one in some. Two have right logits and PQ 0: one has "
           "wrong classes, the other wrong masks. Two answer well and have a high loss: always, or only when mirrored.",
           "p: labels, q: positions, r: states, s: classes, t: flip, u: masks. return figures(replace(patient, "
           "**{\"p\": {\"target_labels\": lambda ids: ids}, ...}[patient.letter]))"),
    why="No error was raised in any of the six, and a fault inside the network need not cost much: compare the PQ of q "
        "and r with the healthy one's. Logits laid beside those of a model that is known to be right show it at once.",
    rtol=1e-3, atol=2e-4)
