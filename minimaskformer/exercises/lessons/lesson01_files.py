"""Lesson 01: from the numbers that files use to class indices, and the ways people get that wrong."""
import torch

from ..core import Exercise, Fixture, Mistake, issue


def remap(file_labels, file_ids, ignore=255):
    table = torch.full((256,), ignore, dtype=torch.int64)  # void, unless a class says otherwise
    table[torch.tensor(file_ids)] = torch.arange(len(file_ids))
    return table[file_labels.long()]  # [H, W]


def _lookup(x, ids, table, shift=0):
    table = table.clone()
    table[torch.tensor(ids)] = torch.arange(len(ids)) + shift
    return table[x.long()]


def _full(value):
    return torch.full((256,), value)


def _minus_one(x, ignore, mend):
    x = x.long()
    void = (x == 0) | (x == 255)
    x[x == 0] = ignore
    x -= 1
    if mend:
        x[void] = ignore
    return x


def _in_place(x, ids, first=None, unknown=None):
    out = x.long()
    known = torch.isin(out, torch.tensor(ids))
    if first is not None:
        out[out == 0] = first
    for k, i in enumerate(ids):
        out[out == i] = k
    if unknown is not None:
        out[~known] = unknown
    return out


def _zero_is_void(x, ids, ignore):
    return torch.where(x == 0, ignore, remap(x, ids, ignore))


def _void_last(x, ids, ignore):
    out = remap(x, ids, ignore)
    return torch.where(out == 0, ignore, out)


def _of_this_image(x, ignore, drop):
    present = [v for v in torch.unique(x).tolist() if v not in drop]
    return remap(x, present, ignore)


_WRAP = ("In ADE20K's files 0 is \"other\" and 255 would be void. Subtracting 1 makes the first 255 (in uint8) or -1, "
         "and the second 254, which is not a class.")
_REDUCE = issue("huggingface/transformers", 15964).replace("issues", "pull")
_ONTO = ("values changed while they are being read",
         "A class index you wrote may equal a number of a later class, and is then changed again. Read from "
         "file_labels, write into a new map (or use a table).")
_HERE = ("numbered by what occurs in this image",
         "In the next image other classes occur, and grass would get another index. Only file_ids decides.")
_KEEP = "The file's 0 (\"other\") stayed 0 and now looks like class 0. What file_ids does not list becomes `ignore`."
_BACKGROUND = "Void is not a class. Give it `ignore`, so that no mask and no loss ever sees it."
remap_exercise = Exercise(
    id="01.2", title="the numbers in the files", name="remap", reference=remap,
    fixtures=(
        Fixture("numbers from 1, as in ADE20K; 0 is other, 255 ignored",
                (torch.tensor([[0, 1, 1, 5, 255], [4, 4, 0, 2, 2]], dtype=torch.uint8), (1, 2, 3, 4, 5), 255)),
        Fixture("numbers with gaps, as in COCO",
                (torch.tensor([[255, 3, 3, 8], [44, 1, 1, 0], [44, 44, 8, 3]], dtype=torch.uint8),
                 (1, 3, 8, 17, 44), -7)),
        Fixture("numbers in no order, and 0 is a real class",
                (torch.tensor([[0, 2, 4, 4], [255, 7, 2, 255], [1, 0, 0, 4]], dtype=torch.uint8),
                 (4, 0, 7, 2, 1), 255)),
        Fixture("255 is a class, 90 is not", (torch.tensor([[90, 255, 3], [3, 6, 90]], dtype=torch.uint8),
                                              (6, 255, 3), 100))),
    mistakes=(
        Mistake("the files' numbers as they are", lambda x, ids, ignore: x.long(),
                "file_ids[k] is the number of class k: look up k for every pixel."),
        Mistake("1 subtracted in uint8, so that 255 became 254", lambda x, ids, ignore: x - 1, _WRAP, _REDUCE),
        Mistake("1 subtracted: other became -1 and ignore 254", lambda x, ids, ignore: x.long() - 1, _WRAP, _REDUCE),
        Mistake("0 set to 255, then 1 subtracted from that too", lambda x, ids, ignore: _minus_one(x, ignore, False),
                "The 255 you have just written is made 254 by the subtraction. Protect void, or set it afterwards.",
                _REDUCE),
        Mistake("1 subtracted from every class", lambda x, ids, ignore: _minus_one(x, ignore, True),
                "That is right for ADE20K, where the numbers are 1 ... K. COCO's have gaps, and yours may have any "
                "order: use file_ids.", issue("roboflow/supervision", 169).replace("issues", "pull")),
        Mistake("void as class 0", lambda x, ids, ignore: _lookup(x, ids, _full(0)),
                f"0 is a class here. {_BACKGROUND}",
                issue("lightly-ai/lightly-train", 403)),
        Mistake("classes from 1, and 0 for void", lambda x, ids, ignore: _lookup(x, ids, _full(0), 1),
                "That keeps a place for background at index 0. Here classes are 0 ... K-1 and void is `ignore`.",
                issue("NVIDIA/DALI", 2999)),
        Mistake("every class moved up by one", lambda x, ids, ignore: _lookup(x, ids, _full(ignore), 1),
                "Class indices are 0 ... K-1: K would mean no-object.", issue("facebookresearch/detr", 356)),
        Mistake("void as one more class, K", lambda x, ids, ignore: _lookup(x, ids, _full(len(ids))),
                f"K means no-object, which only a query can say. {_BACKGROUND}",
                issue("OpenGVLab/InternImage", 298)),
        Mistake("void always at 255", lambda x, ids, ignore: remap(x, ids),
                "255 is only the usual value of `ignore`: use the argument."),
        Mistake("only 0 and 255 become `ignore`",
                lambda x, ids, ignore: _lookup(x, ids, torch.where((torch.arange(256) % 255) == 0, ignore,
                                                                   torch.arange(256))),
                "Files hold other numbers too that no class has. Whatever file_ids does not list becomes `ignore`."),
        Mistake("255 always void", lambda x, ids, ignore: torch.where(x == 255, ignore, remap(x, ids, ignore)),
                "Often, but not always: where file_ids lists 255 it is a class."),
        Mistake("void at -1", lambda x, ids, ignore: _lookup(x, ids, _full(-1)), "Void is `ignore`, whatever that is."),
        Mistake("void at -100", lambda x, ids, ignore: _lookup(x, ids, _full(-100)),
                "-100 is what cross_entropy ignores. Void is `ignore`, whatever that is."),
        Mistake("a new map of the type of the file's, uint8 (full_like, clone, where)",
                lambda x, ids, ignore: remap(x, ids, ignore).to(torch.uint8),
                "A uint8 map cannot hold -7: it becomes 249. Give the new map dtype=torch.int64."),
        Mistake("numbers that are not in file_ids left as they are",
                lambda x, ids, ignore: _lookup(x, ids, torch.arange(256)), _KEEP),
        Mistake(_ONTO[0], lambda x, ids, ignore: _in_place(x, ids), _ONTO[1]),
        Mistake(_ONTO[0], lambda x, ids, ignore: _in_place(x, ids, unknown=ignore), _ONTO[1]),
        Mistake(_ONTO[0], lambda x, ids, ignore: _in_place(x, ids, first=ignore), _ONTO[1]),
        Mistake("0 always void", _zero_is_void,
                "Often, but not always: where file_ids lists 0 it is a class (as in Cityscapes' training labels)."),
        Mistake("class 0 made void", _void_last,
                "After the look-up 0 is the first class: void must be dealt with before, or by the table itself."),
        Mistake(_HERE[0], lambda x, ids, ignore: _of_this_image(x, ignore, (0, 255)), *_HERE[1:]),
        Mistake(_HERE[0], lambda x, ids, ignore: _of_this_image(x, ignore, (255,)), *_HERE[1:]),
        Mistake(_HERE[0], lambda x, ids, ignore: torch.unique(x, return_inverse=True)[1], *_HERE[1:]),
        Mistake("file_ids sorted first", lambda x, ids, ignore: remap(x, sorted(ids), ignore),
                "The order of file_ids is the order of the classes.")),
    hints=("For each pixel: at which position in file_ids is its number, and what if it is not there?",
           "Fill a new int64 map with `ignore`, then write k where the file says file_ids[k]. Or make a table of 256 "
           "entries and index it with the whole map (in int64: a uint8 index is taken for a mask).",
           "out = torch.full(file_labels.shape, ignore); out[file_labels == file_ids[k]] = k for every k"),
    why="A table has no arithmetic that could wrap around, treats gaps and any order alike, and void is what nobody "
        "claims. Index with int64: a uint8 tensor as an index would be taken for a mask.")
