"""Steps of training against AdamW written out, and every option of a run seen to change what it should."""
import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import minimaskformer.training.run as run_module
from minimaskformer import ClassTable, Lakeland, build_model, panoptic_to_target
from minimaskformer.data.transforms import collate
from minimaskformer.losses import SetCriterion
from minimaskformer.swin import WindowAttention
from minimaskformer.train import train, train_step
from minimaskformer.training import log
from minimaskformer.training.batches import BatchOrder
from minimaskformer.training.optim import parameter_groups
from minimaskformer.training.recipes import TrainConfig
from minimaskformer.training.resume import run_facts

TINY = dict(dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=1, encoder_layers=0, num_queries=8, short_side=64)
CONFIG = TrainConfig(steps=3, batch_size=2, size=64, warmup=0, log_every=1, save_every=3, learning_rate=1e-3, beta2=0.9,
                     weight_decay=0.1, clip=0.5, backbone_multiplier=0.5, schedule="constant")


class Scenes:
    """Four scenes that are drawn once."""
    classes, items = Lakeland("train", 64, 0.0, 4).classes, [Lakeland("train", 64, 0.0, 4)[i] for i in range(4)]

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return self.items[index]

    def name(self, index):
        return f"scene {index}"


def new_run(folder, config=CONFIG, **changes):
    torch.manual_seed(0)
    return run_module.Run(build_model("mini", **TINY | changes).train(), Scenes(), config, folder)


def gradients_of(run, items):
    """Gradients of a batch's loss, from a copy of nothing but the model's public parts."""
    images, _, targets = collate(items)
    run.model.zero_grad()
    SetCriterion(11, no_object_weight=run.config.no_object_weight, mask_stride=run.config.mask_stride)(
        run.model(run.model.normalize(images)), targets)["loss"].backward()
    return {name: p.grad.clone() for name, p in run.model.named_parameters()}


def is_free(module):
    return isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.modules.batchnorm._BatchNorm, nn.Embedding))


def test_two_steps_are_adamw_with_clip_betas_and_groups_written_out(tmp_path):
    run = new_run(tmp_path)
    items = [run.views[i] for i in (0, 1)]
    owner = {f"{name}.{p}".lstrip("."): module for name, module in run.model.named_modules()
             for p, _ in module.named_parameters(recurse=False)}
    weights = {name: p.detach().clone() for name, p in run.model.named_parameters()}
    first, second = ({name: torch.zeros_like(p) for name, p in weights.items()} for _ in range(2))
    for step in (1, 2):
        gradients = gradients_of(run, items)
        norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
        assert norm > CONFIG.clip  # or nothing would be clipped
        for name, g in gradients.items():
            g = g * CONFIG.clip / (norm + 1e-6)
            rate = CONFIG.learning_rate * (0.5 if name.startswith("backbone.") else 1)
            decay = 0 if is_free(owner[name]) else CONFIG.weight_decay
            first[name] = 0.9 * first[name] + 0.1 * g
            second[name] = 0.9 * second[name] + 0.1 * g ** 2
            update = first[name] / (1 - 0.9 ** step) / ((second[name] / (1 - 0.9 ** step)).sqrt() + 1e-8)
            weights[name] = weights[name] * (1 - rate * decay) - rate * update
        train_step(run, [collate(items)], step)
        clipped = torch.cat([p.grad.flatten() for p in run.model.parameters()]).norm()
        assert clipped.item() == pytest.approx(CONFIG.clip, rel=1e-3)
        for name, p in run.model.named_parameters():  # where a gradient is almost zero Adam amplifies its noise
            assert (p.detach() - weights[name]).abs().mean() < 3e-3 * CONFIG.learning_rate, name
            with torch.no_grad():
                p.copy_(weights[name])  # that noise stays out of the second step


def test_fp16_gradients_are_clipped_without_their_scale(tmp_path):
    run = new_run(tmp_path, replace(CONFIG, amp="fp16"))
    clipped = torch.tensor(torch.nan)
    while not clipped.isfinite():  # the first steps overflow, are skipped and halve the scale
        train_step(run, [collate([run.views[0], run.views[1]])], 1)
        clipped = torch.cat([p.grad.flatten() for p in run.model.parameters()]).norm()
    assert run.scaler.get_scale() > 100 and clipped.item() == pytest.approx(CONFIG.clip, rel=1e-2)


def test_swins_table_of_positions_has_no_weight_decay():
    block = nn.Sequential(WindowAttention(32, [2, 2], [0, 0], 1))
    groups = {p.shape: group["weight_decay"] for group in parameter_groups(block, CONFIG) for p in group["params"]}
    assert groups == {(9, 1): 0.0, (96, 32): 0.1, (96,): 0.1, (32, 32): 0.1, (32,): 0.1}


def test_speed_by_a_clock_of_our_own(monkeypatch):
    now = iter([0.0, 0.5, 2.0, 2.0, 2.5, 4.0])  # two steps of 2 s, 0.5 s of each for the data
    monkeypatch.setattr(log.time, "perf_counter", lambda: next(now))
    speed, batches = log.Speed(torch.device("cpu")), iter("abcd")
    assert speed.fetch(batches, 2) == ["a", "b"]
    speed.step_done(16)
    assert speed.fetch(batches, 1) == ["c"]
    speed.step_done(16)
    row = speed.row()
    assert row["images_per_second"] == 8 and row["data_wait"] == 0.25 and speed.images == speed.waited == speed.spent == 0


def test_data_that_draws_numbers_does_not_change_what_comes_next(tmp_path):
    class Drawing(Scenes):
        def __getitem__(self, index):
            random.random(), np.random.rand(), torch.rand(3)
            return super().__getitem__(index)
    numbers = []
    for name, data in (("a", Scenes()), ("b", Drawing())):
        run_module.Run(build_model("mini", **TINY), data, CONFIG, tmp_path / name)
        numbers.append((random.random(), float(np.random.rand()), torch.rand(1).item()))
    assert numbers[0] == numbers[1]


def test_validation_classes_in_another_order_give_the_same_figures(tmp_path):
    """By name, also for a model without names: class k of the figures is class k of the training data."""
    order = [*range(1, 11), 0]  # index in the other table -> index here
    table = Scenes.classes

    class Turned(Scenes):
        classes = ClassTable(tuple(table.names[k] for k in order), tuple(table.isthing[k] for k in order), tuple(range(11)))
        items = [(image, panoptic_to_target(target["segment_map"], [dict(s, category_id=order.index(s["category_id"]))
                                                                    for s in target["segments_info"]], 11))
                 for image, target in Scenes.items]
    figures = []
    for name, data in (("a", Scenes()), ("b", Turned())):
        torch.manual_seed(0)
        model = build_model("mini", **TINY, class_names=())
        figures.append(train(model, Scenes(), data, replace(CONFIG, steps=1), tmp_path / name, progress=False))
    assert figures[0]["semantic"]["iou"] == pytest.approx(figures[1]["semantic"]["iou"], nan_ok=True)
    assert figures[0]["miou"] == figures[1]["miou"] and figures[0]["pq"] == pytest.approx(figures[1]["pq"], nan_ok=True)


def losses_of(folder, config):
    """The first row of the log of one step: loss terms before anything has moved."""
    torch.manual_seed(0)
    train(build_model("mini", **TINY), Scenes(), None, replace(config, steps=1), folder, progress=False)
    return json.loads((folder / "log.jsonl").read_text().splitlines()[0])


@pytest.mark.parametrize("change, terms", [
    (dict(no_object_weight=0.9), {"class"}), (dict(mask_stride=1), {"focal", "dice"}), (dict(mask_stride=1, mask_points=16), {"focal", "dice"}),
    (dict(color=True), {"class", "focal", "dice"}), (dict(seed=5), {"class", "focal", "dice"}),
    (dict(scale=(0.5, 0.6)), {"class", "focal", "dice"}), (dict(category_limit=0.2), {"class", "focal", "dice"})])
def test_every_option_changes_the_losses(tmp_path, change, terms):
    config = replace(CONFIG, scale=(1.0, 2.0)) if "category_limit" in change else CONFIG  # or every crop is the whole scene
    before, after = losses_of(tmp_path / "a", config), losses_of(tmp_path / "b", replace(config, **change))
    for term in ("class", "focal", "dice"):
        if term in terms:
            assert abs(before[term] - after[term]) > 1e-5 * before[term], term
    if terms == {"class"}:
        assert before["focal"] == pytest.approx(after["focal"], rel=1e-6)


def test_the_seed_decides_order_and_views():
    orders = [[BatchOrder(50, 10, seed).batch(1) for seed in (0, 1)], [BatchOrder(50, 50, seed).batch(2) for seed in (0, 1)]]
    assert all(a != b for a, b in orders)


def test_the_run_takes_the_seed_to_order_and_views(tmp_path):
    runs = [new_run(tmp_path / str(seed), replace(CONFIG, seed=seed, scale=(0.5, 2.0))) for seed in (1, 2, 3, 4)]
    assert len({str([run.order.batch(1), run.order.batch(2)]) for run in runs}) > 1
    assert len({run.views[0][0].float().mean().item() for run in runs}) == 4


def test_the_run_takes_stride_or_points_to_the_losses(tmp_path):
    stride, points = (new_run(tmp_path / str(i), replace(CONFIG, **options)).criterion for i, options
                      in enumerate((dict(mask_stride=3), dict(mask_stride=1, mask_points=17))))
    assert (stride.mask_stride, stride.mask_points, points.mask_stride, points.mask_points) == (3, 0, 1, 17)


def test_images_are_not_shown_in_the_order_of_the_data_set():
    assert [i for _, i in BatchOrder(50, 50).batch(1)] != list(range(50))


def test_a_row_of_the_log_is_the_mean_over_its_steps(tmp_path):
    for name, every in (("each", 1), ("all", 3)):
        torch.manual_seed(0)
        train(build_model("mini", **TINY), Scenes(), None, replace(CONFIG, log_every=every), tmp_path / name, progress=False)
    each, (mean,) = ([json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
                     for name in ("each", "all"))
    for term in ("loss", "class", "focal", "dice", "gradient_norm"):
        assert mean[term] == pytest.approx(sum(row[term] for row in each) / 3, rel=1e-5), term
    assert mean["lr"] == CONFIG.learning_rate  # the largest of the groups', not the backbone's


def test_the_model_trains_in_train_mode_and_comes_back_in_eval_mode(tmp_path, monkeypatch):
    modes = []
    original = run_module.Run.add
    monkeypatch.setattr(run_module.Run, "add", lambda run, values: (modes.append(run.model.training), original(run, values))[1])
    model = build_model("mini", **TINY).eval()
    train(model, Scenes(), None, replace(CONFIG, steps=2), tmp_path, progress=False)
    assert modes and all(modes) and not model.training


def test_facts_know_the_pictures(tmp_path):
    class Others(Scenes):
        items = [(255 - image, target) for image, target in Scenes.items]
    model = build_model("mini", **TINY)
    one, other = run_facts(model, Scenes(), CONFIG), run_facts(model, Others(), CONFIG)
    assert one["data"] != other["data"] and one["data"] == run_facts(model, Scenes(), CONFIG)["data"]
    assert {k: v for k, v in one.items() if k != "data"} == {k: v for k, v in other.items() if k != "data"}


def test_parts_hold_the_optimizer(tmp_path):
    run = new_run(tmp_path)
    train_step(run, [collate([run.views[0], run.views[1]])], 1)
    state = run.parts["optimizer"].state_dict()["state"]
    assert len(state) == len(list(run.model.parameters())) and any(s["exp_avg"].any() for s in state.values())
