"""A pickle is a program. This interpreter knows the few instructions arrays need, and none that acts on the machine.

Python's own unpickler can be told which names to admit, but not what an admitted name does with what the file says: a
NumPy dtype with a forged state makes an array of pointers out of any eight bytes. So no class of NumPy or Python is
called here at all: names become stand-ins, and an array is made by `np.frombuffer` from bytes that are really there.
"""
import mmap
import pickletools
import re

import numpy as np

from .text import printable

MOST_STEPS = 1_000_000  # a model's file has about ten thousand
PLAIN = {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
         "BINBYTES8", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}  # put their argument on the stack
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
KEYS = (str, int, bool, type(None))  # for dict keys: the hash of a deeply nested tuple would crash the process


class Mark:
    """Where a list, tuple or dict begins on the stack."""


class Name:
    """Stands for the function or class of that name."""

    def __init__(self, module, name):
        self.text = f"{module.replace('numpy._core', 'numpy.core')}.{name}"  # the new name and the old one
        if self.text not in CALLS and self.text != "numpy.ndarray":
            raise ValueError(f"it asks for {printable(f'{module}.{name}')}, which is not an array: refused, nothing "
                             f"was run")


class Dtype:
    """Stands for a dtype of plain numbers; a file may set nothing but the byte order."""

    def __init__(self, text, align=False, copy=False):
        if not isinstance(text, str) or not re.fullmatch(r"[fiu][1248]|b1", text):
            raise ValueError(f"it holds an array of dtype {printable(text)}: only plain numbers are read")
        self.dtype = np.dtype(text)

    def build(self, state):
        """Python's __setstate__: (version, byte order, subdtype, names, fields, size, alignment, flags)."""
        if tuple(state[2:5]) != (None, None, None) or state[1] not in ("<", ">", "|", "="):
            raise ValueError("it holds an array of records: only plain numbers are read")
        self.dtype = self.dtype.newbyteorder(state[1])

    def read(self, data, shape=(), order="C"):
        """The array in exactly the bytes its shape needs; in the machine's byte order, with its own memory."""
        if isinstance(data, str):
            data = data.encode("latin1")  # what Python 2 wrote
        array = np.frombuffer(data, self.dtype).reshape(tuple(map(int, shape)), order=order)
        return array.astype(self.dtype.newbyteorder("="), order="C")


class Array:
    """Stands for an array that is created empty and filled by its state."""

    def __init__(self, kind, shape, dtype):
        self.array = np.zeros(0, np.float32)

    def build(self, state):
        """Python's __setstate__: (version, shape, dtype, is it in Fortran's order, bytes)."""
        _, shape, dtype, fortran, data = state
        self.array = dtype.read(data, shape, "F" if fortran else "C")


def encoded(text, encoding):
    """Python 3's way to put bytes into a pickle of version 2."""
    if encoding != "latin1":
        raise ValueError(f"it asks for the encoding {printable(encoding)}")
    return text.encode("latin1")


CALLS = {"collections.OrderedDict": lambda: {}, "_codecs.encode": encoded, "numpy.dtype": Dtype,
         "__builtin__.bytes": lambda: b"", "numpy.core.multiarray._reconstruct": Array,
         "numpy.core.multiarray.scalar": lambda dtype, data: dtype.read(data)}


def read_arrays(path):
    """What a pickle of arrays, numbers, texts, lists and dicts holds; an array is an `Array`, with its `.array`.

    ValueError for any other pickle. Nothing in the file is run, and no more memory is taken than its bytes account for.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            content = interpret(pickletools.genops(data), budget=3 * len(data))
            if data.tell() != len(data):
                raise ValueError("something lies behind its end, which another reader would find")
            return content
    except (ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError) as error:
        what = error if isinstance(error, ValueError) else "its instructions make no sense"
        raise ValueError(f"{path} cannot be read as a pickle of arrays: {what}") from None


def interpret(operations, budget):
    """Follow (operation, argument, place) to the end; the object that is left.

    budget: how many bytes the calls may create, so that one long text used a thousand times does not fill the memory.
    """
    stack, memo = [], {}
    for count, (operation, argument, _) in enumerate(operations):
        name = operation.name
        if count > MOST_STEPS or budget < 0:
            raise ValueError("it creates more than a model's file holds")
        if name in PLAIN:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            stack.append(Mark)
        elif name in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(popped(stack, int(name[-1]))))
        elif name == "TUPLE":
            stack.append(tuple(since_mark(stack)))
        elif name in ("APPEND", "APPENDS"):
            items = popped(stack, 1) if name == "APPEND" else since_mark(stack)
            checked(stack[-1], list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = popped(stack, 2) if name == "SETITEM" else since_mark(stack)
            checked(stack[-1], dict).update({checked(k, *KEYS): v for k, v in zip(items[::2], items[1::2])})
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(Name(*(argument.split(" ", 1) if name == "GLOBAL" else popped(stack, 2))))
        elif name == "REDUCE":
            function, arguments = popped(stack, 2)
            stack.append(CALLS[checked(function, Name).text](*checked(arguments, tuple)))
            budget -= len(stack[-1]) if isinstance(stack[-1], bytes) else 0
        elif name == "BUILD":
            state, = popped(stack, 1)
            if not isinstance(stack[-1], dict):  # for an OrderedDict the state is the versions of a model's modules
                checked(stack[-1], Array, Dtype).build(checked(state, tuple))
                budget -= stack[-1].array.nbytes if isinstance(stack[-1], Array) else 0
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"it holds the instruction {name}, which no array needs")
    raise ValueError("it ends too early")


def popped(stack, count):
    """The last `count` items of the stack, popped."""
    if len(stack) < count:
        raise ValueError("the stack is empty")
    items = stack[len(stack) - count:]
    del stack[len(stack) - count:]
    return items


def since_mark(stack):
    """What lies on the stack above the last mark, popped together with the mark."""
    place = next((i for i in range(len(stack) - 1, -1, -1) if stack[i] is Mark), None)
    if place is None:
        raise ValueError("a mark is missing")
    return popped(stack, len(stack) - place)[1:]


def checked(value, *kinds):
    """The value, if it is of one of the kinds."""
    if not isinstance(value, kinds):
        raise ValueError(f"it uses {type(value).__name__} as {kinds[0].__name__}")
    return value
