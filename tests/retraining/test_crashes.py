"""The promise of the bank: kill anything, at any moment, twenty times; no committed row is lost or wrong."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest

from tests.bank.studies import arrays, linear, same, study
from whence.bank import Bank
from whence.retraining import retrain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only"),
]

ROWS, BLOCK, KILLS = 2400, 4, 20
SCRIPT = f"""
    import whence
    from tests.bank.studies import study

    whence.retrain(study(), {ROWS}, to="b.zarr", block={BLOCK}, workers=2, progress=False)
    """


def start(folder):
    path = folder / "script.py"
    path.write_text(textwrap.dedent(SCRIPT))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), *sys.path])}
    with open(folder / "log", "a") as log:
        process = subprocess.Popen([sys.executable, path], cwd=folder, env=environment, stderr=log)
    while process.poll() is None and not psutil.Process(process.pid).children():
        time.sleep(0.01)
    return process


def kill_one(process, chance):
    """The parent, or one of its workers, with SIGKILL: no handler runs, nothing is flushed."""
    workers = psutil.Process(process.pid).children()
    if workers and chance.random() < 0.6:
        chance.choice(workers).send_signal(signal.SIGKILL)
        return "worker"
    process.kill()
    process.wait()
    return "parent"


def test_twenty_kills_lose_nothing_and_change_nothing(tmp_path):
    seed = int(os.environ.get("WHENCE_CRASH_SEED", "0")) or random.SystemRandom().randrange(1, 10**6)
    print(f"WHENCE_CRASH_SEED={seed} repeats the moments (roughly)")
    chance = random.Random(seed)
    known: dict[int, np.ndarray] = {}
    process, killed = None, []
    while len(killed) < KILLS:
        if process is None or process.poll() is not None:
            process = start(tmp_path)
        time.sleep(chance.uniform(0.0, 0.7))
        if process.poll() is None:
            killed.append(kill_one(process, chance))
        if not (tmp_path / "b.zarr").exists():
            continue
        bank = Bank.open(tmp_path / "b.zarr")
        found = bank.verify()
        assert found.ok, str(found)
        rows = bank.dataset.retraining.values
        outputs = dict(zip(rows.tolist(), bank.outputs_of(rows=rows)))
        assert known.keys() <= outputs.keys()  # none lost
        assert all(np.array_equal(outputs[row], value) for row, value in known.items())  # none changed
        known = outputs
        if len(known) == ROWS:  # all done before the kills were: undo a part and go on
            bank.discard(range(0, ROWS // BLOCK, 2))
            known = {row: value for row, value in known.items() if (row // BLOCK) % 2}
    if process.poll() is None:
        process.kill()
        process.wait()
    assert {"worker", "parent"} == set(killed)

    resumed = retrain(study(), ROWS, to=tmp_path / "b.zarr", workers=2, progress=False)
    assert resumed.rows_committed == ROWS
    masks, seeds = resumed.masks(), resumed.dataset.seed.values
    assert np.array_equal(resumed.outputs_of(), np.float32([linear(m, s) for m, s in zip(masks, seeds)]))
    whole = retrain(study(), ROWS, to=tmp_path / "whole.zarr", block=BLOCK, workers=2, progress=False)
    assert same(resumed, whole)
    for name in arrays(whole):  # and so are the files themselves
        for chunk in (whole.path / name).glob("c.*"):
            assert chunk.read_bytes() == (resumed.path / name / chunk.name).read_bytes()
    assert os.listdir(resumed.path / "claims") == ["zarr.json"]
