"""Workers may die, hang on to nothing, and are started where users really work: scripts, pipes, notebooks."""

import errno
import functools
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest
import torch

import whence
from tests.bank.studies import linear, plan, same, study
from whence.bank import Bank, DiskFullError, _files
from whence.retraining import Inline, RetrainingError, retrain
from whence.retraining.executors.processes import Processes

local = sys.modules[
    "whence.retraining.executors.local"
]  # the module; the package offers the function of that name

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
QUIET = {"progress": False}


def dies_once(folder, when):
    """A function whose worker is killed the first time that it meets the mask `when`."""
    main = os.getpid()

    def function(mask, seed):
        flag = folder / "died"
        if when(mask) and os.getpid() != main and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return linear(mask, seed)

    return function


def test_the_block_of_a_dead_worker_is_trained_again(tmp_path):
    function = dies_once(tmp_path, lambda mask: mask[0] and mask[1] and mask[2])
    bank = retrain(study(function), 60, to=tmp_path / "b.zarr", block=4, workers=2, **QUIET)
    assert (tmp_path / "died").exists()
    assert bank.rows_committed == 60
    assert same(bank, retrain(study(), 60, to=tmp_path / "whole.zarr", workers=0, **QUIET))
    assert os.listdir(bank.path / "claims") == ["zarr.json"]


def test_a_block_that_always_kills_is_reported_with_the_workers_words(tmp_path):
    def deadly(mask, seed):
        if mask[:4].all():
            os.write(2, b"the C library is very unhappy\n")
            os.kill(os.getpid(), signal.SIGKILL)
        return linear(mask, seed)

    with pytest.raises(
        RetrainingError, match=r"failed 3 times. It was ended by signal 9 \(often: no memory"
    ) as caught:
        retrain(study(deadly), 200, to=tmp_path / "b.zarr", block=4, workers=2, **QUIET)
    assert "the C library is very unhappy" in str(caught.value)
    bank = Bank.open(tmp_path / "b.zarr")
    assert bank.verify().ok  # what was committed before stays
    assert os.listdir(bank.path / "claims") == ["zarr.json"]


def test_a_trainer_that_raises_is_reported_with_its_traceback(tmp_path):
    a_study = study()

    class Broken:
        def train(self, masks, seeds, keep_states=False):
            raise OverflowError("in the engine")

    a_study._make_trainer = lambda s, device: Broken()
    Bank.create(tmp_path / "b.zarr", a_study, plan(), block=4)
    with pytest.raises(
        RetrainingError, match=r"block \d+ .* failed 3 times(.|\n)*OverflowError: in the engine"
    ):
        retrain(a_study, 40, to=tmp_path / "b.zarr", workers=2, **QUIET)


def test_a_full_disk_ends_the_run_at_once_and_can_be_resumed(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        if (tmp_path / "full").exists() and (tmp_path / "b.zarr" / "ok" / "c.3").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(_files.os, "fsync", fsync)
    (tmp_path / "full").touch()
    with pytest.raises(DiskFullError, match="the disk is full") as caught:
        retrain(study(), 60, to=tmp_path / "b.zarr", block=4, workers=2, **QUIET)
    assert "\n" not in str(caught.value)
    (tmp_path / "full").unlink()
    bank = Bank.open(tmp_path / "b.zarr")
    assert 0 < bank.rows_committed < 60
    assert bank.verify().ok
    assert same(
        retrain(study(), 60, to=bank.path, **QUIET),
        retrain(study(), 60, to=tmp_path / "w", workers=0, **QUIET),
    )


# A shell that starts things in the background leaves them deaf to Ctrl-C, and so their children.
LISTEN = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"


def run_script(folder, text, **options):
    path = folder / "script.py"
    path.write_text(LISTEN + textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    environment.pop("OMP_NUM_THREADS", None)
    return subprocess.Popen(
        [sys.executable, path],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_a_script_without_a_main_guard_whose_parent_used_many_threads(tmp_path):
    """GNU OpenMP hangs in forked children that open a parallel region; ours open none, not even asked to."""
    process = run_script(
        tmp_path,
        """
        import numpy as np, torch, whence
        torch.set_num_threads(4)
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.Flatten(), torch.nn.Linear(16 * 900, 2))
        net(torch.randn(64, 3, 32, 32)).sum().backward()
        (torch.randn(800, 800) @ torch.randn(800, 800)).sum()

        def train(mask, seed):
            torch.set_num_threads(4)
            torch.manual_seed(seed)
            x = torch.randn(64, 3, 32, 32)
            net(x).pow(2).mean().backward()
            return [float(mask.sum()) + float(torch.randn(400, 400).sort().values.mean())]

        study = whence.Study.from_function(train, n=20, targets=1)
        print(whence.retrain(study, 24, to="b.zarr", workers=2, progress=False).rows_committed)
        """,
    )
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out.strip() == "24"


SLOW = """
    import time, numpy as np, whence
    from tests.bank.studies import study, linear

    def slow(mask, seed):
        time.sleep(0.02)
        return linear(mask, seed)

    if __name__ == "__main__":
        print("ready", flush=True)
        bank = whence.retrain(study(slow), {n}, to="b.zarr", block=4, workers=2)
        print(bank.rows_committed)
    """


def wait_for(condition, seconds=60):
    end = time.time() + seconds
    while not condition():
        assert time.time() < end, "waited in vain"
        time.sleep(0.02)


def committed(path):
    return len(list(path.glob("commits/0*.json")))


def test_ctrl_c_leaves_a_valid_bank_and_says_how_to_go_on(tmp_path):
    process = run_script(tmp_path, SLOW.format(n=4000), start_new_session=True)
    wait_for(lambda: committed(tmp_path / "b.zarr") >= 3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the parent and to its workers
    _, err = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert "of 4,000 retrainings are committed in b.zarr; run the same again to resume." in err
    bank = Bank.open(tmp_path / "b.zarr")
    assert bank.verify().ok
    assert bank.rows_committed >= 12
    assert os.listdir(bank.path / "claims") == ["zarr.json"]


def test_workers_leave_when_their_parent_is_killed(tmp_path):
    process = run_script(tmp_path, SLOW.format(n=4000))
    wait_for(lambda: committed(tmp_path / "b.zarr") >= 2)
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    process.kill()
    process.communicate()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    assert Bank.open(tmp_path / "b.zarr").verify().ok


def test_two_processes_fill_one_bank_at_once(tmp_path):
    processes = [run_script(tmp_path, SLOW.format(n=120)) for _ in range(2)]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert out.split() == ["ready", "120"]
    bank = Bank.open(tmp_path / "b.zarr")
    assert bank.verify().ok
    masks, seeds = bank.masks(), bank.dataset.seed.values
    assert np.array_equal(bank.outputs_of(), np.float32([linear(m, s) for m, s in zip(masks, seeds)]))
    assert os.listdir(bank.path / "claims") == ["zarr.json"]


def test_progress_goes_to_stderr_as_lines_when_there_is_no_terminal(tmp_path, capfd):
    retrain(study(), 20, to=tmp_path / "b.zarr", workers=0)
    out, err = capfd.readouterr()
    assert out == ""
    assert "20 of 20" in err and "models/s" in err
    retrain(study(), 40, to=tmp_path / "b.zarr", workers=0, **QUIET)
    assert capfd.readouterr() == ("", "")


def pickled_study():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 5)).astype("f4"), np.arange(40) % 2
    recipe = whence.Recipe(
        model=functools.partial(torch.nn.Linear, 5, 2), epochs=1, batch_size=10, optimizer=whence.SGD(lr=0.1)
    )
    return whence.Study(train=(x, y), targets=(x[:6], y[:6]), recipe=recipe)


def test_where_nothing_can_be_forked_workers_are_spawned(tmp_path, monkeypatch):
    monkeypatch.setattr(local.sys, "platform", "darwin")
    executor = local.local(pickled_study(), 2)
    assert isinstance(executor, Processes)
    with executor:
        spawned = retrain(pickled_study(), 16, to=tmp_path / "b.zarr", executor=executor, **QUIET)
    forked = Bank.create(tmp_path / "c.zarr", pickled_study(), spawned.plan, block=4, engine=spawned.engine)
    monkeypatch.undo()
    assert same(spawned, retrain(pickled_study(), 16, to=forked.path, workers=1, **QUIET))


def test_a_study_that_cannot_be_sent_is_trained_in_this_process(monkeypatch, capsys):
    monkeypatch.setattr(local.sys, "platform", "darwin")
    assert isinstance(local.local(study(), 2), Inline)
    assert "training in this process" in capsys.readouterr().err
