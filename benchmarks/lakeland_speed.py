"""Lakeland draws fast enough to train on the fly: scenes per second on one core, and against plain Pillow.

    OMP_NUM_THREADS=1 python benchmarks/lakeland_speed.py [--seconds 2] [--sizes 64 128 256 512] [--difficulties 0 .5 1]

The peer composes as many layers as the scene has: stuff textures pasted through polygon masks, sprites put down with
Image.alpha_composite, and an id map pasted beside them. It has no shadows, haze, noise or bookkeeping, so it does less.
"""
import argparse
import itertools
import random
import time

import numpy as np
import torch
from PIL import Image, ImageDraw

from minimaskformer.data.lakeland import Lakeland
from minimaskformer.data.lakeland_sprites import SIZE_LADDER, SPRITES, sprite


def rate(function, indices, seconds):
    """Calls per second of CPU time, over whole passes through the indices."""
    start, done = time.process_time(), 0
    while time.process_time() - start < seconds:
        for i in indices:
            function(i)
        done += len(indices)
    return done / (time.process_time() - start)


def pillow_peer(data, indices):
    """A function that composes, for each index, as many stuff layers and sprites as Lakeland's scene has."""
    n, rng = data.size, random.Random(0)
    textures = [Image.fromarray(np.frombuffer(rng.randbytes(9 * n * n), np.uint8).reshape(3 * n // 2, 3 * n // 2, 4))
                for _ in range(5)]
    plans = {}
    for i in indices:
        _, _, info = data.scene(i)
        sprites = []
        for s in info:
            if s["isthing"]:
                level = int(np.argmin([abs(f * n - 1.25 * s["area"] ** .5) for f in SIZE_LADDER]))
                picture = sprite(data.seed, n, s["category_id"] - 5, rng.randrange(SPRITES))[level]
                picture = Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))
                mask = picture.getchannel("A").point([0] * 128 + [255] * 128)
                sprites.append((picture, mask, rng.randrange(n), rng.randrange(n)))
        lines = [[(n * k // 15, rng.randrange(n)) for k in range(16)] for s in info if not s["isthing"]]
        plans[i] = lines, sprites

    def compose(i):
        image, ids = Image.new("RGBA", (n, n)), Image.new("L", (n, n))
        lines, sprites = plans[i]
        for k, line in enumerate(lines, 1):
            mask = Image.new("1", (n, n))
            ImageDraw.Draw(mask).polygon([(0, n), *line, (n, n)], fill=1)
            x, y = random.randrange(n // 2), random.randrange(n // 2)
            image.paste(textures[k - 1].crop((x, y, x + n, y + n)), (0, 0), mask)
            ids.paste(k, (0, 0, n, n), mask)
        for k, (picture, mask, x, y) in enumerate(sprites, 16):
            image.alpha_composite(picture, (x, y))
            ids.paste(k, (x, y, x + mask.width, y + mask.height), mask)
        return np.asarray(image.convert("RGB")), np.asarray(ids).astype(np.int32)

    return compose


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU time for each number")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--difficulties", type=float, nargs="+", default=[0, .5, 1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("size  difficulty  scene/s  item/s  pillow/s  ratio scene:pillow  first 40 scenes, s")
    for n, d in itertools.product(args.sizes, args.difficulties):
        data, indices = Lakeland("train", n, d), range(40)
        start = time.process_time()
        for i in indices:  # draws the part of the bank these scenes need
            data.scene(i)
        first = time.process_time() - start
        scene = rate(data.scene, indices, args.seconds)
        item = rate(data.__getitem__, indices, args.seconds)
        pillow = rate(pillow_peer(data, indices), indices, args.seconds)
        print(f"{n:4d}  {d:10g}  {scene:7.0f}  {item:6.0f}  {pillow:8.0f}  {scene / pillow:18.2f}  {first:19.2f}",
              flush=True)


if __name__ == "__main__":
    main()
