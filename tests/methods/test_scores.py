"""Files of peers come back as they were meant: orientation, sign, ids; what cannot be right is refused."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from whence.errors import InputError
from whence.methods import scores

SOURCE = SimpleNamespace(
    train_ids=np.array(["a", "b", "c", "d"]), target_ids=np.array([7, 9]), fingerprint="f"
)
TRUTH = np.arange(8, dtype=np.float32).reshape(2, 4) - 3


@pytest.mark.parametrize("rows", ["train", "targets"])
@pytest.mark.parametrize("positive", ["raises", "lowers"])
def test_numpy_there_and_back(tmp_path, rows, positive):
    start = scores.attribution(TRUTH, SOURCE, rows="targets", positive="raises", method="mine")
    path = scores.write_numpy(start, tmp_path / "sub" / "s.npy", rows=rows, positive=positive)
    stored = TRUTH if positive == "raises" else -TRUTH
    np.testing.assert_array_equal(np.load(path), stored.T if rows == "train" else stored)
    told = json.loads((tmp_path / "sub" / "s.json").read_text())
    assert told["rows"] == rows and positive in told["positive"] and told["train_ids"] == ["a", "b", "c", "d"]
    back = scores.read_numpy(path, SOURCE, rows=rows, positive=positive)
    np.testing.assert_array_equal(back.weight, TRUTH)
    assert back.target_ids.tolist() == [7, 9] and back.weight.dtype == np.float32 and not back.calibrated
    assert back.provenance == {"study": "f", "rows": rows, "positive": positive}


def test_traker(tmp_path):
    (tmp_path / "scores").mkdir()
    np.save(tmp_path / "scores" / "x.npy", TRUTH.T.astype(np.float16))
    (tmp_path / "scores" / "x.npy").rename(tmp_path / "scores" / "done.mmap")
    told = {"done": {"scores_finalized": 1}, "begun": {"scores_finalized": 0}}
    (tmp_path / "experiments.json").write_text(json.dumps(told))
    found = scores.read_traker(tmp_path, "done", SOURCE)
    np.testing.assert_array_equal(found.weight, TRUTH)
    assert found.method == "traker (done)" and found.output == "margin"
    with pytest.raises(InputError, match="not finished"):
        scores.read_traker(tmp_path, "begun", SOURCE)
    with pytest.raises(InputError, match=r"experiment is 'other', but .* has 'done', 'begun'"):
        scores.read_traker(tmp_path, "other", SOURCE)


def test_traker_s_own_files(tmp_path):
    trak = pytest.importorskip("trak.savers")
    import logging

    about = {"JL dimension": 3, "JL matrix type": "normal", "train set size": 4}
    saver = trak.MmapSaver(tmp_path, about, 4, 3, True, logging.ERROR, False)
    saver.register_model_id(0, _allow_featurizing_already_registered=False)
    saver.init_experiment("e", num_targets=2, model_id=0)
    saver.current_store["e_scores"][:] = TRUTH.T
    saver.save_scores("e")
    np.testing.assert_array_equal(scores.read_traker(tmp_path, "e", SOURCE).weight, TRUTH)


def test_kronfluence(tmp_path):
    half = torch.tensor(-TRUTH / 2).contiguous()
    save_file({"fc1": half, "fc2": half.clone()}, tmp_path / "pairwise_scores.safetensors")
    found = scores.read_kronfluence(tmp_path, SOURCE, positive="lowers")
    np.testing.assert_array_equal(found.weight, TRUTH)
    assert found.output == "loss"
    one = scores.read_kronfluence(
        tmp_path / "pairwise_scores.safetensors", SOURCE, positive="lowers", modules=["fc2"]
    )
    np.testing.assert_array_equal(one.weight, TRUTH / 2)
    with pytest.raises(InputError, match=r"modules names \['fc3'\], but .* fc1, fc2"):
        scores.read_kronfluence(tmp_path, SOURCE, positive="lowers", modules=["fc3"])


def test_torch_and_dattri(tmp_path):
    torch.save(torch.tensor(TRUTH.T), tmp_path / "s.pt")
    found = scores.read_torch(tmp_path / "s.pt", SOURCE, rows="train", positive="raises")
    np.testing.assert_array_equal(found.weight, TRUTH)
    torch.save({"scores": torch.zeros(2)}, tmp_path / "d.pt")
    with pytest.raises(InputError, match="holds a dict"):
        scores.read_torch(tmp_path / "d.pt", SOURCE, rows="train", positive="raises")
    torch.save(SimpleNamespace(), tmp_path / "code.pt")
    with pytest.raises(InputError, match="not a tensor saved by") as caught:
        scores.read_torch(tmp_path / "code.pt", SOURCE, rows="train", positive="raises")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_right(tmp_path):
    with pytest.raises(
        InputError, match=r'shape \(2, 4\).* make \(4, 2\); they would fit with rows="targets"'
    ):
        scores.attribution(TRUTH, SOURCE, rows="train", positive="raises")
    with pytest.raises(InputError, match="positive is '-'"):
        scores.attribution(TRUTH, SOURCE, rows="train", positive="-")
    with pytest.raises(InputError, match="rows is 'test'"):
        scores.attribution(TRUTH, SOURCE, rows="test", positive="raises")
    with pytest.raises(InputError, match="matrix of numbers"):
        scores.attribution(TRUTH[0], SOURCE, rows="targets", positive="raises")
    with pytest.raises(InputError, match="is not a file"):
        scores.read_numpy(tmp_path / "none.npy", SOURCE, rows="train", positive="raises")
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a plain"):
        scores.read_numpy(tmp_path / "bad.npy", SOURCE, rows="train", positive="raises")
    (tmp_path / "pairwise_scores.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a safetensors file"):
        scores.read_kronfluence(tmp_path, SOURCE, positive="raises")
    good = scores.attribution(TRUTH, SOURCE, rows="targets", positive="raises")
    with pytest.raises(InputError, match=r"must end in \.npy"):
        scores.write_numpy(good, tmp_path / "s.txt")
    assert not (tmp_path / "s.txt").exists()
