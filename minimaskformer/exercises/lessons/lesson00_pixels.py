"""The last exercise of lesson 00: which query each pixel belongs to, and the ways people get that wrong."""
import torch

from ..core import Exercise, Fixture, Mistake, issue

# --- 00.4 the query of each pixel -----------------------------------------------------------------------------------

def query_map(class_logits, mask_logits):
    scores, classes = class_logits.softmax(-1).max(-1)  # [N, K+1] -> [N]
    kept = (classes != class_logits.shape[-1] - 1).nonzero().flatten()  # [N'] query numbers
    if len(kept) == 0:
        return torch.full(mask_logits.shape[-2:], -1)
    claims = scores[kept, None, None] * mask_logits[kept].sigmoid()  # [N', H, W]
    return kept[claims.argmax(0)]  # [H, W]


def _claims(x, m, prob=None, mask=torch.sigmoid, silent=-1, back=True, best=torch.argmax, join=torch.mul):
    """query_map with knobs to get wrong; prob gives scores and classes from the class logits."""
    scores, classes = (prob or (lambda t: t.softmax(-1).max(-1)))(x)
    kept = (classes != silent % x.shape[-1]).nonzero().flatten() if silent is not None else torch.arange(len(x))
    winner = best(join(scores[kept, None, None], mask(m)[kept]), 0)
    return kept[winner] if back else winner


def _real(x):
    """Probability and index of the best real class, the softmax over all K + 1."""
    return x.softmax(-1)[:, :-1].max(-1)


def _only_sure(x, m, silent=False):
    scores, classes = x.softmax(-1).max(-1)
    kept = ((scores > 0.8) & (silent | (classes != x.shape[-1] - 1))).nonzero().flatten()
    return kept[(scores[kept, None, None] * m[kept].sigmoid()).argmax(0)]


def _only_sure_zeroed(x, m):
    p = x.softmax(-1)
    sure = (p.amax(-1) > 0.8) & (p.argmax(-1) != x.shape[-1] - 1)
    return torch.where(sure[:, None, None], p.amax(-1)[:, None, None] * m.sigmoid(), -1.0).argmax(0)


def _nobody(x, m, claim):
    """query_map, but -1 where the winner's claim is below one half."""
    winner = query_map(x, m)
    return torch.where(claim(x, m).gather(0, winner[None].clamp(min=0))[0] < 0.5, -1, winner)


def _ones(x):
    return torch.ones(len(x), dtype=x.dtype), x.argmax(-1)


PIXEL_LOGITS = torch.tensor([[2.0, 0.1, -0.8, 0.2], [-0.4, 0.3, -1.0, 2.9], [-0.2, 1.3, 0.5, 0.1],
                             [0.9, -0.6, 0.4, 1.1], [0.4, -0.6, 0.9, 0.6], [-0.5, 2.6, -1.2, 0.2]])
PIXEL_MASKS = torch.tensor([[[-1.2, -1.3, 1.6, 1.2], [-0.4, -0.8, -3.3, 3.3], [-3.1, 3.6, -0.5, -2.6]],
                            [[0.5, 1.5, 1.9, 0.8], [-5.1, -1.2, 0.3, 0.6], [0.1, 1.7, -0.7, 0.7]],
                            [[1.2, 1.5, -0.2, 1.4], [0.1, -2.2, 0.2, 1.5], [-0.1, 1.8, 0.6, -0.7]],
                            [[2.6, 2.4, -1.3, -4.9], [1.2, 1.9, 2.0, -0.5], [-1.5, 1.9, 1.7, 1.1]],
                            [[2.0, 2.0, 2.1, 2.0], [-0.3, 0.3, -3.4, -1.1], [-2.0, -1.1, 2.8, -1.3]],
                            [[-1.1, -1.2, 0.6, 0.4], [-0.3, -0.8, -1.8, 2.9], [1.0, -1.7, 1.4, 0.3]]])
ORDER = [1, 4, 5, 0, 3, 2]
FEW_LOGITS = torch.tensor([[0.2, 0.1, -3.1], [3.5, 3.3, -0.5], [1.3, 3.9, 0.2], [-2.9, -1.1, 2.0], [0.5, -1.3, 2.2]])
FEW_MASKS = torch.tensor([[[1.3, -1.3, 2.9], [-0.9, -2.9, -0.6], [-1.7, -2.0, -1.8]],
                          [[-2.5, 3.9, -0.4], [-0.6, 0.3, 1.7], [1.7, 1.0, 5.2]],
                          [[0.9, 1.5, 2.3], [-1.6, -2.7, -3.6], [0.9, -0.4, -3.5]],
                          [[2.0, -0.1, 1.8], [-3.4, 2.7, -1.2], [1.3, 1.4, -1.5]],
                          [[0.4, -1.0, -0.9], [2.0, 0.3, 0.0], [1.6, -1.1, -1.2]]])
_NOTHING = "A query that says no object draws nothing: leave it out before you compare."
_FILTER = "That is the panoptic filter; the general rule keeps every query whose answer is a class."
_WEAK = "The largest claim wins, however small. -1 is only for the case in which every query says no object."
_MASKS = "sigmoid(mask_logits) is the probability that the pixel belongs to the mask, for each query by itself."
query_exercise = Exercise(
    id="00.4", title="who drew this pixel", name="query_map", reference=query_map,
    fixtures=(
        Fixture("6 queries, 12 pixels; queries 1 and 3 say no object", (PIXEL_LOGITS, PIXEL_MASKS)),
        Fixture("the same queries in another order", (PIXEL_LOGITS[ORDER], PIXEL_MASKS[ORDER])),
        Fixture("5 queries, 9 pixels; queries 3 and 4 say no object", (FEW_LOGITS, FEW_MASKS)),
        Fixture("every query says no object", (PIXEL_LOGITS[[1, 1]], PIXEL_MASKS[:2]))),
    mistakes=(
        Mistake("queries that say no object take part", lambda x, m: _claims(x, m, silent=None), _NOTHING,
                issue("facebookresearch/detr", 491)),
        Mistake("queries that say no object take part, with their best real class",
                lambda x, m: _claims(x, m, _real), _NOTHING),
        Mistake("the no-object column dropped before the softmax",
                lambda x, m: _claims(x, m, lambda t: t[:, :-1].softmax(-1).max(-1)),
                "Then a query that is sure to see nothing looks sure of some class. Softmax over all K + 1 first.",
                issue("open-mmlab/mmdetection", 8753)),
        Mistake("no object at index 0", lambda x, m: _claims(x, m, silent=0),
                "Index 0 is a real class. No object is the last, index K.", issue("facebookresearch/detr", 356)),
        Mistake("no object at index K - 1", lambda x, m: _claims(x, m, silent=-2),
                "With K classes the real ones are 0 ... K-1, so no object is index K, the last of K + 1."),
        Mistake("the class and the pixel added instead of multiplied",
                lambda x, m: _claims(x, m, join=torch.add),
                "A sum lets a query win that is sure of its class and sure not to own the pixel. Multiply."),
        *(Mistake("queries less than 0.8 sure left out too", fn, _FILTER) for fn in (_only_sure, _only_sure_zeroed)),
        Mistake("queries less than 0.8 sure left out, and no others", lambda x, m: _only_sure(x, m, silent=True),
                f"A query can be 0.9 sure to see nothing. {_FILTER}"),
        Mistake("-1 where the best claim is below one half",
                lambda x, m: _nobody(x, m, lambda x, m: x.softmax(-1).amax(-1)[:, None, None] * m.sigmoid()), _WEAK),
        Mistake("-1 where the winner's mask is below one half",
                lambda x, m: _nobody(x, m, lambda x, m: m.sigmoid()), _WEAK),
        Mistake("the number among the queries that are left", lambda x, m: _claims(x, m, back=False),
                "After leaving queries out, place 0 may be query 2. Look the number up: kept[...]."),
        Mistake("the class probability left out", lambda x, m: _claims(x, m, _ones),
                "A claim is the product p * m. A query unsure of its class should lose to a sure one."),
        Mistake("the mask alone, of all queries", lambda x, m: m.argmax(0),
                "A claim is the product p * m, and queries that say no object make none."),
        Mistake("mask logits without the sigmoid", lambda x, m: _claims(x, m, mask=lambda t: t), _MASKS),
        Mistake("sigmoid applied twice", lambda x, m: _claims(x, m, mask=lambda t: t.sigmoid().sigmoid()),
                "A second sigmoid squeezes every mask between 0.5 and 0.73.",
                "https://github.com/tinnunculus/MaskFormer/blob/37694d45606f9b32bd85250cadf5f4adccb5e854/"
                "maskformer.ipynb"),
        Mistake("a softmax over the queries instead of the sigmoid",
                lambda x, m: _claims(x, m, mask=lambda t: t.softmax(0)), _MASKS),
        Mistake("masks cut at 0.5 before they are compared",
                lambda x, m: _claims(x, m, mask=lambda t: (t > 0).to(t.dtype)),
                "Two masks may both cover a pixel, one more surely. Compare the probabilities themselves."),
        Mistake("class logits instead of probabilities", lambda x, m: _claims(x, m, lambda t: t.max(-1)),
                "Logits of different queries cannot be compared. Apply the softmax over the K + 1 classes."),
        Mistake("the smallest claim instead of the largest", lambda x, m: _claims(x, m, best=torch.argmin),
                "The surest query gets the pixel."),
        Mistake("the class of the winner instead of its number", lambda x, m: x.argmax(-1)[query_map(x, m)],
                "The question is *who*: the index of the query.")),
    hints=("At one pixel each query makes a claim: how sure it is of its class, times how sure it is of the pixel. "
           "Who may make none?",
           "scores, classes = softmax(...).max(-1) gives p and c of every query. Compare p * sigmoid(mask) only among "
           "queries whose class is not K, then translate back to query numbers.",
           "kept = (classes != K).nonzero().flatten(); kept[(scores[kept, None, None] * "
           "mask_logits[kept].sigmoid()).argmax(0)]"),
    why="This is the paper's general rule: argmax of p_i(c_i) * m_i[h, w] over the queries that see an object. "
        "Panoptic inference is this with two more filters (lesson 08). The library's general_inference returns this "
        "map, and the class of each winner with it.")
