"""The same work done by this library and by transformers' MaskFormer, alternately in one run: how many times as fast.

    OMP_NUM_THREADS=1 python benchmarks/against_transformers.py [--rows panoptic ...] [--rounds 15] [--tiny] [--json FILE]

CPU seconds; with several threads wall seconds mean more (--clock wall). "ratio" is theirs / ours: above 1 we are faster.
Reading an answer: mask logits at stride 4 of a picture of 640 x 480 that the network saw at its own size, 100 queries,
133 classes of which 80 are things; 20 queries are sure of a class. Ours enlarges mask logits and makes probabilities of
them, as the paper's code does; theirs works at stride 4 and enlarges what it finds, which is less work and another
answer (tests/test_port.py).
"""
import argparse
import json
from types import SimpleNamespace

import torch
from timing import compare, machine, summarize

from minimaskformer import build_model
from minimaskformer.predict import Sizes, read_out


def predictions(queries=100, classes=133, sure=20, size=(480, 640), seed=0):
    """Class logits [N, K+1] of which `sure` queries are sure of a class, and blobs as mask logits at stride 4."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(queries, classes + 1, generator=generator)
    class_logits[:, classes] += 6
    class_logits[range(sure), torch.randint(0, classes, (sure,), generator=generator)] += 14
    y, x, radius = torch.rand(3, queries, 1, 1, generator=generator)
    rows, columns = torch.linspace(0, 1, size[0] // 4)[:, None], torch.linspace(0, 1, size[1] // 4)
    mask_logits = 6 - 6 * ((rows - y) ** 2 + (columns - x) ** 2) / (0.08 + 0.3 * radius) ** 2  # [N, h, w]
    return class_logits, mask_logits.clamp(min=-12) + torch.randn(mask_logits.shape, generator=generator)


def answers(task, tiny, **options):
    """(ours, theirs) for one task of inference; options are those of their function."""
    import transformers
    size = (64, 96) if tiny else (480, 640)
    class_logits, mask_logits = predictions(queries=12, sure=4, size=size) if tiny else predictions(size=size)
    config = build_model("mini", num_classes=133).config
    output = SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None])
    function = getattr(transformers.MaskFormerImageProcessor(), f"post_process_{task}_segmentation")
    things = {} if task == "semantic" else {"things": range(80)}
    return (lambda: read_out(config, task, class_logits, mask_logits, Sizes(size, size), **things),
            lambda: function(output, target_sizes=[size], **options))


def panoptic(tiny):
    """Segments of the sure queries; theirs with our thresholds."""
    return answers("panoptic", tiny, threshold=0.8, label_ids_to_fuse=set(range(80, 133)))


def semantic(tiny):
    """The class of every pixel."""
    return answers("semantic", tiny)


def instance(tiny):
    """The masks of the best 100 pairs of query and class; theirs keeps those with a score of 0.5, one id per pixel."""
    return answers("instance", tiny)


ROWS = [panoptic, semantic, instance]  # each gives two functions, ours and theirs


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=[row.__name__ for row in ROWS], help="default: all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--clock", choices=("cpu", "wall"), default="cpu")
    parser.add_argument("--tiny", action="store_true", help="sizes for a test: nothing to learn from the times")
    parser.add_argument("--json", metavar="FILE", help="keep the figures, with the time of every round")
    args = parser.parse_args()
    try:
        import transformers
    except ImportError as error:
        return print(f"skipped: {error}; pip install 'minimaskformer[port]'")
    transformers.logging.set_verbosity_error()
    print(machine("transformers"))
    print(f"{'':12} {'theirs':>10} {'ours':>10} {'ratio':>6}  quartiles")
    results = {"machine": machine("transformers"), "clock": args.clock, "rows": {}}
    for row in ROWS:
        if args.rows and row.__name__ not in args.rows:
            continue
        times = compare(*row(args.tiny), args.rounds)
        figures = summarize(times, args.clock)
        results["rows"][row.__name__] = figures | {"times": times}
        print(f"{row.__name__:12} {1000 * figures['theirs']:7.1f} ms {1000 * figures['ours']:7.1f} ms "
              f"{figures['ratio']:6.2f}  {figures['spread'][0]:.2f} ... {figures['spread'][1]:.2f}", flush=True)
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
