"""Lesson 01: the fixtures of the semantic scores, and the ways people get the one einsum wrong."""
import torch
import torch.nn.functional as F

from ..core import Fixture, Mistake, issue

TINNUNCULUS = ("https://github.com/tinnunculus/MaskFormer/blob/37694d45606f9b32bd85250cadf5f4adccb5e854/"
               "maskformer.ipynb")
CLASS_LOGITS = torch.tensor([[2.1, 0.4, -0.9, 0.3], [-0.6, 1.7, 0.9, 1.1], [0.2, -1.4, 1.6, 2.0],
                             [0.8, 1.2, -0.2, -1.0], [-0.3, 0.5, 0.1, 1.9]])  # 5 queries, 3 classes + no-object
MASK_LOGITS = torch.tensor([[[1.5, -0.7], [2.2, -2.0]], [[-1.1, 0.8], [0.6, 1.4]], [[0.9, 2.3], [-1.6, -0.4]],
                            [[-2.1, 1.2], [1.0, 0.3]], [[0.7, -0.5], [-0.2, 1.8]]])
SHY_LOGITS = torch.tensor([[0.6, -0.2, 1.5], [-0.4, 0.9, 2.2], [0.3, 0.1, 1.1]])  # every query leans to no-object
SHY_MASKS = torch.tensor([[[0.4, -1.3, 2.0, 0.9]], [[1.6, 0.2, -0.8, -1.5]], [[-0.6, 1.9, 0.5, 1.3]]])
SCORE_FIXTURES = (Fixture("5 queries, 3 classes and no-object, 4 pixels", (CLASS_LOGITS, MASK_LOGITS)),
                  Fixture("3 queries that say no object", (SHY_LOGITS, SHY_MASKS)))


def _probs(x):
    return x.softmax(-1)[:, :-1]


def _scores(x, m, prob=_probs, mask=torch.sigmoid):
    """The scores with knobs to get wrong."""
    return torch.einsum("nk,nhw->khw", prob(x), mask(m))


def _pairs(x, m):
    return _probs(x)[:, :, None, None] * m.sigmoid()[:, None]  # [N, K, H, W]


def _hard(x):
    return F.one_hot(x.argmax(-1), x.shape[-1]).to(x.dtype)[:, :-1]


def _hard_real(x):
    return F.one_hot(x[:, :-1].argmax(-1), x.shape[-1] - 1).to(x.dtype)


_EARLY = "The sum is taken over soft numbers, a query may vote for two classes at once; the argmax comes last."
_QUERIES = "Each query has its own distribution: the probabilities of one row add up to 1."
SCORE_MISTAKES = (
    Mistake("softmax applied twice", lambda x, m: _scores(x, m, lambda t: t.softmax(-1).softmax(-1)[:, :-1]),
            "A second softmax makes all classes nearly equal. The arguments are logits: apply it once.", TINNUNCULUS),
    Mistake("sigmoid applied twice", lambda x, m: _scores(x, m, mask=lambda t: t.sigmoid().sigmoid()),
            "A second sigmoid squeezes every mask between 0.5 and 0.73.", TINNUNCULUS),
    Mistake("no sigmoid", lambda x, m: _scores(x, m, mask=lambda t: t),
            "Mask logits may be negative, and then a sure class counts against itself. Apply the sigmoid."),
    Mistake("no softmax", lambda x, m: _scores(x, m, lambda t: t[:, :-1]),
            "Logits of different queries cannot be added up. Apply the softmax over the K + 1 classes."),
    Mistake("a sigmoid instead of the softmax", lambda x, m: _scores(x, m, lambda t: t.sigmoid()[:, :-1]),
            "Classes exclude each other, so they share one softmax; the sigmoid is for the masks."),
    Mistake("no-object kept as a class", lambda x, m: _scores(x, m, lambda t: t.softmax(-1)),
            "No pixel is of class \"no object\": drop the last column after the softmax.",
            issue("facebookresearch/Mask2Former", 200)),
    Mistake("the first column dropped, as if no-object were index 0",
            lambda x, m: _scores(x, m, lambda t: t.softmax(-1)[:, 1:]),
            "Here index 0 is a real class and no-object is the last column, K.",
            issue("zzubqh/Mask2Former-Simplify", 12)),
    Mistake("the class probabilities of each query made to add up to 1 without no-object",
            lambda x, m: _scores(x, m, lambda t: t[:, :-1].softmax(-1)),
            "Softmax over all K + 1, then drop the column, and no renormalising: a query that doubts that there is "
            "anything must count for less.", issue("open-mmlab/mmdetection", 8753)),
    Mistake("the scores of a pixel made to add up to 1", lambda x, m: _scores(x, m) / _scores(x, m).sum(0),
            "The scores are a sum and no distribution; the argmax does not need one."),
    Mistake("a softmax over the scores", lambda x, m: _scores(x, m).softmax(0),
            "The scores are a sum and no distribution; the argmax does not need one."),
    Mistake("the mean over the queries", lambda x, m: _scores(x, m) / len(x),
            "The equation says sum. (Here it would give the same classes, but spare queries would dilute the score.)"),
    Mistake("the surest query only, instead of the sum", lambda x, m: _pairs(x, m).amax(0),
            "All queries vote: two that are half sure of grass beat one that is two thirds sure of water."),
    Mistake("queries that say no object left out",
            lambda x, m: _scores(x, m, lambda t: _probs(t) * (t.argmax(-1) < t.shape[-1] - 1)[:, None]),
            "They vote too, with the little they have left. Leaving them out is the general rule's way, not this one."),
    Mistake("argmax before the sum: one class per query", lambda x, m: _scores(x, m, lambda t: _probs(t) * _hard(t)),
            _EARLY),
    Mistake("argmax before the sum: one class per query", lambda x, m: _scores(x, m, _hard), _EARLY),
    Mistake("argmax before the sum: one class per query, never no-object",
            lambda x, m: _scores(x, m, lambda t: _probs(t) * _hard_real(t)), _EARLY),
    Mistake("argmax before the sum: one class per query, never no-object", lambda x, m: _scores(x, m, _hard_real),
            _EARLY),
    Mistake("masks cut at 0.5 before the sum", lambda x, m: _scores(x, m, mask=lambda t: (t > 0).to(t.dtype)),
            "How sure a query is of a pixel counts in the sum: use the probabilities themselves."),
    Mistake("a softmax over the queries instead of the sigmoid",
            lambda x, m: _scores(x, m, mask=lambda t: t.softmax(0)),
            "Masks do not compete for a pixel: each has its own sigmoid."),
    Mistake("a softmax over the queries instead of the classes",
            lambda x, m: _scores(x, m, lambda t: t.softmax(0)[:, :-1]), _QUERIES),
    Mistake("the classes themselves, not their scores", lambda x, m: _scores(x, m).argmax(0),
            "That is the next step. Return the scores [K, H, W]."),
    Mistake("the classes as the last axis", lambda x, m: _scores(x, m).permute(1, 2, 0),
            "The scores are [K, H, W]: the letters after -> are khw."),
)
