"""The training loop: it learns, it repeats, it stops cleanly, and what it leaves behind is whole."""
import inspect
import json
import math
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import minimaskformer.train as train_module
import minimaskformer.training.run as run_module
from minimaskformer import Lakeland, SetCriterion, build_model, load_checkpoint
from minimaskformer.evaluation import evaluate, percent, table, write_table
from minimaskformer.train import train
from minimaskformer.training.batches import BatchOrder, MicroBatches
from minimaskformer.training.not_finite import naming_pictures
from minimaskformer.training.optim import parameter_groups, set_learning_rate
from minimaskformer.training.recipes import TrainConfig

TINY = dict(dim=32, mask_dim=32, hidden_dim=32, feedforward=32, decoder_layers=2, encoder_layers=0, num_queries=16, short_side=64)
CONFIG = TrainConfig(steps=4, batch_size=2, size=64, warmup=2, log_every=2, save_every=2, evaluate_images=4)


def tiny(seed=0):
    torch.manual_seed(seed)
    return build_model("mini", **TINY)


def scenes(length=4):
    return Lakeland("train", 64, 0.0, length)


def test_a_run_leaves_checkpoint_log_and_results(tmp_path):
    model = tiny()
    config = replace(CONFIG, backbone_multiplier=0.5)
    results = train(model, scenes(), Lakeland("val", 64, 0.0, 5), config, tmp_path / "run", progress=False)
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 4]
    assert {"loss", "class", "focal", "dice", "class_0", "lr", "gradient_norm", "images_per_second"} <= set(rows[0])
    assert rows[0]["lr"] == pytest.approx(CONFIG.learning_rate * 2 / CONFIG.warmup * (1 - 1 / CONFIG.steps) ** 0.9)
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
    states = []
    for name, config in (("a", CONFIG), ("b", CONFIG), ("c", replace(CONFIG, seed=1))):
        model = tiny()
        train(model, scenes(), None, config, tmp_path / name, progress=False)
        states.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_workers_change_nothing(tmp_path):
    states = []
    for workers in (0, 1):
        model = tiny()
        train(model, scenes(), None, replace(CONFIG, steps=2, workers=workers), tmp_path / str(workers), progress=False)
        states.append(torch.cat([p.flatten() for p in model.parameters()]))
    assert torch.equal(*states)


def test_an_error_leaves_no_process_behind(tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("out of luck")
    monkeypatch.setattr(train_module, "set_learning_rate", fail)
    with pytest.raises(RuntimeError, match="luck") as held:  # whose traceback holds the loop and all it uses
        train(tiny(), scenes(), None, replace(CONFIG, workers=2), tmp_path, progress=False)
    assert held.traceback and not multiprocessing.active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_after_the_step_with_checkpoints(tmp_path, monkeypatch, number):
    original, steps = train_module.set_learning_rate, []

    def interrupt(optimizer, config, step):
        original(optimizer, config, step)
        steps.append(step)
        if step == 3:  # a terminal's Ctrl-C reaches the processes that load data first; the step still needs them
            for process in multiprocessing.active_children():
                os.kill(process.pid, number)
            time.sleep(0.5)
        if step == 7:  # between two that are saved anyway
            signal.raise_signal(number)
    monkeypatch.setattr(train_module, "set_learning_rate", interrupt)
    model, before = tiny(), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt):
        train(model, scenes(), None, replace(CONFIG, steps=40, workers=1), tmp_path, progress=False)
    assert steps == list(range(1, 8)) and signal.getsignal(number) is before
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step_00000006.pt", "step_00000007.pt"]
    loaded = load_checkpoint(tmp_path / "model.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters()))


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch):
    def interrupt(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    monkeypatch.setattr(train_module, "set_learning_rate", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tiny(), scenes(), None, CONFIG, tmp_path, progress=False)
    assert not (tmp_path / "model.safetensors").exists()


class Bad(torch.nn.Module):
    """A module whose output, or whose gradient, is spoilt when it has been called `at` times, for one image."""

    def __init__(self, inner, at, what, image=1):
        super().__init__()
        self.inner, self.at, self.what, self.image, self.calls = inner, at, what, image, 0

    def forward(self, *arguments):
        out = self.inner(*arguments)
        self.calls += 1
        if self.calls < self.at:
            return out
        mask = torch.zeros_like(out)  # [L, B, N, K+1]
        mask[:, min(self.image, out.shape[1] - 1)] = 1
        if self.what == "output":
            return torch.where(mask > 0, float("nan"), out)
        if out.shape[1] == 1 and self.calls == self.at + 1:
            return out  # looked at alone: first the picture that is well, then the one that is not
        out = out + 0
        out.register_hook(lambda gradient: torch.where(mask > 0, float("inf"), gradient))
        return out


@pytest.mark.parametrize("what, message", [("output", "prediction for {} is not finite"), ("gradient", "gradient is not finite .*; pictures: {}[)]")])
def test_what_is_not_finite_stops_the_run_and_names_the_picture(tmp_path, what, message):
    model, data = tiny(), scenes()
    model.class_head = Bad(model.class_head, 3, what)
    with pytest.raises(FloatingPointError) as error:
        train(model, data, None, CONFIG, tmp_path, progress=False)
    picture = data.name(BatchOrder(4, 2, CONFIG.seed).batch(3)[1][1])
    assert error.match("step 3: ") and error.match(message.format(picture))
    states = sorted((tmp_path / "checkpoints").iterdir())
    assert [path.name for path in states] == ["step_00000000.pt", "step_00000002.pt"]
    kept = torch.load(states[-1], weights_only=True)["parts"]["model"]
    assert all(value.isfinite().all() for value in kept.values())
    if what == "gradient":
        assert "nearest to the output class_head.inner.bias; " in str(error.value)


def test_what_else_the_matching_refuses_is_no_number_that_is_not_finite():
    finite, bad = (SimpleNamespace(class_logits=torch.zeros(2, 3, 4), mask_logits=torch.zeros(2, 3, 8, 8), aux=[]) for _ in range(2))
    bad.mask_logits[1, 2, 5, 5] = float("nan")
    for output, kind, words in ((finite, ValueError, "^labels go up to 11$"), (bad, FloatingPointError, "step 3: .* prediction for b is not finite")):
        with pytest.raises(kind, match=words), naming_pictures(3, ["a", "b"], output):
            raise ValueError("labels go up to 11")


def test_a_loss_that_is_not_finite_names_term_and_picture(tmp_path, monkeypatch):
    original, data = SetCriterion.forward, scenes()
    bad = data[1][1]["masks"].sum()

    def broken(self, output, targets, normalizers=None):
        losses = original(self, output, targets, normalizers)
        if any(target["segment_map"].sum() == data[1][1]["segment_map"].sum() for target in targets):
            losses["dice_0"] = losses["dice_0"] * float("nan")
            losses["loss"] = losses["loss"] + losses["dice_0"]
        return losses
    monkeypatch.setattr(SetCriterion, "forward", broken)
    assert bad
    with pytest.raises(FloatingPointError, match=r"step [12]: the loss is not finite \(terms: dice_0; pictures: lakeland_train_000001\)"):
        train(tiny(), data, None, CONFIG, tmp_path, progress=False)


def test_pieces_of_a_batch_are_the_batch(tmp_path):
    """Gradient accumulation changes memory, not the step. (With frozen norms: a trained BatchNorm sees its piece.)"""
    states, rows = [], []
    for pieces in (1, 2, 4):
        torch.manual_seed(0)
        model = build_model("mini", **TINY, frozen_norm=True)
        config = replace(CONFIG, batch_size=4, accumulate=pieces, steps=3, log_every=3)
        train(model, Lakeland("train", 64, 0.3, 12), None, config, tmp_path / str(pieces), progress=False)
        states.append(torch.cat([p.flatten() for p in model.parameters()]))
        rows.append(json.loads((tmp_path / str(pieces) / "log.jsonl").read_text().splitlines()[0]))
    for state, row in zip(states[1:], rows[1:]):
        assert (state - states[0]).abs().mean() < 2e-6  # not max: AdamW takes a whole step on a gradient that is noise
        for name in ("loss", "class", "focal_0", "dice", "gradient_norm"):
            assert math.isclose(row[name], rows[0][name], rel_tol=1e-4), name


def test_the_first_gradient_of_pieces_is_that_of_the_batch():
    """Uneven pieces: crowded and empty images in one batch. Mean over pieces, per piece divisors would differ."""
    torch.manual_seed(0)
    model = build_model("mini", **TINY, frozen_norm=True)
    items = [Lakeland("train", 64, d, 5)[i] for d, i in ((0.0, 0), (1.0, 1), (0.5, 2))]
    images, targets = torch.stack([image for image, _ in items]), [target for _, target in items]
    targets[0] = targets[0] | {"labels": targets[0]["labels"][:0], "masks": targets[0]["masks"][:0]}
    criterion = SetCriterion(11)
    whole = criterion(model(model.normalize(images)), targets)
    whole["loss"].backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    normalizers, total, naive = criterion.normalizers(targets, 16, "cpu"), 0, 0
    for piece in (slice(0, 1), slice(1, 3)):
        output = model(model.normalize(images[piece]))
        losses = criterion(output, targets[piece], normalizers)
        losses["loss"].backward()
        total, naive = total + losses["loss"].item(), naive + criterion(output, targets[piece])["loss"].item() / 2
    assert math.isclose(total, whole["loss"].item(), rel_tol=1e-5) and abs(naive - total) > 0.1
    for p, gradient in zip(model.parameters(), expected):
        torch.testing.assert_close(p.grad, gradient, rtol=1e-3, atol=1e-5)


def test_mixed_precision_is_near_full_precision(tmp_path):
    losses = []
    for amp in ("off", "bf16", "fp16"):
        train(tiny(), scenes(2), None, replace(CONFIG, amp=amp, steps=1, log_every=1), tmp_path / amp, progress=False)
        losses.append(json.loads((tmp_path / amp / "log.jsonl").read_text().splitlines()[0]))
    assert losses[1]["loss"] != losses[0]["loss"] != losses[2]["loss"]
    assert all(math.isclose(row["loss"], losses[0]["loss"], rel_tol=0.02) for row in losses)
    assert losses[2]["skipped"] == 1 and "skipped" not in losses[0]  # its first scale is too large for these gradients


def test_an_fp16_overflow_skips_the_step_and_is_no_error(tmp_path):
    model = tiny()
    start = [p.clone() for p in model.parameters()]
    model.class_head = Bad(model.class_head, 1, "gradient")
    original = torch.amp.GradScaler.update
    scales = []

    def update(self):
        original(self)
        scales.append(self.get_scale())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.amp.GradScaler, "update", update)
        train(model, scenes(), None, replace(CONFIG, amp="fp16", steps=2), tmp_path, progress=False)
    assert scales == [32768.0, 16384.0]
    assert all(torch.equal(a, b) for a, b in zip(start, model.parameters()))


def test_compile_is_asked_for(tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    model = tiny()
    train(model, scenes(), None, replace(CONFIG, steps=1, compile=True), tmp_path, progress=False)
    assert compiled == [model]


def test_the_best_evaluation_is_kept(tmp_path, monkeypatch):
    scores = iter([0.2, 0.5, 0.4])
    seen = []

    def fake(model, *arguments, **options):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        results = real(model, *arguments, **options)
        return results | {"pq": next(scores)}
    real = run_module.evaluate
    monkeypatch.setattr(run_module, "evaluate", fake)
    config = replace(CONFIG, steps=3, evaluate_every=1, evaluate_images=1)
    train(tiny(), scenes(), Lakeland("val", 64, 0.0, 2), config, tmp_path, progress=False)
    best = load_checkpoint(tmp_path / "best.safetensors")
    assert all(torch.equal(value, best.state_dict()[name]) for name, value in seen[1].items())
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "pq" in row] == [1, 2, 3]


def test_the_log_says_how_fast_and_how_much(tmp_path):
    train(tiny(), scenes(), None, CONFIG, tmp_path, progress=False)
    for line in (tmp_path / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert row["images_per_second"] > 0 and 0 < row["data_wait"] < 1 and 0.05 < row["memory_gb"] < 100


def test_tensorboard(tmp_path):
    config = replace(CONFIG, steps=2, tensorboard=True)
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="pip install tensorboard"):
            train(tiny(), scenes(), None, config, tmp_path, progress=False)
    else:
        train(tiny(), scenes(), None, config, tmp_path, progress=False)
        assert list((tmp_path / "tensorboard").iterdir())


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


def test_step_schedule_and_constant():
    optimizer = torch.optim.AdamW(parameter_groups(tiny(), config := TrainConfig(steps=9, warmup=0, learning_rate=1.0, schedule="step")))
    rates = [set_learning_rate(optimizer, config, step) or optimizer.param_groups[0]["lr"] for step in range(1, 10)]
    assert rates == [1.0] * 6 + [0.1] * 3
    constant = replace(config, schedule="constant", warmup=2)
    assert [set_learning_rate(optimizer, constant, step) or optimizer.param_groups[0]["lr"] for step in (1, 2, 9)] == [0.5, 1, 1]


def test_order_shows_every_picture_once_an_epoch():
    order = BatchOrder(5, 2, seed=3)
    row = [key for step in range(1, 6) for key in order.batch(step)]  # 10 places: two epochs, one batch across both
    assert sorted(row[:5]) == [(0, i) for i in range(5)] and sorted(row[5:]) == [(1, i) for i in range(5)]
    assert [i for _, i in row[:5]] != [i for _, i in row[5:]]
    assert order.batch(4) == BatchOrder(5, 2, seed=3).batch(4) != BatchOrder(5, 2, seed=4).batch(4)


@pytest.mark.parametrize("pieces, world", [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_pieces_of_all_processes_are_the_batch_without_repeats(pieces, world):
    order = BatchOrder(40, 12)
    shares = [list(MicroBatches(order, 2, 4, pieces, rank, world)) for rank in range(world)]
    assert all(len(share) == len(MicroBatches(order, 2, 4, pieces)) == 3 * pieces for share in shares)
    for i, step in enumerate((2, 3, 4)):
        mine = [key for share in shares for piece in share[i * pieces:(i + 1) * pieces] for key in piece]
        assert sorted(mine) == sorted(order.batch(step)) and len(mine) == 12


def test_every_parameter_gets_a_gradient():
    """DistributedDataParallel waits for every parameter; one that is never used would make it stop."""
    small = dict(dim=32, mask_dim=16, hidden_dim=32, num_heads=2, feedforward=16, num_queries=4, num_classes=11)
    image, target = Lakeland("train", 64, 0.0, 1)[0]
    empty = target | {"labels": target["labels"][:0], "masks": target["masks"][:0]}  # the worst case: no target at all
    for preset in ("mini", "r18", "r50_panoptic", "swin_t"):
        model = build_model(preset, **small).train()
        output = model(model.normalize(torch.stack([image, image])))
        SetCriterion(11)(output, [empty, empty])["loss"].backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == [], preset


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
    with pytest.raises(ValueError, match="11 classes, the model 20"):  # nine that the data never shows
        train(build_model("mini", num_classes=20, **TINY), scenes(), None, CONFIG, tmp_path, progress=False)
    with pytest.raises(ValueError, match="predicts 3 classes, the data set has 11: sky"):
        evaluate(model, scenes(), progress=False)
    with pytest.raises(ValueError, match="nothing to evaluate"):
        evaluate(tiny(), scenes(), limit=0, progress=False)


class Oracle(torch.nn.Module):
    """A model that has seen the truth: one query per target, sure of itself. The images carry their index."""

    def __init__(self, dataset):
        super().__init__()
        self.dataset, self.config, self.seen = dataset, build_model("mini", **TINY).config, 0
        self.pixel_mean = torch.zeros(3, 1, 1)

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


def test_lesson_10_shows_the_lines_of_train_step():
    """The lesson's loop and the library's step are one text, from the learning rate to the scaler."""
    source = inspect.getsource(train_module.train_step)
    step = source[source.index("    set_learning_rate("):].rstrip()
    notebook = json.loads((Path(__file__).parents[1] / "lessons" / "10_training.ipynb").read_text(encoding="utf-8"))
    loops = ["".join(cell["source"]) for cell in notebook["cells"] if "".join(cell["source"]).startswith("by_hand = []")]
    assert len(step.splitlines()) == 17 and len(loops) == 1 and step in loops[0]
