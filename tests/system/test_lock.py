"""Locks: one run in a folder, freed by whatever ends its process; and turns for a file that several write."""
import functools
import multiprocessing
import os
import signal
import threading
import time

import pytest

from minimaskformer import Lakeland, build_model
from minimaskformer.exercises import progress_file
from minimaskformer.system import lock
from minimaskformer.system.lock import only_run_in, taking_turns
from minimaskformer.train import train
from minimaskformer.training.recipes import TrainConfig

FORK = multiprocessing.get_context("fork") if hasattr(os, "fork") else None
pytestmark = pytest.mark.skipif(FORK is None, reason="needs fork")


def hold(folder, ready, child=False):
    """Hold the lock until killed; with a child process that was forked meanwhile, as those that load data are."""
    with only_run_in(folder):
        if child and os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        ready.set()
        time.sleep(60)


@pytest.fixture(params=[False, True])
def owner(request, tmp_path):
    ready = FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path, ready, request.param))
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join()


def test_a_second_process_is_told_who_is_there_and_takes_over_after_a_kill(owner, tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} is in use, by process {owner.pid} on "):
        with only_run_in(tmp_path):
            pass
    os.kill(owner.pid, signal.SIGKILL)
    owner.join()
    assert (tmp_path / "run.lock").exists()
    with only_run_in(tmp_path):
        assert f"process {os.getpid()} on " in (tmp_path / "run.lock").read_text()
    assert not list(tmp_path.iterdir())


def test_training_takes_the_lock(owner, tmp_path):
    with pytest.raises(ValueError, match=f"is in use, by process {owner.pid} on "):
        train(build_model("mini"), Lakeland("train", 64, 0.0, 4), None, TrainConfig(size=64), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_it_may_be_entered_again_by_the_same_thread_and_not_by_another(tmp_path):
    caught = []

    def other():
        with pytest.raises(ValueError, match="another thread of this process trains in"):
            with only_run_in(tmp_path):
                pass
        caught.append(True)
    with only_run_in(tmp_path):
        with only_run_in(tmp_path / "x" / ".."):
            pass
        assert (tmp_path / "run.lock").exists()
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert caught and not (tmp_path / "run.lock").exists()


def test_without_locks_work_goes_on_and_one_line_says_so(tmp_path, monkeypatch, capsys):
    def none(*arguments):
        raise OSError(37, "No locks available")
    monkeypatch.setattr(lock, "lock_file", none)
    with only_run_in(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked (No locks available)" in capsys.readouterr().err
    with taking_turns(tmp_path / "x.lock") as alone:
        assert alone is False


def keep_a_turn(path, ready):
    with taking_turns(path):
        ready.set()
        time.sleep(60)


def test_without_a_turn_nothing_is_written_until_its_holder_is_gone(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIMASKFORMER_HOME", str(tmp_path))
    assert progress_file.add("a", True) == ""
    before, ready = (tmp_path / "progress.json").read_bytes(), FORK.Event()
    holder = FORK.Process(target=keep_a_turn, args=(tmp_path / "progress.lock", ready))
    holder.start()
    assert ready.wait(30)
    os.kill(holder.pid, signal.SIGSTOP)  # as Ctrl-Z does: it lives, and may write when it goes on
    monkeypatch.setattr(progress_file, "taking_turns", functools.partial(taking_turns, seconds=0.2))
    told = progress_file.add("b", True)
    assert f"process {holder.pid} on " in told and "has held" in told and "then try again" in told
    assert (tmp_path / "progress.json").read_bytes() == before
    holder.kill()  # which frees its turn, though nobody removed the lock's file
    holder.join()
    assert (tmp_path / "progress.lock").exists()
    assert progress_file.add("b", True) == "" and set(progress_file.load()) == {"a", "b"}


def count_up(path, times):
    for _ in range(times):
        with taking_turns(path.with_suffix(".lock")):
            path.write_text(str(int(path.read_text()) + 1))


def test_turns_lose_nothing(quick_folder):
    path = quick_folder / "count"
    path.write_text("0")
    processes = [FORK.Process(target=count_up, args=(path, 50)) for _ in range(3)]
    for process in processes:
        process.start()
    count_up(path, 50)
    for process in processes:
        process.join()
    assert not any(process.exitcode for process in processes)
    assert path.read_text() == "200" and not path.with_suffix(".lock").exists()
