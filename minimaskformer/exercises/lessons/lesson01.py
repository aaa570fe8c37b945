"""Exercises of lesson 01, mask classification: from files to sets of (class, mask), and back to maps."""
import torch

from ...inference import semantic_scores
from ..core import Exercise, Fixture, Mistake, issue
from .lesson01_files import remap_exercise
from .lesson01_panoptic import PANOPTIC_FIXTURES, PANOPTIC_MISTAKES, as_set, regions
from .lesson01_scores import SCORE_FIXTURES, SCORE_MISTAKES

TITLE = "Mask classification"


# --- 01.1 from a label map to a set ---------------------------------------------------------------------------------

def label_map_to_set(label_map, ignore=255):
    labels = torch.unique(label_map)
    labels = labels[labels != ignore]  # [T]
    return labels, label_map == labels[:, None, None]  # [T], [T, H, W]


LABELS = torch.tensor([[0, 0, 0, 0, 0, 255], [3, 3, 0, 5, 5, 255], [3, 5, 3, 3, 3, 3], [255, 3, 3, 0, 3, 3]])
PARK = torch.tensor([[1, 1, 4, 1, 100], [4, 4, 4, 0, 0], [1, 100, 4, 7, 7]])


def _pairs(label_map, classes, shift=0):
    classes = torch.as_tensor(classes, dtype=torch.int64)
    return classes + shift, label_map == classes[:, None, None]


def _present(label_map, *drop):
    return [c for c in torch.unique(label_map).tolist() if c not in drop]


def _split(label_map, ignore=255):
    pairs = [(c, piece) for c in _present(label_map, ignore) for piece in regions(label_map == c)]
    return torch.tensor([c for c, _ in pairs]), torch.stack([piece for _, piece in pairs])


def _numbered(label_map, ignore=255):
    labels, masks = label_map_to_set(label_map, ignore)
    return torch.arange(len(labels)), masks


def _out_of_line(label_map, ignore=255):
    labels, masks = label_map_to_set(label_map, ignore)
    seen = [c for c in dict.fromkeys(label_map.flatten().tolist()) if c != ignore]  # as they occur, row by row
    return torch.tensor(seen, dtype=torch.int64), masks


def _valued(label_map, ignore=255):
    labels, masks = label_map_to_set(label_map, ignore)
    return labels, masks * labels[:, None, None]


_ZERO = "Class 0 is a class like any other. There is no background here, only void, and void is `ignore`."
_SIMPLIFY = issue("zzubqh/Mask2Former-Simplify", 12)
label_map_exercise = Exercise(
    id="01.1", title="from a label map to a set", name="label_map_to_set", reference=label_map_to_set,
    parts=("labels", "masks"), canonical=as_set,
    fixtures=(
        Fixture("3 classes with gaps between their numbers, void", (LABELS,)),
        Fixture("void is 100 here", (PARK, 100)),
        Fixture("no void, no class 0", (torch.tensor([[2, 2, 1], [1, 2, 4]]),)),
        Fixture("nothing but void", (torch.full((2, 3), 255),))),
    mistakes=(
        Mistake("void as one more class", lambda x, ignore=255: _pairs(x, _present(x)),
                "Void belongs to no mask: leave the value `ignore` out of the labels."),
        Mistake("255 left out instead of `ignore`", lambda x, ignore=255: _pairs(x, _present(x, 255)),
                "Data sets mark void differently: use the argument."),
        Mistake("void counted as class 0", lambda x, ignore=255: label_map_to_set(torch.where(x == ignore, 0, x), -1),
                "Void means that nobody knows; class 0 is a real class. Void belongs to no mask."),
        Mistake("class 0 left out, as if it were background",
                lambda x, ignore=255: _pairs(x, _present(x, ignore, 0)), _ZERO, _SIMPLIFY),
        Mistake("0 taken for void, instead of `ignore`", lambda x, ignore=255: _pairs(x, _present(x, 0)), _ZERO,
                _SIMPLIFY),
        Mistake("the smallest label left out", lambda x, ignore=255: _pairs(x, _present(x, ignore)[1:]),
                "labels[1:] drops whatever comes first, a class in most images. Compare with `ignore` instead.",
                _SIMPLIFY),
        Mistake("the smallest value left out, instead of `ignore`", lambda x, ignore=255: _pairs(x, _present(x)[1:]),
                "labels[1:] drops whatever comes first, a class in most images. Compare with `ignore` instead.",
                _SIMPLIFY),
        Mistake("the largest value left out, instead of `ignore`", lambda x, ignore=255: _pairs(x, _present(x)[:-1]),
                "What comes last is void in some images and a class in others. Compare with `ignore` instead."),
        Mistake("masks for classes that do not occur",
                lambda x, ignore=255: _pairs(x, range(max(_present(x, ignore)) + 1)),
                "An empty mask says \"find this class nowhere\". Only classes that occur are in the set.",
                issue("facebookresearch/Mask2Former", 215)),
        Mistake("masks for classes that do not occur, up to 255",
                lambda x, ignore=255: _pairs(x, range(int(x.max()) + 1)),
                "Only classes that occur are in the set, and void is none of them.",
                issue("facebookresearch/Mask2Former", 215)),
        Mistake("one mask per connected region", _split,
                "A label map does not say which pixels belong together. One mask per class is all it can give.",
                issue("DiamondLightSource/SuRVoS", 30)),
        Mistake("labels moved up by one", lambda x, ignore=255: _pairs(x, _present(x, ignore), 1),
                "A mask moved with its label is another mask: labels are the map's own values, from 0. No-object "
                "comes last, not first.", issue("facebookresearch/detr", 356)),
        Mistake("labels in one order, masks in another", _out_of_line,
                "The pairs may come in any order, but mask j must be that of label j."),
        Mistake("labels counted 0, 1, 2, ...", _numbered,
                "The label of a mask is its class in the map, not its place in the set."),
        Mistake("masks that hold the class number instead of 1", _valued,
                "A mask says yes or no for each pixel; its label says which class.")),
    hints=("Which different numbers occur in the map, and which of them is not a class?",
           "torch.unique gives the numbers. Then compare the map with each of them: one mask per number.",
           "labels = torch.unique(label_map), without `ignore`; masks = label_map == labels[:, None, None]"),
    why="labels[:, None, None] is [T, 1, 1], so the comparison broadcasts to [T, H, W]. Classes that do not occur have "
        "no mask: T differs from image to image. The library's semantic_to_target does this.")


# --- 01.3 from a panoptic map to a set ------------------------------------------------------------------------------

def panoptic_to_set(segment_map, segments_info):
    segments = [s for s in segments_info if not s["iscrowd"] and (segment_map == s["id"]).any()]
    labels = torch.tensor([s["category_id"] for s in segments], dtype=torch.int64)  # [T]
    ids = torch.tensor([s["id"] for s in segments], dtype=segment_map.dtype)
    masks = segment_map == ids[:, None, None]  # [T, H, W]
    return labels, masks, masks.any(0)  # valid [H, W]: everything but void and crowds


panoptic_exercise = Exercise(
    id="01.3", title="from a panoptic map to a set", name="panoptic_to_set", reference=panoptic_to_set,
    parts=("labels", "masks", "valid"), canonical=as_set, fixtures=PANOPTIC_FIXTURES, mistakes=PANOPTIC_MISTAKES,
    hints=("Which entries of segments_info are targets, and which pixels have a known answer?",
           "One mask per entry: segment_map == s[\"id\"]. Skip crowds and entries without a pixel. A pixel is valid "
           "if some mask of the set has it.",
           "masks = segment_map == ids[:, None, None]; valid = masks.any(0)"),
    why="Crowds and void are neither targets nor counterexamples: no mask has them and `valid` takes them out of cost "
        "and loss. The library's panoptic_to_target does this, checks the numbers, and keeps map and list for the "
        "metrics, which do want to know about crowds.")


# --- 01.4 back to maps ----------------------------------------------------------------------------------------------

def set_to_maps(labels, masks, ignore=255):
    segment_map = torch.zeros(masks.shape[1:], dtype=torch.int32)  # [H, W], all void
    label_map = torch.full(masks.shape[1:], ignore)  # [H, W]
    for i, mask in enumerate(masks):
        segment_map[mask] = i + 1
        label_map[mask] = labels[i]
    return segment_map, label_map


PLACES = torch.tensor([[0, 3, 3, 3, 0], [1, 1, 2, 2, 3], [1, 4, 4, 2, 0], [0, 4, 4, 4, 4]])  # which pair has a pixel
SHORE = torch.tensor([[2, 2, 0, 1], [3, 3, 1, 1], [3, 0, 1, 1]])


def _pairs_of(places, *labels):
    return torch.tensor(labels), places == torch.arange(1, len(labels) + 1)[:, None, None]


def _maps(labels, masks, first=1, void=0, ignore=255, shift=0):
    segment_map, label_map = torch.full(masks.shape[1:], void), torch.full(masks.shape[1:], ignore)
    for i, mask in enumerate(masks):
        segment_map[mask], label_map[mask] = i + first, labels[i] + shift
    return segment_map, label_map


def _argmax(labels, masks, ignore):
    winner = masks.int().argmax(0)
    return winner + 1, labels[winner]


def _looked_up(labels, masks, ignore):
    """The label of each id, without the - 1: right only where void is, and past the end for the last segment."""
    segment_map, label_map = _maps(labels, masks)
    return segment_map, torch.where(segment_map == 0, ignore, labels[segment_map.clamp(max=len(labels) - 1)])


def _zero_means_void(labels, masks, ignore):
    segment_map, label_map = _maps(labels, masks, ignore=0)
    return segment_map, torch.where(label_map == 0, ignore, label_map)


def _last_label(labels, masks, ignore):
    segment_map = _maps(labels, masks)[0]
    return segment_map, labels[segment_map - 1]


def _by_class(labels, masks, ignore, shift):
    segment_map, label_map = _maps(labels, masks, ignore=ignore)
    return torch.where(segment_map == 0, 0, label_map + shift), label_map


def _ids_for_labels(labels, masks, ignore):
    segment_map = _maps(labels, masks)[0]
    return segment_map, torch.where(segment_map == 0, ignore, segment_map)


back_exercise = Exercise(
    id="01.4", title="from a set back to maps", name="set_to_maps", reference=set_to_maps,
    parts=("segment_map", "label_map"),
    fixtures=(
        Fixture("2 sheep (class 3), sky, grass, void", (*_pairs_of(PLACES, 3, 3, 0, 1), 255)),
        Fixture("3 segments, void in the middle", (*_pairs_of(SHORE, 2, 7, 2), 100)),
        Fixture("an empty set", (torch.zeros(0, dtype=torch.int64), torch.zeros(0, 2, 3, dtype=torch.bool), 255))),
    mistakes=(
        Mistake("void as class 0 in the label map", lambda c, m, i: _maps(c, m, ignore=0),
                "0 is a class. Pixels in no mask are void: `ignore`."),
        Mistake("void at 255 in the segment map", lambda c, m, i: _maps(c, m, ignore=i, void=255),
                "Two maps, two habits: void is 0 among segment ids and `ignore` among labels."),
        Mistake("void at -1 in the label map", lambda c, m, i: _maps(c, m, ignore=-1),
                "In the label map void is `ignore`, whatever that is."),
        Mistake("void always at 255 in the label map", lambda c, m, i: _maps(c, m),
                "255 is only the usual value of `ignore`: use the argument."),
        Mistake("every 0 of the label map turned into `ignore`", _zero_means_void,
                "Class 0 is lost that way. Start from a map full of `ignore` instead."),
        Mistake("labels[id] instead of labels[id - 1]", _looked_up,
                "Ids count from 1 and places from 0: segment id i has the label labels[i - 1]."),
        Mistake("segment ids from 0", lambda c, m, i: _maps(c, m, ignore=i, first=0),
                "0 means void, so the first segment would vanish. Ids count from 1."),
        Mistake("segment ids from 0, and void at -1 in the segment map",
                lambda c, m, i: _maps(c, m, ignore=i, first=0, void=-1),
                "In a segment map 0 means void, and ids count from 1."),
        Mistake("void given to the first segment (argmax of no mask is 0)", _argmax,
                "Where no mask is True, argmax still names one, the first. Such pixels are void."),
        Mistake("void given to the last label", _last_label,
                "labels[segment_map - 1] reads labels[-1] where the id is 0. Those pixels are `ignore`."),
        Mistake("classes instead of ids in the segment map", lambda c, m, i: _by_class(c, m, i, 0),
                "Then two sheep become one, and class 0 becomes void. Each pair needs an id of its own."),
        Mistake("classes instead of ids in the segment map", lambda c, m, i: _by_class(c, m, i, 1),
                "Then two sheep become one. Each pair needs an id of its own."),
        Mistake("ids instead of classes in the label map", _ids_for_labels,
                "Which class segment i has is in labels[i - 1]."),
        Mistake("labels moved up by one", lambda c, m, i: _maps(c, m, ignore=i, shift=1),
                "Labels are class indices from 0 already: write them as they are."),
        Mistake("classes from 1, and void at 0 in the label map", lambda c, m, i: _maps(c, m, shift=1, ignore=0),
                "Labels are class indices from 0 already, and void is `ignore`."),
        Mistake("the two maps swapped", lambda c, m, i: _maps(c, m, ignore=i)[::-1],
                "The segment map comes first, then the label map.")),
    hints=("Every pixel lies in one mask or in none. What do the two maps say about pixels in none?",
           "Start from two maps that are all void, each in its own way, and paint the masks one by one.",
           "segment_map[mask] = i + 1; label_map[mask] = labels[i]; before that 0 and `ignore` everywhere"),
    why="The segment map remembers who is who, the label map only what is what: from the first one can get the second, "
        "never the other way round. The library's target_to_panoptic and panoptic_to_semantic do this.")


# --- 01.5 from predictions to scores --------------------------------------------------------------------------------

scores_exercise = Exercise(
    id="01.5", title="from N predictions to scores", name="semantic_scores", reference=semantic_scores,
    fixtures=SCORE_FIXTURES, mistakes=SCORE_MISTAKES,
    hints=("For one pixel and one class: how much does query i contribute, and over what do you sum?",
           "Two steps make probabilities: a softmax over K + 1 numbers, then the last column goes; a sigmoid per "
           "pixel. Then one einsum that sums over n.",
           "torch.einsum(\"nk,nhw->khw\", class_logits.softmax(-1)[:, :-1], mask_logits.sigmoid())"),
    why="Each query votes for every class at every pixel, with weight p * m. No-object takes its share of the softmax "
        "before it is dropped, so a query that doubts votes less. Nothing is renormalised: a score may exceed 1.")

EXERCISES = [label_map_exercise, remap_exercise, panoptic_exercise, back_exercise, scores_exercise]
