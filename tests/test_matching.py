"""Matching against the reference's numbers, a loop from the definition, and brute force."""
import itertools
import math
import warnings

import pytest
import torch

from minimaskformer import matching
from minimaskformer.fast.pair_costs import mask_cost
from minimaskformer.fast.points import pixels_of
from minimaskformer.matching import (
    assign,
    batched_cost,
    dice_cost,
    flat_match,
    focal_cost,
    hungarian_match,
    join_targets,
    match_layers,
    pairwise_cost,
)

FIVE_BY_THREE = [[.88, .09, .71], [.79, .80, .32], [.80, .23, .36], [.42, .54, .11], [.41, 0, .74]]


def problem(queries=6, targets=3, classes=4, size=8, seed=0, scale=1):
    g = torch.Generator().manual_seed(seed)
    target = {"labels": torch.randint(classes, (targets,), generator=g),
              "masks": torch.rand(targets, size * scale, size * scale, generator=g) > 0.5}
    return torch.randn(queries, classes + 1, generator=g), 3 * torch.randn(queries, size, size, generator=g), target


def loop_cost(class_logits, mask_logits, target):
    """The pairwise cost, one pixel at a time, from the definition."""
    rows = []
    valid = target.get("valid", torch.ones(mask_logits.shape[-2:], dtype=torch.bool))
    for logits, mask in zip(class_logits, mask_logits):
        exponentials = [math.exp(x) for x in logits]
        row = []
        for label, truth in zip(target["labels"], target["masks"]):
            focal = overlap = area_p = area_y = pixels = 0
            for x, y, v in zip(mask.flatten().tolist(), truth.flatten().tolist(), valid.flatten().tolist()):
                if not v:
                    continue
                p = 1 / (1 + math.exp(-x))
                focal += -0.25 * (1 - p) ** 2 * math.log(p) if y else -0.75 * p ** 2 * math.log(1 - p)
                overlap, area_p, area_y, pixels = overlap + p * y, area_p + p, area_y + y, pixels + 1
            dice = 1 - (2 * overlap + 1) / (area_p + area_y + 1)
            row.append(-exponentials[label] / sum(exponentials) + 20 * focal / pixels + dice)
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("void", [False, True])
def test_cost_is_the_definition(void):
    class_logits, mask_logits, target = problem()
    if void:
        target["valid"] = torch.rand(8, 8, generator=torch.Generator().manual_seed(5)) > 0.3
    torch.testing.assert_close(pairwise_cost(class_logits, mask_logits, target),
                               loop_cost(class_logits, mask_logits, target), rtol=1e-5, atol=1e-5)


def test_truth_is_downsampled_by_taking_the_top_left_pixel():
    class_logits, mask_logits, target = problem(scale=4)
    small = dict(target, masks=target["masks"][:, ::4, ::4])
    assert torch.equal(pairwise_cost(class_logits, mask_logits, target), pairwise_cost(class_logits, mask_logits, small))


def test_void_pixels_do_not_matter():
    class_logits, mask_logits, target = problem()
    target["valid"] = torch.zeros(8, 8, dtype=torch.bool)
    target["valid"][:5] = True
    cost = pairwise_cost(class_logits, mask_logits, target)
    mask_logits[:, 5:] += 7
    target["masks"] = target["masks"].clone()
    target["masks"][:, 6:] ^= True
    assert torch.equal(cost, pairwise_cost(class_logits, mask_logits, target))


@pytest.mark.parametrize("weights", [(0, 20, 1), (1, 0, 1), (1, 20, 0)])
def test_every_weight_matters(weights):
    assert not torch.allclose(pairwise_cost(*problem()), pairwise_cost(*problem(), *weights))


@pytest.mark.parametrize("queries, targets", [(5, 3), (3, 5), (4, 4), (4, 0), (1, 1)])
def test_assignment_is_the_cheapest_of_all(queries, targets):
    cost = torch.rand(queries, targets, generator=torch.Generator().manual_seed(queries * 10 + targets))
    q, t = assign(cost)
    assert len(q) == len(t) == min(queries, targets) == len(set(q.tolist())) == len(set(t.tolist()))
    assert q.tolist() == sorted(q.tolist()) and q.dtype == t.dtype == torch.int64
    if queries >= targets:
        best = min(sum(cost[i, j] for j, i in enumerate(p)) for p in itertools.permutations(range(queries), targets))
    else:
        best = min(sum(cost[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(targets), queries))
    assert math.isclose(cost[q, t].sum(), best, abs_tol=1e-6)


def test_five_by_three():
    q, t = assign(torch.tensor(FIVE_BY_THREE))
    assert dict(zip(t.tolist(), q.tolist())) == {0: 4, 1: 0, 2: 3}


def test_batch_is_one_by_one_also_with_different_numbers_of_targets_and_layers():
    images = [problem(targets=t, seed=t) for t in (3, 0, 5)]
    class_logits, mask_logits = (torch.stack([image[k] for image in images]) for k in (0, 1))
    targets = [image[2] for image in images]
    batched = hungarian_match(class_logits, mask_logits, targets)
    layers = match_layers([class_logits, -class_logits], [mask_logits, -mask_logits], join_targets(targets, 4, "cpu"))
    for b, image in enumerate(images):
        alone = hungarian_match(image[0][None], image[1][None], [image[2]])[0]
        for got in (batched[b], layers[0][b]):
            assert torch.equal(got[0], alone[0]) and torch.equal(got[1], alone[1])
    assert [len(q) for q, _ in layers[1]] == [3, 0, 5]


def test_permuting_queries_or_targets_permutes_the_match():
    class_logits, mask_logits, target = problem(queries=7, targets=4)
    pairs = {(q, t) for q, t in zip(*map(torch.Tensor.tolist, hungarian_match(
        class_logits[None], mask_logits[None], [target])[0]))}
    p, s = torch.randperm(7), torch.randperm(4)
    moved = {"labels": target["labels"][s], "masks": target["masks"][s]}
    q, t = hungarian_match(class_logits[p][None], mask_logits[p][None], [moved])[0]
    assert {(p[i].item(), s[j].item()) for i, j in zip(q, t)} == pairs


def test_targets_of_different_sizes_are_padded():
    a, b = problem(size=8), problem(size=8, seed=1)
    small = {"labels": b[2]["labels"], "masks": b[2]["masks"][:, :6, :5]}
    padded = {"labels": b[2]["labels"], "masks": torch.zeros(3, 8, 8, dtype=torch.bool)}
    padded["masks"][:, :6, :5] = small["masks"]
    logits = torch.stack([a[0], b[0]]), torch.stack([a[1], b[1]])
    for got, want in zip(hungarian_match(*logits, [a[2], small]), hungarian_match(*logits, [a[2], padded])):
        assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


def test_more_targets_than_queries_matches_the_best_and_warns_once():
    class_logits, mask_logits, target = problem(queries=2, targets=5)
    with pytest.warns(UserWarning, match="5 targets and the model 2 queries"):
        queries, targets = hungarian_match(class_logits[None], mask_logits[None], [target])[0]
    assert queries.tolist() == [0, 1] and len(set(targets.tolist())) == 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            hungarian_match(class_logits[None], mask_logits[None], [target])
    assert len(caught) == 1


def test_non_finite_cost_names_layer_image_and_query():
    a, b = problem(), problem(seed=1)
    class_logits, mask_logits = torch.stack([a[0], b[0]]), torch.stack([a[1], b[1]])
    broken = mask_logits.clone()
    broken[1, 4, 2, 2] = float("nan")
    with pytest.raises(ValueError, match="layer 1, image 1 of the batch, query 4"):
        match_layers([class_logits] * 2, [mask_logits, broken], join_targets([a[2], b[2]], 4, "cpu"))
    infinite = class_logits.clone()
    infinite[0, 2, 0] = float("inf")
    with pytest.raises(ValueError, match="layer 0, image 0 of the batch, query 2"):
        hungarian_match(infinite, mask_logits, [a[2], b[2]])


def test_broken_image_without_targets_is_no_error():
    class_logits, mask_logits, target = problem(targets=0)
    assert [len(side) for side in hungarian_match(class_logits[None] * float("nan"), mask_logits[None], [target])[0]] == [0, 0]


@pytest.mark.parametrize("label", [-1, 4, 5])
def test_label_outside_the_classes_is_an_error(label):
    class_logits, mask_logits, target = problem(classes=4)
    target["labels"][1] = label
    with pytest.raises(ValueError, match=rf"image 0 of the batch: labels \[{label}\] are outside \[0, 4\)"):
        hungarian_match(class_logits[None], mask_logits[None], [target])


def test_costs_are_float32_under_autocast():
    inputs = problem()
    with torch.autocast("cpu", torch.bfloat16):
        cost = pairwise_cost(*inputs)
    assert cost.dtype == torch.float32 and torch.equal(cost, pairwise_cost(*inputs))
    half = pairwise_cost(inputs[0].bfloat16(), inputs[1].bfloat16(), inputs[2])
    assert half.dtype == torch.float32


def test_one_transfer_for_all_layers_and_images(monkeypatch):
    calls, original = [], torch.Tensor.cpu
    images = [problem(targets=t, seed=t) for t in (3, 2)]
    logits = [torch.stack([torch.stack([image[k] for image in images])] * 4) for k in (0, 1)]
    truth = join_targets([image[2] for image in images], 4, "cpu")
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: calls.append(self.ndim) or original(self))
    match_layers(*logits, truth)
    assert calls.count(3) == 1 and max(calls) == 3  # the [L, N, S] costs, once


def test_no_gradient_flows_through_the_cost():
    class_logits, mask_logits, target = problem()
    assert not pairwise_cost(class_logits.requires_grad_(), mask_logits.requires_grad_(), target).requires_grad
    assert matching.hungarian_match(class_logits[None], mask_logits[None], [target])


@pytest.mark.parametrize("scale, pixels", [(3, 100), (3, 5000), (100, 3000), (1e4, 2048)])
def test_the_quick_mask_cost_is_the_two_definitions(scale, pixels):
    """Even where the sigmoid is 0 or 1 in float32, and over several slices of pixels; the logits are unchanged."""
    g = torch.Generator().manual_seed(pixels)
    x, y = scale * torch.randn(7, pixels, generator=g), torch.rand(4, pixels, generator=g) > 0.6
    valid = (torch.rand(1, pixels, generator=g) > 0.2).double()
    before = x.clone()
    got = mask_cost(x, (y * valid).mT.float().contiguous(), valid.mT.float().contiguous(), 20, 3)
    want = (20 * focal_cost(x.double(), y.double(), valid) + 3 * dice_cost(x.double(), y.double(), valid)).float()
    torch.testing.assert_close(got, want, rtol=2e-6, atol=2e-5)
    assert torch.equal(x, before)


def test_void_is_downsampled_by_taking_the_top_left_pixel():
    """A void line between the sampled rows is not seen, one on them is: nothing is mixed."""
    class_logits, mask_logits, target = problem(scale=4)
    small = dict(target, masks=target["masks"][:, ::4, ::4])
    valid = torch.ones(32, 32, dtype=torch.bool)
    valid[5:8], valid[:, 14:16] = False, False
    assert torch.equal(pairwise_cost(class_logits, mask_logits, target | {"valid": valid}),
                       pairwise_cost(class_logits, mask_logits, small))
    valid[8] = False
    seen = torch.ones(8, 8, dtype=torch.bool)
    seen[2] = False
    torch.testing.assert_close(pairwise_cost(class_logits, mask_logits, target | {"valid": valid}),
                               loop_cost(class_logits, mask_logits, small | {"valid": seen}), rtol=1e-5, atol=1e-5)


def test_a_target_without_valid_is_all_valid_beside_one_that_has_it():
    (*a, void), (*b, plain) = problem(), problem(seed=1, targets=5)
    void["valid"] = torch.rand(8, 8, generator=torch.Generator().manual_seed(5)) > 0.3
    class_logits, mask_logits = (torch.stack(pair)[None] for pair in zip(a, b))
    costs = batched_cost(class_logits, mask_logits, join_targets([void, plain], 4, "cpu"))[0]
    torch.testing.assert_close(costs[:, :3], loop_cost(*a, void), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(costs[:, 3:], loop_cost(*b, plain), rtol=1e-5, atol=1e-5)


def test_flat_matches_count_targets_through_the_batch():
    def pairs(*lists):
        return [tuple(torch.tensor(side, dtype=torch.int64) for side in both) for both in lists]
    layers = [pairs(([1, 4], [1, 0]), ([], []), ([0], [2])), pairs(([2, 3], [0, 1]), ([], []), ([5], [0]))]
    assert flat_match(layers, [2, 0, 3]) == [[0, 0, 0, 1, 1, 1], [0, 0, 2, 0, 0, 2], [1, 4, 0, 2, 3, 5], [1, 0, 4, 0, 1, 2]]
    assert flat_match([pairs(([], []))], [0]) == [[], [], [], []]


@pytest.mark.parametrize("void", [False, True])
def test_costs_at_points_that_are_all_the_pixel_centres_are_the_costs(void, monkeypatch):
    class_logits, mask_logits, target = problem()
    if void:
        target["valid"] = torch.rand(8, 8, generator=torch.Generator().manual_seed(5)) > 0.3
    y, x = torch.meshgrid(*[(torch.arange(8) + 0.5) / 8] * 2, indexing="ij")
    centres = torch.stack([x, y], -1).flatten(0, 1)[torch.randperm(64)]
    monkeypatch.setattr(torch, "rand", lambda *size, device: centres)
    truth = join_targets([target], 4, "cpu")
    torch.testing.assert_close(batched_cost([class_logits[None]], [mask_logits[None]], truth, points=64)[0],
                               pairwise_cost(class_logits, mask_logits, target), rtol=1e-5, atol=1e-5)


def test_every_image_is_compared_at_points_of_its_own():
    class_logits, mask_logits, target = problem()
    twice, truth = [torch.stack([x, x])[None] for x in (class_logits, mask_logits)], join_targets([target] * 2, 4, "cpu")
    first, second = batched_cost(*twice, truth, points=20)[0].split(3, dim=1)
    assert not torch.allclose(first, second)
    first, second = batched_cost(*twice, truth, points=200_000)[0].split(3, dim=1)
    torch.testing.assert_close(first, second, rtol=0.03, atol=0.1)


def test_a_point_lies_in_the_pixel_that_covers_it():
    """x is a fraction of the width, y of the height, even at the very edge of a picture that is not square."""
    points = torch.tensor([[0.0, 0.0], [0.34, 0.49], [0.66, 0.51], [0.67, 0.5], [1.0, 1.0]])
    rows, columns = pixels_of(points, (2, 3))
    assert rows.tolist() == [0, 0, 1, 1, 1] and columns.tolist() == [0, 1, 1, 2, 2]
