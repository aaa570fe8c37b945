"""Lesson 01: the fixtures of the panoptic map, and the ways people turn it into a wrong set."""
import torch
from scipy import ndimage

from ..core import Fixture, Mistake, issue


def as_set(arrays):
    """The pairs (label, mask) in one order: a set has none."""
    labels, masks, *others = arrays
    if labels.ndim == 1 and masks.ndim == 3 and len(labels) == len(masks):
        order = sorted(range(len(labels)), key=lambda i: (labels[i], masks[i].tobytes()))
        return [labels[order], masks[order], *others]
    return arrays


def regions(mask):
    """The connected regions of a mask, as masks."""
    pieces, count = ndimage.label(mask.numpy())
    return [torch.from_numpy(pieces == i + 1) for i in range(count)]


def _segments(*rows):
    """segments_info from rows (id, category_id, isthing, iscrowd)."""
    return [{"id": i, "category_id": c, "isthing": bool(thing), "iscrowd": crowd} for i, c, thing, crowd in rows]


# Segment 4 is grass in three pieces, 9 and 2 are sheep that touch, 255 is a tree in two pieces behind sheep 9;
# 5 is a crowd of sheep, 3 has lost its last pixel to a crop, and the ids are in no order.
MAP = torch.tensor([[7, 7, 7, 7, 7, 7, 7, 7],
                    [4, 7, 7, 5, 5, 5, 7, 7],
                    [4, 255, 9, 5, 5, 0, 4, 4],
                    [255, 9, 9, 2, 2, 4, 0, 4],
                    [4, 255, 9, 2, 4, 4, 4, 4]], dtype=torch.int32)
INFO = _segments((4, 3, 0, 0), (9, 2, 1, 0), (7, 0, 0, 0), (5, 2, 1, 1), (3, 2, 1, 0), (2, 2, 1, 0), (255, 1, 1, 0))
HARBOUR = torch.tensor([[0, 12, 12, 12, 12, 12],
                        [30, 12, 6, 255, 30, 12],
                        [30, 6, 6, 8, 8, 30],
                        [30, 30, 8, 8, 30, 255],
                        [17, 17, 30, 1, 1, 0]], dtype=torch.int32)  # here 255 is a segment too, a crowd of boats
HARBOUR_INFO = _segments((8, 4, 1, 0), (255, 4, 1, 1), (30, 5, 0, 0), (6, 4, 1, 0), (99, 0, 0, 0), (12, 1, 0, 0),
                         (17, 4, 1, 1), (1, 2, 1, 0))
MEADOW = torch.tensor([[2, 2, 3, 2, 2], [2, 3, 3, 1, 2]], dtype=torch.int32)
PANOPTIC_FIXTURES = (
    Fixture("sheep that touch, grass in pieces, a crowd, void, a segment without pixels", (MAP, INFO)),
    Fixture("two crowds, and a segment whose id is 255", (HARBOUR, HARBOUR_INFO)),
    Fixture("no crowd and no void", (MEADOW, _segments((3, 1, 1, 0), (1, 1, 1, 0), (2, 0, 0, 0)))),
    Fixture("nothing but void", (torch.zeros(2, 3, dtype=torch.int32), [])))


def _set(m, info, keep=lambda s: not s["iscrowd"], split=lambda s: False, merge=lambda s: False, empty=False,
         label=lambda s: s["category_id"], valid=None, extra=()):
    """panoptic_to_set with knobs to get wrong."""
    pairs, merged = [], {}
    for s in (s for s in info if keep(s)):
        mask = m == s["id"]
        if merge(s):
            merged[label(s)] = merged.get(label(s), torch.zeros_like(mask)) | mask
        elif split(s) and mask.any():
            pairs += [(label(s), piece) for piece in regions(mask)]
        elif mask.any() or empty:
            pairs.append((label(s), mask))
    pairs += [(c, mask) for c, mask in merged.items() if mask.any()]
    pairs += [(c, m == 0) for c in extra if (m == 0).any()]
    valid = _valid(m, info) if valid is None else valid(m, info)
    masks = torch.stack([mask for _, mask in pairs]) if pairs else torch.zeros(0, *m.shape, dtype=torch.bool)
    return torch.tensor([c for c, _ in pairs], dtype=torch.int64), masks, valid


def _valid(m, info):
    return ~torch.isin(m, torch.tensor([0] + [s["id"] for s in info if s["iscrowd"]], dtype=m.dtype))


def _first_dropped(m, info):
    """ids = segment_map.unique()[1:], meant to drop void."""
    return _set(m, info, keep=lambda s: not s["iscrowd"] and s["id"] in m.unique()[1:])


def _labelled(m, info):
    return m != 0


def _everything(m, info):
    return torch.ones_like(m, dtype=torch.bool)


def _any(s):
    return True


_CROWD = ("a crowd is not one sheep but many that nobody separated, so it is not a target. Nor is it \"no sheep\": "
          "valid must be False there.")
_RETINA = issue("yhenon/pytorch-retinanet", 14)
_VOID = "Void is neither a class nor a segment: it belongs to no mask, and valid is False there."
_REGIONS = ("Segments are what the annotator says, not what is connected: a tree behind a sheep may come in two "
            "pieces, and grass is one segment in however many.")
PANOPTIC_MISTAKES = (
    Mistake("crowds as targets", lambda m, s: _set(m, s, keep=_any, valid=_labelled), _CROWD.capitalize(),
            issue("cocodataset/panopticapi", 5)),
    Mistake("crowds as targets, though not valid", lambda m, s: _set(m, s, keep=_any),
            "Valid is right, but the crowd is still in the set, as one huge sheep. Leave it out."),
    Mistake("crowds left out of the set, but their pixels valid", lambda m, s: _set(m, s, valid=_labelled),
            "Then the model is taught that there are no sheep in the flock. Make valid False there.", _RETINA),
    Mistake("void pixels valid", lambda m, s: _set(m, s, valid=lambda m, s: _valid(m, s) | (m == 0)),
            "Nobody knows what is at void pixels (id 0): valid must be False there too.",
            issue("facebookresearch/MaskFormer", 57)),
    Mistake("every pixel valid", lambda m, s: _set(m, s, valid=_everything),
            "Void pixels and crowds have no known answer: valid must be False there.",
            issue("facebookresearch/MaskFormer", 57)),
    Mistake("void taken to be 255", lambda m, s: _set(m, s, valid=lambda m, s: (_valid(m, s) | (m == 0)) & (m != 255)),
            "255 marks void in label maps. In a map of segment ids void is 0, and 255 may be a segment."),
    Mistake("valid the wrong way round", lambda m, s: _set(m, s, valid=lambda m, s: ~_valid(m, s)),
            "valid is True where the answer is known."),
    Mistake("valid only on things",
            lambda m, s: _set(m, s, valid=lambda m, s: torch.isin(m, torch.tensor(
                [t["id"] for t in s if t["isthing"] and not t["iscrowd"]], dtype=m.dtype))),
            "The answer is known on sky and grass too."),
    Mistake("void as one more target, of class 0", lambda m, s: _set(m, s, extra=(0,)), f"0 is a real class. {_VOID}"),
    Mistake("void as one more target, of class 0, and valid everywhere but in crowds",
            lambda m, s: _set(m, s, extra=(0,), valid=lambda m, s: _valid(m, s) | (m == 0)),
            f"0 is a real class. {_VOID}"),
    Mistake("void as one more target, with the label 255", lambda m, s: _set(m, s, extra=(255,)), _VOID),
    Mistake("one mask per connected region", lambda m, s: _set(m, s, split=_any), _REGIONS,
            issue("matterport/Mask_RCNN", 2910)),
    Mistake("stuff split into its connected regions", lambda m, s: _set(m, s, split=lambda t: not t["isthing"]),
            "Stuff is one segment per class, in however many pieces: nobody counts grass."),
    Mistake("things split into their connected regions", lambda m, s: _set(m, s, split=lambda t: t["isthing"]),
            "A tree behind a sheep may come in two pieces and is still one tree.", issue("matterport/Mask_RCNN", 2910)),
    Mistake("one mask per class", lambda m, s: _set(m, s, merge=_any),
            "That is the set for semantic segmentation. Here every sheep has a mask of its own.",
            issue("NielsRogge/Transformers-Tutorials", 227)),
    Mistake("the smallest id dropped, void or not", _first_dropped,
            "unique()[1:] drops whatever comes first. Where there is no void, that is a segment. Go through "
            "segments_info instead.", issue("zzubqh/Mask2Former-Simplify", 12)),
    Mistake("segments without pixels kept", lambda m, s: _set(m, s, empty=True),
            "An empty mask says \"find this sheep nowhere\". Drop what has no pixels, as after a crop.",
            issue("facebookresearch/Mask2Former", 215)),
    Mistake("segment ids as labels", lambda m, s: _set(m, s, label=lambda t: t["id"]),
            "The id is a name within this map. The class is under \"category_id\"."),
    Mistake("labels moved up by one", lambda m, s: _set(m, s, label=lambda t: t["category_id"] + 1),
            "\"category_id\" is a class index from 0 already, and no-object comes last, not first.",
            issue("facebookresearch/detr", 356)),
    Mistake("only the things", lambda m, s: _set(m, s, keep=lambda t: t["isthing"] and not t["iscrowd"]),
            "That is the set for instance segmentation. In a panoptic set stuff has its masks too."),
    Mistake("only the stuff", lambda m, s: _set(m, s, keep=lambda t: not t["isthing"]),
            "Sheep and trees are segments too."),
)
