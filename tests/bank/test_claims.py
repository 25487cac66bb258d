"""Claims share out work, free what the dead held, and are never needed to be right."""

import json
import os
import subprocess
import sys
import time

import pytest

from tests.bank.studies import make
from whence.bank import Bank
from whence.bank.claims import Claims


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def claim_of_another(folder, block, pid, host=None, age=0.0):
    import socket

    path = folder / f"{block:06d}.json"
    path.write_text(json.dumps({"host": host or socket.gethostname(), "pid": pid}))
    then = time.time() - age
    os.utime(path, (then, then))
    return path


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_one_claim_at_a_time(folder):
    mine, theirs = Claims(folder), Claims(folder)
    assert mine.take(3)
    assert mine.take(3)  # again: it is mine
    assert not theirs.take(3)
    mine.release(3)
    assert theirs.take(3)
    mine.release(3)  # not mine any more: no effect
    assert not mine.take(3)


def test_the_claim_of_a_dead_process_is_free_at_once(folder):
    claim_of_another(folder, 1, dead_pid())
    assert Claims(folder).take(1)


def test_a_claim_from_another_host_is_free_when_stale(folder):
    claim_of_another(folder, 1, 1, host="elsewhere", age=30)
    assert not Claims(folder).take(1)
    assert Claims(folder, stale=20).take(1)


def test_beats_keep_a_claim_fresh(folder):
    claims = Claims(folder, stale=0.4)
    claims.take(1)
    path = folder / "000001.json"
    old = path.stat().st_mtime
    time.sleep(0.15)
    claims.beat()
    assert path.stat().st_mtime > old
    path.unlink()  # taken away: beating goes on
    time.sleep(0.15)
    claims.beat()


def test_an_unreadable_claim_is_free_after_a_moment(folder):
    path = claim_of_another(folder, 1, 1)
    path.write_text("")
    assert not Claims(folder).take(1)
    os.utime(path, (time.time() - 6, time.time() - 6))
    assert Claims(folder).take(1)


def test_sweeping_clears_what_the_dead_left(folder):
    claim_of_another(folder, 1, dead_pid())
    claim_of_another(folder, 2, 1, host="elsewhere")
    claims = Claims(folder)
    claims.take(3)
    claims.sweep()
    assert sorted(os.listdir(folder)) == ["000002.json", "000003.json"]


def test_a_bank_claims_blocks(tmp_path):
    bank = make(tmp_path / "b.zarr", blocks=[])
    assert bank.claim(0)
    assert not Bank.open(bank.path).claim(0)
    bank.claims.release_all()
    assert Bank.open(bank.path).claim(0)
