"""The hunt of lesson 01: one map of eight pixels that shows what is wrong with twenty ways to make a set of it."""
import torch

from ..hunts import Hunt, all_whole
from .lesson01 import panoptic_exercise

HEIGHT, WIDTH, SEGMENTS, LARGEST = 2, 4, 5, 9


def read(segment_map, segments):
    """Rows of ids, and rows [id, class, thing, crowd], as the arguments of panoptic_to_set."""
    table, rows = (torch.as_tensor(given, dtype=torch.float64) for given in (segment_map, segments))
    if table.ndim != 2 or not 1 <= table.shape[0] <= HEIGHT or not 1 <= table.shape[1] <= WIDTH:
        raise ValueError(f"the map is a list of at most {HEIGHT} rows of at most {WIDTH} segment ids.")
    if rows.ndim != 2 or rows.shape[1] != 4 or not 1 <= len(rows) <= SEGMENTS:
        raise ValueError(f"segments is a list of at most {SEGMENTS} rows [id, class, thing, crowd].")
    if not all_whole(0, LARGEST, table, rows) or (rows[:, 2:] > 1).any():
        raise ValueError(f"ids and classes are whole numbers from 0 to {LARGEST}; thing and crowd are 0 or 1.")
    ids, absent = rows[:, 0].tolist(), set(table.unique().tolist()) - {0.0, *rows[:, 0].tolist()}
    if 0 in ids or len(set(ids)) < len(ids) or absent:
        raise ValueError("every id but 0, which is void, stands in segments, and each only once.")
    if not (table == 0).any():
        raise ValueError("the map has at least one void pixel, 0.")
    names = ("id", "category_id", "isthing", "iscrowd")
    info = [dict(zip(names, (int(i), int(c), bool(thing), int(crowd)))) for i, c, thing, crowd in rows.tolist()]
    return table.to(torch.int32), info


CROWD = "without a pixel of a crowd there is nothing to treat wrongly."
VOID = "almost any void pixel shows it."
SEVERAL = "there must be something to take apart that belongs together"
panoptic_hunt = Hunt(
    id="01.h", exercise=panoptic_exercise, arguments=read,
    task="Make one panoptic map that shows what is wrong with as many wrong versions of panoptic_to_set as you can: "
         "hunt(\"01.h\", segment_map, segments) with at most 2 rows of 4 ids from 0 to 9 (0 is void and must occur), "
         "and at most 5 rows [id, class, thing, crowd], the last two 0 or 1.",
    looks={
        "crowds as targets": CROWD,
        "crowds as targets, though not valid": CROWD,
        "crowds left out of the set, but their pixels valid": CROWD,
        "void pixels valid": VOID,
        "every pixel valid": VOID,
        "void taken to be 255": VOID,
        "valid the wrong way round": VOID,
        "valid only on things": "some pixel must be known, and no thing's.",
        "void as one more target, of class 0": VOID,
        "void as one more target, of class 0, and valid everywhere but in crowds": VOID,
        "void as one more target, with the label 255": VOID,
        "one mask per connected region": f"{SEVERAL}: pixels that do not touch.",
        "stuff split into its connected regions": f"{SEVERAL}: not a thing, this time.",
        "things split into their connected regions": f"{SEVERAL}: a thing that something else stands in front of.",
        "one mask per class": "where every segment has a class of its own, nothing is lost.",
        "segments without pixels kept": "somebody may stand in the list who is not in the map, as after a crop.",
        "segment ids as labels": "an id must not happen to be the class.",
        "labels moved up by one": "there must be a target.",
        "only the things": "there must be a target that is none.",
        "only the stuff": "there must be a target that is none.",
    },
    solution=([[4, 7, 4, 2], [7, 5, 0, 4]], [[4, 3, 0, 0], [7, 2, 1, 0], [2, 2, 1, 0], [5, 2, 1, 1], [9, 1, 1, 0]]))

HUNTS = (panoptic_hunt,)
