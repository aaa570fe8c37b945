"""The training loop: it learns, it repeats, it stops cleanly, and what it leaves behind is whole."""
import json
import math

import pytest
import torch

import minimaskformer.train as train_module
from minimaskformer import Lakeland, build_model, load_checkpoint
from minimaskformer.evaluate import evaluate, percent, table, write_table
from minimaskformer.train import EndlessSampler, TrainConfig, parameter_groups, set_learning_rate, train

TINY = dict(dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=2, encoder_layers=0, num_queries=16, short_side=64)
CONFIG = TrainConfig(steps=4, batch_size=2, size=64, warmup=2, log_every=2, save_every=2, evaluate_images=4)


def tiny(seed=0):
    torch.manual_seed(seed)
    return build_model("mini", **TINY)


def scenes(length=4):
    return Lakeland("train", 64, 0.0, length)


def test_a_run_leaves_checkpoint_log_and_results(tmp_path):
    model = tiny()
    results = train(model, scenes(), Lakeland("val", 64, 0.0, 5), CONFIG, tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 4]
    assert {"loss", "class", "focal", "dice", "class_0", "lr", "gradient_norm", "images_per_second"} <= set(rows[0])
    assert {"pq", "pq_things", "pq_stuff", "miou", "ap"} <= set(rows[-1]) and results["images"] == 4
    weights = {"class": 1, "focal": 20, "dice": 1}
    terms = sum(weights[k.split("_")[0]] * v for k, v in rows[0].items() if k.split("_")[0] in weights)
    assert math.isclose(terms, rows[0]["loss"], rel_tol=1e-3)
    loaded = load_checkpoint(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), model.state_dict().values()))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["steps"] == 4


def test_it_learns_one_scene(tmp_path):
    config = TrainConfig(steps=60, batch_size=2, size=64, warmup=5, log_every=10, learning_rate=2e-3, mask_stride=1)
    train(tiny(), scenes(1), None, config, tmp_path, progress=False)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]


def test_two_runs_of_one_seed_are_equal_and_another_seed_is_not(tmp_path):
    from dataclasses import replace
    states = []
    for name, config in (("a", CONFIG), ("b", CONFIG), ("c", replace(CONFIG, seed=1))):
        model = tiny()
        train(model, scenes(), None, config, tmp_path / name, progress=False)
        states.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_workers_change_nothing(tmp_path):
    from dataclasses import replace
    states = []
    for workers in (0, 1):
        model = tiny()
        train(model, scenes(), None, replace(CONFIG, steps=2, workers=workers), tmp_path / str(workers), progress=False)
        states.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*states)


def test_ctrl_c_leaves_a_usable_checkpoint(tmp_path, monkeypatch):
    original, calls = train_module.check_finite, []

    def interrupt(losses, step):
        calls.append(step)
        if step == 3:
            raise KeyboardInterrupt
        original(losses, step)
    monkeypatch.setattr(train_module, "check_finite", interrupt)
    model = tiny()
    with pytest.raises(KeyboardInterrupt):
        train(model, scenes(), None, CONFIG, tmp_path, progress=False)
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert calls[-1] == 3
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters()))


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    original = train_module.SetCriterion.forward

    def broken(self, output, targets):
        losses = original(self, output, targets)
        broken.count += 1
        if broken.count == 3:
            losses["dice"] = losses["dice"] * float("nan")
            losses["loss"] = losses["loss"] + losses["dice"]
        return losses
    broken.count = 0
    monkeypatch.setattr(train_module.SetCriterion, "forward", broken)
    with pytest.raises(FloatingPointError, match=r"step 3: the loss is not finite \(terms: dice\)"):
        train(tiny(), scenes(), None, CONFIG, tmp_path, progress=False)
    assert all(p.isfinite().all() for p in load_checkpoint(tmp_path / "model.safetensors").parameters())


def test_parameter_groups_hold_every_parameter_once():
    model = tiny()
    groups = parameter_groups(model, TrainConfig(learning_rate=1e-3, backbone_multiplier=0.1, weight_decay=0.05))
    names = {id(p): name for name, p in model.named_parameters()}
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(names)
    for group in groups:
        for p in group["params"]:
            name = names[id(p)]
            assert math.isclose(group["lr"], 1e-4 if name.startswith("backbone") else 1e-3)
            free = "norm" in name or "query_positions" in name or (name.startswith("backbone") and p.ndim == 1)
            free |= name.startswith("pixel_decoder") and p.ndim == 1 and "encoder" not in name and "mask_features" not in name
            assert group["weight_decay"] == (0 if free else 0.05), name


def test_schedule():
    model = tiny()
    config = TrainConfig(steps=100, warmup=10, learning_rate=1e-3, backbone_multiplier=0.5)
    optimizer = torch.optim.AdamW(parameter_groups(model, config))
    rates = []
    for step in range(1, 101):
        set_learning_rate(optimizer, config, step)
        rates.append({g["multiplier"]: g["lr"] for g in optimizer.param_groups})
    assert math.isclose(rates[0][1.0], 1e-3 / 10) and math.isclose(rates[49][1.0], 1e-3 * 0.51 ** 0.9)
    assert all(math.isclose(r[0.5], r[1.0] / 2) for r in rates) and 0 < rates[-1][1.0] < 2e-5


def test_sampler_shows_every_image_once_an_epoch():
    iterator = iter(EndlessSampler(5, CONFIG))
    first, second = ([next(iterator) for _ in range(5)] for _ in range(2))
    assert sorted(first) == [(0, i) for i in range(5)] and sorted(second) == [(1, i) for i in range(5)]
    assert [i for _, i in first] != [i for _, i in second]


@pytest.mark.parametrize("data, validation, message", [
    (scenes(0), None, "training data set is empty"),
    (scenes(), scenes(0), "validation data set is empty"),
])
def test_impossible_data_stops_before_the_first_step(tmp_path, data, validation, message):
    with pytest.raises(ValueError, match=message):
        train(tiny(), data, validation, CONFIG, tmp_path, progress=False)
    assert not (tmp_path / "model.safetensors").exists()


def test_class_counts_must_agree(tmp_path):
    model = build_model("mini", num_classes=3, **TINY)
    with pytest.raises(ValueError, match="11 classes, the model 3"):
        train(model, scenes(), None, CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match="predicts 3 classes, the data set has 11: sky"):
        evaluate(model, scenes(), progress=False)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(tiny(), scenes(), limit=0, progress=False)


class Oracle(torch.nn.Module):
    """A model that has seen the truth: one query per target, sure of itself. The images carry their index."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset, self.config, self.seen = dataset, build_model("mini", **TINY).config, 0

    def normalize(self, images):
        return images

    def forward(self, images):
        from minimaskformer.model import Output
        class_logits = torch.full((len(images), 30, 12), -10.0)
        class_logits[..., 11] = 10
        mask_logits = torch.full((len(images), 30, 64, 64), -10.0)
        for b in range(len(images)):
            target = self.dataset[self.seen][1]
            self.seen += 1
            for q, (label, mask) in enumerate(zip(target["labels"], target["masks"])):
                class_logits[b, q, label], class_logits[b, q, 11] = 10, -10
                mask_logits[b, q] = torch.where(mask, 10.0, -10.0)
        return Output(class_logits, mask_logits)


class WithoutCrowds(list):
    """Scenes in which a perfect prediction has IoU 1: PQ's union does not leave out crowds."""
    classes = Lakeland.classes

    def __init__(self, scenes):
        super().__init__(item for item in scenes if not any(s["iscrowd"] for s in item[1]["segments_info"]))


def test_a_perfect_model_gets_perfect_figures(tmp_path):
    data = WithoutCrowds(Lakeland("val", 64, 0.8, 20))
    results = evaluate(Oracle(data), data, progress=False)
    for name in ("pq", "pq_things", "pq_stuff", "sq", "rq", "miou", "ap", "ap50"):
        assert results[name] == pytest.approx(1, abs=1e-6), name
    write_table(results, data.classes, tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["panoptic"]["pq"] == results["pq"]
    text = (tmp_path / "metrics.md").read_text()
    assert text == table(results, data.classes) and "| sheep | thing | 100.0 |" in text


def test_percent():
    assert [percent(v) for v in (0.1234, 1, None, math.nan)] == ["12.3", "100.0", "-", "-"]
