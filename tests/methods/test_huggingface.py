"""Hugging Face classifiers: gradients are those of autograd, padding and company change nothing, and every
gradient method runs."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import whence
from whence.methods import TRAK, GradDot, Influence
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.layers import gradients
from whence.methods.gradients.network import Network
from whence.methods.gradients.pieces import Outer
from whence.study.huggingface import sequence_classifier, tokens

transformers = pytest.importorskip("transformers")

N, T, CLASSES, VOCABULARY = 14, 4, 3, 40


def bert():
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=20,
        max_position_embeddings=16,
        num_labels=CLASSES,
    )
    return transformers.BertForSequenceClassification(config)


def gpt2(pad=0):
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=12,
        n_layer=2,
        n_head=2,
        n_positions=16,
        num_labels=CLASSES,
        pad_token_id=pad,
        bos_token_id=1,
        eos_token_id=1,
    )
    return transformers.GPT2ForSequenceClassification(config)


def llama():
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=20,
        max_position_embeddings=16,
        num_labels=CLASSES,
        pad_token_id=0,
    )
    return transformers.LlamaForSequenceClassification(config)


MODELS = {"bert": bert, "gpt2": gpt2, "llama": llama}


def encodings(count, seed):
    """What a tokenizer without padding returns."""
    random = np.random.default_rng(seed)
    rows = [random.integers(2, VOCABULARY, random.integers(3, 9)) for _ in range(count)]
    return {"input_ids": rows, "attention_mask": [np.ones_like(row) for row in rows]}


def study_of(name, length=9):
    train, targets = (tokens(encodings(count, seed), length=length) for count, seed in ((N, 0), (T, 1)))
    recipe = whence.Recipe(partial(sequence_classifier, MODELS[name]), 2, 7, whence.AdamW(3e-3))
    return whence.Study(
        (train, np.arange(N) % CLASSES), (targets, np.arange(T) % CLASSES), recipe, ("margin", "loss")
    )


@pytest.fixture(scope="module", params=MODELS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def state(name):
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():  # biases and scales at their start would hide what goes wrong with them
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return model.state_dict()


def network_of(name, state, length=9):
    study = study_of(name, length)
    return Network(study, "margin").load(checkpoints(study, [state])[0])


def per_example(network, x, y, scalar):
    found = {}
    for piece in gradients(network, x, y, scalar):
        found |= piece.parameters()
    return found


@pytest.mark.parametrize("scalar", ["output", "loss"])
def test_gradients_are_those_of_autograd(name, state, scalar):
    network = network_of(name, state)
    function = getattr(network, scalar)
    (_, x, y), *_ = network.batches(network.train, N)
    found = per_example(network, x, y, function)
    assert network.layout.rest == [], "no layer needs the whole network"
    parameters = dict(network.module.named_parameters())
    assert set(found) == set(parameters)
    for i in range(N):
        value = function(network.module(x[i : i + 1]), y[i : i + 1])
        grads = torch.autograd.grad(
            value, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        largest = max(float(g.abs().max()) for g in grads)
        for (key, own), g in zip(((k, found[k][i]) for k in parameters), grads, strict=True):
            assert torch.allclose(own, g, rtol=1e-4, atol=1e-5 * largest), key


def test_neither_company_nor_padding_matters(name, state):
    short, long = network_of(name, state, 9), network_of(name, state, 13)
    (_, x, y), *_ = short.batches(short.train, N)
    (_, padded, _), *_ = long.batches(long.train, N)
    together = per_example(short, x, y, short.output)
    alone = [per_example(short, x[i : i + 1], y[i : i + 1], short.output) for i in range(N)]
    more = per_example(long, padded, y, long.output)
    largest = max(float(g.abs().max()) for g in together.values())
    for key, g in together.items():
        assert torch.allclose(g, torch.cat([one[key] for one in alone]), rtol=1e-4, atol=1e-5 * largest), key
        assert torch.allclose(g, more[key], rtol=1e-4, atol=1e-5 * largest), key


def test_linear_layers_keep_their_factors(name, state):
    network = network_of(name, state)
    (_, x, y), *_ = network.batches(network.train, N)
    pieces = gradients(network, x, y, network.output)
    formed = sum(piece.size for piece in pieces if not isinstance(piece, Outer))
    assert formed < 0.05 * sum(p.numel() for p in network.parameters.values()), "norms alone are formed"


def test_every_gradient_method_runs(name, state, tmp_path):
    study = study_of(name)
    for method in (
        TRAK([state], ridge=1e-2),
        TRAK([state], ridge=1e-2, projection=32, store=tmp_path / "store"),
        GradDot([state]),
        Influence("ekfac", checkpoints=[state]),
    ):
        scores = method.attribute(study).weight
        assert scores.shape == (T, N) and scores.std() > 0


def test_saved_models_are_checkpoints(name, state, tmp_path):
    model = MODELS[name]()
    model.load_state_dict(state)
    model.save_pretrained(tmp_path)
    study = study_of(name)
    saved = GradDot([tmp_path / "model.safetensors"]).attribute(study).weight
    np.testing.assert_array_equal(saved, GradDot([state]).attribute(study).weight)


def test_half_precision_is_close_to_float32(name, state):
    study = study_of(name)
    half = whence.Study(
        (study.train_inputs, study.train_labels),
        (study.target_inputs, study.target_labels),
        whence.Recipe(partial(sequence_classifier, partial(_in_half, name)), 1, 7, whence.AdamW(3e-3)),
    )
    for method in (
        TRAK([state], ridge=1e-2, projection=64),
        GradDot([state]),
        Influence("ekfac", 1e-2, checkpoints=[state]),
    ):
        full, rounded = method.attribute(study).weight, method.attribute(half).weight
        assert np.corrcoef(full.ravel(), rounded.ravel())[0, 1] > 0.99, method
        assert np.abs(full - rounded).max() < 0.1 * np.abs(full).max(), method


def _in_half(name):
    return MODELS[name]().bfloat16()


class Prompted(nn.Module):
    """A language model whose logits of a few words at the last place are the classes: GPT-2 ties its input
    and output embeddings."""

    def __init__(self, functional):
        super().__init__()
        config = gpt2().config
        self.inner = transformers.GPT2LMHeadModel(config)
        self.functional = functional

    def forward(self, x):
        if self.functional:
            last = self.inner.transformer(input_ids=x).last_hidden_state[:, -1]
            return (last @ self.inner.transformer.wte.weight.T)[:, :CLASSES]
        return self.inner(input_ids=x).logits[:, -1, :CLASSES]


@pytest.mark.parametrize("functional", [False, True])
def test_tied_embeddings_count_both_uses(functional):
    random = np.random.default_rng(0)
    x, y = random.integers(0, VOCABULARY, (N, 6)), np.arange(N) % CLASSES
    recipe = whence.Recipe(partial(Prompted, functional), 1, 7, whence.SGD(0.1))
    study = whence.Study((x, y), (x[:T], y[:T]), recipe)
    torch.manual_seed(0)
    network = Network(study, "margin").load(checkpoints(study, [Prompted(functional).state_dict()])[0])
    assert GradDot([Prompted(functional).state_dict()]).attribute(study).shape == (T, N)
    (_, inputs, labels), *_ = network.batches(network.train, N)
    per = per_example(network, inputs, labels, network.output)
    parameters = dict(network.module.named_parameters())
    for i in range(3):
        value = network.output(network.module(inputs[i : i + 1]), labels[i : i + 1])
        grads = torch.autograd.grad(
            value, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        for key, g in zip(parameters, grads, strict=True):
            assert torch.allclose(per[key][i], g, rtol=1e-4, atol=1e-5 * float(g.abs().max()) + 1e-7), key


def test_an_engine_trains_them(tmp_path):
    study = study_of("bert")
    bank = whence.retrain(
        study, 4, to=tmp_path / "bank", validation=0, held_out=0, workers=0, progress=False, checkpoints=2
    )
    assert np.isfinite(bank.select("train", "margin").outputs).all()
    assert TRAK(bank, first=1).attribute(study).shape == (T, N)
