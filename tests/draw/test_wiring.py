"""The page of shapes says what the model does, texts stay apart and inside; bars, film and readings fit the numbers."""
import itertools

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from minimaskformer import Lakeland, build_model
from minimaskformer.draw.wiring import amount, draw_answers, draw_costs, draw_model, read_answer, trace
from minimaskformer.model import Output
from minimaskformer.studies.cost import Cost, ModelCost, cost_by_part

MODELS = {"mini": ("mini", {}), "res3": ("mini", {"memory": "res3", "encoder_layers": 0}), "panoptic": ("r50_panoptic", {}),
          "swin": ("swin_t", {})}


@pytest.fixture(scope="module")
def models():
    return {name: build_model(preset, **changes) for name, (preset, changes) in MODELS.items()}


def texts(figure):
    """{text: its box in pixels} of everything written on the figure."""
    FigureCanvasAgg(figure).draw()
    return [(t.get_text(), t.get_window_extent()) for ax in figure.axes for t in ax.texts if t.get_text().strip()]


def test_trace_is_what_passes(models):
    model = models["mini"].train()
    shapes = trace(model, 64, 96)
    assert model.training and not any(m._forward_hooks for m in model.modules())
    output = model(torch.zeros(2, 3, 64, 96))
    features = model.backbone(torch.zeros(2, 3, 64, 96))
    assert [shapes[f"res{i + 2}"] for i in range(4)] == [tuple(f.shape[1:]) for f in features]
    assert shapes["mask logits"] == (3, *output.mask_logits.shape[1:])
    assert shapes["class logits"] == (3, *output.class_logits.shape[1:])
    assert shapes["memory"] == (128, 8, 12) and shapes["pixel embeddings"] == (96, 16, 24)
    assert shapes["queries"] == (32, 128) and shapes["states"] == (3, 32, 128) and shapes["images"] == (3, 64, 96)


@pytest.mark.parametrize("name", MODELS)
def test_page_shows_every_shape_without_overlaps(models, name):
    figure = Figure(figsize=(10.5, 4.45), dpi=80)
    draw_model(figure.add_axes((0, 0, 1, 1)), models[name], 128, 192)
    written, shapes = texts(figure), trace(models[name], 128, 192)
    for key in shapes.keys() - ({"encoded"} if name != "panoptic" else set()):
        assert " × ".join(map(str, shapes[key])) in [t for t, _ in written], key
    for (a, box), (b, other) in itertools.combinations(written, 2):
        assert not box.overlaps(other), (a, b)
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1 for _, box in written)


def test_page_names_the_parts_with_their_cost(models):
    figure = Figure(figsize=(10.5, 4.45))
    draw_model(figure.add_axes((0, 0, 1, 1)), models["res3"], 64, 64)
    written = [t for t, _ in texts(figure)]
    parts = cost_by_part(models["res3"], 64, 64).parts
    for part, cost in parts.items():
        line = f"{part}\n{amount(cost.parameters)} parameters\n{amount(cost.multiply_adds)} multiply-adds"
        assert (line in written) == (part != "encoder")


def test_amounts():
    assert [amount(n) for n in (0, 999, 12_345, 810_496, 2_961_836, 114_704_384, 21_353_201_664)] == \
        ["0", "999", "12.3 k", "810 k", "3.0 M", "115 M", "21.4 G"]


def test_bars_are_shares():
    cost = ModelCost({"backbone": Cost(300, 10), "heads": Cost(100, 30)}, 0)
    figure = Figure(layout="compressed")
    axes = draw_costs(figure.subplots(1, 2), {"a": cost, "b": cost})
    assert [round(p.get_width(), 3) for p in axes[0].patches] == [0.75, 0.25] * 2
    assert [round(p.get_width(), 3) for p in axes[1].patches] == [0.25, 0.75] * 2
    assert [t.get_text() for t in axes[0].texts] == ["75%", "25%", "400"] * 2


def test_a_perfect_answer_reads_as_the_truth():
    data = Lakeland("val", size=64, difficulty=0.3)
    image, target = data[5]
    T = len(target["labels"])
    class_logits = torch.full((1, T + 1, 12), -9.0)
    class_logits[0, range(T), target["labels"]] = 9.0
    class_logits[0, T, 11] = 9.0
    mask_logits = torch.full((1, T + 1, 64, 64), -9.0)
    mask_logits[0, :T] = torch.where(target["masks"], 9.0, -9.0)
    silent = Output(class_logits.flip(1)[:, :1].expand_as(class_logits), mask_logits)
    output = Output(class_logits, mask_logits, (silent,))
    assert read_answer(output, target, data.classes)[1] == pytest.approx(1)
    assert read_answer(silent, target, data.classes)[1] == 0
    figure = Figure()
    axes = draw_answers(figure.subplots(1, 4), image, target, output, data.classes, [(0, 0), (T, 2)], "step 7")
    assert [ax.get_title() for ax in axes] == ["layer 1: PQ 0.00", "layer 2: PQ 1.00", "0: sky 1.00", f"{T}: water 0.00"]
    assert axes[0].get_ylabel() == "step 7"
