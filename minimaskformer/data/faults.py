"""What the tally of a data set says: reasons not to train on it, and what is worth a note.

Each reason is one small function of (tally, dataset) that returns a sentence with its numbers, or None. `train` stops
at them; `inspect` lists them first among what is suspicious.
"""
import math

from ..system.text import plain
from .readers.class_numbers import listed
from .readers.label_maps import spans

MOST = 0.5  # a share above this counts as most
ROUNDED = 0.02  # by so much of it a corner may lie outside the picture
FEW = 5  # a class with fewer annotations may be all crowds by chance
NAMED = 8  # classes named in a sentence


# --- reasons to stop -------------------------------------------------------------------------------------------------

def crowds(counted, dataset):
    """Some tools write iscrowd 1 for masks of one object; taken at their word, these are neither learnt nor counted."""
    return wasted(counted, counted.crowds, "crowds", f"A crowd is a group that nobody separated: it is neither learnt "
                  f"nor counted. {crowd_remedy(dataset)}")


def crowd_remedy(dataset):
    """What to do when single objects are marked as crowds, by the kind of data set."""
    if hasattr(dataset, "crowds"):
        return ("CVAT, for one, writes \"iscrowd\": 1 for every mask drawn with a brush, also for a single object. If "
                "each of these is an object, take them as such with --crowds objects (in Python: crowds=\"objects\"), "
                "or write \"iscrowd\": 0 in the JSON")
    if hasattr(dataset, "palettes"):
        return "Pixels of a thing without an instance number are a crowd: do the instance files number the objects?"
    return "If each of these is one object, write \"iscrowd\": 0 in the JSON"


def nothing_enclosed(counted, dataset):
    """Polygons in fractions of the picture, or drawn on another picture, enclose no pixel of this one."""
    return wasted(counted, counted.empty, "annotations that enclose no pixel",
                  "Are the polygons in fractions of the picture (0 ... 1) instead of pixels? Then multiply them by its "
                  "width and height. Or were they drawn on another picture?")


def wasted(counted, what, name, remedy):
    """A sentence on classes of which most annotations are of a kind that teaches nothing."""
    every = counted.targets + counted.crowds + counted.empty
    bad = [k for k in what if what[k] >= FEW and what[k] > MOST * every[k]]
    if not bad:
        return None
    told = [f"{what[k]} of the {every[k]} annotations of {named(counted, k)}" for k in sorted(bad)]
    return f"{name}: {some(told)}. {remedy}"


def scaled_boxes(counted, dataset):
    """If box and mask agree except for their unit, the masks lie in the wrong place."""
    if len(counted.scales) < 3 or len(counted.scales) <= MOST * counted.boxes:
        return None
    sx, sy = (sorted(scale)[len(scale) // 2] for scale in zip(*counted.scales))
    return (f"{len(counted.scales)} of {counted.boxes} annotations have a \"bbox\" that is their mask's, with x times "
            f"{sx:.4g} and y times {sy:.4g} (the medians): are the polygons in fractions or percent of the picture, or "
            f"were the pictures resized after they were drawn? Polygons must be in pixels of the picture")


def corners_near_the_origin(counted, dataset):
    """If no "bbox" tells, the corners do: none of them beyond 1, or beyond 100 in pictures that are much larger.

    Objects all over a data set do not keep to the upper left corner of its pictures.
    """
    if counted.polygons < FEW or scaled_boxes(counted, dataset):
        return None
    for unit, most, least in (("fractions of the picture (0 ... 1)", 1, 8), ("percent of the picture", 100, 200)):
        if counted.farthest <= most * (1 + ROUNDED) and counted.smallest >= least:
            return (f"no corner of the {counted.polygons} annotations that are polygons is beyond "
                    f"{counted.farthest:.4g}, in pictures with sides of {counted.smallest} and more: are the polygons "
                    f"in {unit}? They must be in pixels: multiply x by the width and y by the height"
                    + " / 100" * (most == 100))
    return None


def a_mask_for_numbers(counted, dataset):
    """A black and white mask where instance numbers are wanted: several objects become one."""
    if counted.several or len(counted.numbers) != 1 or counted.parts <= counted.numbered:
        return None
    number, = counted.numbers
    return (f"the files that number the instances hold {number} and no other number, in all {counted.numbered} "
            f"pictures with objects, and in {counted.parts} parts that do not touch: that is a mask, not numbers, "
            f"so all objects of a picture become one. To take each connected part as an object: --connected (in "
            f"Python: connected=True)")


def one_class_alone(counted, dataset):
    """Only one class has targets: every figure of such a run would look fine and mean nothing.

    If all classes are things, pixels in no mask are negatives, and one class is enough.
    """
    known = [k for k in range(len(counted.classes)) if counted.targets[k]]
    if len(known) > 1 or len(known) == 1 and (len(counted.classes) == 1 or not counted.classes.stuff):
        return None
    what = f"only {named(counted, known[0])} has targets" if known else "no class has a target"
    return f"{what}{because(counted, dataset)}"


def no_thing(counted, dataset):
    """The class table has things, but none of them has a target."""
    things = counted.classes.things
    if not things or any(counted.targets[k] for k in things) or one_class_alone(counted, dataset):
        return None
    return f"no thing has a target{because(counted, dataset)}"


def because(counted, dataset):
    """The targets of each class, and what there is instead."""
    told = some([f"{named(counted, k)} {counted.targets[k]}" for k in range(len(counted.classes))])
    why = [f"{sum(counted.crowds.values())} segments are crowds. {crowd_remedy(dataset)}"] * bool(counted.crowds)
    why += [f"{sum(counted.empty.values())} annotations enclose no pixel"] * bool(counted.empty)
    return ". ".join([f" (targets of each class: {told})", *why, *void_hint(counted, dataset)])


def void_hint(counted, dataset):
    """A hint if the void values of label files may be a class that never occurs: how to say so."""
    unsaid = sorted(counted.values & set(getattr(dataset, "void", ())))
    never = [k for k in range(len(counted.classes)) if not counted.targets[k]]
    if not unsaid or not never:
        return []
    share = counted.void / max(1, counted.pixels)
    return [f"The label files hold {listed(sorted(counted.values))[:200]}; the class table has "
            f"{spans(counted.classes.ids)}, and {listed(unsaid)} is void ({share:.0%} of the pixels). If {unsaid[-1]} "
            f"is {named(counted, never[-1])}, say so in classes.txt: \"{unsaid[-1]} {named(counted, never[-1])}\""]


CAUSES = crowds, nothing_enclosed, scaled_boxes, corners_near_the_origin, a_mask_for_numbers
MISPLACED = nothing_enclosed, scaled_boxes, corners_near_the_origin  # what is written from such masks hides it
EFFECTS = one_class_alone, no_thing  # reported only if none of the causes was found


def reasons(counted, dataset, effects=EFFECTS):
    """All reasons not to train on a data set, as sentences."""
    return next((found for group in (CAUSES, effects)
                 if (found := [text for reason in group if (text := reason(counted, dataset))])), [])


def check_places(counted, dataset, split):
    """ValueError if the masks of a split lie in the wrong place: no copy of them should be written."""
    if found := [text for reason in MISPLACED if (text := reason(counted, dataset))]:
        raise ValueError("\n".join([f"the masks of the {split} split seem to lie in the wrong place:",
                                    *(f"  {text}" for text in found), "--anyway writes them as they are"]))


def check_targets(counted, dataset, split):
    """ValueError with the reasons not to train on a split, if there are any and the whole split was looked at.

    A validation split may lack things altogether, as the notes then say: its other figures still mean something.
    """
    found = reasons(counted, dataset, EFFECTS if split == "training" else (one_class_alone,))
    if found and counted.whole:
        raise ValueError("\n".join([f"cannot train on these labels ({split} split, {counted.items} pictures):",
                                    *(f"  {text}" for text in found),
                                    "--scan 0 trains anyway (in Python: scan=0)"]))


# --- notes -----------------------------------------------------------------------------------------------------------

def notes(counted, dataset, split, queries):
    """What is worth saying about a split before training: a list of sentences."""
    told = [f"note: {split} split: {text}" for text in reasons(counted, dataset)]
    never = [k for k in range(len(counted.classes)) if not counted.targets[k]]
    looked = "" if counted.whole else f" in the {counted.items} pictures looked at"
    if never:
        hint = "".join(f". {text}" for text in void_hint(counted, dataset)) if len(told) == 0 else ""
        told.append(f"note: {split} split: {len(never)} of {len(counted.classes)} classes never occur{looked}: "
                    f"{some([named(counted, k) + ' (crowds only)' * bool(counted.crowds[k]) for k in never])}{hint}")
    if len(counted.lossy) > MOST * counted.items:
        told.append(f"note: {split} split: {len(counted.lossy)} of {counted.items} label files look once saved as "
                    f"JPEG, or resized with interpolation, such as that of {counted.lossy[0]}")
    if counted.turned:
        told.append(f"note: {split} split: {len(counted.turned)} of {counted.items} pictures have an EXIF orientation, "
                    f"such as {plain(counted.turned[0])}, and it is not applied: were the labels drawn on the upright "
                    "picture, as most tools show it? Then save the pictures upright (data/README.md, \"Rotated "
                    "pictures\")")
    most, name = counted.most
    if most > queries:
        told.append(f"note: {split} split: up to {most} segments in a picture ({plain(name)}), and the model has "
                    f"{queries} queries: each finds one segment, the rest are lost. Give --queries "
                    f"{more_queries(most)}")
    return told


def more_queries(most):
    """A number of queries for this many segments: rounded up to a ten."""
    return 10 * math.ceil(most / 10)


def named(counted, k):
    """The name of a class, on one line."""
    return plain(counted.classes.names[k])


def some(texts):
    """The first few texts, and how many more there are."""
    return ", ".join(texts[:NAMED]) + f" and {len(texts) - NAMED} more" * (len(texts) > NAMED)
