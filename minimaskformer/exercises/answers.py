"""Reading what a learner's function returned, and saying where two values differ.

A right answer may come as a tensor, a NumPy array, a list or a number, in float32 or float64. Everything is read into
float64 arrays, one per part of the expected value, and compared there.
"""
import numpy as np
import torch


class Misfit(Exception):
    """The value does not have the expected form; the message completes "the value ..."."""


NOTHING = "is None: did you forget `return`?"


def to_array(value):
    """(float64 array, whether it held integers) of a tensor, array, number or nested list; raises Misfit for others."""
    if isinstance(value, torch.Tensor):
        if value.is_complex():
            raise Misfit("holds complex numbers")
        try:
            return value.detach().cpu().to_dense().to(torch.float64).numpy(), not value.is_floating_point()
        except (RuntimeError, NotImplementedError, TypeError) as e:  # a meta or quantised tensor
            raise Misfit(f"cannot be read: {e}") from None
    if isinstance(value, (list, tuple, range)):
        parts = [to_array(v) for v in value]
        if len({a.shape for a, _ in parts}) > 1:
            raise Misfit("is a list of values of different lengths")
        stacked = np.stack([a for a, _ in parts]) if parts else np.zeros(0)
        return stacked, all(integer for _, integer in parts)
    if isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise Misfit(f"is an array of {array.dtype}")
        return array.astype(np.float64), array.dtype.kind != "f"
    raise Misfit(NOTHING if value is None else f"is a {type(value).__name__}, not numbers")


def read(value, template, parts=()):
    """The value as a list of (name, array, whether integer), split like the template: one array, or one per part.

    Raises Misfit, with a sentence that names the part, if the value cannot be split that way.
    """
    if not isinstance(template, tuple):
        return [("", *to_array(value))]
    names = parts or tuple(f"part {i}" for i in range(len(template)))
    wanted = f"a tuple ({', '.join(names)})"
    if value is None:
        raise Misfit(NOTHING)
    if not isinstance(value, (tuple, list, torch.Tensor, np.ndarray)) or getattr(value, "ndim", 1) == 0:
        raise Misfit(f"is a {type(value).__name__}, not {wanted}")
    if len(value) != len(template):
        raise Misfit(f"has {len(value)} parts, not {len(template)}: {wanted} was expected")
    out = []
    for name, v, t in zip(names, value, template):
        try:
            if isinstance(v, (list, tuple)) and not v and not to_array(t)[0].size:
                v = t  # a list without entries has no shape of its own
            out.append((name, *to_array(v)))
        except Misfit as e:
            raise Misfit(f"has a part {name} that {e}") from None
    return out


def finite(value, template):
    """Whether a value has the template's form and holds no infinity and no not-a-number."""
    try:
        return all(np.isfinite(array).all() for _, array, _ in read(value, template))
    except Misfit:
        return False


def same(value, other, canonical, atol, rtol):
    """Whether two values agree in form and numbers (not-a-number equals itself)."""
    try:
        a = canonical([array for _, array, _ in read(value, other)])
        b = canonical([array for _, array, _ in read(other, other)])
    except Misfit:
        return False
    return all(x.shape == y.shape and np.allclose(x, y, rtol, atol, equal_nan=True) for x, y in zip(a, b))


def problem(value, expected, canonical, atol, rtol, parts=()):
    """None if the value is right, else (kind, sentence): kind "form" for a wrong type or shape, "gap" for numbers."""
    wanted = read(expected, expected, parts)
    try:
        found = read(value, expected, parts)
    except Misfit as e:
        return "form", f"the value {e}"
    for (name, x, whole), (_, y, whole_wanted) in zip(found, wanted):
        label = f"{name}: " if name else ""
        if x.shape != y.shape:
            return "form", f"{label}expected shape {list(y.shape)}, got {list(x.shape)}"
        if whole_wanted and not whole and x.size:
            return "form", f"{label}expected whole numbers or booleans, got floating-point numbers"
    xs, ys = canonical([x for _, x, _ in found]), canonical([y for _, y, _ in wanted])
    sentences = [gap(x, y, name, atol, rtol) for x, y, (name, _, _) in zip(xs, ys, wanted)]
    sentences = [s for s in sentences if s]
    return ("gap", "\n".join(sentences)) if sentences else None


def gap(x, y, name, atol, rtol):
    """Where array x differs from the expected y of the same shape, in words; "" where it does not."""
    wrong = ~np.isclose(x, y, rtol, atol, equal_nan=True)
    if not wrong.any():
        return ""
    label = f"{name}: " if name else ""
    if y.ndim == 1 and y.size <= 12:
        return f"{label}expected {numbers(y)}, got {numbers(x)}"
    at = np.unravel_index(wrong.argmax(), y.shape)
    place = f"at [{', '.join(map(str, at))}] " if at else ""
    text = f"{label}{place}expected {number(y[at])}, got {number(x[at])}"
    if y.size > 1:
        text += f"; {wrong.sum()} of {y.size} entries differ"
    if np.isfinite(x).all() and np.isfinite(y).all() and y.size > 1:
        text += f", by at most {number(abs(x - y).max())}"
    return text


def number(v):
    return f"{float(v):.4g}"


def numbers(array):
    return "[" + ", ".join(number(v) for v in array) + "]"
