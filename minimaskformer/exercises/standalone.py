"""A learner's function as text that works by itself: its source, and the imports that it needs.

A function written in a notebook may lean on names of other cells. Imports are added; anything else is named, and the
function is not taken until it stands alone.
"""
import ast
import builtins
import copy
import inspect
import linecache
import symtable
import sys
import textwrap
import time
import types
from dataclasses import dataclass

from .parts import PARTS

HEADER = """\
import json
import math
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn
from torchvision.transforms.v2.functional import resize

from minimaskformer.backbone import build_backbone
from minimaskformer.config import get_config
"""
SLOW = 2.0  # seconds: longer may no call take, in training it is one of hundreds
INSIDE = "put what it needs inside the function, then check it again"


class NotAlone(Exception):
    """The function cannot be taken; the message says why and what to do."""


@dataclass(frozen=True)
class Standalone:
    """imports: lines for the top of a file; source: text that defines the function under the exercise's name."""
    imports: tuple[str, ...]
    source: str


def take(fn, name, taken=frozenset()):
    """A learner's function as `Standalone` text that defines `name`. Raises NotAlone.

    taken: names that mean something else in the file it goes into.
    """
    source, namespace = written(fn, name)
    lines, missing = [], []
    for needed in sorted(names_read(source)):
        line = import_of(needed, namespace, taken)
        (missing if line is None else lines).append(needed if line is None else line)
    if missing:
        raise NotAlone(f"it leans on {', '.join(missing)} from elsewhere in the notebook: {INSIDE}")
    other = names_defined(source) & ({*PARTS.values(), *header_names(), *taken} - {name})
    if other:
        raise NotAlone(f"{', '.join(sorted(other))} is another function's name there: call yours {name}")
    return Standalone(tuple(line for line in lines if line), source)


def check_speed(fn, growing, slow):
    """Raise NotAlone, with the sentence `slow`, where a function would take too long on the last arguments.

    growing: arguments of growing size. How the time has grown says how long the next call would take, so that none is
    begun which would not end, or would fill the memory.
    """
    before = 0.0
    for args in growing:
        for _ in range(2):  # twice, if something else may have held it up
            own, start = copy.deepcopy(args), time.perf_counter()
            fn(*own)
            took = time.perf_counter() - start
            if took * max(1, took / max(before, 0.003)) <= SLOW:
                break
        else:
            raise NotAlone(slow)
        before = took


def written(fn, name):
    """(source that defines `name`, the globals it was written among)."""
    try:
        inner = inspect.unwrap(fn)
    except ValueError:
        inner = fn
    if isinstance(inner, types.FunctionType) and ("." not in inner.__qualname__.rpartition("<locals>.")[2]):
        source, own = written_function(inner, name), inner
    else:
        source, own = written_class(inner, name)
    if (own.__module__ or "").split(".")[0] == "minimaskformer":
        raise NotAlone("it is the library's own, and this file holds what you wrote")
    return source, own.__globals__


def written_function(function, name):
    code = function.__code__
    if code.co_freevars:
        raise NotAlone(f"it uses {', '.join(code.co_freevars)} of the function around it (or of a decorator): "
                       f"write it as one function with everything inside")
    text, tree = written_file(code.co_filename)
    if function.__name__ == "<lambda>":
        found = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda) and node.lineno <= code.co_firstlineno
                 <= node.end_lineno and same_lambda(node, text, code)]
        if not found:
            raise NotAlone("its text cannot be told from its line: write it as a def")
        lambda_text = ast.get_source_segment(text, found[-1])
        return f"{name} = ({lambda_text})" if "\n" in lambda_text else f"{name} = {lambda_text}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if first == code.co_firstlineno:
                return called(cut_lines(text, first, node.end_lineno), node.name, name)
    raise NotAlone("its text has changed since it was run: run its cell again")


def same_lambda(node, text, code):
    """Whether a lambda of the text is the one that was compiled to `code`."""
    compiled = compile(f"({ast.get_source_segment(text, node)})", "", "eval").co_consts
    return any(alike(c, code) for c in compiled)


def alike(a, b):
    """Whether two constants are equal, or two codes do the same and so do those inside them, whatever their lines."""
    if not (isinstance(a, types.CodeType) and isinstance(b, types.CodeType)):
        return a == b
    facts = [(c.co_code, c.co_names, c.co_varnames, len(c.co_consts)) for c in (a, b)]
    return facts[0] == facts[1] and all(map(alike, a.co_consts, b.co_consts))


def written_class(thing, name):
    """An object that is called, or a method: the source of its class, and a line that makes one."""
    if inspect.ismethod(thing):
        owner, end = type(thing.__self__), f"().{thing.__name__}"
    elif isinstance(thing, types.FunctionType):  # reached by the name of its class
        owner, end = thing.__globals__.get(thing.__qualname__.partition(".")[0]), f".{thing.__name__}"
    elif isinstance(thing, type):
        owner, end = thing, ""
    else:
        owner, end = type(thing), "()"
    methods = [inspect.unwrap(m) for m in map(lambda m: getattr(m, "__func__", m), vars(owner or object).values())
               if callable(m)]
    methods = [m for m in methods if isinstance(m, types.FunctionType)]
    if not methods:
        raise NotAlone(f"it is a {type(thing).__name__}, whose text cannot be found: write it as a def")
    text, tree = written_file(methods[0].__code__.co_filename)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            return f"{cut_lines(text, first, node.end_lineno)}\n\n\n{name} = {owner.__name__}{end}", methods[0]
    raise NotAlone("the text of its class cannot be found: write it as a def")


def written_file(filename):
    """(text, syntax tree) of a cell or file."""
    text = "".join(linecache.getlines(filename))
    try:
        return text, ast.parse(text if text else "?")
    except SyntaxError:
        raise NotAlone("its text cannot be found (a cell that begins with %%time has none): run it in a cell of its "
                       "own, then check it again") from None


def cut_lines(text, first, last):
    """Lines first ... last (from 1), with the comments right above, moved to the left edge."""
    lines = text.splitlines()
    while first > 1 and lines[first - 2].lstrip().startswith("#"):
        first -= 1
    return textwrap.dedent("\n".join(lines[first - 1:last]))


def called(source, defined, name):
    """The source, with a line that gives what it defines another name too."""
    return source if defined == name else f"{source}\n\n\n{name} = {defined}"


def names_read(source):
    """The names that a source takes from outside: neither its own nor Python's."""
    try:
        top = symtable.symtable(source, "source", "exec")
    except SyntaxError:
        raise NotAlone("its text does not stand by itself: write it as a def at the left edge of a cell") from None
    names, waiting = set(), [top]
    while waiting:
        table = waiting.pop()
        names |= {s.get_name() for s in table.get_symbols()
                  if (s.is_global() and (s.is_referenced() or s.is_assigned())) or (table is top and s.is_referenced())}
        waiting += table.get_children()
    return {name for name in names - names_defined(source) if not hasattr(builtins, name)}


def names_defined(source):
    """The names that a source gives to the file."""
    symbols = symtable.symtable(source, "source", "exec").get_symbols()
    return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_namespace()}


def import_of(name, namespace, taken):
    """The import that brings a name, "" if the file has it anyway, None if no import does; NotAlone if it is taken."""
    known = header_names()
    if name in PARTS.values() or (name in known and namespace.get(name, known[name]) is known[name]):
        return ""
    value = namespace.get(name)
    if name in known or name in taken:
        raise NotAlone(f"its {name} is another thing in the file: give it another name")
    if isinstance(value, types.ModuleType):
        package, _, last = value.__name__.rpartition(".")
        if package.split(".")[0] == "minimaskformer" or value.__name__ == "minimaskformer":
            return None
        start = f"from {package} import {last}" if package else f"import {last}"
        return start + f" as {name}" * (last != name)
    module, own = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if not module or not own or module.split(".")[0] in ("__main__", "minimaskformer"):
        return None
    home = module.split(".")
    for depth in range(1, len(home) + 1):  # the shortest way in: torch.nn before torch.nn.modules.module
        place = sys.modules.get(".".join(home[:depth]))
        if getattr(place, own, None) is value and not any(part.startswith("_") for part in home[:depth]):
            return f"from {'.'.join(home[:depth])} import {own}" + f" as {name}" * (own != name)
    return None


def header_names():
    """What the imports at the top of every such file bring: {name: value}."""
    if not HEADER_NAMES:
        exec(HEADER, HEADER_NAMES)
        HEADER_NAMES.pop("__builtins__")
    return HEADER_NAMES


HEADER_NAMES = {}
