"""Runs whose files were damaged: by flipped bits, cut logs, files of another kind, killed processes, a full disk."""
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_runs import CONFIG, start_run

import minimaskformer.train as train_module
from minimaskformer import Lakeland, build_model, load_checkpoint
from minimaskformer.commands.train import lacks_only_pictures
from minimaskformer.diagnosis.run import read_run
from minimaskformer.draw.runs import draw_run
from minimaskformer.system.files import replacing
from minimaskformer.system.tensors import load_whole
from minimaskformer.train import train
from minimaskformer.training.log import RunLog, read_log
from minimaskformer.training.recipes import TrainConfig
from minimaskformer.training.resume import state_files

TIMES = ("seconds", "images_per_second", "data_wait", "memory_gb")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that an error ended in its sixth step: checkpoints of steps 2 and 4, three rows."""
    folder, original = tmp_path_factory.mktemp("stopped"), train_module.set_learning_rate

    def gone(optimizer, config, step):
        if step == 6:
            raise RuntimeError("the machine is gone")
        original(optimizer, config, step)
    train_module.set_learning_rate = gone
    try:
        with pytest.raises(RuntimeError, match="gone"):
            start_run(folder, replace(CONFIG, log_every=1))
    finally:
        train_module.set_learning_rate = original
    return folder


@pytest.fixture
def run(stopped, tmp_path):
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def rows(folder):
    return [{name: value for name, value in row.items() if name not in TIMES} for row in read_log(folder / "log.jsonl")]


def go_on(folder):
    return start_run(folder, replace(CONFIG, log_every=1), resume=True)


def same(a, b):
    """Whether two nested values are equal, tensors bit by bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_a_flipped_bit_is_noticed_or_changes_nothing(run):
    path = state_files(run)[-1]
    whole, expected, noticed = path.read_bytes(), load_whole(path), 0
    for place in torch.randint(len(whole), (40,), generator=torch.Generator().manual_seed(0)).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = load_whole(path)
        except Exception:
            noticed += 1
        else:
            assert same(found, expected), place  # the bit was in the padding between the parts
    assert noticed >= 30


@pytest.mark.parametrize("content", [b"", b"PK\x03", b"abc", b"not an archive at all" * 100, None])
def test_a_newest_checkpoint_that_is_none_falls_back_to_the_one_before(run, content):
    newest = state_files(run)[-1]
    whole = newest.read_bytes()
    place = len(whole) // 2
    newest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1:] if content is None else content)
    with pytest.warns(UserWarning, match="step_00000004.pt cannot be read .*; trying the checkpoint before it"):
        go_on(run)
    assert [row["step"] for row in rows(run) if "loss" in row] == [1, 2, 3, 4, 5, 6]


def change_optimizer(state, change):
    change(state["parts"]["optimizer"]["state"][3])


def entry(name, value):
    return lambda state: state.update({name: value})


def progress(name, value):
    return lambda state: state["progress"].update({name: value})


@pytest.mark.parametrize("change", [
    lambda s: change_optimizer(s, lambda e: e.update(exp_avg=torch.zeros(1))),
    lambda s: change_optimizer(s, lambda e: e.update(exp_avg_sq=torch.zeros(10**6))),
    lambda s: change_optimizer(s, lambda e: e.update(exp_avg=e["exp_avg"].double())),
    lambda s: change_optimizer(s, lambda e: e.update(step=torch.zeros(3))),
    lambda s: change_optimizer(s, lambda e: e.pop("exp_avg")),
    lambda s: change_optimizer(s, lambda e: e.update(more=torch.zeros(3))),
    lambda s: s["parts"]["optimizer"]["state"].update({10**6: s["parts"]["optimizer"]["state"][3]}),
    lambda s: s["parts"]["optimizer"]["param_groups"].pop(),
    lambda s: s["parts"]["optimizer"]["param_groups"][0].update(betas=(0.5, 0.5)),
    lambda s: s["parts"]["optimizer"].clear(),
    lambda s: s["parts"].pop("model"), lambda s: s["parts"].pop("scaler"), lambda s: s["parts"]["model"].popitem(),
    lambda s: s.pop("progress"), lambda s: s.pop("facts"), lambda s: s.clear(),
    entry("facts", "{"), entry("facts", "[1]"), entry("facts", 3), entry("parts", None), entry("generators", None), entry("generators", [1]),
    entry("generators", [{"python": (3,), "numpy": ["MT19937", [], 0, 0, 0.0], "torch": torch.zeros(3), "cuda": None}]),
    entry("progress", {}), progress("step", "four"), progress("step", -1), progress("rows", 2.5), progress("best", "good"), progress("averages", 7),
    progress("averages", {"loss": torch.zeros(5)}), progress("more", 1),
])
def test_content_of_another_form_is_a_sentence_that_names_the_file(run, change):
    path = state_files(run)[-1]
    state = load_whole(path)
    change(state)
    with replacing(path) as temporary:
        torch.save(state, temporary)
    with pytest.raises(ValueError, match="step_00000004.pt is not a training checkpoint of this run"):
        go_on(run)


@pytest.mark.parametrize("damage, lost, left", [
    (lambda text: text, 0, [1, 2, 3, 3, 4, 5, 6, 6]),
    (lambda text: text + '{"step": 5, "lo', 0, [1, 2, 3, 3, 4, 5, 6, 6]),
    (lambda text: text.replace('{"step": 2', '{"st', 1), 1, [1, 3, 3, 4, 5, 6, 6]),
    (lambda text: "".join(text.splitlines(keepends=True)[:2]), 3, [1, 2, 5, 6, 6]),
    (lambda text: text[:100], 5, [5, 6, 6]),
    (lambda text: "", 5, [5, 6, 6]),
    (lambda text: "\0" * 500, 5, [5, 6, 6]),
    (lambda text: None, 5, [5, 6, 6]),
])
def test_a_damaged_log_is_said_and_the_run_goes_on(run, damage, lost, left, recwarn):
    log = run / "log.jsonl"
    text = damage(log.read_text())
    log.unlink() if text is None else log.write_text(text)
    model = go_on(run)
    assert [str(w.message) for w in recwarn if "has lost" in str(w.message)] == [
        f"{log} has lost {lost} of the 5 rows that were written before the checkpoint: they will be missing in the curves; the run itself "
        "goes on"] * bool(lost)
    assert [row["step"] for row in rows(run)] == left
    if lost == 1:
        log.write_text(log.read_text() + '{"step": 7, "loss": "\x1b[2J"}\n[1]\n{"lo')
        with pytest.warns(UserWarning, match="3 of 10 lines are damaged"):
            draw_run(model, Lakeland("val", 64, 0.0, 2), run)
        assert (run / "curves.png").exists() and not list(run.glob("*.half.*"))
        with pytest.warns(UserWarning):
            assert len(read_run(run)[0]) == 7


def test_a_row_that_comes_after_the_checkpoint_does_not_fill_a_gap(tmp_path):
    (tmp_path / "log.jsonl").write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in (1, 3, 4, 5)))
    with pytest.warns(UserWarning, match="lost 1 of the 4 rows"), RunLog(tmp_path, rows=4, step=4) as log:
        assert log.kept == 3
    assert [row["step"] for row in read_log(tmp_path / "log.jsonl")] == [1, 3, 4]


def test_a_run_that_lacks_only_its_pictures_is_known(run):
    assert not lacks_only_pictures(run)  # it has checkpoints
    model = go_on(run)
    assert lacks_only_pictures(run)
    draw_run(model, Lakeland("val", 64, 0.0, 2), run)
    assert not lacks_only_pictures(run)


def test_a_full_disk_is_called_full(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with RunLog(tmp_path) as log:
        log.file.close()
        log.file = open("/dev/full", "w")
        with pytest.raises(OSError, match=f"could not write {tmp_path}/log.jsonl: the disk is full"):
            log.write({"step": 1})
        log.file = None
    with pytest.raises(OSError, match="the disk is full"), replacing(tmp_path / "x") as temporary:
        temporary.write_text("x")
        with open("/dev/full", "w") as full:
            full.write("x")


def test_a_killed_loader_is_not_blamed_on_the_disk(tmp_path):
    with pytest.raises(RuntimeError, match="^DataLoader worker"), replacing(tmp_path / "x"):
        raise RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed.")

    class Deadly(Lakeland):
        def __getitem__(self, index):
            if torch.utils.data.get_worker_info() and index == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(index)
    with pytest.raises(ChildProcessError, match="a process that loads data has ended .*--workers.*--resume"):
        train(build_model("mini"), Deadly("train", 64, 0.0, 4), None, replace(CONFIG, workers=1), tmp_path, progress=False)
    assert load_checkpoint(tmp_path / "model.safetensors") if (tmp_path / "model.safetensors").exists() else state_files(tmp_path)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_processes_that_load_data_end_with_a_killed_run(tmp_path):
    class Known(Lakeland):
        def __getitem__(self, index):
            (tmp_path / f"loader{os.getpid()}").touch()
            return super().__getitem__(index)
    child = os.fork()
    if child == 0:
        train(build_model("mini"), Known("train", 64, 0.0, 50), None, replace(CONFIG, steps=10**6, workers=2), tmp_path / "run", progress=False)
        os._exit(0)
    while len(list(tmp_path.glob("loader*"))) < 2:
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    loaders, end = [int(path.name[6:]) for path in tmp_path.glob("loader*")], time.monotonic() + 30
    while any(map(alive, loaders)) and time.monotonic() < end:  # 0.5 s; torch's own check takes 5 s and more
        time.sleep(0.05)
    assert not any(map(alive, loaders)) and time.monotonic() < end - 27


def alive(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("size, batch, accumulate, good", [(32, 1, 1, False), (24, 1, 1, False), (32, 2, 2, False), (32, 2, 1, True),
                                                           (33, 1, 1, True)])
def test_one_picture_of_one_cell_is_refused_before_the_first_step(tmp_path, size, batch, accumulate, good):
    config = replace(CONFIG, size=size, batch_size=batch, accumulate=accumulate, steps=1)
    if good:
        train(build_model("mini"), Lakeland("train", 64, 0.0, 4), None, config, tmp_path, progress=False)
    else:
        with pytest.raises(ValueError, match="choose a size above 32, or more than one picture"):
            train(build_model("mini"), Lakeland("train", 64, 0.0, 4), None, config, tmp_path, progress=False)
        assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("seed", [2**64, -2**70, 2**41])
def test_a_huge_seed_is_a_sentence(seed):
    with pytest.raises(ValueError, match="seed is a whole number from"):
        TrainConfig(seed=seed)
    TrainConfig(seed=2**40)
