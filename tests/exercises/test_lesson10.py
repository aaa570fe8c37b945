"""Lesson 10's exercises: right solutions written differently, and wrong ones that are no known mistake."""
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exercises.banks import *  # noqa: F403
from exercises.clinic_solutions import CLINIC_RIGHT, CLINIC_WRONG
from matplotlib.figure import Figure

from minimaskformer import Lakeland, PanopticQuality, load_checkpoint
from minimaskformer.exercises.lessons.lesson10 import ANSWERS, learning_rate, which_mistake
from minimaskformer.exercises.lessons.lesson10_clinic import (
    FAULTS,
    HEALTHY,
    PARTS,
    draw_ward,
    fault_of,
    figures,
    logits_of,
    scenes,
)
from minimaskformer.exercises.lessons.lesson10_shift import best_shift
from minimaskformer.exercises.lessons.lesson10_signs import objects_per_image
from minimaskformer.exercises.lessons.lesson10_ward import WARD, repair
from minimaskformer.training.optim import set_learning_rate
from minimaskformer.training.recipes import TrainConfig

SHIPPED = Path(__file__).resolve().parents[2] / "data" / "broken_runs"


def rate_in_cases(step, steps, peak, warmup):
    decay = ((steps - step + 1) / steps) ** 0.9
    if step < warmup:
        return peak * decay * step / warmup
    return peak * decay


def twins_loop(mask_logits, query_class):
    count = 0
    for i in range(len(mask_logits)):
        for j in range(i):
            a, b = mask_logits[i].sigmoid() > 0.5, mask_logits[j].sigmoid() > 0.5
            if query_class[i] == query_class[j] and (a & b).sum() / (a | b).sum().clamp(min=1) > 0.5:
                count += 1
                break
    return count


def twins_set(mask_logits, query_class):
    found, masks = set(), [set(np.flatnonzero(m.numpy().ravel() > 0)) for m in mask_logits]
    for i, a in enumerate(masks):
        for j, b in enumerate(masks):
            if i < j and int(query_class[i]) == int(query_class[j]) and len(a & b) > 0.5 * len(a | b):
                found.add(j)
    return torch.tensor(len(found))


def shift_by_hand(confusion):
    K, best, answer = len(confusion), -1.0, None
    for shift in (0, 1, -1):
        ious = []
        for c in range(K):
            p = (c - shift) % K  # the column that becomes class c
            hit = float(confusion[c, p])
            union = float(confusion[c].sum() + confusion[:, p].sum()) - hit
            if union > 0:
                ious.append(hit / union)
        if sum(ious) / len(ious) > best:
            best, answer = sum(ious) / len(ious), shift
    return answer


def shift_numpy(confusion):
    c, out = confusion.numpy(), []
    for s in (-1, 0, 1):
        m = np.roll(c, s, axis=1)
        d = np.diag(m)
        union = m.sum(0) + m.sum(1) - d
        out.append((d[union > 0] / union[union > 0]).mean())
    return np.argmax(out) - 1


def equal_masks(mask_logits, query_class):
    """A twin only where every pixel agrees."""
    hard = (mask_logits > 0).flatten(1)
    return sum(any(query_class[i] == query_class[j] and (hard[i] == hard[j]).all() for j in range(i))
               for i in range(len(hard)))


def components(mask_logits, query_class):
    """Queries less groups of queries that hang together."""
    hard = (mask_logits > 0).flatten(1).double()
    inside, area = hard @ hard.T, hard.sum(1)
    near = (inside / (area[:, None] + area - inside) > 0.5) & (query_class[:, None] == query_class)
    reach = torch.linalg.matrix_power(near.double(), len(hard)) > 0
    return len(hard) - len({tuple(row.tolist()) for row in reach})


def overlaps_and_classes(mask_logits, query_class):
    """Two mistakes at once: pairs counted, and of any class."""
    hard = (mask_logits > 0).flatten(1).double()
    return int((hard @ hard.T).tril(-1).count_nonzero())


def by_score(confusion, score):
    """The shift that is best by a score of the IoUs, absent classes counted as 0."""
    def value(c):
        inside, both = c.diagonal(), c.sum(0) + c.sum(1)
        return float(score(inside / (both - inside).clamp(min=1)))
    return max((-1, 0, 1), key=lambda shift: value(confusion.roll(shift, dims=1)))


def miou(confusion):
    inside, union = confusion.diagonal(), confusion.sum(0) + confusion.sum(1) - confusion.diagonal()
    return float((inside / union).nanmean())


RIGHT = {
    "10.1": [rate_in_cases, lambda t, T, p, w: torch.tensor(p) * min(1.0, t / (w or 1)) * torch.tensor(1 - (t - 1) / T).pow(0.9),
             lambda t, T, p, w: p * np.power(1 - (t - 1) / T, 0.9) * (t / w if w > t else 1),
             lambda t, T, p, w: [p * (1 - (t - 1) / T) ** 0.9 * (1 if w == 0 else min(t, w) / w)][0]],
    "10.2": [lambda run: ANSWERS[run], lambda run: "dbgfcae".index(run) + 1, lambda run: torch.tensor(ANSWERS[run]),
             lambda run: [6, 2, 5, 1, 7, 4, 3][ord(run) - ord("a")]],
    "10.3": [lambda x: (x.softmax(-1)[..., :-1].amax(-1) > x.softmax(-1)[..., -1]).sum(1),
             lambda x: [sum(int(q.argmax()) != len(q) - 1 for q in image) for image in x],
             lambda x: x.shape[1] - (x.argmax(-1) == x.shape[-1] - 1).sum(1), lambda x: (x.numpy().argmax(-1) < x.shape[-1] - 1).sum(-1),
             lambda x: (x[..., :-1] > x[..., -1:]).any(-1).sum(-1).int()],
    "10.4": [twins_loop, twins_set, lambda x, c: len(x) - sum(
        not any(c[i] == c[j] and ((x[i] > 0) & (x[j] > 0)).sum() > 0.5 * ((x[i] > 0) | (x[j] > 0)).sum() for j in range(i))
        for i in range(len(x))), lambda x, c: np.int64(twins_loop(x, c))],
    "10.5": [shift_by_hand, shift_numpy, lambda c: torch.tensor(best_shift(c)), lambda c: int(best_shift(c.double()))],
    "10.6": CLINIC_RIGHT,
}
WRONG = {
    "10.1": [lambda t, T, p, w: p * min(1, t / max(1, w)) * (t / T) ** 0.9, lambda t, T, p, w: p, lambda t, T, p, w: None,
             lambda t, T, p, w: p * (1 - (t - 1) / T) ** 0.5, lambda t, T, p, w: min(1, t / max(1, w)) * (1 - t / T),
             lambda t, T, p, w: learning_rate(t, T, p, w) * 0.1, lambda t, T, p, w: p * min(1, t / max(1, w)) * (1 - t / T),
             lambda t, T, p, w: p * min(1, (t - 1) / max(1, w)), lambda t, T, p, w: 1 / 0,
             lambda t, T, p, w: learning_rate(t, T, p, w) if w else 0.0],
    "10.2": [lambda run: 1, lambda run: None, lambda run: ANSWERS[run] - 1, lambda run: (ANSWERS[run] % 7) + 1,
             lambda run: {"a": 4, "b": 3, "c": 6, "d": 1, "e": 7, "f": 5, "g": 2}[run]],
    "10.3": [lambda x: x.argmax(-1).sum(-1), lambda x: (x.argmax(-1) == 1).sum(-1), lambda x: objects_per_image(x) + 1,
             lambda x: (x > 0).sum((-1, -2)), lambda x: objects_per_image(x)[None],
             lambda x: (x.argmax(1) != x.shape[-1] - 1).sum(-1), lambda x: [0] * len(x)],
    "10.4": [lambda x, c: len(x) - 1, lambda x, c: twins_loop(x, torch.zeros(len(x))) + 20,
             lambda x, c: twins_loop(-x, c), lambda x, c: None,
             lambda x, c: twins_loop(x[..., :x.shape[1]], c), equal_masks, components, overlaps_and_classes],
    "10.5": [lambda c: 2, lambda c: c.argmax(), lambda c: c.diagonal(), lambda c: None, lambda c: best_shift(c) * 2,
             lambda c: by_score(c, lambda iou: iou.max()), lambda c: -by_score(c, lambda iou: iou.mean()),
             lambda c: max((-1, 1), key=lambda s: best_shift(c) == s),
             lambda c: (lambda s: s if s < 2 else -1)(max(range(len(c)), key=lambda s: miou(c.roll(s, dims=1))))],
    "10.6": CLINIC_WRONG,
}


def test_the_learning_rate_is_the_librarys():
    class Optimizer:
        param_groups = [{"multiplier": 1.0}]
    for warmup in (0, 1, 20):
        config = TrainConfig(steps=50, warmup=warmup, learning_rate=3e-4)
        for step in range(1, 51):
            set_learning_rate(Optimizer, config, step)
            assert Optimizer.param_groups[0]["lr"] == pytest.approx(learning_rate(step, 50, 3e-4, warmup))


@pytest.mark.parametrize("run", ANSWERS)
def test_the_shipped_runs_are_what_the_answers_say(run):
    """Settings are in the run's config; what is wrong with data or model is seen by its evidence."""
    rows = [json.loads(line) for line in (SHIPPED / run / "log.jsonl").read_text().splitlines()]
    config = json.loads((SHIPPED / run / "config.json").read_text())["train"]
    evidence = json.loads((SHIPPED / run / "evidence.json").read_text())
    answer = which_mistake(run)
    assert (config["learning_rate"] > 1e-2) == (answer == 1)
    assert ("class_0" not in rows[-2]) == (answer == 2)
    assert (config["no_object_weight"] == 1) == (answer == 3)
    assert (evidence["miou_at_shift"]["-1"] > evidence["miou_at_shift"]["0"] + 0.1) == (answer == 4)
    assert (evidence["mask_logits"][0] >= 0) == (answer == 7)


def test_the_healthy_patient_is_the_shipped_model():
    model = load_checkpoint("mini").eval()
    image, segment_map, info, _ = scenes()[0]
    with torch.no_grad():
        output = model(model.normalize(image[None]))
    class_logits, mask_logits = logits_of(HEALTHY, image)
    for layer, theirs in enumerate((*output.aux, output)):
        torch.testing.assert_close(class_logits[layer], theirs.class_logits[0], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(mask_logits[layer], theirs.mask_logits[0], rtol=1e-4, atol=1e-3)
    quality = PanopticQuality(Lakeland.classes)
    for image, segment_map, info, _ in scenes():
        quality.update(model.predict(image), (segment_map, info))
    assert figures(HEALTHY).PQ == pytest.approx(quality.compute()["pq"], abs=1e-3)


@pytest.mark.parametrize("patient", WARD, ids=lambda patient: patient.letter)
def test_each_patient_is_ill_in_one_part_and_figures_show_it(patient):
    right, ill, mended = (np.array(f[:-1]) for f in (figures(HEALTHY), figures(patient), repair(patient)))
    assert (abs(ill - right) > 0.03).any() and np.allclose(mended, right, atol=1e-4)
    name = fault_of(patient)
    assert name in FAULTS and str(patient) == f"patient {patient.letter}"
    for other in set(PARTS) - {name}:  # no other part mends it, and the change is counted
        changed = figures(replace(patient, **{other: lambda *args, other=other: getattr(HEALTHY, other)(*args)}))
        assert np.allclose(changed[:-1], ill, atol=1e-4) and changed.parts_exchanged == 1


def test_the_six_faults_are_six_and_stand_in_no_telling_order():
    found = [fault_of(patient) for patient in WARD]
    assert set(found) == set(PARTS) == set(FAULTS) and found not in (list(PARTS), list(FAULTS))


def test_the_ward_is_drawn():
    figure = draw_ward(Figure(figsize=(9, 4)), [HEALTHY, WARD[0]])
    assert [ax.get_title() for ax in figure.axes[:2]] == ["healthy", "p"]
    heights = [[bar.get_height() for bar in ax.patches] for ax in figure.axes[2:4]]
    assert heights == [list(figures(patient)[6:10]) for patient in (HEALTHY, WARD[0])]
