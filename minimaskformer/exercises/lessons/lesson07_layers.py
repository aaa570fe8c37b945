"""Exercises 07.2 and 07.3: the ways people get the layers' answers and the wiring wrong."""
import torch
import torch.nn.functional as F

from ..core import Mistake
from .lesson02_masks import TINNUNCULUS
from .lesson07_heads import EINSUM, LOGITS, identity

# --- 07.2 -------------------------------------------------------------------------------------------------------------

def _answers(states, norm, class_head, mask_head, pixels, normed=None, split=lambda x: (x[-1], x[:-1])):
    """Every layer's answer with knobs to get wrong."""
    stacked = torch.stack(list(states))
    x = norm(stacked) if normed is None else normed(stacked, norm)
    class_logits = class_head(x)
    masks = torch.einsum("lbnc,bchw->lbnhw", mask_head(x), pixels)
    (last_class, aux_class), (last_mask, aux_mask) = split(class_logits), split(masks)
    return last_class, last_mask, aux_class, aux_mask


def answers_with(**knobs):
    return lambda *args: _answers(*args, **knobs)


def _changed(class_change=identity, mask_change=identity):
    def fn(*args):
        c, m, ac, am = _answers(*args)
        return class_change(c), mask_change(m), class_change(ac), mask_change(am)
    return fn


def _one_raw_head(raw):
    """One of the heads reads states without the norm."""
    def fn(states, norm, class_head, mask_head, pixels):
        good = _answers(states, norm, class_head, mask_head, pixels)
        bad = _answers(states, identity, class_head, mask_head, pixels)
        return tuple(b if i % 2 == raw else g for i, (g, b) in enumerate(zip(good, bad)))
    return fn


def _last_masks_everywhere(*args):
    c, m, ac, am = _answers(*args)
    return c, m, ac, m.expand_as(am)


def _last_classes_everywhere(*args):
    c, m, ac, am = _answers(*args)
    return c, m, c.expand_as(ac), am


def _in_order(*places):
    """The four results in another order."""
    def fn(*args):
        answers = _answers(*args)
        return tuple(answers[place] for place in places)
    return fn


_ORDER = "(class_logits, mask_logits, aux_class, aux_masks): the last layer's answer first, classes before masks."


def _one_head_on_the_other(states, norm, class_head, mask_head, pixels):
    return _answers(states, norm, lambda x: class_head(mask_head(x)), mask_head, pixels)


def _last_everywhere(*args):
    c, m, ac, am = _answers(*args)
    return c, m, c.expand_as(ac), m.expand_as(am)


def _images_first(*args):
    c, m, ac, am = _answers(*args)
    return c, m, ac.transpose(0, 1), am.transpose(0, 1)


def _no_mask_head(states, norm, class_head, mask_head, pixels):
    return _answers(states, norm, class_head, identity, pixels)


def _zero_first(states, norm, class_head, mask_head, pixels):
    return _answers([torch.zeros_like(states[0]), *states], norm, class_head, mask_head, pixels)


LAYERS_MISTAKES = (
    Mistake("the norm for the last layer only",
            answers_with(normed=lambda x, norm: torch.cat([x[:-1], norm(x[-1:])])),
            "The heads are shared, so all layers must speak to them in the same way: through the shared final norm."),
    Mistake("no norm", answers_with(normed=lambda x, norm: x),
            "The states come from before the decoder's final norm."),
    Mistake("the norm for the auxiliary layers only",
            answers_with(normed=lambda x, norm: torch.cat([norm(x[:-1]), x[-1:]])), "All layers, the last one too."),
    Mistake("the norm applied twice", answers_with(normed=lambda x, norm: norm(norm(x))),
            "Once. The layers do not see each other's normalised states either."),
    Mistake("the class head reads states without the norm", _one_raw_head(0), "Both heads read norm(state)."),
    Mistake("the mask head reads states without the norm", _one_raw_head(1), "Both heads read norm(state)."),
    Mistake("the last layer among the auxiliary ones", answers_with(split=lambda x: (x[-1], x)),
            "Its loss would count twice. Auxiliary are the L - 1 layers before the last."),
    Mistake("the auxiliary layers begin one too late", answers_with(split=lambda x: (x[-1], x[1:])),
            "The first layer belongs to them, the last one does not: [:-1], not [1:]."),
    Mistake("images before layers", _images_first, "[L-1, B, ...]: layers first, as torch.stack puts them."),
    Mistake("the last layer's answer for every layer", _last_everywhere,
            "Each layer answers from its own state: those before the last say something else."),
    Mistake("classes from the mask embeddings", _one_head_on_the_other, "Both heads read the state, side by side."),
    Mistake("the first layer left out of the auxiliary ones", answers_with(split=lambda x: (x[-1], x[1:-1])),
            "Every layer before the last answers: L - 1 of them."),
    Mistake("an answer of the zero queries before any layer", _zero_first,
            "The decoder starts from zeros; before the first layer all queries are alike and have nothing to say."),
    Mistake("the first layer as the answer", answers_with(split=lambda x: (x[0], x[1:])),
            "The last layer has read most: its answer is the model's."),
    Mistake("the auxiliary layers in reverse order", answers_with(split=lambda x: (x[-1], x[:-1].flip(0))),
            "First layer first: aux[0] is what the model says after one layer."),
    Mistake("the states added up over the layers", answers_with(normed=lambda x, norm: norm(x.cumsum(0))),
            "A layer already adds to the state it got. What comes out is the whole state."),
    Mistake("the last layer's masks for every layer", _last_masks_everywhere,
            "Each layer's class logits go with its own masks: it is judged on its own match."),
    Mistake("no mask head: the states multiplied with the pixels", _no_mask_head,
            "mask_head turns a state into a mask embedding."),
    Mistake("sigmoid on the masks", _changed(mask_change=torch.sigmoid), LOGITS.strip(), TINNUNCULUS),
    Mistake("softmax on the classes", _changed(class_change=lambda c: c.softmax(-1)),
            "Cross-entropy takes its own softmax. The model gives logits.", TINNUNCULUS),
    Mistake("sigmoid on the masks and softmax on the classes", _changed(lambda c: c.softmax(-1), torch.sigmoid),
            "The model gives logits of both kinds.", TINNUNCULUS),
    Mistake("the last layer's classes for every layer", _last_classes_everywhere,
            "Each layer's masks go with its own class logits: it is judged on its own match."),
    Mistake("the first image's pixels for every image",
            lambda *args: _answers(*args[:-1], args[-1][:1].expand_as(args[-1])),
            "Each image has pixel embeddings of its own: the letter b must be in both factors."),
    Mistake("the auxiliary answers first", _in_order(2, 3, 0, 1), _ORDER),
    Mistake("masks before classes", _in_order(1, 0, 3, 2), _ORDER),
    Mistake("each kind with its auxiliary ones", _in_order(0, 2, 1, 3), _ORDER),
    Mistake("no-object dropped", _changed(class_change=lambda c: c[..., :-1]),
            "The loss needs the last column, and so does every softmax. Only inference drops it, after the softmax."),
)


# --- 07.3 -------------------------------------------------------------------------------------------------------------

def _wired(images, parts, memory=None, pixels=None, to_decoder=identity, state=lambda s: s[-1], embed=None,
           classes=None, change=lambda c, m: (c, m)):
    """The forward pass with knobs to get wrong."""
    features = parts["backbone"](images)
    pixel_embeddings = parts["pixel_decoder"](to_decoder(features)) if pixels is None else pixels(features)
    read = parts["input_proj"](features[-1]) if memory is None else memory(features, pixel_embeddings, parts)
    x = state(parts["decoder"](read))
    mask_embeddings = parts["mask_head"](x) if embed is None else embed(x, parts)
    class_logits = parts["class_head"](x) if classes is None else classes(x, parts)
    return change(class_logits, torch.einsum(EINSUM, mask_embeddings, pixel_embeddings))


def wired(**knobs):
    return lambda images, parts: _wired(images, parts, **knobs)


def _projected(images, parts):
    *finer, res5 = parts["backbone"](images)
    features = [*finer, parts["input_proj"](res5)]
    return _wired(images, parts | {"backbone": lambda x: features, "input_proj": identity})


def _stage(i):
    return wired(memory=lambda features, pixels, parts: parts["input_proj"](features[i]))


_COARSE = "The queries read res5, the coarsest map: {} A model may be built differently, but the paper's are not."
WIRING_MISTAKES = (
    Mistake("the queries read res2", _stage(0), _COARSE.format("features[-1], not features[0].")),
    Mistake("the queries read res3", _stage(1), _COARSE.format("features[-1], not features[1].")),
    Mistake("the queries read res4", _stage(2), _COARSE.format("features[-1], not features[-2].")),
    Mistake("the queries read the pixel embeddings", wired(memory=lambda f, pixels, parts: parts["input_proj"](pixels)),
            _COARSE.format("it has the widest view and the fewest cells.")),
    Mistake("input_proj left out", wired(memory=lambda f, pixels, parts: f[-1]),
            "res5 has the backbone's channels; a 1 x 1 convolution brings it to the decoder's. Here both happen to be "
            "4, so nothing complained."),
    Mistake("the pixel decoder reads the projected res5", _projected,
            "input_proj belongs to the lower path. The pixel decoder takes the four maps as the backbone gave them."),
    Mistake("the maps given to the pixel decoder in reverse", wired(to_decoder=lambda f: f[::-1]),
            "It expects res2 first, the finest, as the backbone gives them."),
    Mistake("res2 instead of the pixel embeddings", wired(pixels=lambda f: f[0]),
            "res2 is as fine, but knows edges, not things. The pixel decoder mixes all four maps."),
    Mistake("the first layer's state", wired(state=lambda s: s[0]),
            "The decoder returns L states; the last one answers."),
    Mistake("the last state but one", wired(state=lambda s: s[-2]), "The last of the L states answers: states[-1]."),
    Mistake("the mean over the layers", wired(state=lambda s: sum(s) / len(s)), "The last state answers, alone."),
    Mistake("the sum over the layers", wired(state=sum),
            "A layer has already added to the state it got: the last state is the whole of it."),
    Mistake("no mask head: the states multiplied with the pixels", wired(embed=lambda x, parts: x),
            "mask_head turns a state into a mask embedding."),
    Mistake("classes from the mask embeddings",
            wired(classes=lambda x, parts: parts["class_head"](parts["mask_head"](x))),
            "Both heads read the state, side by side."),
    Mistake("sigmoid on the masks", wired(change=lambda c, m: (c, m.sigmoid())), LOGITS.strip(), TINNUNCULUS),
    Mistake("softmax on the classes", wired(change=lambda c, m: (c.softmax(-1), m)),
            "Cross-entropy takes its own softmax. The model gives logits.", TINNUNCULUS),
    Mistake("sigmoid on the masks and softmax on the classes", wired(change=lambda c, m: (c.softmax(-1), m.sigmoid())),
            "The model gives logits of both kinds.", TINNUNCULUS),
    Mistake("masks before classes", wired(change=lambda c, m: (m, c)), "(class_logits, mask_logits)."),
    Mistake("no-object dropped", wired(change=lambda c, m: (c[..., :-1], m)),
            "The loss needs the last column. Only inference drops it, after the softmax."),
    Mistake("masks enlarged to the image",
            wired(change=lambda c, m: (c, F.interpolate(m, scale_factor=4, mode="bilinear"))),
            "The model leaves them at stride 4: sixteen times less memory. Loss and inference enlarge what they need."),
)
