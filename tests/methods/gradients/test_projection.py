"""Projections: unbiased in every way a layer can take, the same for every batch, fixed by the seed."""

import pytest
import torch

from whence.methods.gradients.pieces import Flat, Outer
from whence.methods.gradients.projection import EXPANSION, Projection


def outer(count, positions, inside, out, seed=0, name="layer"):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(count, positions, inside, generator=generator)
    b = torch.randn(count, positions, out, generator=generator)
    b[1:] += b[:1]  # dot products that are far from 0
    a[1:] += a[:1]
    return Outer(name, a, b, inside, ("w",), (torch.Size((out, inside)),))


def words(count, positions, inside, out):
    piece = outer(count, positions, inside, out)
    tokens = torch.randint(0, inside, (count, positions), generator=torch.Generator().manual_seed(1))
    tokens[1:, 0] = tokens[0, 0]
    return Outer("words", tokens, piece.b, inside, ("w",), (torch.Size((inside, out)),), turned=True)


def flat(count, wide):
    rows = torch.randn(count, wide, generator=torch.Generator().manual_seed(2))
    rows[1:] += rows[:1]
    return Flat("norm", rows, ("w",), (torch.Size((wide,)),))


SIZE = 64
# what a layer looks like, and which of its sides are shrunk
LAYERS = {
    "whole": outer(3, 2, 8, 5),
    "whole, wider than the projection": outer(3, 2, 15, 16),
    "both sides": outer(3, 4, 200, 100),
    "inputs": outer(3, 1, 300, 3),
    "outputs": outer(3, 1, 3, 300),
    "words": words(3, 5, 40, 3),
    "words, shrunk": words(3, 5, 400, 30),
    "formed": flat(3, 20),
    "formed, wider": flat(3, 1000),
}


@pytest.mark.parametrize("name", LAYERS)
def test_dot_products_are_right_in_the_mean(name):
    piece = LAYERS[name]
    exact = piece.flat() @ piece.flat().T
    draws = torch.stack([(p := Projection(SIZE, seed)([piece])) @ p.T for seed in range(400)])
    error = draws.std(0) / len(draws) ** 0.5  # of the mean over seeds
    assert ((draws.mean(0) - exact).abs() <= 5 * error + 1e-4 * exact.abs().max()).all()


def test_layers_are_drawn_independently():
    """Two layers with the same gradients: their sum has twice their dot products, without cross terms."""
    twins = [outer(3, 1, 100, 50, name="one"), outer(3, 1, 100, 50, name="other")]
    exact = 2 * twins[0].flat() @ twins[0].flat().T
    draws = torch.stack([(p := Projection(SIZE, seed)(twins)) @ p.T for seed in range(400)])
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - exact).abs() <= 5 * error).all()


def test_a_layer_no_wider_than_the_projection_keeps_its_dot_products():
    for piece in (LAYERS["whole"], LAYERS["formed"]):
        rows = Projection(SIZE)([piece])
        assert torch.allclose(rows @ rows.T, piece.flat() @ piece.flat().T, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", LAYERS)
def test_rows_do_not_depend_on_the_batch_and_follow_from_the_seed(name):
    piece = LAYERS[name]

    def part(span):
        if isinstance(piece, Flat):
            return Flat(piece.name, piece.g[span], piece.keys, piece.shapes)
        a, b = piece.a[span], piece.b[span]
        return Outer(piece.name, a, b, piece.wide, piece.keys, piece.shapes, piece.turned)

    whole = Projection(SIZE, 3)([piece])
    projection = Projection(SIZE, 3)
    split = torch.cat([projection([part(slice(i, i + 1))]) for i in range(3)])
    assert whole.shape == (3, SIZE)
    assert torch.allclose(whole, split, rtol=1e-4, atol=1e-4)
    assert torch.equal(whole, Projection(SIZE, 3)([piece])) and not torch.equal(
        whole, Projection(SIZE, 4)([piece])
    )


def test_no_layer_is_formed_beyond_its_share():
    projection = Projection(SIZE)
    for inside, out in ((10_000, 10_000), (10_000, 3), (3, 10_000), (257, 1), (16, 16)):
        left, right = projection.sides(
            Outer("x", torch.zeros(1, 1, inside), torch.zeros(1, 1, out), inside, (), ())
        )
        assert 1 <= left <= out and 1 <= right <= inside and left * right <= EXPANSION * SIZE
        assert left * right > EXPANSION * SIZE / 3 or (left, right) == (out, inside), "and makes use of it"
