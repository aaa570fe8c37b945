"""Peak memory of reading answers: a 12-megapixel photo through `predict`, each task, and `evaluate` at 800 x 1333.

    OMP_NUM_THREADS=1 python benchmarks/memory.py [--what semantic ...] [--photo 3000 4000] [--images 16] [--tiny]

Each runs in a process of its own. "beyond the model" is the largest resident memory after the work, less that before
it, when the R50 model was built and the picture was in memory. The network runs in full; then its answer is replaced by
blobs of which 100 of 100 queries are sure, the worst case. The result is part of the figure: instance masks of a
12-megapixel photo are 12 MB each.
"""
import argparse
import json
import resource
import subprocess
import sys
import time

PREDICT = ("semantic", "instance", "panoptic", "general")
NAMES = (*PREDICT, "evaluate")


def measure(name, photo, images, tiny):
    """Run one of NAMES in this process; its memory in GB and CPU seconds."""
    import torch
    from against_transformers import blobs

    from minimaskformer import build_model, evaluate
    torch.manual_seed(0)
    short, long = (64, 128) if tiny else (800, 1333)
    model = build_model("r50", num_classes=133, things=tuple(range(80)), short_side=short, long_side=long).eval()

    def sure(module, inputs, output):
        size = [side + -side % 32 for side in inputs[0].shape[-2:]]
        found = [blobs(sure=100, size=size, seed=seed) for seed in range(len(inputs[0]))]
        class_logits, mask_logits = (torch.stack(values) for values in zip(*found))
        return output._replace(class_logits=class_logits, mask_logits=mask_logits)
    model.register_forward_hook(sure)
    if name == "evaluate":
        work = Pictures((short, long), images)
        before, start = peak(), time.process_time()
        result = evaluate(model, work, progress=False)
    else:
        work = torch.randint(0, 256, (3, *photo), dtype=torch.uint8)
        before, start = peak(), time.process_time()
        result = model.predict(work, name)
    size = result["masks"].nbytes / 1e9 if name == "instance" else 0.0
    return {"before": before, "peak": peak(), "seconds": time.process_time() - start, "masks": size}


class Pictures:
    """A data set of noise with sixteen segments in each picture, made when asked for."""

    def __init__(self, size, count):
        from minimaskformer import ClassTable
        self.size, self.count = size, count
        self.classes = ClassTable(tuple(f"class {k}" for k in range(133)), (True,) * 80 + (False,) * 53,
                                  tuple(range(1, 134)))

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        import torch

        from minimaskformer import panoptic_to_target
        if i >= self.count:
            raise IndexError(i)
        height, width = self.size
        rows, columns = 4 * torch.arange(height)[:, None] // height, 4 * torch.arange(width) // width
        info = [{"id": k + 1, "category_id": (7 * i + 8 * k) % 133, "isthing": (7 * i + 8 * k) % 133 < 80}
                for k in range(16)]
        target = panoptic_to_target(4 * rows + columns + 1, info, 133)
        generator = torch.Generator().manual_seed(i)
        return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator), target

    def name(self, i):
        return f"picture {i}"


def peak():
    """Largest resident memory of this process so far, in GB (ru_maxrss counts KiB, on macOS bytes)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--what", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--photo", type=int, nargs=2, default=(3000, 4000), metavar=("H", "W"))
    parser.add_argument("--images", type=int, default=16, help="for evaluate")
    parser.add_argument("--tiny", action="store_true", help="a small network: for a test")
    parser.add_argument("--here", action="store_true", help="run one in this process and print JSON")
    args = parser.parse_args()
    if args.here:
        return print(json.dumps(measure(args.what[0], tuple(args.photo), args.images, args.tiny)))
    print(f"{'':10} {'beyond the model':>16} {'of it masks':>11} {'before':>9} {'CPU':>8}")
    for name in args.what:
        command = [sys.executable, __file__, "--here", "--what", name, "--photo", *map(str, args.photo),
                   "--images", str(args.images), *["--tiny"] * args.tiny]
        row = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(f"{name:10} {row['peak'] - row['before']:13.2f} GB {row['masks']:8.2f} GB {row['before']:6.2f} GB "
              f"{row['seconds']:6.1f} s", flush=True)


if __name__ == "__main__":
    main()
