"""Losses against the reference's numbers, torchvision's focal loss, and loops from the definition."""
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import sigmoid_focal_loss as torchvision_focal_loss

from minimaskformer import losses as losses_module
from minimaskformer.fast.mask_losses import MatchedMaskLosses
from minimaskformer.losses import SetCriterion, classification_loss, dice_loss, sigmoid_focal_loss
from minimaskformer.matching import fixed_match, hungarian_match, match_layers, pairwise_cost
from minimaskformer.model import Output

GOLDEN = Path(__file__).parent / "golden" / "criterion"
CASES = json.loads((GOLDEN / "cases.json").read_text())
ARRAYS = np.load(GOLDEN / "cases.npz")


def output(class_logits, mask_logits, aux=()):
    return SimpleNamespace(class_logits=class_logits, mask_logits=mask_logits, aux=aux)


def golden(name):
    def tensor(key):
        return torch.from_numpy(ARRAYS[f"{name}/{key}"])
    targets = [{"labels": tensor(f"target{b}_labels"), "masks": torch.from_numpy(np.unpackbits(
        ARRAYS[f"{name}/target{b}_masks_packed"], axis=-1)).bool()} for b in range(2)]
    layers = {key: output(tensor(f"{key}_pred_logits").requires_grad_(), tensor(f"{key}_pred_masks").requires_grad_())
              for key in ("aux0", "out")}
    return tensor, layers, targets


@pytest.mark.parametrize("name", CASES["cases"])
def test_criterion_gives_the_reference_numbers(name):
    tensor, layers, targets = golden(name)
    losses = SetCriterion(CASES["classes"])(output(layers["out"].class_logits, layers["out"].mask_logits,
                                                   [layers["aux0"]]), targets)
    names = {"loss_ce": "class", "loss_mask": "focal", "loss_dice": "dice"}
    for key, want in CASES["cases"][name]["losses"].items():
        ours = key if key in names else key[:-2]
        got = losses[names[ours] + key[len(ours):]]
        assert math.isclose(got.item(), want, rel_tol=2e-6), key
    assert math.isclose(losses["loss"].item(), CASES["cases"][name]["total_weighted"], rel_tol=2e-6)
    losses["loss"].backward()
    for key, layer in layers.items():
        mask_grad = layer.mask_logits.grad.flatten(2)
        torch.testing.assert_close(layer.class_logits.grad, tensor(f"{key}_grad_logits"), rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(mask_grad.norm(dim=2), tensor(f"{key}_grad_masks_norm_per_query"), rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(mask_grad.sum(2), tensor(f"{key}_grad_masks_sum_per_query"), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", CASES["cases"])
def test_costs_and_matches_are_the_reference(name):
    tensor, layers, targets = golden(name)
    for key, layer in layers.items():
        matches = hungarian_match(layer.class_logits, layer.mask_logits, targets)
        for b in range(2):
            cost = pairwise_cost(layer.class_logits[b], layer.mask_logits[b], targets[b])
            torch.testing.assert_close(cost, tensor(f"{key}_cost{b}"), rtol=1e-5, atol=2e-5)
            assert torch.equal(torch.stack(matches[b]), tensor(f"{key}_match{b}"))


def masks(count=3, size=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(count, size, size, generator=g), torch.rand(count, size, size, generator=g) > 0.6


def test_focal_loss_is_torchvisions_mean_per_mask():
    x, y = masks()
    want = torchvision_focal_loss(x, y.float(), 0.25, 2).flatten(1).mean(1).sum() / 7
    torch.testing.assert_close(sigmoid_focal_loss(x, y, 7), want)


def test_focal_and_dice_with_void_are_the_loop():
    x, y = masks()
    valid = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(9)) > 0.3
    focal = dice = 0.0
    for m in range(3):
        terms, overlap, p_sum, y_sum = [], 0, 0, 0
        for logit, truth, ok in zip(x[m].flatten().tolist(), y[m].flatten().tolist(), valid[m].flatten().tolist()):
            if ok:
                p = 1 / (1 + math.exp(-logit))
                p_t, alpha_t = (p, 0.25) if truth else (1 - p, 0.75)
                terms.append(-alpha_t * (1 - p_t) ** 2 * math.log(p_t))
                overlap, p_sum, y_sum = overlap + p * truth, p_sum + p, y_sum + truth
        focal += sum(terms) / len(terms) / 5
        dice += (1 - (2 * overlap + 1) / (p_sum + y_sum + 1)) / 5
    assert math.isclose(sigmoid_focal_loss(x, y, 5, valid=valid), focal, rel_tol=1e-5)
    assert math.isclose(dice_loss(x, y, 5, valid=valid), dice, rel_tol=1e-5)


def test_all_void_and_no_mask_are_zero_and_finite():
    x, y = masks()
    nothing = torch.zeros(3, 6, 6, dtype=torch.bool)
    assert sigmoid_focal_loss(x, y, 3, valid=nothing) == dice_loss(x, y, 3, valid=nothing) == 0
    assert sigmoid_focal_loss(x[:0], y[:0], 1) == dice_loss(x[:0], y[:0], 1) == 0


def test_extreme_logits_stay_finite():
    x = torch.tensor([[[-1e4, 1e4, 0.0]]], requires_grad=True)
    loss = sigmoid_focal_loss(x, torch.tensor([[[True, False, True]]]), 1) + dice_loss(x, torch.tensor([[[True, False, True]]]), 1)
    loss.backward()
    assert loss.isfinite() and x.grad.isfinite().all()


@pytest.mark.parametrize("function", [sigmoid_focal_loss, dice_loss])
def test_float64_gradients_and_shape_errors(function):
    x, y = masks()
    assert torch.autograd.gradcheck(lambda z: function(z, y, 2), x.double().requires_grad_())
    with pytest.raises(ValueError, match="differ in shape"):
        function(x, y[:, :3], 1)


def test_class_loss_is_a_weighted_mean():
    logits = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    targets = [{"labels": torch.tensor([2, 0])}, {"labels": torch.tensor([], dtype=torch.int64)}]
    matches = [(torch.tensor([1, 3]), torch.tensor([1, 0])), (torch.tensor([], dtype=torch.int64),) * 2]
    classes = [[3, 0, 3, 2], [3, 3, 3, 3]]
    total = weights = 0
    for b in range(2):
        for q in range(4):
            weight = 0.1 if classes[b][q] == 3 else 1.0
            total -= weight * F.log_softmax(logits[b, q], -1)[classes[b][q]].item()
            weights += weight
    assert math.isclose(classification_loss(logits, targets, matches), total / weights, rel_tol=1e-5)


def test_without_any_match_the_no_object_weight_cancels():
    logits = torch.randn(1, 5, 4)
    empty = [{"labels": torch.tensor([], dtype=torch.int64)}], [(torch.tensor([], dtype=torch.int64),) * 2]
    assert math.isclose(classification_loss(logits, *empty, no_object_weight=0.1),
                        classification_loss(logits, *empty, no_object_weight=1.0), rel_tol=1e-6)


def scene(batch=2, layers=1, targets=(3, 0), void=False, seed=0):
    g = torch.Generator().manual_seed(seed)
    def layer():
        return output(torch.randn(batch, 6, 5, generator=g, requires_grad=True),
                      torch.randn(batch, 6, 4, 4, generator=g, requires_grad=True))
    truth = [{"labels": torch.randint(4, (t,), generator=g), "masks": torch.rand(t, 16, 16, generator=g) > 0.5}
             for t in targets]
    if void:
        for target in truth:
            target["valid"] = torch.rand(16, 16, generator=g) > 0.4
    last = layer()
    last.aux = [layer() for _ in range(layers)]
    return last, truth


@pytest.mark.parametrize("targets", [(0, 0), (3, 0), (0, 2), (9, 9)])
@pytest.mark.filterwarnings("ignore:an image has")
def test_any_number_of_targets_gives_finite_losses_and_gradients(targets):
    out, truth = scene(targets=targets)
    losses = SetCriterion(4)(out, truth)
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    assert out.class_logits.grad.isfinite().all() and out.mask_logits.grad.isfinite().all()
    if targets == (0, 0):
        assert losses["focal"] == losses["dice"] == losses["focal_0"] == 0 and out.mask_logits.grad.abs().sum() == 0


def test_unmatched_targets_still_count_in_num_masks():
    out, truth = scene(batch=1, targets=(9,), layers=0)
    with pytest.warns(UserWarning, match="9 targets and the model 6 queries"):
        losses = SetCriterion(4)(out, truth)
        queries, chosen = hungarian_match(out.class_logits, out.mask_logits, truth)[0]
    up = F.interpolate(out.mask_logits, size=(16, 16), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(losses["dice"], dice_loss(up[queries], truth[0]["masks"][chosen], 9))


def test_void_pixels_have_no_gradient():
    out, truth = scene(targets=(3, 2))
    for target in truth:
        target["valid"] = torch.ones(16, 16, dtype=torch.bool)
        target["valid"][:, 8:] = False
    SetCriterion(4)(out, truth)["loss"].backward()
    assert out.mask_logits.grad[..., 3:].abs().sum() == 0  # columns 12 ... 15 of the truth
    assert out.mask_logits.grad[..., :2].abs().sum() > 0


def test_padding_a_target_with_valid_changes_the_loss_only_through_the_prediction():
    out, truth = scene(targets=(3, 2), void=True)
    small = [truth[0], {"labels": truth[1]["labels"], "masks": truth[1]["masks"][:, :12], "valid": truth[1]["valid"][:12]}]
    by_hand = {"labels": truth[1]["labels"], "masks": truth[1]["masks"].clone(), "valid": truth[1]["valid"].clone()}
    by_hand["masks"][:, 12:], by_hand["valid"][12:] = False, False
    torch.testing.assert_close(SetCriterion(4)(out, small)["loss"], SetCriterion(4)(out, [truth[0], by_hand])["loss"])


def test_order_of_queries_and_targets_is_nothing():
    out, truth = scene(targets=(3, 2))
    q, t = torch.randperm(6), torch.tensor([2, 0, 1])
    moved = output(out.class_logits[:, q], out.mask_logits[:, q],
                   [output(a.class_logits[:, q], a.mask_logits[:, q]) for a in out.aux])
    other = [{"labels": truth[0]["labels"][t], "masks": truth[0]["masks"][t]}, truth[1]]
    torch.testing.assert_close(SetCriterion(4)(out, truth)["loss"], SetCriterion(4)(moved, other)["loss"])


@pytest.mark.parametrize("field, value", [("class_weight", 2), ("focal_weight", 5), ("dice_weight", 3),
                                          ("no_object_weight", 0.5), ("mask_stride", 2), ("mask_points", 50)])
def test_every_argument_matters(field, value):
    out, truth = scene()
    assert SetCriterion(4)(out, truth)["loss"] != SetCriterion(4, **{field: value})(out, truth)["loss"]


def test_total_is_the_weighted_sum_of_the_terms():
    out, truth = scene(layers=2)
    losses = SetCriterion(4)(out, truth)
    assert set(losses) == {"loss"} | {f"{term}{layer}" for term in ("class", "focal", "dice") for layer in ("", "_0", "_1")}
    weights = {"class": 1, "focal": 20, "dice": 1}
    total = sum(weights[name.split("_")[0]] * value for name, value in losses.items() if name != "loss")
    torch.testing.assert_close(losses["loss"], total)


def test_half_precision_outputs_are_computed_in_float32():
    out, truth = scene()
    half = output(out.class_logits.bfloat16(), out.mask_logits.bfloat16(),
                  [output(a.class_logits.bfloat16(), a.mask_logits.bfloat16()) for a in out.aux])
    with torch.autocast("cpu", torch.bfloat16):
        losses = SetCriterion(4)(half, truth)
    exact = output(half.class_logits.float(), half.mask_logits.float(),
                   [output(a.class_logits.float(), a.mask_logits.float()) for a in half.aux])
    torch.testing.assert_close(losses["loss"], SetCriterion(4)(exact, truth)["loss"], rtol=0, atol=0)


def test_wrong_input_is_named():
    out, truth = scene()
    with pytest.raises(ValueError, match="1 targets for a batch of 2"):
        SetCriterion(4)(out, truth[:1])
    with pytest.raises(ValueError, match="5 columns"):
        SetCriterion(6)(out, truth)
    truth[0]["labels"][1] = 4
    with pytest.raises(ValueError, match=r"image 0 of the batch: labels \[4\] are outside \[0, 4\)"):
        SetCriterion(4)(out, truth)


def test_num_masks_is_averaged_over_processes_once(monkeypatch):
    def all_reduce(tensor):
        tensor += 10.0  # what the other process counted
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert SetCriterion.num_masks([{"labels": torch.zeros(4)}, {"labels": torch.zeros(2)}], "cpu") == 8


def semantic_scene(labels=((2, 0), (1, 3, 2)), **options):
    out, truth = scene(targets=tuple(map(len, labels)), **options)
    for target, own in zip(truth, labels):
        target["labels"] = torch.tensor(own, dtype=torch.int64)
    return out, truth


def test_fixed_matching_is_the_loop():
    """Only query k is trained for class k, in every layer; the mask of an absent class is not trained."""
    out, truth = semantic_scene(void=True)
    losses = SetCriterion(4, matching="fixed")(out, truth)
    for suffix, layer in (("", out), ("_0", out.aux[0])):
        up = F.interpolate(layer.mask_logits, size=(16, 16), mode="bilinear", align_corners=False)
        log_probs, total, weights, focal, dice = layer.class_logits.log_softmax(-1), 0, 0, 0, 0
        for b in range(2):
            mine = {int(c): mask for c, mask in zip(truth[b]["labels"], truth[b]["masks"])}
            for q in range(6):
                c, weight = (q, 1.0) if q in mine else (4, 0.1)
                total, weights = total - weight * log_probs[b, q, c], weights + weight
                if q in mine:
                    pair = up[b, q][None], mine[q][None], 5
                    focal = focal + sigmoid_focal_loss(*pair, valid=truth[b]["valid"])
                    dice = dice + dice_loss(*pair, valid=truth[b]["valid"])
        for name, value in (("class", total / weights), ("focal", focal), ("dice", dice)):
            torch.testing.assert_close(losses[name + suffix], value, msg=name + suffix)
    losses["loss"].backward()
    trained = out.mask_logits.grad.abs().flatten(2).sum(2) > 0
    assert trained.tolist() == [[True, False, True, False, False, False], [False, True, True, True, False, False]]


def test_fixed_matching_does_not_look_at_the_prediction_and_bipartite_does():
    out, truth = semantic_scene()
    queries, chosen = fixed_match(truth, 6)[1]
    assert queries.tolist() == [1, 2, 3] and truth[1]["labels"][chosen].tolist() == [1, 2, 3]
    block = torch.zeros(2, 16, 16, dtype=torch.bool)
    block[0, :8], block[1, 8:] = True, True
    truth = [{"labels": torch.tensor([2, 0]), "masks": block}]
    low = torch.where(block[:, ::4, ::4], 9.0, -9.0)
    class_logits, mask_logits = torch.zeros(1, 6, 5), torch.full((1, 6, 4, 4), -9.0)
    mask_logits[0, 2], mask_logits[0, 0] = low
    right = output(class_logits, mask_logits)
    exchanged = output(class_logits, mask_logits[:, [2, 1, 0, 3, 4, 5]])
    fixed, bipartite = SetCriterion(4, matching="fixed"), SetCriterion(4)
    assert fixed(right, truth)["dice"] == bipartite(right, truth)["dice"] == bipartite(exchanged, truth)["dice"] < 0.2
    assert fixed(exchanged, truth)["dice"] > 0.9


def test_fixed_matching_without_targets_is_finite():
    out, truth = semantic_scene(labels=((), ()))
    losses = SetCriterion(4, matching="fixed")(out, truth)
    losses["loss"].backward()
    assert losses["focal"] == losses["dice"] == 0 and out.class_logits.grad.isfinite().all()
    out, truth = semantic_scene(labels=((3,), ()))
    assert SetCriterion(4, matching="fixed")(out, truth)["loss"].isfinite()


def test_fixed_matching_explains_what_it_can_not_do():
    with pytest.raises(ValueError, match="unknown matching 'greedy'; known: bipartite, fixed"):
        SetCriterion(4, matching="greedy")
    out, truth = semantic_scene(labels=((2, 0), (1, 3, 1)))
    with pytest.raises(ValueError, match="image 1 of the batch has several masks of class 1"):
        SetCriterion(4, matching="fixed")(out, truth)
    with pytest.raises(ValueError, match="7 classes need as many queries, the model has 6"):
        SetCriterion(7, matching="fixed")(output(torch.zeros(2, 6, 8), out.mask_logits), truth)
    with pytest.raises(ValueError, match="class 2, .* only 2 queries"):
        fixed_match(truth, 2)


def pairs(count=3, small=(5, 7), large=(12, 21), void=False):
    g = torch.Generator().manual_seed(count)
    logits, y = 3 * torch.randn(count, *small, generator=g), torch.rand(count, *large, generator=g) > 0.6
    return logits, list(y), list(torch.rand(count, *large, generator=g) > 0.3) if void else None


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("large", [(12, 21), (5, 7), (300, 450)])  # enlarged, as it is, one mask at a time
def test_matched_mask_losses_are_the_plain_ones_and_so_is_their_gradient(void, large):
    logits, y, valid = pairs(large=large, void=void)
    x, z = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    quick = torch.stack(MatchedMaskLosses.apply(x, y, valid))  # [2, 3]
    up = F.interpolate(z[None], size=large, mode="bilinear", align_corners=False)[0]
    plain = torch.stack([loss(up[m:m + 1], y[m][None], 1, valid=valid and valid[m][None])
                         for loss in (sigmoid_focal_loss, dice_loss) for m in range(3)]).unflatten(0, (2, 3))
    torch.testing.assert_close(quick, plain, rtol=2e-6, atol=1e-7)
    for losses in (quick, plain):
        (torch.tensor([[0.3, 2.0, 1.1], [1.7, 0.4, 0.9]]) * losses).sum().backward()
    torch.testing.assert_close(x.grad, z.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("void", [False, True])
def test_matched_mask_losses_pass_gradcheck(void):
    logits, y, valid = pairs(void=void)
    logits = logits.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: MatchedMaskLosses.apply(x, y, valid), logits)


def test_matched_mask_losses_of_extreme_logits_and_of_masks_all_void():
    logits = torch.tensor([[[-1e4, 1e4, 0.0]]] * 2, requires_grad=True)
    y, nothing = torch.tensor([[True, False, True]]), torch.zeros(1, 3, dtype=torch.bool)
    focal, dice = MatchedMaskLosses.apply(logits, [y, y], [~nothing, nothing])
    (focal.sum() + dice.sum()).backward()
    assert focal[1] == dice[1] == 0 and logits.grad.isfinite().all() and logits.grad[1].abs().sum() == 0
    torch.testing.assert_close(focal[0], sigmoid_focal_loss(logits[:1], y[None], 1))
    torch.testing.assert_close(dice[0], dice_loss(logits[:1], y[None], 1))


@pytest.mark.parametrize("s", [2, 3])
def test_mask_stride_looks_at_the_middle_of_each_block(s):
    """Rows s // 2, s // 2 + s ... of masks and valid, against the prediction resized to as many."""
    out, truth = scene(layers=0, targets=(3, 2), void=True)
    losses = SetCriterion(4, mask_stride=s)(out, truth)
    focal = dice = 0
    for b, (queries, chosen) in enumerate(hungarian_match(out.class_logits, out.mask_logits, truth)):
        rows = list(range(s // 2, 16, s))
        up = F.interpolate(out.mask_logits[b][None], size=(len(rows),) * 2, mode="bilinear", align_corners=False)[0]
        for q, t in zip(queries.tolist(), chosen.tolist()):
            y, v = (torch.stack([torch.stack([maps[i, j] for j in rows]) for i in rows])[None]
                    for maps in (truth[b]["masks"][t], truth[b]["valid"]))
            focal = focal + sigmoid_focal_loss(up[q][None], y, 5, valid=v)
            dice = dice + dice_loss(up[q][None], y, 5, valid=v)
    torch.testing.assert_close(losses["focal"], focal)
    torch.testing.assert_close(losses["dice"], dice)


@pytest.mark.parametrize("points", [0, 400])
def test_a_target_without_valid_is_all_valid_beside_one_that_has_it(points):
    def total(truth):
        torch.manual_seed(0)
        return SetCriterion(4, mask_points=points)(out, truth)["loss"]
    out, truth = scene(targets=(3, 2), void=True)
    filled = truth[1] | {"valid": torch.ones(16, 16, dtype=torch.bool)}
    bare = {key: truth[1][key] for key in ("labels", "masks")}
    assert total([truth[0], bare]) == total([truth[0], filled]) != total(truth)


@pytest.mark.parametrize("void", [False, True])
def test_losses_at_points_that_are_all_the_pixel_centres_are_the_losses(void, monkeypatch):
    """Where the prediction has the truth's size; with the same match, which is made at other points."""
    out, truth = scene(targets=(3, 2), void=void)
    for layer in (out, *out.aux):
        layer.mask_logits = F.interpolate(layer.mask_logits, size=(16, 16), mode="bilinear").detach().requires_grad_()
    y, x = torch.meshgrid(*[(torch.arange(16) + 0.5) / 16] * 2, indexing="ij")
    centres = torch.stack([x, y], -1).flatten(0, 1)
    monkeypatch.setattr(losses_module, "choose_points", lambda logits, points: centres.repeat(len(logits), 1, 1))
    monkeypatch.setattr(losses_module, "match_layers", lambda c, m, truth, *weights: match_layers(c, m, truth, *weights[:3]))
    dense, points = (SetCriterion(4, mask_points=points)(out, truth) for points in (0, 256))
    torch.testing.assert_close(dense, points, rtol=1e-5, atol=1e-6)
    gradients = (torch.autograd.grad(losses["loss"], out.mask_logits)[0] for losses in (dense, points))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_losses_at_points_without_targets_are_zero():
    out, truth = scene(targets=(0, 0))
    losses = SetCriterion(4, mask_points=20)(out, truth)
    losses["loss"].backward()
    assert losses["focal"] == losses["dice"] == 0 and out.mask_logits.grad.abs().sum() == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("points", [0, 40])
def test_predictions_in_half_precision_are_taken_as_the_numbers_they_are(dtype, points):
    g = torch.Generator().manual_seed(0)
    half = Output(torch.randn(2, 6, 5, generator=g).to(dtype), torch.randn(2, 6, 8, 8, generator=g).to(dtype), ())
    truth = [{"labels": torch.tensor([1, 3]), "masks": torch.rand(2, 16, 16, generator=g) < 0.4} for _ in range(2)]
    losses = []
    for output in (half, Output(half.class_logits.float(), half.mask_logits.float(), ())):
        torch.manual_seed(1)  # the same points
        losses.append(SetCriterion(4, mask_points=points)(output, truth))
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-6)


def test_points_and_stride_exclude_each_other():
    with pytest.raises(ValueError, match="mask_points 50 and mask_stride 2"):
        SetCriterion(4, mask_points=50, mask_stride=2)


def test_what_a_batch_is_divided_by(monkeypatch):
    """Of five targets and three queries three are matched; over two processes each divides by the mean of both."""
    targets = [{"labels": torch.zeros(5, dtype=torch.int64)}, {"labels": torch.zeros(1, dtype=torch.int64)}]
    criterion = SetCriterion(4, no_object_weight=0.1)
    assert [float(x) for x in criterion.normalizers(targets, 3, "cpu")] == pytest.approx([6, 4 + 2 * 0.1])
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda tensor: tensor.add_(10.0))  # what the other one counted
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    assert [float(x) for x in criterion.normalizers(targets, 3, "cpu")] == pytest.approx([16 / 2, 14.2 / 2])
