"""Files that try something when they are opened as a checkpoint: what each tries, and its bytes.

    python tests/hostile_files.py      opens each in a process of its own, with 60 seconds and 4 GB; prints a table
"""
import dataclasses
import io
import json
import multiprocessing
import os
import pickle
import resource
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save

from minimaskformer import MaskFormerConfig, load_checkpoint

HEAD = b"\x80\x04"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85C\x01btR"
CONFIG = dataclasses.asdict(MaskFormerConfig())


def dtype(text, state):
    return b"cnumpy\ndtype\n(" + pickle.dumps(text, 4)[2:-1].replace(b"\x94", b"") + b"\x89\x88tR" + plain(state) + b"b"


def plain(value):
    """The instructions that make a plain value, without those that frame and remember."""
    return pickle._dumps(value, 2)[2:-1]


def model(arrays):
    """{"model": {"w": ...}}"""
    return HEAD + b"}X\x05\x00\x00\x00model}X\x01\x00\x00\x00w" + arrays + b"ss."


def array(shape, data, kind="f4", state=(3, "<", None, None, None, -1, -1, 0)):
    return model(ARRAY + b"(K\x01" + plain(shape) + dtype(kind, state) + b"\x89" + b"B" + struct.pack("<I", len(data)) + data + b"tb")


NO_FLAGS = (3, "|", None, None, None, -1, -1, 0)
DEEP = 100_000
PICKLES = {
    "runs a command": HEAD + b"cposix\nsystem\nX\x0e\x00\x00\x00touch was_here\x85R.",
    "runs code by an old instruction": b"\x80\x02(S'touch was_here'\niposix\nsystem\n.",
    "runs code through getattr": HEAD + b"cbuiltins\ngetattr\ncbuiltins\neval\nX\x08\x00\x00\x00__call__\x86R.",
    "an object pointer from eight bytes": model(b"cnumpy.core.multiarray\nscalar\n" + dtype("O8", NO_FLAGS) + b"C\x08" + b"A" * 8 + b"\x86R"),
    "an array of object pointers": array((2,), b"A" * 16, "O8", NO_FLAGS),
    "an object pointer inside a record": array((1,), b"A" * 8, "V8", (3, "|", None, ("a",), {"a": 1}, 8, 1, 0)),
    "a list in a list, and so on": HEAD + b"]" * DEEP + b"a" * (DEEP - 1) + b".",
    "a deep tuple as a key": HEAD + b"}N" + b"\x85" * DEEP + b"Ns.",
    "a tuple doubled sixty times as a key": HEAD + b"}N" + b"q\x00h\x00\x86" * 60 + b"Ns.",
    "remembers at place two billion": HEAD + b"Nr\xfe\xff\xff\x7f.",
    "bytes without end": HEAD + b"\x8e" + struct.pack("<Q", 2**62) + b"abc.",
    "a frame without end": HEAD + b"\x95" + struct.pack("<Q", 2**62) + b"N.",
    "a number of a million digits": b"\x80\x02L" + b"9" * 1_000_000 + b"L\n.",
    "an array larger than the file": array((10**12,), b"A" * 8),
    "an array of negative size": array((-3, -5), b"A" * 60),
    "an array of an infinite size": array((float("inf"),), b"A" * 8),
    "one text used ten thousand times": HEAD + b"c_codecs\nencode\nq\x00X" + struct.pack("<I", 10**6) + b"x" * 10**6 + b"X\x06\x00\x00\x00latin1\x86q\x01" + b"h\x00h\x01R" * 10_000 + b".",
    "a codec that is slow": HEAD + b"c_codecs\nencode\nX\x40\x00\x00\x00" + b"x" * 64 + b"X\x08\x00\x00\x00punycode\x86R.",
    "an object of another store": HEAD + b"X\x01\x00\x00\x00aQ.",
    "a registered extension": HEAD + b"\x82\x01.",
    "a set": HEAD + b"\x8f(K\x01\x90.",
    "an instruction that finds nothing": HEAD + b"R.",
    "a mark that is missing": HEAD + b"K\x01t.",
    "what was never remembered": HEAD + b"h\x07.",
    "state for a list": HEAD + b"]K\x01\x85b.",
    "an array called as a function": HEAD + b"cnumpy\nndarray\n)R.",
    "an array never filled": model(ARRAY),
    "two million instructions": HEAD + b"N0" * 1_000_000 + b"N.",
    "two million nothings": HEAD + b"N" * 2_000_000 + b".",
    "escape codes in a name": HEAD + b"c\x1b[31mred\x1b[2J\nx\n.",
    "no end": model(b"N")[:-1],
}
CONFIGS = {
    "decoder_layers": 100_000, "encoder_layers": 10**9, "num_queries": 10**12, "num_classes": 10**10, "dim": 0, "mask_dim": -1,
    "hidden_dim": 10**9, "feedforward": 10**15, "size_divisibility": 0, "num_heads": 7, "window": 0, "dropout": 2.0,
    "stochastic_depth": -1, "pixel_std": [float("nan"), 1, 1], "pixel_mean": [0, 0], "short_side": 0, "long_side": 10**9,
    "score_threshold": "high", "things": [150], "class_names": ["a"], "backbone": "resnet9", "memory": "res9", "frozen_norm": 3,
}
HEADERS = {
    "a configuration nested deeply": "[" * 100_000, "a configuration that is a list": "[]", "a configuration that is nothing": "null",
    "a number too large": '{"dropout": 1e400}', "an infinite number": '{"dropout": Infinity}',
    "a number of ten thousand digits": '{"dim": ' + "9" * 10_000 + "}", "an unknown field": '{"\\u001b[2J": 1}'}


def torch_file(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def archive_with(file, change=lambda part: part, names=(), compression=zipfile.ZIP_STORED):
    """A zip file of torch with another data.pkl, or with parts of the given names again, or compressed."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(file)) as old, zipfile.ZipFile(written, "w", compression) as new, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two parts of one name
        for name in (*names, *old.namelist()):
            new.writestr(name, change(old.read(name)) if name.endswith("data.pkl") else old.read(name))
    return written.getvalue()


def files_of_two_contents():
    """{what it is: (a file of tensors, the same with something that another reader, or a scanner, would find)}"""
    tensors = {"model": {"w": torch.zeros(2000)}}
    new, old = torch_file(tensors), torch_file(tensors, _use_new_zipfile_serialization=False)
    arrays, evil = pickle.dumps({"model": {"w": torch.zeros(3).numpy()}}, 4), PICKLES["runs a command"]
    return {"two pickles": (arrays, arrays + evil), "a pickle, then a zip": (arrays, arrays + new), "a pickle, then a byte": (arrays, arrays + b"."),
            "a zip, then a pickle": (new, new + evil), "a zip, then a zip": (new, new + new), "the old form, then a pickle": (old, old + evil),
            "the old form, then a zip": (old, old + new), "two pickles in a zip": (new, archive_with(new, lambda part: part + evil)),
            "two parts of one name in a zip": (new, archive_with(new, names=[n for n in zipfile.ZipFile(io.BytesIO(new)).namelist() if n.endswith("data.pkl")])),
            "parts that unpack to more than the file": (new, archive_with(new, compression=zipfile.ZIP_DEFLATED)),
            "a zip with a flipped bit": (new, new[:len(new) // 2] + bytes([new[len(new) // 2] ^ 1]) + new[len(new) // 2 + 1:])}


def hostile_files():
    """{what it tries: bytes}"""
    files = {f"pickle: {name}": content for name, content in PICKLES.items()}
    one = torch.zeros(1)
    for name, tensor in {"one number that says it is ten billion": one.expand(10**8, 256), "a sparse tensor": torch.eye(3).to_sparse(),
                         "a tensor without memory": torch.zeros(10**9, 256, device="meta")}.items():
        files[f"pth: {name}"] = torch_file({"decoder.query_positions.weight": tensor, "backbone.stages.0.0.conv1.weight": torch.zeros(64, 1),
                                            **{f"backbone.stages.2.{i}.x": one for i in range(6)}})
    for form in (True, False):
        files[f"pth: runs a command, {'zip' if form else 'old form'}"] = torch_file({"w": one, "x": Call(eval, "1")}, _use_new_zipfile_serialization=form)
    files["pth: an array in the old form, cut"] = torch_file({"w": torch.zeros(1000)}, _use_new_zipfile_serialization=False)[:-2000]
    for name, value in CONFIGS.items():
        files[f"safetensors: {name} = {value}"] = save({"w": one}, {"config": json.dumps(CONFIG | {name: value})})
    for name, text in HEADERS.items():
        files[f"safetensors: {name}"] = save({"w": one}, {"config": text})
    files["safetensors: a header without end"] = struct.pack("<Q", 2**62) + b"{}"
    files["safetensors: weights beyond the file"] = struct.pack("<Q", 60) + b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'.ljust(60) + b"abc"
    return files


def outcome(path):
    """How a process that opens a file ends: with a sentence, or some other way."""
    receive, send = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=open_limited, args=(path, send))
    process.start()
    send.close()
    process.join(90)
    if process.exitcode is None:
        process.kill()
        return "HANGS"
    try:
        told = receive.recv()
    except EOFError:
        told = f"ENDS with {process.exitcode}"
    return told + " WAS RUN" * (path.parent / "was_here").exists()


def open_limited(path, send):
    """Open a file as a checkpoint with little time and memory, and report the outcome."""
    resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
    resource.setrlimit(resource.RLIMIT_DATA, (4 * 2**30, 4 * 2**30))
    os.chdir(path.parent)
    try:
        load_checkpoint(path)
        send.send("IS LOADED")
    except (ValueError, OSError) as error:
        send.send(f"sentence: {str(error)[-90:]}".replace("\n", " "))
    except BaseException as error:
        send.send(f"TRACEBACK: {type(error).__name__}: {str(error)[:90]}")


if __name__ == "__main__":
    for what, content in hostile_files().items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "file"
            file.write_bytes(content)
            print(f"{what[:60]:60} {outcome(file)}", flush=True)
