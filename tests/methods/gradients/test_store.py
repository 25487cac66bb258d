"""The gradient store, its scores by streaming, and the forecast."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import whence
from whence.errors import InputError
from whence.methods import TRAK
from whence.methods.gradients import streaming
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.network import Network
from whence.methods.gradients.plan import OVERHEAD, bytes_of, forecast
from whence.methods.gradients.projection import Projection, project
from whence.methods.gradients.store import GradientStore, weights_key
from whence.study.outputs import margin
from whence.training import mlp

N, T, SIZE = 40, 7, 16


@pytest.fixture(scope="module")
def study():
    random = np.random.default_rng(0)
    x = random.normal(size=(N + T, 6)).astype(np.float32)
    y = (x[:, 0] + 0.5 * random.normal(size=N + T) > 0).astype(int)
    return whence.Study(
        train=(x[:N], y[:N]),
        targets=(x[N:], y[N:]),
        outputs=["margin", "loss"],
        recipe=whence.Recipe(lambda: mlp(6, 2, (8,)), 4, 8, whence.SGD(0.1, momentum=0.9)),
    )


@pytest.fixture(scope="module")
def states(study):
    return [checkpoint.load() for checkpoint in checkpoints(study, 2)]


def loaded(study, state):
    return Network(study, "margin").load(checkpoints(study, [state])[0])


def make(tmp_path, of, **more):
    settings = {"study": of.fingerprint, "n": N, "size": SIZE, "what": "margin", "block": 12, **more}
    return GradientStore(tmp_path / "store.zarr", **settings)


def filled(tmp_path, study, states):
    """A store of the states, the queries of their targets, and gradients in memory."""
    store, queries, rows = make(tmp_path, study), [], []
    for number, state in enumerate(states):
        network = loaded(study, state)
        key = store.fill(network, margin, number=number, batch=5)
        projection = Projection(SIZE, number)
        queries.append((key, project(network, network.targets, margin, projection)))
        rows.append(project(network, network.train, margin, projection))
    return store, queries, rows


def test_rows_are_those_in_memory_whatever_the_batch_and_block(tmp_path, study, states):
    store, queries, rows = filled(tmp_path, study, states)
    for (key, _), expected in zip(queries, rows):
        found = np.concatenate([part for _, part in store.blocks(key)])
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)
    assert store.checkpoints == sorted(key for key, _ in queries)


@pytest.mark.parametrize("blocks", [1, 4])
def test_streamed_trak_is_trak(tmp_path, study, states, blocks):
    store, queries, _ = filled(tmp_path, study, states)
    solved = [(key, streaming.preconditioned(store, key, q, [1e-2], blocks)[0]) for key, q in queries]
    weights = np.mean([one_minus_p(loaded(study, state)) for state in states], 0)
    scores = np.concatenate([part for _, part in streaming.stream(store, solved, weights)], 1)
    expected = TRAK(states, projection=SIZE, ridge=1e-2, blocks=blocks).attribute(study, "margin").weight
    assert np.abs(scores - expected).max() < 1e-3 * np.abs(expected).max()


def one_minus_p(network):
    with torch.no_grad():
        p = torch.softmax(network.module(network.train.inputs(slice(None)).float()).double(), 1)
    return 1 - p.gather(1, network.train.y[:, None])[:, 0].numpy()


@pytest.mark.parametrize("k", [1, 5, 15, N])
def test_top_agrees_with_sorting_everything(tmp_path, study, states, k):
    store, queries, _ = filled(tmp_path, study, states)
    scores = np.concatenate([part for _, part in streaming.stream(store, queries)], 1)
    best, positions = streaming.top(store, queries, k)
    np.testing.assert_array_equal(positions, np.argsort(-scores, axis=1, kind="stable")[:, :k])
    np.testing.assert_array_equal(best, np.take_along_axis(scores, positions, 1))


def test_ties_go_to_the_earlier_example(tmp_path, study, states):
    store, queries, _ = filled(tmp_path, study, states)
    nothing = [(key, torch.zeros_like(query)) for key, query in queries]
    assert (streaming.top(store, nothing, 15)[1] == np.arange(15)).all()


def test_a_stopped_fill_goes_on_where_it_was(tmp_path, study, states, monkeypatch):
    network, expected = loaded(study, states[0]), make(tmp_path / "whole", study)
    key = expected.fill(network, margin)
    store, original = make(tmp_path, study), GradientStore._rows

    def stops(self, network, scalar, projection, span, *more):
        if span.start == 24:
            raise KeyboardInterrupt
        return original(self, network, scalar, projection, span, *more)

    monkeypatch.setattr(GradientStore, "_rows", stops)
    with pytest.raises(KeyboardInterrupt):
        store.fill(network, margin)
    made = []

    def counts(self, network, scalar, projection, span, *more):
        made.append(span.start)
        return original(self, network, scalar, projection, span, *more)

    monkeypatch.setattr(GradientStore, "_rows", counts)
    again = make(tmp_path, study)
    assert again.checkpoints == [] and again.absent(key) == [2, 3]
    with pytest.raises(InputError, match="not made"):
        again.read(key, 2)
    again.fill(network, margin)
    again.fill(network, margin)
    assert made == [24, 36] and again.checkpoints == [key]
    for index in range(4):
        np.testing.assert_array_equal(again.read(key, index), expected.read(key, index))


def test_a_stop_while_the_arrays_are_made(tmp_path, study, states):
    store = make(tmp_path, study)
    network = loaded(study, states[0])
    key = weights_key(network)
    store._group.create_group(key).create_array("gradients", shape=(3, 3), dtype="float32")
    assert store.checkpoints == []
    assert store.fill(network, margin) == key and store.checkpoints == [key]


@pytest.mark.parametrize("blocks", [1, 4])
def test_trak_with_a_store_is_trak(tmp_path, study, states, blocks, capsys):
    how = {"projection": SIZE, "blocks": blocks, "ridge": 1e-2}
    plain = TRAK(states, **how).attribute(study).weight
    kept = TRAK(states, store=tmp_path / "kept.zarr", **how)
    np.testing.assert_allclose(kept.attribute(study).weight, plain, rtol=1e-3, atol=1e-5)
    files = {f: f.stat().st_mtime_ns for f in (tmp_path / "kept.zarr").rglob("*") if f.is_file()}
    kept.attribute(study, "loss")  # other queries take the gradients from the store
    assert files == {f: f.stat().st_mtime_ns for f in (tmp_path / "kept.zarr").rglob("*") if f.is_file()}
    assert "on disk" in capsys.readouterr().err
    with pytest.raises(InputError, match="memory is 1 KiB"):
        TRAK(states, store=tmp_path / "none.zarr", memory="1KiB", **how).attribute(study)
    assert not (tmp_path / "none.zarr").exists()
    with pytest.raises(InputError, match="it needs a projection"):
        TRAK(states, store=tmp_path / "kept.zarr")


def test_scores_written_block_by_block_are_an_attribution(tmp_path, study, states, monkeypatch):
    how = {"projection": SIZE, "ridge": 1e-2, "store": tmp_path / "kept.zarr"}
    monkeypatch.setattr("whence.methods.gradients.plan._BLOCK", 12 * SIZE * 4)  # several blocks
    plain = TRAK(states, **how).attribute(study, "loss")
    written = TRAK(states, **how).attribute(study, "loss", to=tmp_path / "scores.zarr")
    np.testing.assert_array_equal(written.weight, plain.weight)
    for what in ("target_ids", "train_ids", "output", "units", "method", "meaning", "bias", "provenance"):
        np.testing.assert_array_equal(getattr(written, what), getattr(plain, what), err_msg=what)
    again = whence.Attribution.load(tmp_path / "scores.zarr")
    assert again.top(3, 4) == plain.top(3, 4)
    assert again.data["weight"].dims == ("target", "train")
    again.save(tmp_path / "copy.zarr")
    np.testing.assert_array_equal(whence.Attribution.load(tmp_path / "copy.zarr").weight, plain.weight)


@pytest.mark.parametrize("output", ["margin", "loss"])
@pytest.mark.parametrize("order", ["helpful", "harmful"])
def test_the_strongest_come_from_the_store(tmp_path, study, states, output, order):
    trak = TRAK(states, projection=SIZE, ridge=1e-2, store=tmp_path / "kept.zarr")
    everything = trak.attribute(study, output)
    found = trak.top(study, 4, output, order)
    assert list(found) == study.target_ids.tolist()
    for target, effects in found.items():
        expected = everything.top(target, 4, order)
        assert [e[:2] for e in effects] == [e[:2] for e in expected]
        np.testing.assert_allclose([e.weight for e in effects], [e.weight for e in expected], rtol=1e-5)
    with pytest.raises(InputError, match="k must lie"):
        trak.top(study, N + 1)
    with pytest.raises(InputError, match='"helpful" or "harmful"'):
        trak.top(study, order="best")
    with pytest.raises(InputError, match="pass store="):
        TRAK(states).top(study)


def test_what_cannot_be_written_leaves_nothing(tmp_path, study, states, monkeypatch):
    how = {"projection": SIZE, "store": tmp_path / "kept.zarr"}
    with pytest.raises(InputError, match="it needs store="):
        TRAK(states, projection=SIZE).attribute(study, to=tmp_path / "scores.zarr")
    with pytest.raises(InputError, match="soft_threshold=0"):
        TRAK(states, soft_threshold=0.5, **how).attribute(study, to=tmp_path / "scores.zarr")
    (tmp_path / "letter").write_text("mine")
    with pytest.raises(InputError, match="exists and is not an attribution"):
        TRAK(states, **how).attribute(study, to=tmp_path / "letter")
    assert [path.name for path in tmp_path.iterdir()] == ["letter"]
    monkeypatch.setattr(
        "whence.methods.trak.stream", lambda *_: iter([(slice(0, N), np.full((T, N), np.nan))])
    )
    with pytest.raises(InputError, match="not finite"):
        TRAK(states, **how).attribute(study, to=tmp_path / "scores.zarr")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.zarr", "letter"]


def test_a_store_with_blocks_above_the_cap_is_refused(tmp_path, study, states, monkeypatch):
    make(tmp_path, study, block=30)
    monkeypatch.setattr("whence.methods.gradients.plan._BLOCK", 20 * SIZE * 4)
    with pytest.raises(InputError, match="blocks of 30 rows, but memory allows 20"):
        TRAK(states, projection=SIZE, store=tmp_path / "store.zarr").attribute(study)


def test_one_process_at_a_time_fills_a_checkpoint(tmp_path, study, states):
    network, store = loaded(study, states[0]), make(tmp_path, study)
    key = weights_key(network)
    script = (
        "import sys, time; from pathlib import Path; from whence.bank.claims import Claims; "
        "folder = Path(sys.argv[1]); folder.mkdir(); "
        "print(Claims(folder).take(int(sys.argv[2], 16)), flush=True); "
        "time.sleep(60)"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(store.path / "claims"), key], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout.readline().strip() == "True"
        with pytest.raises(InputError, match=f"another process is filling checkpoint {key}") as caught:
            make(tmp_path, study).fill(network, margin)
        assert "\n" not in str(caught.value)
        assert store.absent(key) == [0, 1, 2, 3]
        second = loaded(study, states[1])
        assert store.fill(second, margin, number=1) in store.checkpoints, "another checkpoint is free"
    finally:
        other.kill()
        other.wait()
    assert store.fill(network, margin) == key, "the claim of a dead process is free"
    assert len(store.checkpoints) == 2


def test_damage_is_noticed(tmp_path, study, states):
    store = make(tmp_path, study)
    key = store.fill(loaded(study, states[0]), margin)
    chunk = store.path / key / "gradients" / "c" / "1" / "0"
    content = bytearray(chunk.read_bytes())
    content[100] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(InputError, match=r"block 1 .* damaged"):
        list(store.blocks(key))


@pytest.mark.parametrize("change", [{"study": "x"}, {"size": 8}, {"what": "loss"}, {"seed": 1}, {"n": 39}])
def test_another_stores_directory_is_refused(tmp_path, study, change):
    make(tmp_path, study)
    with pytest.raises(InputError, match=f"store with {next(iter(change))}"):
        make(tmp_path, study, **change)


def test_a_directory_of_something_else_is_refused_and_kept(tmp_path, study):
    (tmp_path / "store.zarr").mkdir()
    (tmp_path / "store.zarr" / "letter").write_text("mine")
    with pytest.raises(InputError, match="something else"):
        make(tmp_path, study)
    assert [path.name for path in (tmp_path / "store.zarr").iterdir()] == ["letter"]


def test_bad_arguments(tmp_path, study, states):
    store, queries, _ = filled(tmp_path, study, states)
    (key, query), *_ = queries
    for ridge in (0, -1):
        with pytest.raises(InputError, match="ridge"):
            streaming.preconditioned(store, key, query, [ridge])
    with pytest.raises(InputError, match="divide"):
        streaming.preconditioned(store, key, query, [1], 3)
    with pytest.raises(InputError, match="queries"):
        streaming.preconditioned(store, key, query[:, :3], [1])
    with pytest.raises(InputError, match="k must"):
        streaming.top(store, queries, N + 1)
    with pytest.raises(InputError, match="no checkpoint 'x'"):
        store.read("x", 0)
    with pytest.raises(InputError, match="weights"):
        next(streaming.stream(store, queries, np.ones(3)))


@pytest.mark.parametrize(
    ("text", "expected"), [("1GiB", 2**30), ("500 MB", 5 * 10**8), ("1.5k", 1500), (10, 10), ("7b", 7)]
)
def test_sizes_are_read(text, expected):
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["much", "-1GB", 0, -5, "0MB", None, "1TB", True])
def test_sizes_that_are_none(text):
    with pytest.raises(InputError, match="memory must be"):
        bytes_of(text)


def test_a_lower_cap_makes_smaller_blocks(study, states):
    network = loaded(study, states[0])
    roomy = forecast(network, margin, size=SIZE, checkpoints=2, memory="1GiB", write_scores=True)
    with pytest.raises(InputError, match="need at least") as caught:
        forecast(network, margin, size=SIZE, checkpoints=2, memory="16KiB")
    assert "\n" not in str(caught.value)
    tight = []
    for cap in range(OVERHEAD, OVERHEAD + 2**17, 2**11):
        try:
            plan = forecast(network, margin, size=SIZE, checkpoints=2, memory=cap)
        except InputError:
            assert not tight, "what fits a cap fits a higher one"
        else:
            assert plan.memory <= cap
            tight.append(plan.batch)
    assert tight == sorted(tight) and tight[0] < N == tight[-1] == roomy.batch
    assert roomy.disk == 2 * N * SIZE * 4 + N * T * 4
    assert "on disk" in str(roomy)
    with pytest.raises(InputError, match="at least"):
        forecast(network, margin, size=SIZE, memory="1KiB")
