"""Semantic inference of large pictures in little memory: peak memory in pieces, and with all scores at once.

    OMP_NUM_THREADS=1 python benchmarks/semantic_memory.py [--size 1024 2048] [--classes 150] [--queries 100]

"predict" is what `MaskFormer.predict` does after the network: mask logits at stride 4 to classes at the picture's size.
"function" is `semantic_inference` on mask logits of that size (which alone take 0.8 GB). The peer is the rule as one
reads it: upsample all masks, all scores, argmax. Each way runs in a process of its own; the ways must agree.
"""
import argparse
import json
import resource
import subprocess
import sys
import time

WAYS = ("predict", "function", "at once")


def measure(way, size, classes, queries):
    """Peak resident memory of this process after one picture, its seconds of CPU time, a checksum of the answer."""
    import torch

    from minimaskformer import inference
    from minimaskformer.predict import bilinear, semantic_map
    torch.manual_seed(0)
    class_logits = torch.randn(queries, classes + 1)
    mask_logits = 4 * torch.randn(queries, size[0] // 4, size[1] // 4)
    base, start = peak(), time.process_time()
    if way == "predict":
        answer = semantic_map(class_logits, mask_logits, lambda x: bilinear(x, size), size)
    elif way == "function":
        answer = inference.semantic_inference(class_logits, bilinear(mask_logits, size))
    else:
        answer = inference.semantic_scores(class_logits, bilinear(mask_logits, size)).argmax(0)
    return {"peak": peak(), "before": base, "seconds": time.process_time() - start,
            "histogram": answer.flatten().bincount(minlength=classes).tolist()}


def peak():
    """Largest resident memory of this process so far, in GB (ru_maxrss counts KiB, on macOS bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(1024, 2048), metavar=("H", "W"))
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--way", choices=WAYS, help="run one way in this process and print JSON")
    args = parser.parse_args()
    if args.way:
        return print(json.dumps(measure(args.way, tuple(args.size), args.classes, args.queries)))
    results = {}
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--size", *map(str, args.size),
                   "--classes", str(args.classes), "--queries", str(args.queries)]
        results[way] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        print(f"{way:17} peak {results[way]['peak']:.2f} GB ({results[way]['before']:.2f} before), "
              f"{results[way]['seconds']:.1f} s of CPU")
    for way in ("predict", "function"):
        ours, peer = results[way], results["at once"]
        moved = sum(abs(a - b) for a, b in zip(ours["histogram"], peer["histogram"])) / sum(peer["histogram"])
        print(f"{way}: {peer['peak'] / ours['peak']:.1f} times less memory than all scores at once, "
              f"{ours['seconds'] / peer['seconds']:.2f} times its time; class counts differ by {moved:.1e}")


if __name__ == "__main__":
    main()
