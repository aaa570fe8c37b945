"""The four inference rules against the reference code's numbers, slow loops from the definitions, and properties."""
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from minimaskformer import inference
from minimaskformer.fast import large_maps as maps
from minimaskformer.inference import (
    general_inference,
    instance_inference,
    panoptic_candidates,
    panoptic_inference,
    semantic_inference,
    semantic_scores,
)

GOLDEN = Path(__file__).parent / "golden" / "inference"
META = json.loads((GOLDEN / "cases.json").read_text())
CASES = np.load(GOLDEN / "cases.npz")
RULES = {"general": general_inference, "semantic": semantic_inference,
         "instance": lambda c, m: instance_inference(c, m, (0, 2)),
         "panoptic": lambda c, m: panoptic_inference(c, m, (0, 2))}


def random_predictions(seed, N=9, K=4, H=7, W=8, sure=2.0):
    """Random logits; about half the queries end up sure of a class."""
    rng = np.random.default_rng(seed)
    class_logits = torch.tensor(rng.normal(0, sure, (N, K + 1)), dtype=torch.float32)
    return class_logits, torch.tensor(rng.normal(0, 2, (N, H, W)), dtype=torch.float32)


def queries(*pairs, K=3):
    """Predictions by hand: each pair is (class, score, mask probabilities [H][W]); exact up to rounding."""
    class_logits, mask_logits = [], []
    for c, score, probs in pairs:
        row = torch.full((K + 1,), (1 - score) / K, dtype=torch.float64)
        row[c] = score
        class_logits.append(row.log())
        mask_logits.append(torch.tensor(probs, dtype=torch.float64).logit())
    return torch.stack(class_logits), torch.stack(mask_logits)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# ---- the reference code's numbers

@pytest.mark.parametrize("name", META["cases"])
def test_panoptic_gives_the_reference_segments(name):
    expected = META["cases"][name]
    segment_map, info = panoptic_inference(torch.tensor(CASES[f"{name}/cls"]), torch.tensor(CASES[f"{name}/masks"]),
                                           META["things"])
    assert segment_map.dtype == torch.int32
    np.testing.assert_array_equal(segment_map, CASES[f"{name}/panoptic"])
    assert [{k: s[k] for k in ("id", "isthing", "category_id")} for s in info] == expected["segments_info"]
    assert {str(s["id"]): s["area"] for s in info} == expected["areas"]


@pytest.mark.parametrize("name", META["cases"])
def test_semantic_scores_are_the_reference_scores(name):
    class_logits, mask_logits = torch.tensor(CASES[f"{name}/cls"]), torch.tensor(CASES[f"{name}/masks"])
    scores = semantic_scores(class_logits, mask_logits)
    np.testing.assert_allclose(scores, CASES[f"{name}/semantic"], atol=2e-6)
    assert torch.equal(semantic_inference(class_logits, mask_logits), scores.argmax(0))


# ---- slow loops from the definitions, in float64

@pytest.mark.parametrize("seed", range(5))
def test_general_against_a_loop_over_pixels(seed):
    class_logits, mask_logits = random_predictions(seed)
    query_map, class_map = general_inference(class_logits, mask_logits)
    p = [softmax(row) for row in class_logits.double().numpy()]
    m = sigmoid(mask_logits.double().numpy())
    K = len(p[0]) - 1
    for h, w in np.ndindex(*m.shape[1:]):
        best, winner = -1.0, None
        for i in range(len(p)):
            c = p[i].argmax()
            if c != K and p[i][c] * m[i, h, w] > best:
                best, winner = p[i][c] * m[i, h, w], i
        assert query_map[h, w] == winner and class_map[h, w] == p[winner].argmax()


@pytest.mark.parametrize("seed", range(5))
def test_semantic_against_a_loop(seed):
    class_logits, mask_logits = random_predictions(seed)
    p = [softmax(row) for row in class_logits.double().numpy()]
    m = sigmoid(mask_logits.double().numpy())
    expected = np.zeros((4, 7, 8))
    for c, h, w in np.ndindex(*expected.shape):
        expected[c, h, w] = sum(p[i][c] * m[i, h, w] for i in range(len(p)))
    np.testing.assert_allclose(semantic_scores(class_logits, mask_logits), expected, atol=1e-6)
    np.testing.assert_array_equal(semantic_inference(class_logits, mask_logits), expected.argmax(0))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("top_k", (1, 6, 20, 100))
def test_instance_against_a_loop(seed, top_k):
    class_logits, mask_logits = random_predictions(seed)
    mask_logits[3] = -1 - mask_logits[3].abs()  # a query that claims no pixel
    result = instance_inference(class_logits, mask_logits, (0, 3), top_k)
    p = [softmax(row) for row in class_logits.double().numpy()]
    m = sigmoid(mask_logits.double().numpy())
    pairs = sorted(((p[i][c], i, c) for i in range(len(p)) for c in range(4)), reverse=True)[:top_k]
    expected = []
    for prob, i, c in pairs:
        inside = m[i][m[i] > 0.5]
        if c in (0, 3) and len(inside):
            expected.append((prob * inside.mean(), c, m[i] > 0.5))
    expected.sort(key=lambda e: -e[0])
    assert result["labels"].tolist() == [c for _, c, _ in expected]
    np.testing.assert_allclose(result["scores"], [s for s, _, _ in expected], atol=1e-6)
    assert all(np.array_equal(got, mask) for got, (_, _, mask) in zip(result["masks"], expected))
    assert result["masks"].shape == (len(expected), 7, 8)
    assert [result[k].dtype for k in ("masks", "labels", "scores")] == [torch.bool, torch.int64, torch.float32]


def slow_panoptic(class_logits, mask_logits, things, score_threshold, overlap_threshold):
    p = [softmax(row) for row in class_logits.double().numpy()]
    m = sigmoid(mask_logits.double().numpy())
    K = len(p[0]) - 1
    kept = [i for i in range(len(p)) if p[i].argmax() != K and p[i].max() > score_threshold]
    won = {i: set() for i in kept}
    for h, w in np.ndindex(*m.shape[1:]):
        if kept:
            won[max(kept, key=lambda i: p[i].max() * m[i, h, w])].add((h, w))
    out, info, stuff_ids = np.zeros(m.shape[1:], int), {}, {}
    for i in kept:
        own = sum(m[i, h, w] >= 0.5 for h, w in np.ndindex(*m.shape[1:]))
        if not won[i] or not own or len(won[i]) / own < overlap_threshold:
            continue
        c = int(p[i].argmax())
        segment = stuff_ids.get(c) or len(info) + 1
        if c not in things:
            stuff_ids[c] = segment
        new = {"id": segment, "category_id": c, "isthing": c in things, "score": 0, "area": 0}
        entry = info.setdefault(segment, new)
        entry["area"] += len(won[i])
        entry["score"] = max(entry["score"], p[i].max())
        for h, w in won[i]:
            out[h, w] = segment
    return out, list(info.values())


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("thresholds", ((0.0, 0.0), (0.3, 0.4), (0.6, 0.8)))
def test_panoptic_against_a_loop(seed, thresholds):
    predictions = random_predictions(seed, N=12)
    segment_map, info = panoptic_inference(*predictions, {1, 2}, *thresholds)
    expected_map, expected_info = slow_panoptic(*predictions, {1, 2}, *thresholds)
    np.testing.assert_array_equal(segment_map, expected_map)
    for got, expected in zip(info, expected_info, strict=True):
        assert got["score"] == pytest.approx(expected.pop("score"), abs=1e-6)
        assert expected.items() <= got.items()
        assert (segment_map == got["id"]).sum() == got["area"]


# ---- the traps, one by one

def test_the_overlap_test_counts_the_mask_not_score_times_mask():
    # Query 0 won 2 of its 4 pixels: 0.5 < 0.8, dropped. Counting 0.9 * mask >= 0.5 would call its own area 2 (0.9 *
    # 0.52 is below 0.5), so 2 / 2 would pass and it would stay.
    predictions = queries((0, 0.9, [[0.9, 0.9, 0.52, 0.52]]), (1, 0.9, [[0.1, 0.1, 0.9, 0.9]]))
    segment_map, info = panoptic_inference(*predictions, {0, 1})
    assert segment_map.tolist() == [[0, 0, 1, 1]] and [s["category_id"] for s in info] == [1]
    scores = predictions[0].softmax(-1).amax(-1)[:, None, None]
    product = scores * predictions[1].sigmoid()
    wrong = (product.argmax(0) == 0).sum() / (product[0] >= 0.5).sum()
    assert wrong >= 0.8


def test_a_logit_of_exactly_zero_is_inside_the_mask():
    # Own area is 5 with the three zeros, won 2: dropped. With a strict comparison it would be 2 of 2.
    class_logits, mask_logits = queries((0, 0.9, [[0.9, 0.9, 0.5, 0.5, 0.5]]), (1, 0.9, [[0.1, 0.1, 0.9, 0.9, 0.9]]))
    mask_logits[0, 0, 2:] = 0
    assert panoptic_inference(class_logits, mask_logits, {0, 1})[0].tolist() == [[0, 0, 1, 1, 1]]


def test_pixels_of_a_dropped_segment_are_void_not_the_runner_ups():
    # Query 1 covers everything with 0.7 and is second everywhere on the left.
    predictions = queries((0, 0.9, [[0.9, 0.6, 0.6, 0.6]]), (1, 0.9, [[0.4, 0.8, 0.8, 0.8]]))
    assert panoptic_inference(*predictions, {0, 1})[0].tolist() == [[0, 1, 1, 1]]


def test_pixels_below_one_half_still_belong_to_the_winner():
    predictions = queries((0, 0.9, [[0.9, 0.3, 0.3]]), (1, 0.9, [[0.1, 0.2, 0.2]]))
    segment_map, info = panoptic_inference(*predictions, {0})
    assert segment_map.tolist() == [[1, 1, 1]] and info[0]["area"] == 3


def test_a_query_whose_own_mask_is_empty_makes_no_segment():
    predictions = queries((0, 0.9, [[0.4, 0.4]]))  # it wins every pixel, for lack of others, and claims none
    segment_map, info = panoptic_inference(*predictions, {0}, overlap_threshold=0.0)
    assert segment_map.tolist() == [[0, 0]] and info == []


def test_merging_stuff_keeps_ids_unique():
    # thing, stuff, thing, the same stuff again, thing: the counter must go on after the second piece of stuff.
    pixel = [[[0.9 if j == i else 0.1 for j in range(5)]] for i in range(5)]
    predictions = queries(*[(c, s, pixel[i]) for i, (c, s) in
                            enumerate([(0, 0.9), (2, 0.85), (0, 0.9), (2, 0.95), (1, 0.9)])])
    segment_map, info = panoptic_inference(*predictions, things=(0, 1))
    assert segment_map.tolist() == [[1, 2, 3, 2, 4]]
    assert [(s["id"], s["category_id"], s["isthing"], s["area"]) for s in info] == [
        (1, 0, True, 1), (2, 2, False, 2), (3, 0, True, 1), (4, 1, True, 1)]
    assert info[1]["score"] == pytest.approx(0.95)


def test_thresholds_sit_on_the_right_side():
    predictions = queries((0, 0.75, [[0.9, 0.9, 0.9, 0.9]]), (1, 0.95, [[0.1, 0.1, 0.1, 0.9]]))
    score = predictions[0].float().softmax(-1)[0].max().item()  # what float32 makes of 0.75
    kept = panoptic_inference(*predictions, {0, 1}, score_threshold=score - 1e-6, overlap_threshold=0.75)
    assert kept[0].tolist() == [[1, 1, 1, 2]]  # 3 of 4 won is not below 0.75
    assert panoptic_inference(*predictions, {0, 1}, 0.5, 0.76)[0].tolist() == [[0, 0, 0, 1]]
    assert panoptic_inference(*predictions, {0, 1}, score, 0.0)[0].tolist() == [[1, 1, 1, 1]]  # score > threshold


def test_semantic_sums_and_does_not_renormalise():
    predictions = queries((1, 0.9, [[0.9]]), (1, 0.9, [[0.9]]), (3, 0.9, [[0.9]]))  # class 3 is no-object
    scores = semantic_scores(*predictions)
    assert scores.shape == (3, 1, 1)
    assert scores[1].item() == pytest.approx(2 * 0.9 * 0.9 + 0.9 * 0.1 / 3)


def test_general_and_semantic_rules_may_disagree():
    # Two half-sure queries outvote one sure query in the sum, and lose against it one by one.
    predictions = queries((0, 0.7, [[0.9]]), (1, 0.6, [[0.9]]), (1, 0.6, [[0.9]]))
    assert general_inference(*predictions)[1].item() == 0
    assert semantic_inference(*predictions).item() == 1


def test_one_query_may_answer_twice_and_masks_may_overlap():
    class_logits = torch.tensor([[0.5, 0.4, 0.05, 0.05], [0.1, 0.8, 0.05, 0.05]]).log()
    result = instance_inference(class_logits, torch.full((2, 3, 3), 2.0), things=(0, 1), top_k=3)
    assert result["labels"].tolist() == [1, 0, 1] and result["masks"].all()


def test_stuff_uses_up_places_of_top_k():
    class_logits = torch.tensor([[0.1, 0.8, 0.05, 0.05]]).log()
    assert len(instance_inference(class_logits, torch.ones(1, 2, 2), things=(0,), top_k=1)["labels"]) == 0
    assert instance_inference(class_logits, torch.ones(1, 2, 2), things=(0,), top_k=2)["labels"].tolist() == [0]


# ---- the candidates: what became of every query

FATES = ((3, 0.99), (0, 0.7), (1, 0.9), (0, 0.95), (2, 0.9), (1, 0.85), (2, 0.9))  # (class, score); 3 is no object


def seven_fates():
    """Seven queries on a row of eight pixels, things 0 and 1, stuff 2: every fate occurs."""
    masks = np.full((7, 1, 8), 0.1)
    masks[0], masks[1, 0, :2] = 0.9, 0.9  # no object, though its mask is everywhere; then too unsure
    masks[2, 0, 2:4], masks[3, 0, 1:3] = 0.9, 0.95  # query 3 takes one of query 2's two pixels
    masks[4, 0, 4:6], masks[5, 0, 6], masks[6, 0, 7] = 0.9, 0.9, 0.9
    return queries(*[(c, s, m.tolist()) for (c, s), m in zip(FATES, masks)])


def test_every_fate_and_its_numbers():
    candidates = panoptic_candidates(*seven_fates(), {0, 1})
    assert [c.fate for c in candidates] == ["no object", "score", "overlap", "segment", "segment", "segment", "merged"]
    assert [c.segment_id for c in candidates] == [0, 0, 0, 1, 2, 3, 2]
    assert [c.query for c in candidates] == list(range(7))
    assert [c.category_id for c in candidates] == [c for c, _ in FATES]
    assert [c.isthing for c in candidates] == [False, True, True, True, False, True, False]
    assert [c.score for c in candidates] == pytest.approx([s for _, s in FATES])
    assert [c.mask_area for c in candidates] == [8, 2, 2, 2, 2, 1, 1]
    assert [c.won_area for c in candidates] == [0, 0, 1, 3, 2, 1, 1]  # nobody wants pixel 0: it goes to the surest
    assert candidates[2].ratio == 0.5 and candidates[3].ratio == 1.5
    assert panoptic_inference(*seven_fates(), {0, 1})[0].tolist() == [[1, 1, 1, 0, 2, 2, 3, 2]]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("thresholds", ((0.0, 0.0), (0.3, 0.4), (0.6, 0.8), (1.0, 0.5)))
def test_candidates_and_segments_are_one_computation(seed, thresholds):
    class_logits, mask_logits = random_predictions(seed, N=12)
    candidates = panoptic_candidates(class_logits, mask_logits, {1, 2}, *thresholds)
    segment_map, info = panoptic_inference(class_logits, mask_logits, {1, 2}, *thresholds)
    assert len(candidates) == 12 and all(c.mask_area == (mask_logits[c.query].sigmoid() >= 0.5).sum()
                                         for c in candidates)
    for s in info:
        own = [c for c in candidates if c.segment_id == s["id"]]
        assert own[0].fate == "segment" and all(c.fate == "merged" for c in own[1:])
        assert s["area"] == sum(c.won_area for c in own) == (segment_map == s["id"]).sum()
        assert s["score"] == max(c.score for c in own) and {c.category_id for c in own} == {s["category_id"]}
    assert sum(c.fate == "segment" for c in candidates) == len(info)
    assert all((c.fate in ("segment", "merged")) == (c.segment_id > 0) for c in candidates)
    competed = [c for c in candidates if c.fate not in ("no object", "score")]
    assert sum(c.won_area for c in competed) == (segment_map.numel() if competed else 0)


def test_queries_that_are_not_sure_may_as_well_be_absent():
    class_logits, mask_logits = random_predictions(2, N=12)
    sure = inference.sure_queries(class_logits, 0.5)[2]
    assert 0 < sure.sum() < 12
    whole, part = (panoptic_inference(*x, {1, 2}, 0.5, 0.3) for x in
                   ((class_logits, mask_logits), (class_logits[sure], mask_logits[sure])))
    assert equal(whole, part)


@pytest.mark.parametrize("chunk", (1, 50, 333, 10**6))
def test_semantic_inference_in_bands_of_rows(monkeypatch, chunk):
    class_logits, mask_logits = random_predictions(5, N=11, K=5, H=13, W=9)
    monkeypatch.setattr(maps, "CHUNK", chunk)
    whole = semantic_scores(class_logits, mask_logits)
    got = semantic_inference(class_logits, mask_logits)
    assert got.shape == (13, 9) and torch.equal(got, whole.argmax(0))
    strips = mask_logits.transpose(1, 2)  # not contiguous, taller than wide
    assert torch.equal(semantic_inference(class_logits, strips), whole.argmax(0).T)


# ---- properties

def same_partition(a, b):
    """Whether two segment maps are equal up to the names of their ids, void fixed."""
    pairs = set(zip(a.flatten().tolist(), b.flatten().tolist()))
    return len(pairs) == len({x for x, _ in pairs}) == len({y for _, y in pairs}) and \
        all((x == 0) == (y == 0) for x, y in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_permuting_queries_changes_nothing_but_ids(seed):
    class_logits, mask_logits = random_predictions(seed, N=12, sure=3.0)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
    permuted = class_logits[order], mask_logits[order]
    queries_a, classes_a = general_inference(class_logits, mask_logits)
    queries_b, classes_b = general_inference(*permuted)
    assert torch.equal(order[queries_b], queries_a) and torch.equal(classes_a, classes_b)
    assert torch.allclose(semantic_scores(class_logits, mask_logits), semantic_scores(*permuted), atol=1e-5)
    a, b = (instance_inference(*x, (0, 1), 20) for x in ((class_logits, mask_logits), permuted))
    assert all(torch.equal(a[k], b[k]) for k in a)
    (map_a, info_a), (map_b, info_b) = (panoptic_inference(*x, (0, 1), 0.4, 0.3)
                                        for x in ((class_logits, mask_logits), permuted))
    assert len(info_a) > 1 and same_partition(map_a, map_b)
    assert sorted((s["category_id"], s["area"], s["score"]) for s in info_a) == \
        sorted((s["category_id"], s["area"], s["score"]) for s in info_b)


@pytest.mark.parametrize("rule", RULES)
def test_inputs_stay_as_they_are_and_views_are_welcome(rule):
    class_logits, mask_logits = random_predictions(3, sure=4.0)
    before = class_logits.clone(), mask_logits.clone()
    expected = RULES[rule](class_logits, mask_logits)
    assert torch.equal(class_logits, before[0]) and torch.equal(mask_logits, before[1])
    view = mask_logits.permute(2, 1, 0).contiguous().permute(2, 1, 0)  # not contiguous
    assert equal(RULES[rule](class_logits.requires_grad_(), view), expected)


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return torch.equal(a.cpu(), b.cpu()) and a.dtype == b.dtype
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b))
    return a == b


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64))
def test_any_float_dtype_is_computed_in_float32(rule, dtype):
    class_logits, mask_logits = (x.to(dtype) for x in random_predictions(4, sure=4.0))
    expected = RULES[rule](class_logits.float(), mask_logits.float())
    assert equal(RULES[rule](class_logits, mask_logits), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert equal(RULES[rule](class_logits, mask_logits), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", META["cases"])
def test_gpu_gives_the_reference_segments_too(name):
    predictions = torch.tensor(CASES[f"{name}/cls"]).cuda(), torch.tensor(CASES[f"{name}/masks"]).cuda()
    segment_map, info = panoptic_inference(*predictions, META["things"])
    assert segment_map.is_cuda
    np.testing.assert_array_equal(segment_map.cpu(), CASES[f"{name}/panoptic"])
    assert {str(s["id"]): s["area"] for s in info} == META["cases"][name]["areas"]
    np.testing.assert_allclose(semantic_scores(*predictions).cpu(), CASES[f"{name}/semantic"], atol=2e-6)
    cpu = [x.cpu() for x in predictions]
    assert equal(general_inference(*predictions), general_inference(*cpu))
    got, expected = (instance_inference(*x, META["things"]) for x in (predictions, cpu))
    assert got["labels"].cpu().tolist() == expected["labels"].tolist()
    assert torch.allclose(got["scores"].cpu(), expected["scores"], atol=1e-6)


class Waits(TorchDispatchMode):
    """Counts the calls for which a GPU makes the host wait, because a size or a number is asked for."""
    OPS = ("_local_scalar_dense", "nonzero", "bincount", "masked_select", "_unique2", "unique_dim", "equal")

    def __init__(self, monkeypatch):
        super().__init__()
        self.count, plain = 0, torch.Tensor.tolist
        monkeypatch.setattr(torch.Tensor, "tolist", lambda x: self.add() or plain(x))

    def add(self):
        self.count += 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        by_mask = func.__name__.startswith("index.") and any(
            i is not None and i.dtype == torch.bool for i in args[1])
        if by_mask or func.__name__.split(".")[0] in self.OPS:
            self.add()
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("rule, waits", (("semantic", 0), ("general", 1), ("instance", 2), ("panoptic", 2)))
@pytest.mark.parametrize("N", (3, 40))
def test_a_gpu_waits_as_often_for_forty_segments_as_for_three(monkeypatch, rule, waits, N):
    class_logits = torch.zeros(N, 5)
    class_logits[range(N), [i % 4 for i in range(N)]] = 9.0
    mask_logits = torch.full((N, 8, 8), -9.0)
    mask_logits[range(N), [i // 8 for i in range(N)], [i % 8 for i in range(N)]] = 9.0
    with Waits(monkeypatch) as counter:
        result = RULES[rule](class_logits, mask_logits)
    assert counter.count == waits
    if rule == "panoptic":
        assert len(result[1]) == N // 2 + N % 2 + 1 + (N > 3)  # classes 0 and 2 are things, 1 and 3 stuff


def test_semantic_scores_have_a_gradient():
    class_logits, mask_logits = (x.requires_grad_() for x in random_predictions(0))
    semantic_scores(class_logits, mask_logits).sum().backward()
    assert class_logits.grad.abs().sum() > 0 and mask_logits.grad.abs().sum() > 0


@pytest.mark.parametrize("no_queries", (True, False))
def test_nothing_found(no_queries):
    class_logits, mask_logits = torch.zeros(5, 4), torch.zeros(5, 6, 7)
    class_logits[:, 3] = 9.0  # all say "no object"
    if no_queries:
        class_logits, mask_logits = class_logits[:0], mask_logits[:0]
    query_map, class_map = general_inference(class_logits, mask_logits)
    assert query_map.dtype == class_map.dtype == torch.int64 and query_map.shape == (6, 7)
    assert (query_map == -1).all() and (class_map == -1).all()
    segment_map, info = panoptic_inference(class_logits, mask_logits, (0,))
    assert segment_map.dtype == torch.int32 and segment_map.shape == (6, 7) and not segment_map.any() and info == []
    assert semantic_scores(class_logits, mask_logits).shape == (3, 6, 7)
    assert semantic_inference(class_logits, mask_logits).shape == (6, 7)
    result = instance_inference(class_logits, mask_logits, (0,))
    assert result["masks"].shape == (0, 6, 7) and len(result["labels"]) == len(result["scores"]) == 0


def test_without_things_or_with_things_only():
    predictions = random_predictions(1, sure=4.0)
    assert len(instance_inference(*predictions, ())["labels"]) == 0
    info = panoptic_inference(*predictions, (), 0.0, 0.0)[1]
    assert len({s["category_id"] for s in info}) == len(info) and not any(s["isthing"] for s in info)
    assert all(s["isthing"] for s in panoptic_inference(*predictions, range(4), 0.0, 0.0)[1])
    for things in ([0, 2], iter((0, 2)), torch.tensor([0, 2]), np.array([2, 0])):
        assert equal(panoptic_inference(*predictions, things), panoptic_inference(*predictions, {0, 2}))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("shapes", (((2, 5, 4), (2, 5, 6, 7)), ((5, 4), (4, 6, 7)), ((5, 4), (5, 42)),
                                    ((5, 1), (5, 6, 7))))
def test_wrong_shapes_are_named(rule, shapes):
    with pytest.raises(ValueError, match=r"\[5, 1\]" if shapes[0] == (5, 1) else "got .*"):
        RULES[rule](*(torch.zeros(s) for s in shapes))


@pytest.mark.parametrize("things", ((4,), (-1, 0), (0.5,), (True, False, True, False),
                                    np.array([True, False]), list(np.array([True, False])), torch.tensor([True]),
                                    [torch.tensor(True)]))
def test_things_outside_the_classes_are_named(things):
    flags = "bool" in str(np.asarray([np.asarray(c) for c in things]).dtype)
    remedy = r"for k, flag in enumerate\(flags\)" if flags else r"a ClassTable has them as"
    for rule in (instance_inference, panoptic_inference):
        with pytest.raises(ValueError, match=rf"things are class indices in \[0, 4\), got .*{remedy}"):
            rule(*random_predictions(0), things)


@pytest.mark.parametrize("rule", ("instance", "panoptic"))
@pytest.mark.parametrize("where", (0, 1))
def test_nan_is_an_error_and_no_answer(rule, where):
    predictions = random_predictions(0, sure=4.0)
    predictions[where][:, 1] = float("nan")
    with pytest.raises(FloatingPointError, match="hold NaN"):
        RULES[rule](*predictions)


@pytest.mark.parametrize("value", (-0.1, 1.1, float("nan")))
@pytest.mark.parametrize("name", ("score_threshold", "overlap_threshold"))
def test_thresholds_outside_0_1_are_named(name, value):
    with pytest.raises(ValueError, match=f"{name} must be in .0, 1., got {value}"):
        panoptic_inference(*random_predictions(0), (0,), **{name: value})


def test_top_k_must_be_positive():
    with pytest.raises(ValueError, match="top_k must be at least 1, got 0"):
        instance_inference(*random_predictions(0), (0,), top_k=0)
