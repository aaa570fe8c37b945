"""Lesson 07: the ways people get the heads and the wiring wrong."""
import torch
import torch.nn.functional as F

from ..core import Mistake
from .lesson02_masks import TINNUNCULUS

EINSUM = "bnc,bchw->bnhw"
_LOGITS = "The model gives logits; the loss and the inference rules take the sigmoid themselves. "


# --- 07.1 -------------------------------------------------------------------------------------------------------------

def _identity(x):
    return x


def _masks(states, layers, pixels, acts=(_identity, F.relu, F.relu, _identity), which=(0, 1, 2), linear=F.linear,
           product=lambda e, p: torch.einsum(EINSUM, e, p)):
    """Mask logits with knobs to get wrong: acts are applied before each layer and after the last."""
    x = acts[0](states)
    for act, i in zip(acts[1:], which):
        x = act(linear(x, *layers[i]))
    return product(x, pixels)


def masks_with(**knobs):
    return lambda states, layers, pixels: _masks(states, layers, pixels, **knobs)


def _after(change):
    return masks_with(product=lambda e, p: change(torch.einsum(EINSUM, e, p), p))


def _reshaped(e, p):
    B, C, h, w = p.shape
    return (e @ p.reshape(B, h * w, C).mT).reshape(B, -1, h, w)


def _without_last_bias(states, layers, pixels):
    weight, bias = layers[-1]
    return _masks(states, (*layers[:-1], (weight, 0 * bias)), pixels)


def _residual(states, layers, pixels):
    (w1, b1), (w2, b2), (w3, b3) = layers
    x = states + F.relu(F.linear(F.relu(F.linear(states, w1, b1)), w2, b2))
    return torch.einsum(EINSUM, F.linear(x, w3, b3), pixels)


MASK_MISTAKES = (
    Mistake("a ReLU after the last layer too", masks_with(acts=(_identity, F.relu, F.relu, F.relu)),
            "The mask embedding is read by a dot product and must be free to be negative."),
    Mistake("no ReLU at all", masks_with(acts=(_identity,) * 4),
            "Three linear layers without anything between them are one linear layer."),
    Mistake("no ReLU after the second layer", masks_with(acts=(_identity, F.relu, _identity, _identity)),
            "A ReLU after each layer but the last: there are two."),
    Mistake("no ReLU after the first layer", masks_with(acts=(_identity, _identity, F.relu, _identity)),
            "A ReLU after each layer but the last: there are two."),
    Mistake("a ReLU before the first layer", masks_with(acts=(F.relu,) * 3 + (_identity,)),
            "The states come from a LayerNorm and half of them are negative; they carry meaning."),
    Mistake("GELU for ReLU", masks_with(acts=(_identity, F.gelu, F.gelu, _identity)), "The paper's MLP has ReLUs."),
    Mistake("one hidden layer instead of two",
            lambda s, layers, p: _masks(s, layers, p, which=(0, 2), acts=(_identity, F.relu, _identity)),
            "The mask head has two hidden layers: three linear layers in all.", TINNUNCULUS),
    Mistake("no mask head: the states themselves multiplied with the pixels",
            lambda s, layers, p: torch.einsum(EINSUM, s, p),
            "The three layers turn a state into a mask embedding. The same state also feeds the class head."),
    Mistake("two layers: the last one left out",
            lambda s, layers, p: _masks(s, layers, p, which=(0, 1), acts=(_identity, F.relu, _identity)),
            "The mask head has two hidden layers: three linear layers in all."),
    Mistake("weights not transposed", masks_with(linear=lambda x, w, b: x @ w + b),
            "A weight is stored as [outputs, inputs]: x @ weight.T + bias, which is F.linear."),
    Mistake("the biases left out", masks_with(linear=lambda x, w, b: x @ w.T), "Each layer adds its bias."),
    Mistake("the last bias left out", _without_last_bias, "Each of the three layers adds its bias."),
    Mistake("the states added after the hidden layers, as in a residual block",
            _residual, "The mask head is a plain MLP: nothing is added to what comes out of a layer."),
    Mistake("sigmoid applied", _after(lambda m, p: m.sigmoid()), _LOGITS + "A second one would squeeze all masks.",
            TINNUNCULUS),
    Mistake("softmax over the queries", _after(lambda m, p: m.softmax(1)),
            _LOGITS + "Masks of different queries do not compete inside the model."),
    Mistake("divided by the square root of C", _after(lambda m, p: m / p.shape[1] ** 0.5),
            "That is attention's habit. Here the plain dot product is the logit."),
    Mistake("the mean over channels instead of the sum", _after(lambda m, p: m / p.shape[1]),
            "A dot product sums over the channels."),
    Mistake("both embeddings normalised to length 1",
            masks_with(product=lambda e, p: torch.einsum(EINSUM, F.normalize(e, dim=2), F.normalize(p, dim=1))),
            "That is the cosine, which cannot leave -1 ... 1: no mask could ever be sure."),
    Mistake("height and width exchanged", _after(lambda m, p: m.mT), "The result is [B, N, h, w]."),
    Mistake("the pixels read in the wrong order", masks_with(product=_reshaped),
            "reshape does not exchange axes. [B, C, h, w] becomes [B, h*w, C] by flatten(2).mT."),
    Mistake("the first image's pixels for every image",
            masks_with(product=lambda e, p: torch.einsum("bnc,chw->bnhw", e, p[0])),
            "Each image has pixel embeddings of its own: the letter b must be in both factors."),
    Mistake("the pixels of all images added up",
            masks_with(product=lambda e, p: torch.einsum("bnc,xchw->bnhw", e, p)),
            "A letter that is in only one factor is summed over. b must be in both."),
)


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


def _changed(class_change=_identity, mask_change=_identity):
    def fn(*args):
        c, m, ac, am = _answers(*args)
        return class_change(c), mask_change(m), class_change(ac), mask_change(am)
    return fn


def _one_raw_head(raw):
    """One of the heads reads states without the norm."""
    def fn(states, norm, class_head, mask_head, pixels):
        good = _answers(states, norm, class_head, mask_head, pixels)
        bad = _answers(states, _identity, class_head, mask_head, pixels)
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
    return _answers(states, norm, class_head, _identity, pixels)


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
    Mistake("sigmoid on the masks", _changed(mask_change=torch.sigmoid), _LOGITS.strip(), TINNUNCULUS),
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

def _wired(images, parts, memory=None, pixels=None, to_decoder=_identity, state=lambda s: s[-1], embed=None,
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
    return _wired(images, parts | {"backbone": lambda x: features, "input_proj": _identity})


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
    Mistake("sigmoid on the masks", wired(change=lambda c, m: (c, m.sigmoid())), _LOGITS.strip(), TINNUNCULUS),
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
