"""Reading what a learner's function returned, and saying where two values differ.

A right answer may come as a tensor, a NumPy array, a list or a number, in float32 or float64. Everything is read into
float64 arrays, one per part of the expected value, and compared there. What right numbers do not show is here too:
whether a gradient gets through the function, and whether it left its arguments as they were.
"""
import copy
import inspect
import warnings

import numpy as np
import torch


class Misfit(Exception):
    """The value does not have the expected form; the message completes "the value ..."."""


NOTHING = "is None: no `return` was reached. Is it missing, or inside the loop?"


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
        try:
            parts = [to_array(v) for v in value]
        except Misfit as e:
            text = str(e)
            raise Misfit(text if text.startswith("holds") else f"holds something that {text}") from None
        if len({a.shape for a, _ in parts}) > 1:
            raise Misfit("is a list of values of different lengths")
        stacked = np.stack([a for a, _ in parts]) if parts else np.zeros(0)
        return stacked, all(integer for _, integer in parts)
    if isinstance(value, (np.ndarray, np.generic, bool, int, float)):
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise Misfit(f"is an array of {array.dtype}")
        return array.astype(np.float64), array.dtype.kind != "f"
    raise Misfit(f"is {'None' if value is None else f'a {type(value).__name__}'}, not numbers")


def read(value, template, parts=()):
    """The value as a list of (name, array, whether integer), split like the template: one array, or one per part.

    Raises Misfit, with a sentence that names the part, if the value cannot be split that way.
    """
    if value is None:
        raise Misfit(NOTHING)
    if not isinstance(template, tuple):
        return [("", *to_array(value))]
    names = parts or tuple(f"part {i}" for i in range(len(template)))
    wanted = f"a tuple ({', '.join(names)})"
    if not isinstance(value, (tuple, list, torch.Tensor, np.ndarray)) or getattr(value, "ndim", 1) == 0:
        raise Misfit(f"is a {type(value).__name__}, not {wanted}")
    if len(value) != len(template):
        raise Misfit(f"has {len(value)} parts, not {len(template)}: {wanted} was expected")
    out = []
    for name, v, t in zip(names, value, template):
        try:
            if ((isinstance(v, (list, tuple)) and not v) or getattr(v, "shape", 0) == (0,)) and not to_array(t)[0].size:
                v = t  # a list without entries has no shape of its own, nor what was made of one
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


# --- what right numbers do not show -----------------------------------------------------------------------------------

SCISSORS = (".item(), .tolist(), .numpy(), float(), torch.tensor(...), nn.Parameter(...), load_state_dict(...), .data, "
            "detach() and no_grad()")
NEAR = 0.02  # of the largest entry of a gradient: float32 and another formula are far nearer, a lost term is not


def unfit(exercise, fn, used, inputs):
    """What keeps a right function out of a model: (in short, in a sentence), both "" if nothing does.

    used: the arguments after the function had them; inputs: those in float64, for the reference.
    """
    names = list(inspect.signature(exercise.reference).parameters)
    spoilt = {name for args, fixture in zip(used, exercise.fixtures)
              for name, after, before in zip(names, args, fixture.args) if changed(after, before)}
    if spoilt:
        short = f"it changes its argument {', '.join(sorted(spoilt))}"
        return short, f"Remark: {short}, which others may need afterwards: work on a copy."
    examples = [(fixture.args, doubled) for fixture, doubled in zip(exercise.fixtures, inputs)]
    if exercise.in_model:
        try:
            fn(*copy.deepcopy(exercise.in_model.args))
        except Exception as error:
            short = f"in the model it would stop with {type(error).__name__}: {' '.join(str(error).split())[:150]}"
            return short, f"The numbers are right, but {short}. {exercise.in_model.text}"
        examples.append((exercise.in_model.args, exercise.in_model.args))
    return gradient_gap(fn, exercise.reference, examples, exercise.learns) if exercise.learns else ("", "")


def changed(after, before):
    """Whether an argument, a nest of tensors, lists and numbers, is another than it was (functions never are)."""
    if type(after) is not type(before):
        return True
    if isinstance(before, torch.Tensor):
        return not torch.equal(after.detach().nan_to_num(), before.detach().nan_to_num())
    if isinstance(before, np.ndarray):
        return not np.array_equal(after, before, equal_nan=before.dtype.kind == "f")
    if isinstance(before, dict):
        return after.keys() != before.keys() or any(changed(after[key], before[key]) for key in before)
    if isinstance(before, (list, tuple)):
        return len(after) != len(before) or any(changed(a, b) for a, b in zip(after, before))
    return isinstance(before, (int, float, str)) and after != before and before == before


def gradient_gap(fn, reference, examples, names):
    """What is wrong with the gradients of a function whose numbers are right: as in `unfit`.

    examples: pairs of arguments, for the function and for the reference; names: arguments that a gradient must reach.
    """
    places = [list(inspect.signature(reference).parameters).index(name) for name in names]
    found = {name: set() for name in names}
    for mine, theirs in examples:
        try:
            arrived = gradients(fn, mine, places)
        except Exception as error:
            if "numpy()" in str(error):  # of a tensor that has a gradient
                arrived = [[torch.zeros(())] * len(float_tensors(theirs[place])) for place in places]
            else:
                told = " ".join(str(error).partition(":")[0].split())[:150]
                short = f"no gradient gets through: {type(error).__name__}: {told}"
                return short, f"The numbers are right, but {short}. In training it would stop there."
        for name, got, expected in zip(names, arrived, gradients(reference, theirs, places)):
            for g, e in zip(got, expected):
                if e.abs().sum() > 0:
                    near = g.isfinite().all() and (g - e).abs().max() <= NEAR * e.abs().max()
                    found[name].add("whole" if near else "part" if g.isfinite().all() and g.any() else
                                    "none" if not g.any() else "nan")
    if lost := [name for name in names if found[name] == {"none"}]:
        short = f"no gradient reaches {', '.join(lost)}"
        return short, f"The numbers are right, but {short}: {SCISSORS} cut it off. Nothing would be learnt."
    if nan := [name for name in names if "nan" in found[name]]:
        short = f"the gradient of {', '.join(nan)} is not a number"
        return short, f"The numbers are right, but {short}. One such step would spoil all parameters."
    if part := [name for name in names if found[name] & {"part", "none"}]:
        short = f"only part of the gradient reaches {', '.join(part)}"
        return short, f"The numbers are right, but {short}: {SCISSORS} cut it off. Something else would be learnt."
    return "", ""


def gradients(fn, args, places):
    """For each of the places, the gradients at its float tensors of one number, made of all that fn(*args) returns.

    A gradient that does not arrive is 0. The order of the entries in what is returned plays no part in the number.
    """
    args = copy.deepcopy(list(args))
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float() of a tensor with a gradient warns; the learner gets a sentence
        groups = [[t.requires_grad_() for t in float_tensors(args[place])] for place in places]
        values = fn(*(as_result(a) if place in places else a for place, a in enumerate(args)))
        total = sum((v + v * v / 2).double().sum() for v in float_tensors(values) if v.requires_grad)
    watched = [t for group in groups for t in group]
    if isinstance(total, torch.Tensor) and watched:
        arrived = iter(torch.autograd.grad(total, watched, allow_unused=True, materialize_grads=True))
    else:
        arrived = (torch.zeros_like(t) for t in watched)
    return [[next(arrived).double() for _ in group] for group in groups]


def float_tensors(value):
    """The float tensors in a nest of tuples, lists and dicts, in their order."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    nested = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for each in nested for tensor in float_tensors(each)]


def as_result(value):
    """The same nest, its float tensors results of an operation, as in training: these may be changed in place."""
    if isinstance(value, torch.Tensor):
        return value * 1 if value.is_floating_point() else value
    if isinstance(value, dict):
        return {key: as_result(each) for key, each in value.items()}
    return type(value)(as_result(each) for each in value) if isinstance(value, (list, tuple)) else value
