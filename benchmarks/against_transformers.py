"""The same work by transformers' MaskFormer and by ours: seconds of both, turn by turn in one run, and their ratio.

    OMP_NUM_THREADS=1 python benchmarks/against_transformers.py [--tiny] [--rounds 5] [--wall] [--only matching ...]
                                                                [--picture benchmarks/against_transformers.png]

Needs the extra `port`. Times are CPU seconds (--wall: what one waits); a ratio of 2 means ours takes half. Where both
must give the same numbers this is checked first: losses and matches for the same predictions and targets.

Answers: mask logits at stride 4 of a picture of 640 x 480 that the network saw at its own size, 100 queries, 133
classes of which 80 are things; 20 queries are sure of a class. Ours enlarges mask logits before it makes probabilities
of them, as the paper's code does; theirs works at stride 4 and enlarges what it finds: less work, and another answer.
"""
import argparse
import importlib.util
import sys
import time
from types import SimpleNamespace

import torch
from matplotlib.figure import Figure
from timing import HEADER, alternate, compare, machine, row
from torch import nn

from minimaskformer import SetCriterion, build_model
from minimaskformer.matching import join_targets, match_layers
from minimaskformer.model import Output
from minimaskformer.predict import Sizes, read_out
from minimaskformer.training.optim import parameter_groups
from minimaskformer.training.recipes import train_config


def scenes(batch, count, classes, side):
    """Targets of `batch` images: `count` rectangles each, which may overlap."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(batch, count, side, side, dtype=torch.bool)
    for mask in masks.flatten(0, 1):
        (top, left), (height, width) = torch.randint(0, side // 2, (2, 2), generator=generator).tolist()
        mask[top:top + height + side // 8, left:left + width + side // 8] = True
    labels = torch.randint(classes, (batch, count), generator=generator)
    return [{"labels": own, "masks": theirs} for own, theirs in zip(labels, masks)]


def predictions(layers, batch, queries, classes, side):
    """Class and mask logits of every layer, [B, N, K+1] and [B, N, side, side] each."""
    generator = torch.Generator().manual_seed(1)
    shapes = (batch, queries, classes + 1), (batch, queries, side, side)
    return [[(3 * torch.randn(shape, generator=generator)).requires_grad_() for shape in shapes] for _ in range(layers)]


def their_targets(targets):
    return [target["masks"].float() for target in targets], [target["labels"] for target in targets]


def their_criterion(classes):
    from transformers.models.maskformer import modeling_maskformer as port
    matcher = port.MaskFormerHungarianMatcher(cost_class=1.0, cost_dice=1.0, cost_mask=20.0)
    weights = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}
    return port.MaskFormerLoss(classes, matcher=matcher, weight_dict=weights, eos_coef=0.1)


def matching(tiny):
    """Assign 20 targets to 100 queries, in 16 images and after 7 layers, from mask logits of 128 x 128."""
    layers, batch, queries, count, side, classes = (2, 2, 6, 3, 16, 5) if tiny else (7, 16, 100, 20, 128, 133)
    answers, targets = predictions(layers, batch, queries, classes, side), scenes(batch, count, classes, 4 * side)
    class_logits, mask_logits = ([x.detach() for x in side] for side in zip(*answers))
    matcher, (masks, labels) = their_criterion(classes).matcher, their_targets(targets)

    def theirs():
        return [matcher(m, c, masks, labels) for c, m in zip(class_logits, mask_logits)]

    def ours():
        return match_layers(class_logits, mask_logits, join_targets(targets, classes, "cpu"), 1.0, 20.0, 1.0)

    for got, want in zip(sum(ours(), []), sum(theirs(), [])):
        assert all(torch.equal(a, torch.as_tensor(b)) for a, b in zip(got, want)), "another match"
    return f"matching, {layers} layers x {batch} images x {queries} queries x {count} targets, {side} x {side}", \
        theirs, ours, 3.0


def criterion(tiny):
    """Match and losses with their gradient, for predictions that are given: what a step has beside the network."""
    layers, batch, queries, count, side, classes = (2, 2, 6, 3, 16, 5) if tiny else (6, 2, 100, 8, 64, 150)
    answers, targets = predictions(layers, batch, queries, classes, side), scenes(batch, count, classes, 4 * side)
    (*aux, last), (masks, labels) = answers, their_targets(targets)
    output = Output(*last, tuple(Output(*layer, ()) for layer in aux))
    port, our = their_criterion(classes), SetCriterion(classes)
    auxiliary = [{"class_queries_logits": c, "masks_queries_logits": m} for c, m in aux]

    def theirs():
        terms = port(last[1], last[0], masks, labels, auxiliary)
        loss = sum(port.weight_dict[next(k for k in port.weight_dict if k in name)] * x for name, x in terms.items())
        loss.backward()
        return loss.item()

    def ours():
        loss = our(output, targets)["loss"]
        loss.backward()
        return loss.item()

    assert abs(ours() / theirs() - 1) < 1e-4, "another loss"
    return f"losses and their gradient, {layers} layers x {batch} images x {count} masks, {4 * side} x {4 * side}", \
        theirs, ours, None


def training_step(tiny, mask_points=0):
    """One step of R50, 256 x 256, batch 2, 8 masks each, auxiliary losses, float32, AdamW, the same clip for both."""
    import transformers
    side, count, classes = (64, 2, 5) if tiny else (256, 8, 150)
    targets, images = scenes(2, count, classes, side), torch.randn(2, 3, side, side)
    masks, labels = their_targets(targets)
    stages = ["stage1", "stage2", "stage3", "stage4"]
    config = transformers.MaskFormerConfig(
        backbone_config=transformers.ResNetConfig(out_features=stages), decoder_config=transformers.DetrConfig(),
        num_labels=classes, use_auxiliary_loss=True)
    port = transformers.MaskFormerForInstanceSegmentation(config).train()
    model = build_model("r50", classes).train().to(memory_format=torch.channels_last)  # as our training command does
    our = SetCriterion(classes, mask_points=mask_points)
    recipe = train_config("r50")

    def stepper(network, loss):
        optimizer = torch.optim.AdamW(parameter_groups(model, recipe) if network is model else network.parameters(),
                                      lr=1e-5, fused=True)

        def step():
            optimizer.zero_grad(set_to_none=True)
            loss().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 0.01)
            optimizer.step()
        return step

    def their_loss():  # auxiliary losses need the hidden states, of which the port takes one more than there are layers
        return port(images, mask_labels=masks, class_labels=labels, output_hidden_states=True).loss

    def our_loss():
        return our(model(images.contiguous(memory_format=torch.channels_last)), targets)["loss"]

    name = f"training step, R50, {side} x {side}, batch 2, {count} masks each"
    name += f", losses at {mask_points} points" if mask_points else ", losses at all pixels"
    return name, stepper(port, their_loss), stepper(model, our_loss), 1.3 if mask_points else 1.2


def training_step_points(tiny):
    """The same with our losses at 1024 points: as dense as Mask2Former's 12,544 of 1024 x 1024 would be 784."""
    return training_step(tiny, 64 if tiny else 1024)


def blobs(queries=100, classes=133, sure=20, size=(480, 640), seed=0):
    """Class logits [N, K+1] of which `sure` queries are sure of a class, and blobs as mask logits at stride 4."""
    generator = torch.Generator().manual_seed(seed)
    class_logits = torch.randn(queries, classes + 1, generator=generator)
    class_logits[:, classes] += 6
    class_logits[range(sure), torch.randint(0, classes, (sure,), generator=generator)] += 14
    y, x, radius = torch.rand(3, queries, 1, 1, generator=generator)
    rows, columns = torch.linspace(0, 1, size[0] // 4)[:, None], torch.linspace(0, 1, size[1] // 4)
    mask_logits = 6 - 6 * ((rows - y) ** 2 + (columns - x) ** 2) / (0.08 + 0.3 * radius) ** 2  # [N, h, w]
    return class_logits, mask_logits.clamp(min=-12) + torch.randn(mask_logits.shape, generator=generator)


def answer(task, goal, tiny, **options):
    """The answer of one task of inference for one picture; options are those of their function."""
    import transformers
    size = (64, 96) if tiny else (480, 640)
    class_logits, mask_logits = blobs(queries=12, sure=4, size=size) if tiny else blobs(size=size)
    config = build_model("mini", num_classes=133).config
    output = SimpleNamespace(class_queries_logits=class_logits[None], masks_queries_logits=mask_logits[None])
    function = getattr(transformers.MaskFormerImageProcessor(), f"post_process_{task}_segmentation")
    things = {} if task == "semantic" else {"things": range(80)}
    return (f"{task} answer, {size[1]} x {size[0]}, {len(class_logits)} queries",
            lambda: function(output, target_sizes=[size], **options),
            lambda: read_out(config, task, class_logits, mask_logits, Sizes(size, size), **things), goal)


def panoptic(tiny):
    """Segments of the sure queries; theirs with our thresholds."""
    return answer("panoptic", 3.0, tiny, threshold=0.8, label_ids_to_fuse=set(range(80, 133)))


def semantic(tiny):
    """The class of every pixel."""
    return answer("semantic", 1.2, tiny)


def instance(tiny):
    """The masks of the best 100 pairs of query and class; theirs keeps those with a score of 0.5, one id per pixel."""
    return answer("instance", 1.0, tiny)


ROWS = [panoptic, semantic, instance, matching, criterion, training_step, training_step_points]


def draw(results, title, path):
    """One bar for each row: how many times as long theirs takes, smallest to largest; a mark for each goal."""
    figure = Figure(figsize=(10, 0.6 * len(results) + 1.2), layout="constrained")
    ax = figure.add_subplot()
    ratios = [result["ratio"] for _, result, _ in results]
    spread = [[result["ratio"] - result["low"] for _, result, _ in results],
              [result["high"] - result["ratio"] for _, result, _ in results]]
    places = range(len(results))
    ax.barh(places, ratios, xerr=spread, color="tab:blue", alpha=.7, label="median, smallest and largest")
    goals = [(goal, place) for place, (*_, goal) in zip(places, results) if goal]
    if goals:
        ax.plot(*zip(*goals), "D", color="tab:orange", label="goal")
    ax.axvline(1, color="black", linewidth=1)
    ax.set_yticks(places, [name.replace(", ", "\n", 1) for name, *_ in results], fontsize=9)
    ax.invert_yaxis()
    ax.set_xlabel("CPU seconds of transformers / ours (1: equal)")
    ax.set_title(title, fontsize=9)
    ax.legend(fontsize=9)
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="tiny sizes: does it run?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--wall", action="store_true", help="wall time instead of CPU time")
    parser.add_argument("--picture", metavar="FILE", help="draw the ratios")
    parser.add_argument("--only", nargs="+", metavar="ROW", choices=[function.__name__ for function in ROWS])
    args = parser.parse_args()
    if importlib.util.find_spec("transformers") is None:
        return print("skipped: transformers is not installed (pip install -e '.[port]')")
    import transformers
    transformers.logging.set_verbosity_error()
    print(machine("transformers"), file=sys.stderr)
    print(HEADER)
    results = []
    for function in ROWS:
        if args.only is None or function.__name__ in args.only:
            name, theirs, ours, goal = function(args.tiny)
            seconds = alternate({"theirs": theirs, "ours": ours}, 1 if args.tiny else args.rounds,
                                time.perf_counter if args.wall else time.process_time)
            results.append((name, compare(**seconds), goal))
            print(row(*results[-1]), flush=True)
    if args.picture:
        draw(results, machine("transformers"), args.picture)


if __name__ == "__main__":
    main()
