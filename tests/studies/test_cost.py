"""The cost of a model: hand counts from shapes, a second counter made of hooks, and the reference code's figures."""
import pytest
import torch
from torch import nn

from minimaskformer import build_model
from minimaskformer.studies.cost import PARTS, Cost, cost_by_part

# Parameters and GFLOPs at 512 x 512 that the reference code's own counter gives. It counts the semantic readout too
# (N x K x H x W, the model's last step in that code) and about 0.4 for norms and resizing, which we leave out.
REFERENCE = {"r50": (41_254_743, 55.1), "r50_panoptic": (45_012_038, 55.8), "swin_t": (41_757_009, 57.3)}


@pytest.fixture(scope="module")
def mini():
    return build_model("mini")


@pytest.fixture(scope="module")
def mini_cost(mini):
    return cost_by_part(mini, 64, 96)


def attention(queries, keys, dim):
    """Multiply-adds of one attention: four projections, the scores, the weighted sum; whatever the number of heads."""
    return (2 * queries + 2 * keys) * dim * dim + 2 * queries * keys * dim


def by_hooks(model, image):
    """Multiply-adds of every convolution and linear layer outside an attention, from their shapes."""
    counts, handles = {}, []

    def count(name):
        def hook(module, inputs, output):
            each = module.in_features if isinstance(module, nn.Linear) else module.weight[0].numel()
            counts[name] = counts.get(name, 0) + output.numel() * each
        return hook

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and "_attn" not in name:
            handles.append(module.register_forward_hook(count(name)))
    with torch.no_grad():
        model(image)
    for handle in handles:
        handle.remove()
    return counts


def test_one_convolution_one_linear_by_hand(mini):
    counts = by_hooks(mini.eval(), torch.zeros(1, 3, 64, 96))
    assert counts["backbone.stem.0"] == 32 * 48 * (32 * 3 * 3 * 3)  # stride 2, 3 to 32 channels, 3 x 3
    assert counts["class_head"] == 3 * 32 * 128 * 12  # 3 layers, 32 queries, 128 channels to 11 classes + no object


def test_every_part_is_the_sum_over_its_layers(mini, mini_cost):
    counts, c = by_hooks(mini.eval(), torch.zeros(1, 3, 64, 96)), mini.config
    P = 8 * 12  # cells at stride 8, where mini's encoder works and its queries read
    of_attention = {"encoder": c.encoder_layers * attention(P, P, c.dim),
                    "transformer decoder": c.decoder_layers * (attention(c.num_queries, c.num_queries, c.hidden_dim)
                                                               + attention(c.num_queries, P, c.hidden_dim))}
    for part, names in PARTS.items():
        mine = sum(n for name, n in counts.items() if name.startswith(tuple(f"{prefix}." for prefix in names))
                   or name in names) + of_attention.get(part, 0)
        if part == "pixel decoder":
            mine -= sum(n for name, n in counts.items() if name.startswith("pixel_decoder.encoder"))
        if part != "masks":
            assert mini_cost.parts[part].multiply_adds == mine, part
    assert mini_cost.parts["masks"] == Cost(0, c.decoder_layers * c.num_queries * c.mask_dim * 16 * 24)


def test_auxiliary_is_what_one_layer_less_of_output_would_save(mini, mini_cost):
    heads, masks = mini_cost.parts["heads"].multiply_adds, mini_cost.parts["masks"].multiply_adds
    assert mini_cost.auxiliary == (heads + masks) * 2 // 3
    assert cost_by_part(build_model("mini", decoder_layers=1), 64, 96).auxiliary == 0


@pytest.mark.parametrize("preset", REFERENCE)
def test_agrees_with_the_reference_code(preset):
    model = build_model(preset)
    cost = cost_by_part(model, 512, 512)
    parameters, giga = REFERENCE[preset]
    assert cost.total.parameters == parameters == sum(p.numel() for p in model.parameters())
    readout = model.config.num_queries * model.config.num_classes * 512 * 512
    assert 0.35 < giga - (cost.total.multiply_adds + readout) / 1e9 < 0.5
    assert (cost.parts["encoder"].parameters > 0) == (preset == "r50_panoptic")
    assert round(cost.parts["masks"].multiply_adds * 5 / 6 / 1e9, 1) == 2.1  # masks that inference never reads


def test_padding_is_computed_too_and_the_model_is_left_alone(mini, mini_cost):
    mini.train()
    assert cost_by_part(mini, 50, 70) == mini_cost  # 64 x 96 after padding
    assert mini.training and all(p.requires_grad for p in mini.parameters())
    with pytest.raises(ValueError, match="at least 1 x 1"):
        cost_by_part(mini, 0, 64)
