"""Data sets: every form in which the canonical files travel gives the same arrays; a wrong file is refused.

The files are tiny ones of the right form, made here; their checksums stand in for the published ones.
"""

import gzip
import hashlib
import io
import struct
import sys
import tarfile

import numpy as np
import pytest

from whence.errors import InputError
from whence.study import datasets
from whence.study.datasets import cifar, files, idx

COUNT = 20


@pytest.fixture(autouse=True)
def nothing_elsewhere(monkeypatch, tmp_path):
    """No data folder, an empty cache and no network, unless a test says otherwise."""

    def no_network(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.delenv("WHENCE_DATA", raising=False)
    monkeypatch.setattr(files, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr("pooch.retrieve", no_network)


def md5(content):
    return hashlib.md5(content).hexdigest()


def packed_idx(array):
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def idx_files(monkeypatch):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 256, (COUNT, 28, 28)), np.arange(COUNT) % 10]
    arrays += [rng.integers(0, 256, (10, 28, 28)), np.arange(10)]
    content = {name: packed_idx(array) for name, array in zip(idx.FILES, arrays, strict=True)}
    for table in (idx.MNIST, idx.FASHION_MNIST):
        for name in idx.FILES:
            monkeypatch.setitem(table, name, (md5(content[name]), ""))
    return arrays, content


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("load", "place"),
    [
        (datasets.mnist, "mnist"),
        (datasets.mnist, "MNIST/raw"),
        (datasets.fashion_mnist, "fashion-mnist"),
        (datasets.fashion_mnist, "."),
    ],
)
def test_idx_files(idx_files, tmp_path, load, place, packed):
    arrays, contents = idx_files
    folder = tmp_path / "data" / place
    folder.mkdir(parents=True)
    for name, content in contents.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    data = load(tmp_path / "data")
    assert data.train_x.dtype == np.uint8
    assert data.train_y.dtype == np.int64
    for got, made in zip((data.train_x, data.train_y, data.test_x, data.test_y), arrays, strict=True):
        np.testing.assert_array_equal(got, made)


def test_whence_data_is_read_and_never_written(idx_files, tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    for name, content in idx_files[1].items():
        (folder / name).write_bytes(content)
    folder.chmod(0o500)
    before = sorted(folder.iterdir())
    monkeypatch.setenv("WHENCE_DATA", str(folder))
    assert len(datasets.mnist().train_y) == COUNT
    assert sorted(folder.iterdir()) == before
    folder.chmod(0o700)


def test_a_wrong_checksum_names_file_received_and_expected(idx_files, tmp_path):
    for name, content in idx_files[1].items():
        (tmp_path / name).write_bytes(content)
    good = idx_files[1][idx.FILES[0]]
    bad = good[:-1] + bytes([good[-1] ^ 1])
    (tmp_path / idx.FILES[0]).write_bytes(bad)
    with pytest.raises(InputError) as caught:
        datasets.mnist(tmp_path)
    for word in (str(tmp_path / idx.FILES[0]), md5(bad), md5(good)):
        assert word in str(caught.value)


def test_a_truncated_gz_is_one_sentence(idx_files, tmp_path):
    (tmp_path / f"{idx.FILES[0]}.gz").write_bytes(gzip.compress(idx_files[1][idx.FILES[0]])[:-20])
    with pytest.raises(InputError, match="damaged"):
        datasets.mnist(tmp_path)


@pytest.mark.parametrize("load", [datasets.mnist, datasets.fashion_mnist, datasets.cifar10])
def test_no_data_and_no_network_says_where_it_looked_and_what_would_do(load, tmp_path):
    with pytest.raises(InputError) as caught:
        load(tmp_path)
    for words in (str(tmp_path), str(tmp_path / "cache"), "://", "$WHENCE_DATA"):
        assert words in str(caught.value)


def test_a_mistyped_root_does_not_start_a_download(tmp_path):
    with pytest.raises(InputError, match="not a folder"):
        datasets.mnist(tmp_path / "nowhere")


def test_a_fetched_file_with_a_wrong_checksum(tmp_path, monkeypatch):
    def altered(*_, **__):
        raise ValueError("MD5 hash of downloaded file does not match the known hash: expected a but got b.")

    monkeypatch.setattr("pooch.retrieve", altered)
    with pytest.raises(InputError, match=r"expected md5 f68b3c2dcbeaaa9fbdd348bbdeb94873 .*got b"):
        datasets.mnist()


def test_fetching_puts_files_into_the_cache(idx_files, tmp_path, monkeypatch):
    fetched = []

    def retrieve(url, known_hash, fname, path, downloader):
        path.mkdir(parents=True, exist_ok=True)
        (path / fname).write_bytes(gzip.compress(idx_files[1][fname.removesuffix(".gz")]))
        fetched.append(fname)
        return str(path / fname)

    monkeypatch.setattr("pooch.retrieve", retrieve)
    assert len(datasets.mnist().train_y) == COUNT
    assert len(datasets.mnist().train_y) == COUNT
    assert len(fetched) == 4, "the second call reads the cache"


# --- CIFAR-10 ---


def python2_pickle(labels, pixels):
    """What Python 2's cPickle, protocol 2, writes for {"data": uint8 array, "labels": [...], ...}."""

    def string(text):
        data = text.encode() if isinstance(text, str) else text
        return (b"U" + bytes([len(data)]) if len(data) < 256 else b"T" + struct.pack("<I", len(data))) + data

    out = b"\x80\x02}q\x01(" + string("batch_label") + b"q\x02" + string("training batch 1 of 5") + b"q\x03"
    out += string("labels") + b"q\x04]q\x05(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    out += string("data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08"
    out += b"K\x00\x85U\x01b\x87Rq\x09"
    out += b"(K\x01K" + bytes([len(labels)]) + b"M" + struct.pack("<H", pixels.shape[1]) + b"\x86"
    out += b"cnumpy\ndtype\nq\x0a"
    out += b"U\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    out += string(pixels.tobytes()) + b"tb"
    names = b"".join(string(f"image_{i}.png") for i in range(len(labels)))
    return out + string("filenames") + b"q\x0c]q\x0d(" + names + b"eu."


@pytest.fixture
def batches(monkeypatch):
    rng = np.random.default_rng(1)
    made = {}
    for name in cifar.BATCHES:
        labels = rng.permutation(np.arange(COUNT) % 10).astype(np.uint8)
        pixels = rng.integers(0, 256, (COUNT, 3072), dtype=np.uint8)
        raw = np.concatenate([labels[:, None], pixels], axis=1).tobytes()
        monkeypatch.setitem(cifar.BATCHES, name, md5(raw))
        made[name] = (labels, pixels, raw)
    return made


def write_binary(folder, batches):
    (folder / "cifar-10-batches-bin").mkdir()
    for name, (_, _, raw) in batches.items():
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(raw)


def write_python(folder, batches):
    (folder / "cifar-10-batches-py").mkdir()
    for name, (labels, pixels, _) in batches.items():
        (folder / "cifar-10-batches-py" / name).write_bytes(python2_pickle(labels, pixels))


def write_archive(folder, batches):
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, (_, _, raw) in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))


def write_strips(folder, batches):
    image = pytest.importorskip("PIL.Image")
    (folder / "cifar10").mkdir()
    for name, (labels, pixels, _) in batches.items():
        pictures = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        strips = {}
        for k, part in enumerate(np.split(pictures, 2)):
            file = io.BytesIO()
            image.fromarray(part.reshape(-1, 32, 3)).save(file, "WEBP", lossless=True)
            strips[f"webp_{k:02d}"] = np.frombuffer(file.getvalue(), np.uint8)
        np.savez(folder / "cifar10" / f"{name}.npz", labels=labels, **strips)


@pytest.mark.parametrize("write", [write_binary, write_python, write_archive, write_strips])
def test_cifar10_in_each_form(batches, tmp_path, write):
    write(tmp_path, batches)
    data = datasets.cifar10(tmp_path)
    assert data.train_x.shape == (5 * COUNT, 32, 32, 3)
    first = batches["data_batch_1"][1][0].reshape(3, 32, 32)
    np.testing.assert_array_equal(data.train_x[0], first.transpose(1, 2, 0))
    np.testing.assert_array_equal(data.test_y, batches["test_batch"][0])

    two = datasets.cifar10(tmp_path, classes=("cat", "dog"), batches=[2])
    assert two.classes == ["cat", "dog"]
    labels = batches["data_batch_2"][0]
    np.testing.assert_array_equal(two.train_y, labels[np.isin(labels, (3, 5))] == 5)


def test_a_python_batch_is_never_executed(batches, tmp_path, capsys):
    write_python(tmp_path, batches)
    evil = b"\x80\x02cbuiltins\nprint\nU\x05owned\x85R."
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(evil)
    with pytest.raises(InputError, match="not one of CIFAR-10's python batches"):
        datasets.cifar10(tmp_path)
    assert capsys.readouterr().out == ""


def test_a_changed_cifar_batch_is_refused(batches, tmp_path):
    write_binary(tmp_path, batches)
    path = tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=cifar.BATCHES["data_batch_3"]):
        datasets.cifar10(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"classes": ("cat", "wolf")}, {"classes": ()}, {"batches": [0]}, {"batches": []}]
)
def test_wrong_arguments(batches, tmp_path, wrong):
    write_binary(tmp_path, batches)
    with pytest.raises(InputError, match=next(iter(wrong))):
        datasets.cifar10(tmp_path, **wrong)


# --- what needs no files ---


def test_the_bundled_sample():
    data = datasets.fashion_mnist_sample()
    assert data.train_x.shape == (2000, 28, 28)
    assert data.test_x.shape == (500, 28, 28)
    np.testing.assert_array_equal(np.bincount(data.train_y), 200)
    np.testing.assert_array_equal(np.bincount(data.test_y), 50)
    assert len(np.unique(data.train_x.reshape(2000, -1), axis=0)) == 2000, "no image twice"
    assert "MIT" in data.licence


def test_digits():
    data = datasets.digits()
    assert (len(data.train_y), len(data.test_y)) == (1437, 360)
    np.testing.assert_array_equal(np.bincount(data.test_y), 36)
    assert data.train_x.max() == 255


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(InputError, match=r"whence\[sklearn\]"):
        datasets.digits()


def test_sample_is_balanced_and_reproducible():
    data = datasets.fashion_mnist_sample()
    part = data.sample(105, 20, seed=3)
    assert set(np.bincount(part.train_y)) == {10, 11}
    np.testing.assert_array_equal(part.train_x, data.sample(105, 20, seed=3).train_x)
    with pytest.raises(InputError, match="train is 3000"):
        data.sample(3000, 20)


def test_a_dataset_checks_itself():
    x, y = np.zeros((3, 2, 2), np.uint8), np.array([0, 1, 2])
    with pytest.raises(InputError, match="train_y"):
        datasets.Dataset(x, y[:2], x, y, ["a", "b", "c"])
    with pytest.raises(InputError, match="classes"):
        datasets.Dataset(x, y, x, y, ["a", "b"])
