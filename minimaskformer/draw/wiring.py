"""Pictures of a whole model: every shape on one page, the cost of its parts, masks forming in training (lesson 07)."""
import torch
import torch.nn.functional as F
from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

from ..inference import panoptic_inference
from ..metrics import PanopticQuality
from ..studies.cost import cost_by_part
from ..system.tensors import to_numpy
from ..targets import target_to_panoptic
from .canvas import INK, outline
from .palette import NATURAL, class_colors
from .scenes import draw_mask, draw_panoptic

PART_COLORS = {part: NATURAL[name] for part, name in {
    "backbone": "mountain", "encoder": "sky", "pixel decoder": "grass", "transformer decoder": "boat", "heads": "duck",
    "masks": "house"}.items()}
COLUMNS = dict(zip("ABCDEF", (0.74, 2.45, 4.2, 6.05, 7.85, 9.6)))  # inches
ROWS = (4.05, 3.32, 2.59, 1.86, 0.98, 0.28)
BOX = 1.46, 0.46


@torch.no_grad()
def trace(model, height, width):
    """Every map that one image becomes in a running MaskFormer: {name: shape without the batch}."""
    seen = {}

    def keep(name, read):
        def hook(module, inputs, output):
            seen.update(read(inputs, output) if name is None else {name: read(inputs, output)})
        return hook

    def stages(inputs, output):
        return {"images": inputs[0]} | {f"res{i + 2}": x for i, x in enumerate(output)}

    def pixels(inputs, output):
        embeddings, pyramid, encoded = output
        return {"pixel embeddings": embeddings, "encoded": encoded} | {f"p{i + 2}": x for i, x in enumerate(pyramid)}

    handles = [getattr(model, module).register_forward_hook(keep(name, read)) for module, name, read in (
        ("backbone", None, stages), ("pixel_decoder", None, pixels), ("input_proj", "memory", lambda i, o: o),
        ("mask_head", "mask embeddings", lambda i, o: o.transpose(0, 1)),
        ("class_head", "class logits", lambda i, o: o.transpose(0, 1)),
        ("decoder", "states", lambda i, o: torch.stack(o, 1)))]
    was_training = model.training
    try:
        output = model.eval()(torch.zeros(1, 3, height, width, device=model.pixel_mean.device))
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    layers = [*output.aux, output]
    seen["mask logits"] = torch.stack([layer.mask_logits for layer in layers], 1)
    seen["queries"] = model.decoder.query_positions.weight[None]
    return {name: tuple(x.shape[1:]) for name, x in seen.items()}


def draw_model(ax, model, height, width, title=None):
    """Figure 2 of the paper for a running model and one image: boxes with shapes, arrows, parameters, multiply-adds.

    Everything written comes from the model itself, run once on an empty image. Best on an Axes of 10.5 x 4.45 inches.
    Returns the Axes.
    """
    config, shapes, costs = model.config, trace(model, height, width), cost_by_part(model, height, width).parts
    ax.set(xlim=(-0.05, 10.45), ylim=(-0.05, 4.4), aspect="equal")
    ax.set_axis_off()

    def box(column, row, name, part, label=None, lift=0.0):
        x, y = COLUMNS[column], ROWS[row] + lift
        w, h = BOX
        ax.add_patch(FancyBboxPatch((x - w / 2 + 0.05, y - h / 2 + 0.05), w - 0.1, h - 0.1, linewidth=0.8,
                                    boxstyle="round,pad=0.05", edgecolor=INK, facecolor=light(part), zorder=2))
        ax.text(x, y + 0.1, label or name, ha="center", va="center", fontsize=9, weight="bold", color=INK, zorder=3)
        ax.text(x, y - 0.1, " × ".join(map(str, shapes[name])), ha="center", va="center", fontsize=9, color=INK,
                zorder=3)
        return {"left": (x - w / 2, y), "right": (x + w / 2, y), "top": (x, y + h / 2), "bottom": (x, y - h / 2)}

    def note(x, y, text, **options):
        ax.text(x, y, text, **{"fontsize": 9, "color": "0.3", "ha": "center", "va": "center"} | options)

    with_encoder = {config.encoder_level: f" + encoder × {config.encoder_layers}"} if config.encoder_layers else {}
    image = box("A", 0, "images", None)
    res = [box("B", i, f"res{i + 2}", "backbone") for i in range(4)]
    p = [box("C", i, name, "encoder" if name in with_encoder else "pixel decoder", name + with_encoder.get(name, ""))
         for i, name in enumerate(("p2", "p3", "p4", "p5"))]
    pixels = box("D", 0, "pixel embeddings", "pixel decoder")
    memory = box("D", 4, "memory", "transformer decoder")
    queries = box("D", 5, "queries", "transformer decoder")
    states = box("E", 4, "states", "transformer decoder", f"decoder × {config.decoder_layers}")
    embeddings = box("E", 2, "mask embeddings", "heads")
    classes = box("F", 4, "class logits", "heads")
    masks = box("F", 0, "mask logits", "masks")
    dot = COLUMNS["E"], ROWS[0]
    ax.add_patch(Circle(dot, 0.16, facecolor=light("masks"), edgecolor=INK, linewidth=0.8, zorder=2))
    ax.text(*dot, "·", ha="center", va="center", fontsize=14, weight="bold", zorder=3)

    arrow(ax, image["right"], res[0]["left"])
    for finer, coarser in zip(res, res[1:]):
        arrow(ax, finer["bottom"], coarser["top"])
    for finer, coarser in zip(p, p[1:]):
        arrow(ax, coarser["top"], finer["bottom"])
    encoded = None
    if "res5" in with_encoder:
        encoded = box("C", 4, "encoded", "encoder", f"encoder × {config.encoder_layers}")
        arrow(ax, encoded["top"], p[3]["bottom"])
        arrow(ax, res[3]["bottom"], (res[3]["bottom"][0], encoded["left"][1]), encoded["left"])
    for i in range(3 if encoded else 4):
        arrow(ax, res[i]["right"], p[i]["left"])
    arrow(ax, p[0]["right"], pixels["left"])
    arrow(ax, pixels["right"], (dot[0] - 0.16, dot[1]))
    arrow(ax, (dot[0] + 0.16, dot[1]), masks["left"])
    arrow(ax, memory["right"], states["left"])
    arrow(ax, queries["right"], (states["bottom"][0], queries["right"][1]), states["bottom"])
    arrow(ax, states["right"], classes["left"])
    arrow(ax, states["top"], embeddings["bottom"])
    arrow(ax, embeddings["top"], (dot[0], dot[1] - 0.16))
    source = config.memory
    if source == "encoder":
        arrow(ax, encoded["right"], memory["left"])
    elif source.startswith("res"):  # down the gutter right of the backbone, except from res5, the lowest
        start = res[int(source[-1]) - 2]
        path = [start["bottom"]] if source == "res5" else [start["right"], (3.33, start["right"][1])]
        arrow(ax, *path, (path[-1][0], memory["left"][1]), memory["left"])
    else:
        start = p[int(source[-1]) - 2]["right"]
        arrow(ax, start, (5.1, start[1]), (5.1, memory["left"][1]), memory["left"])

    legend_of_parts(ax, {part: cost for part, cost in costs.items() if cost.multiply_adds})
    if config.pixel_positions:
        note(COLUMNS["D"], ROWS[0] - 0.34, "+ sine positions")
    if config.memory_positions:
        note(COLUMNS["D"], ROWS[4] + 0.34, "+ sine positions")
    note(COLUMNS["E"] + 0.12, (ROWS[2] + ROWS[4]) / 2, "mask head", ha="left")
    note(COLUMNS["D"] + 0.05, ROWS[2] + 0.05,
         "From the decoder on,\nthe first axis counts\ndecoder layers. The last\n"
         "is the output, the others\nare auxiliary: the same\nnorm and heads for all.")
    if title:
        ax.set_title(title, fontsize=9)
    return ax


def legend_of_parts(ax, costs):
    """Below the image: every part with its colour, its parameters and its multiply-adds."""
    for i, (part, cost) in enumerate(costs.items()):
        y = ROWS[0] - 0.62 - 0.57 * i
        ax.add_patch(Rectangle((0, y - 0.2), 0.13, 0.4, facecolor=light(part), edgecolor=INK, linewidth=0.6))
        ax.text(0.2, y, f"{part}\n{amount(cost.parameters)} parameters\n{amount(cost.multiply_adds)} multiply-adds",
                fontsize=9, va="center", color=INK, linespacing=1.25)


def amount(n):
    """A large number in three digits: 810 k, 3.0 M, 21.4 G."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if n >= size:
            return f"{n / size:.3g}{unit}" if n / size >= 100 else f"{n / size:.1f}{unit}"
    return str(n)


def light(part):
    """A part's colour, mixed with white so that text stays readable on it."""
    if part is None:
        return "white"
    color = PART_COLORS[part]
    return tuple(0.45 * int(color[i:i + 2], 16) / 255 + 0.55 for i in (1, 3, 5))


def arrow(ax, *points):
    """A line along the points with an arrow head at the last."""
    xs, ys = zip(*points[:-1])
    ax.plot(xs, ys, color=INK, linewidth=0.9, zorder=1, solid_capstyle="butt")
    ax.annotate("", points[-1], points[-2], zorder=1,
                arrowprops={"arrowstyle": "-|>", "color": INK, "linewidth": 0.9, "shrinkA": 0, "shrinkB": 0,
                            "mutation_scale": 8})


def draw_costs(axes, costs):
    """The share of each part in parameters and in multiply-adds, a bar for each model; axes: two, side by side.

    costs: {name: ModelCost}. The totals stand beside the bars. Returns the axes.
    """
    for ax, quantity in zip(axes, ("parameters", "multiply_adds")):
        for row, cost in enumerate(costs.values()):
            total, left = getattr(cost.total, quantity), 0.0
            for part, value in cost.parts.items():
                share = getattr(value, quantity) / total
                ax.barh(row, share, 0.6, left, color=light(part), edgecolor=INK, linewidth=0.6)
                if share >= 0.06:
                    ax.text(left + share / 2, row, f"{share:.0%}", ha="center", va="center", fontsize=9)
                left += share
            ax.text(1.02, row, amount(total), va="center", fontsize=9)
        ax.set(xlim=(0, 1), ylim=(len(costs) - 0.5, -0.5), xticks=[], yticks=range(len(costs)))
        ax.set_yticklabels(costs if ax is axes[0] else [], fontsize=9)
        ax.set_title(quantity.replace("_", "-"), fontsize=9)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
    handles = [Rectangle((0, 0), 1, 1, facecolor=light(part), edgecolor=INK, linewidth=0.6) for part in PART_COLORS]
    axes[0].figure.legend(handles, PART_COLORS, loc="outside lower center", ncols=len(PART_COLORS), fontsize=9,
                          frameon=False, handlelength=1.2, columnspacing=1.2)
    return axes


def read_answer(output, target, classes):
    """The panoptic result of an `Output` of one image at the truth's size, and its PQ against the target.

    A query counts if its score is above one half, a segment if more than half of its mask is left, so that what forms
    early is seen early. (`predict` asks for 0.8.)
    """
    mask_logits = F.interpolate(output.mask_logits.float(), size=target["masks"].shape[-2:], mode="bilinear")[0]
    result = panoptic_inference(output.class_logits[0], mask_logits, classes.things, 0.5, 0.5)
    quality = PanopticQuality(classes)
    quality.update(result, target_to_panoptic(target, classes.things))
    return result, quality.compute()["pq"]


def draw_answers(axes, image, target, output, classes, pairs, label=None):
    """One row of a training film: what each decoder layer would answer, and masks of single queries in the last one.

    output: an `Output` of this one image; pairs: (query, target index) of the queries to show. Their masks are drawn in
    the target's colour under an outline of the truth; above are the query's number and its probability for the true
    class. axes: one per decoder layer and pair. What no query claims is void, hatched (see read_answer). Returns the
    axes.
    """
    colors = class_colors(classes)
    layers = [*output.aux, output]
    for i, (ax, layer) in enumerate(zip(axes, layers), 1):
        result, pq = read_answer(layer, target, classes)
        draw_panoptic(ax, image, *result, classes, labels=False)
        ax.set_title(f"layer {i}: PQ {pq:.2f}", fontsize=9, pad=3)
    mask_logits = F.interpolate(output.mask_logits.float(), size=target["masks"].shape[-2:], mode="bilinear")[0]
    for ax, (query, t) in zip(axes[len(layers):], pairs):
        c = int(target["labels"][t])
        draw_mask(ax, mask_logits[query].sigmoid(), image, colors[c])
        outline(ax, to_numpy(target["masks"][t]), width=1.0)
        p = output.class_logits[0, query].softmax(0)[c]
        ax.set_title(f"{query}: {classes.names[c]} {p:.2f}", fontsize=9, pad=3)
    if label is not None:
        axes[0].set_ylabel(label, fontsize=9)
    return axes
