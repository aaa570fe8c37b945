"""Lesson 11's experiment: settings differ in one thing, pairs see the same batches, read-outs and losses by definition."""
import importlib.util
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from minimaskformer import build_model
from minimaskformer.data.lakeland import LAKELAND_CLASSES, Lakeland
from minimaskformer.inference import semantic_scores
from minimaskformer.model import Output
from minimaskformer.studies import ablations, baselines
from minimaskformer.studies import error_bars as seeds
from minimaskformer.studies.ablations import SETTINGS, Budget, Setting
from minimaskformer.targets import semantic_to_target

ROOT = Path(__file__).resolve().parents[2]
TINY = Budget(scenes=4, validation_scenes=3, steps=2, batch_size=2)


@pytest.fixture(scope="module")
def scenes():
    return ablations.sample_scenes("train", TINY), ablations.sample_scenes("val", TINY)


def outputs(aux=1, batch=2, queries=3, classes=4, side=4):
    g = torch.Generator().manual_seed(0)
    layers = [Output(torch.randn(batch, queries, classes + 1, generator=g),
                     2 * torch.randn(batch, queries, side, side, generator=g)) for _ in range(aux + 1)]
    return layers[-1]._replace(aux=tuple(layers[:-1]))


def truths(batch=2, classes=4, side=8):
    g = torch.Generator().manual_seed(1)
    maps = torch.randint(-1, classes, (batch, side, side), generator=g)
    return maps, [semantic_to_target(torch.where(m < 0, 255, m), classes) for m in maps]


# --- the likelihood losses --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_likelihood_loss_is_the_log_of_semantic_scores(normalise, stride):
    output, (maps, targets) = outputs(), truths()
    total = 0.0
    for layer in (*output.aux, output):
        values = []
        for class_logits, mask_logits, truth in zip(layer.class_logits, layer.mask_logits, maps):
            truth = truth[stride // 2::stride, stride // 2::stride]
            masks = F.interpolate(mask_logits[None], size=truth.shape, mode="bilinear", align_corners=False)[0]
            scores = semantic_scores(class_logits, masks)  # [K, H, W]
            for y, x in np.ndindex(*truth.shape):
                if truth[y, x] >= 0:
                    score = scores[truth[y, x], y, x] / (scores[:, y, x].sum() if normalise else 1)
                    values.append(-math.log(score))
        total += sum(values) / len(values)
    losses = baselines.likelihood_loss(output, targets, normalise, stride)
    assert set(losses) == {"loss", "likelihood", "likelihood_0"}
    assert math.isclose(losses["loss"], total, rel_tol=1e-4)


def test_likelihood_of_sure_and_wrong_predictions_is_finite_and_so_is_its_gradient():
    class_logits = torch.tensor([[[0.0, 400.0, 0.0]]], requires_grad=True)
    loss = baselines.pixel_likelihood(class_logits, torch.full((1, 1, 2, 2), -200.0), torch.zeros(1, 2, 2).long())
    loss.backward()
    assert math.isclose(loss.item(), 600, rel_tol=1e-5) and class_logits.grad.isfinite().all()


def test_no_known_pixel_costs_nothing():
    output, unknown = outputs(), [semantic_to_target(torch.full((8, 8), 255), 4)] * 2
    for normalise in (False, True):
        assert baselines.likelihood_loss(output, unknown, normalise)["loss"] == 0
    with pytest.raises(ValueError, match="1 targets for a batch of 2"):
        baselines.likelihood_loss(output, unknown[:1])


def test_the_plain_likelihood_never_closes_a_mask():
    """The lesson's argument: no pixel ever pushes a mask down, whatever its class."""
    output, (_, targets) = outputs(aux=0), truths()
    masks = output.mask_logits.requires_grad_()
    baselines.likelihood_loss(output, targets)["loss"].backward()
    assert (masks.grad <= 0).all() and (masks.grad < 0).any()
    masks.grad = None
    baselines.likelihood_loss(output, targets, normalise=True)["loss"].backward()
    assert (masks.grad > 0).any()


def test_shares_are_minus_the_gradient_of_the_loss():
    g = torch.Generator().manual_seed(3)
    class_logits, mask_logits = torch.randn(3, 5, generator=g), torch.randn(3, 2, 2, generator=g)
    truth = torch.tensor([[0, 3], [1, 1]])
    logs = (class_logits.log_softmax(-1)[:, truth] + F.logsigmoid(mask_logits)).requires_grad_()
    (-logs.exp().sum(0).log().sum()).backward()
    shares = baselines.responsibilities(class_logits, mask_logits, truth)
    torch.testing.assert_close(shares, -logs.grad)
    torch.testing.assert_close(shares.sum(0), torch.ones(2, 2))


# --- settings and loop ------------------------------------------------------------------------------------------------

def test_every_setting_differs_from_maskformer_in_its_name_only():
    base = Setting()
    assert SETTINGS["32 queries"] == base and len(set(SETTINGS.values())) == len(SETTINGS)
    for name, setting in SETTINGS.items():
        changed = [f for f in vars(base) if getattr(setting, f) != getattr(base, f)]
        assert len(changed) <= (2 if name in ("fixed", "per-pixel+") else 1), name


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_trains_and_is_read_out(name, scenes):
    if SETTINGS[name].num_queries < 11:
        with pytest.warns(UserWarning, match="only the best"):
            row = ablations.run_setting(name, 0, TINY, *scenes)
    else:
        row = ablations.run_setting(name, 0, TINY, *scenes)
    assert row["setting"] == name and len(row["curve"]) == 1 and math.isfinite(row["curve"][0])
    assert ("general" in row) == (SETTINGS[name].model == "mask")
    assert all(0 <= value <= 100 for value in row["semantic"].values())


def test_a_seed_repeats_itself_and_another_does_not(scenes):
    (a, first), (b, again), (c, other) = (ablations.train_setting(SETTINGS["11 queries"], s, TINY, scenes[0]) for s in (0, 0, 1))
    assert first == again != other
    for x, y in zip(a.state_dict().values(), b.state_dict().values()):
        assert torch.equal(x, y)


def test_pairs_share_batches_and_the_weights_that_they_share(scenes, monkeypatch):
    """Runs of one seed see the same pictures, mirrored alike, and start from the same backbone."""
    seen, backbones = [], []

    def spy(setting, budget):
        model = build_model("mini", num_queries=setting.num_queries, short_side=64) if setting.model == "mask" else (
            baselines.PerPixelBaseline(build_model("mini", short_side=64).config))
        backbones.append(model.backbone.stem[0].weight.detach().clone())
        normalize = model.normalize
        model.normalize = lambda images: seen.append(images.clone()) or normalize(images)
        return model

    monkeypatch.setattr(ablations, "build", spy)
    for name in ("32 queries", "11 queries"):
        ablations.train_setting(SETTINGS[name], 0, TINY, scenes[0])
    assert all(torch.equal(a, b) for a, b in zip(seen[:2], seen[2:])) and len(seen) == 4
    assert torch.equal(*backbones)


def test_flips_move_image_and_labels_together(scenes, monkeypatch):
    images, maps = scenes[0]
    images = maps[:, None].expand(-1, 3, -1, -1).contiguous()  # a picture that shows its own labels
    pairs = []

    def spy(setting, budget, num_classes):
        def loss(output, targets):
            pairs.append(targets)
            return {"loss": output.class_logits.sum() * 0}
        return loss

    monkeypatch.setattr(ablations, "loss_function", spy)
    build, seen = ablations.build, []

    def watched(setting, budget):
        model = build(setting, budget)
        normalize = model.normalize
        model.normalize = lambda x: seen.append(x) or normalize(x)
        return model

    monkeypatch.setattr(ablations, "build", watched)
    ablations.train_setting(SETTINGS["11 queries"], 0, replace(TINY, steps=4), (images, maps))
    flipped = 0
    for batch, targets in zip(seen, pairs):
        for image, target in zip(batch, targets):
            assert all((image[0][mask] == label).all() for label, mask in zip(target["labels"], target["masks"]))
            flipped += not any(torch.equal(image[0], m) for m in maps)
    assert flipped


# --- read-outs --------------------------------------------------------------------------------------------------------

def test_scenes_are_lakelands(scenes):
    images, maps = scenes[1]
    image, target = Lakeland("val", 64, TINY.difficulty)[2]
    assert torch.equal(images[2], image) and maps.dtype == torch.int8
    for label, mask in zip(target["labels"], target["masks"]):
        assert (maps[2][mask] == label).all()
    assert (maps[2][~target["valid"]] == -1).all()


def test_a_perfect_answer_scores_100_and_void_costs_nothing(scenes):
    maps = [m.long() for m in scenes[1][1]]
    guess = [torch.where(m == -1, 3, m) for m in maps]
    for name, value in ablations.score_maps(guess, maps).items():
        assert value == 100, name


def test_no_answer_counts_as_missed():
    truth = torch.tensor([[0, 0, 1, 1]])
    scores = ablations.score_maps([torch.tensor([[0, 0, -1, -1]])], [truth])
    assert scores["miou"] == scores["pq"] == scores["rq"] == 50 and scores["sq"] == 50


def test_every_class_is_stuff():
    assert not any(ablations.all_stuff(LAKELAND_CLASSES).isthing)


def test_class_maps_are_the_librarys_rules(scenes):
    torch.manual_seed(0)
    model = build_model("mini", num_queries=5, short_side=64).eval()
    images = scenes[1][0]
    predictions = ablations.predict_images(model, images)
    for rule in ("semantic", "general"):
        want = model.predict(list(images), task=rule)
        want = [w if rule == "semantic" else w[1] for w in want]
        assert all(torch.equal(ablations.class_map(*a, rule), b) for a, b in zip(predictions, want))
    assert all((ablations.class_map(*a, "general", score_threshold=1.0) == -1).all() for a in predictions)
    baseline = baselines.PerPixelBaseline(model.config).eval()
    assert all(torch.equal(ablations.class_map(*a), b)
               for a, b in zip(ablations.predict_images(baseline, images), baseline.predict(list(images))))


# --- seeds ------------------------------------------------------------------------------------------------------------

def test_mean_and_error_by_hand():
    mean, error = seeds.mean_and_error([[1.0, 2.0, 6.0], [4.0, 4.0, 4.0]])
    assert mean.tolist() == [3, 4] and error.tolist() == pytest.approx([math.sqrt(7 / 3), 0])
    assert seeds.paired_difference([1, 2, 3], [2, 4, 3])[0] == 1
    for bad in ([1.0], 3.0, [[1.0], [2.0]]):
        with pytest.raises(ValueError, match="two seeds"):
            seeds.mean_and_error(bad)
    with pytest.raises(ValueError, match="one figure per seed"):
        seeds.paired_difference([1, 2], [1, 2, 3])


def test_the_error_is_the_spread_of_means():
    draws = torch.randn(4000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    means, errors = seeds.mean_and_error(draws)
    assert means.std().item() == pytest.approx((errors ** 2).mean().sqrt().item(), rel=0.05)


# --- the script and its results ---------------------------------------------------------------------------------------

@pytest.fixture()
def script():
    spec = importlib.util.spec_from_file_location("ablations_script", ROOT / "benchmarks" / "ablations.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_cut_off_line_costs_only_its_run(script, tmp_path, capsys):
    path = tmp_path / "results.jsonl"
    assert script.read(path) == []
    path.write_text('{"setting": "fixed", "seed": 0}\n{"setting": "fix')
    assert script.read(path) == [{"setting": "fixed", "seed": 0}] and "cut off" in capsys.readouterr().out


def test_shipped_results_are_complete_pairs():
    shipped = json.loads((ROOT / "data" / "ablations.json").read_text())
    assert shipped["budget"] == vars(Budget(amp=True))
    runs = {(row["setting"], row["seed"]) for row in shipped["runs"]}
    assert len(runs) == len(shipped["runs"])
    counts = {name: sum(setting == name for setting, _ in runs) for name in SETTINGS}
    assert min(counts.values()) >= 3 and max(counts.values()) - min(counts.values()) <= 1
