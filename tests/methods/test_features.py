"""Features of layers and encoders, exemplar SVMs, conditioning on the class, contrastive pre-training."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.studies import study as tiny
from whence import methods
from whence.errors import InputError
from whence.methods import encoders
from whence.methods.similarity import exemplar_svm, similarity
from whence.study import Study
from whence.training import features, train
from whence.training.contrastive import nt_xent, pretrain, view
from whence.training.data import Resident
from whence.training.single import encode


def test_features_of_a_layer_by_name():
    study = tiny("mlp")
    model = train(study)
    x = Resident(study.train, study.train, torch.device("cpu")).inputs(slice(None))
    with torch.no_grad():
        hidden, logits = model[:2](x), model(x)
    np.testing.assert_allclose(features(study, layer="1")[0], hidden, rtol=1e-5)
    np.testing.assert_allclose(features(study, layer="3")[0], logits, rtol=1e-5)
    np.testing.assert_array_equal(features(study, layer="2")[0], features(study)[0])
    by_layer = methods.Similarity("layer:2").attribute(study)
    np.testing.assert_array_equal(by_layer.weight, methods.Similarity("penultimate").attribute(study).weight)
    with pytest.raises(InputError, match="layer is 'body', but the network has the layers 0, 1, 2, 3"):
        methods.Similarity("layer:body").attribute(study)


def test_encoders_are_taken_as_they_are():
    study = tiny()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).train()
    scores = methods.Similarity(encoder, signed=False).attribute(study)
    by_arrays = methods.Similarity(encode(study, encoder), signed=False).attribute(study)
    np.testing.assert_array_equal(scores.weight, by_arrays.weight)
    assert encoder.training, "it is left in the mode it was in"
    with pytest.raises(InputError, match=r"one row for each of its 40 inputs, received shape \(1, 2560\)"):
        methods.Similarity(Whole()).attribute(study)
    with pytest.raises(InputError, match="must give a pair of arrays"):
        methods.Similarity(lambda study: np.zeros((40, 3))).attribute(study)
    with pytest.raises(InputError, match="NaN"):
        methods.Similarity((np.full((40, 2), np.nan), np.ones((7, 2)))).attribute(study)


class Whole(nn.Module):
    def forward(self, x):
        return x.reshape(1, -1)


def test_image_encoders_get_rgb_of_their_size():
    seen = []

    def encoder(x):
        seen.append(tuple(x.shape[1:]))
        return x.mean((2, 3))

    train_x, targets_x = encoders.images(encoder, size=16)(tiny())
    assert train_x.shape == (40, 3) and targets_x.shape == (7, 3) and set(seen) == {(3, 16, 16)}
    with pytest.raises(InputError, match="for 40 inputs, received shape"):
        encoders.images(lambda x: x, size=16)(tiny())


def test_exemplar_svm_is_scikit_learn_s_and_ranks_the_copy_first():
    svm = pytest.importorskip("sklearn.svm")
    generator = np.random.default_rng(0)
    train_x = generator.standard_normal((30, 60)).astype(np.float32)
    scores = exemplar_svm(train_x, train_x[:3] * 1.01)
    assert scores.argmax(1).tolist() == [0, 1, 2] and scores.dtype == np.float32
    against = generator.random((1, 30)) < 0.5
    found = exemplar_svm(train_x, train_x[:1], against)
    model = svm.LinearSVC(
        C=0.1, class_weight="balanced", tol=1e-6, max_iter=10_000, dual="auto", random_state=0
    )
    model.fit(np.vstack([train_x[:1], train_x[against[0]]]), [1] + [0] * int(against.sum()))
    np.testing.assert_allclose(found[0], model.decision_function(train_x), rtol=1e-5)


@pytest.mark.parametrize("metric", ["cosine", "dot", "l2", "svm"])
def test_conditioning_on_the_class(metric):
    study = tiny()
    scores = methods.Similarity(metric=metric, class_conditioned=True).attribute(study)
    same = study.target_labels[:, None] == study.train_labels[None]
    assert (scores.weight[~same] == 0).all() and (scores.weight[same] >= 0).all()
    plain = methods.Similarity(metric=metric, signed=False).attribute(study).weight
    if metric != "svm":  # an SVM is another one when it sees its own class only
        for i in range(len(same)):
            order, kept = plain[i][same[i]].argsort(), scores.weight[i][same[i]].argsort()
            np.testing.assert_array_equal(order, kept)
    with pytest.raises(InputError, match="choose one"):
        methods.Similarity(signed=True, class_conditioned=True)


def test_contrastive_pretraining_learns_to_tell_images_apart():
    study = tiny()
    state = torch.get_rng_state()
    encoder = pretrain(study, epochs=4, batch_size=20)
    assert torch.equal(torch.get_rng_state(), state) and not encoder.training
    again = pretrain(study, epochs=4, batch_size=20)
    x = Resident(study.train, study.train, torch.device("cpu")).inputs(slice(None))
    with torch.no_grad():
        np.testing.assert_array_equal(encoder(x), again(x))

    def loss(net):
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            return float(nt_xent(net(view(x, generator)), net(view(x, generator)), 0.2))

    assert loss(encoder) < loss(pretrain(study, epochs=1, batch_size=20, rate=0.0))
    scores = methods.Similarity(encoders.contrastive(epochs=1, batch_size=20)).attribute(study)
    assert scores.shape == (7, 40)


def test_nt_xent_is_the_formula():
    first, second = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = [v / v.norm() for v in (*first, *second)]
    total = 0.0
    for i in range(6):
        e = [torch.exp(z[i] @ z[k] / 0.5) for k in range(6)]
        total -= torch.log(e[(i + 3) % 6] / (sum(e) - e[i]))
    torch.testing.assert_close(nt_xent(first, second, 0.5), total / 6)


def test_what_contrastive_pretraining_refuses():
    with pytest.raises(InputError, match="batch_size=1"):
        pretrain(tiny(), batch_size=1)
    with pytest.raises(InputError, match="encoder must map 2 images"):
        pretrain(tiny(), lambda: nn.Identity())
    flat = tiny(x=np.random.default_rng(0).random((47, 64), dtype=np.float32))
    with pytest.raises(InputError, match="needs a study of images"):
        pretrain(flat)


def texts_only(train, targets):
    study = Study.from_function(lambda mask, seed: [0.0] * len(targets), n=len(train), targets=len(targets))
    study.train_texts, study.target_texts = np.array(train), np.array(targets)
    return study


def test_words_of_texts():
    train = ["a red fish swam", "the red fish swam home", "two old trees fell", "old trees fell twice"] * 3
    study = texts_only(train, ["red fish swam", "trees fell", "quite unknown"])
    rows, queries = encoders.words(2)(study)
    assert rows.shape == (12, 2) and queries.shape == (3, 2) and rows.dtype == np.float32
    likeness = similarity(rows, queries)
    assert (likeness[0].reshape(3, 4)[:, :2] > 0.9).all() and (likeness[0].reshape(3, 4)[:, 2:] < 0.2).all()
    assert (likeness[1].reshape(3, 4)[:, 2:] > 0.9).all() and not queries[2].any()
    # targets do not take part in the fit
    other, _ = encoders.words(2)(texts_only(train, ["entirely other words"]))
    np.testing.assert_allclose(np.abs(other), np.abs(rows), atol=1e-5)
    with pytest.raises(InputError, match="a text encoder needs texts"):
        encoders.words()(Study.from_function(lambda mask, seed: [0.0], n=4, targets=1))
