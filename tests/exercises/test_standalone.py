"""Functions written in many ways go into the learner's file and work there; one that leans on other cells is told so."""
import functools

import pytest
import torch

from minimaskformer.exercises import my_maskformer
from minimaskformer.exercises.parts import exercise_of
from minimaskformer.exercises.standalone import NotAlone, names_read, take
from minimaskformer.matching import dice_cost

from .notebook_cells import run_cells

COST, DICE = "class_cost", "dice_cost"
WAYS = {
    "numpy inside": (COST, "def class_cost(class_logits, labels):\n    x = class_logits.numpy()\n    x = np.exp(x - x.max(-1, keepdims=True))\n"
                           "    return -(x / x.sum(-1, keepdims=True))[:, labels.numpy()]"),
    "loops": (DICE, """\
def dice_cost(mask_logits, masks, valid):
    rows = []
    for logits in mask_logits:
        row = []
        for mask in masks:
            a = b = c = 0.0
            for x, y, v in zip(logits.tolist(), mask.tolist(), valid[0].tolist()):
                p = 1 / (1 + math.exp(-x))
                a, b, c = a + p * y * v, b + p * v, c + y * v
            row.append(1 - (2 * a + 1) / (b + c + 1))
        rows.append(row)
    return torch.tensor(rows).reshape(len(mask_logits), len(masks))"""),
    "float64": (COST, "def class_cost(class_logits, labels):\n    return -class_logits.double().softmax(-1)[:, labels]"),
    "a decorator": (COST, "# in one line\n@torch.no_grad()\ndef class_cost(class_logits, labels):\n"
                          "    return -F.softmax(class_logits, -1)[:, labels]"),
    "an imported decorator": (COST, "import functools\n\n@functools.lru_cache(None)\ndef class_cost(class_logits, labels):\n"
                                    "    return -F.softmax(class_logits, -1)[:, labels]"),
    "a lambda": (COST, "class_cost = lambda x, labels: -x.softmax(-1)[:, labels]"),
    "a lambda with a loop and a lambda in it": (COST, "other = lambda x: 0\nclass_cost = lambda x, labels: torch.stack([\n"
                                                      "    -row[labels] for row in map(lambda r: r, x.softmax(-1))])"),
    "a lambda over two lines, beside another": (COST, "class_cost, other = (lambda x, c:\n"
                                                      "    -x.softmax(-1)[:, c]), (lambda x, c: x)"),
    "type hints and defaults": (COST, "from torch import Tensor\n\ndef class_cost(x: Tensor, c: 'Tensor', dim: int = -1) -> Tensor:\n"
                                      "    return -torch.softmax(x, dim)[:, c]"),
    "a nested helper": (COST, "def class_cost(x, c):\n    def share(row):\n        return row.exp() / row.exp().sum()\n"
                              "    return -torch.stack([share(row) for row in x])[:, c]"),
    "a class": (COST, "class Cost:\n    def __call__(self, x, c):\n        return self.sign() * x.softmax(-1)[:, c]\n\n"
                      "    def sign(self):\n        return -1\n\nclass_cost = Cost()"),
    "a method": (COST, "class Cost:\n    sign = -1\n\n    def of(self, x, c):\n        return self.sign * x.softmax(-1)[:, c]\n\n"
                       "class_cost = Cost().of"),
    "a static method": (COST, "class Cost:\n    @staticmethod\n    def of(x, c):\n        return -x.softmax(-1)[:, c]\n\n"
                              "class_cost = Cost.of"),
    "a module of torch": (COST, "from torch import nn\n\nclass Cost(nn.Module):\n    def forward(self, x, c):\n"
                                "        return -nn.Softmax(-1)(x)[:, c]\n\nclass_cost = Cost()"),
    "another name": (COST, "def negative_probability(x, c):\n    return -x.softmax(-1)[:, c]\n\nclass_cost = negative_probability"),
    "imports of its own": (COST, "from torch.nn.functional import softmax as soft\nimport torch.nn.functional as nnf\n\n"
                                 "def class_cost(x, c):\n    return -soft(nnf.relu(x) - nnf.relu(-x), dim=-1)[:, c]"),
    "an import inside": (COST, "def class_cost(x, c):\n    from torch.special import softmax\n    return -softmax(x, -1)[:, c]"),
    "a comprehension": (COST, "def class_cost(x, c):\n    return -torch.stack([row.softmax(-1)[c] for row in x])"),
}
IDS = {COST: "02.1", DICE: "02.2"}


@pytest.mark.parametrize("way", WAYS)
def test_other_ways_of_writing_go_in(way):
    name, cell = WAYS[way]
    part = take(run_cells(cell)[name], name)
    my_maskformer.check_alone(exercise_of(IDS[name]), part)


def test_comments_above_and_decorators_go_along():
    part = take(run_cells(WAYS["a decorator"][1])[COST], COST)
    assert part.source.startswith("# in one line\n@torch.no_grad()\ndef class_cost") and part.imports == ()


ELSEWHERE = {
    "softened, which": ("def softened(x):\n    return x.softmax(-1)", "def class_cost(x, c):\n    return -softened(x)[:, c]", "softened"),
    "a number": ("DIM = -1", "def class_cost(x, c):\n    return -x.softmax(DIM)[:, c]", "DIM"),
    "a default": ("DIM = -1", "def class_cost(x, c, dim=DIM):\n    return -x.softmax(dim)[:, c]", "DIM"),
    "a class's base": ("class Base: pass", "class Cost(Base):\n    def __call__(self, x, c):\n        return -x.softmax(-1)[:, c]\n"
                                           "class_cost = Cost()", "Base"),
    "a closure": ("def make(dim):\n    def cost(x, c):\n        return -x.softmax(dim)[:, c]\n    return cost",
                  "class_cost = make(-1)", "dim"),
    "a decorator": ("def loud(f):\n    def g(*a):\n        return f(*a)\n    return g",
                    "@loud\ndef class_cost(x, c):\n    return -x.softmax(-1)[:, c]", "decorator"),
    "a global count": ("calls = 0", "def class_cost(x, c):\n    global calls\n    calls += 1\n    return -x.softmax(-1)[:, c]", "calls"),
    "another F": ("import torch as F", "def class_cost(x, c):\n    return -F.softmax(x, -1)[:, c]", "its F is another thing"),
    "the name of another part": ("", "def assign(x, c):\n    return -x.softmax(-1)[:, c]\nclass_cost = assign", "assign is another"),
    "a name of the library": ("from minimaskformer import losses", "def class_cost(x, c):\n    losses\n    return -x.softmax(-1)[:, c]", "losses"),
    "an object made with arguments": ("", "class Cost:\n    def __init__(self, dim):\n        self.dim = dim\n\n"
                                          "    def __call__(self, x, c):\n        return -x.softmax(self.dim)[:, c]\n"
                                          "class_cost = Cost(-1)", "TypeError"),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_what_leans_on_other_cells_is_named(case):
    *cells, words = ELSEWHERE[case]
    with pytest.raises(NotAlone, match=words):
        part = take(run_cells(*cells)[COST], COST)
        my_maskformer.check_alone(exercise_of("02.1"), part)


@pytest.mark.parametrize("function, words", [
    (dice_cost, "the library's own"), (functools.partial(dice_cost), "text cannot be found"), (torch.softmax, "text cannot be found"),
    (eval("lambda x, c: x"), "text cannot be found")])
def test_what_has_no_text_of_ones_own(function, words):
    with pytest.raises(NotAlone, match=words):
        take(function, "dice_cost")


def test_names_read():
    assert names_read("def f(x, a=A):\n    def g(y):\n        return y + B\n    return g(x).c + len(x) + sum(i for i in D)") == {"A", "B", "D"}
    assert names_read("class K(Base):\n    n = 1\n    m = n + M\n    def f(self):\n        return K\nf = K()") == {"Base", "M"}
