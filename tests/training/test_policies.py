"""The network of a policy."""

import pytest
import torch

from whence.errors import InputError
from whence.training.policies import gaussian_policy


def test_it_is_the_policy_of_the_paper():
    network = gaussian_policy(39, 4)
    sizes = [tuple(p.shape) for p in network.parameters() if p.ndim == 2]
    assert sizes == [(400, 39), (400, 400), (400, 400), (8, 400)]
    assert network(torch.zeros(5, 39)).shape == (5, 8)


def test_observations_are_standardised_inside():
    torch.manual_seed(0)
    plain = gaussian_policy(3, 1, 8, 2)
    torch.manual_seed(0)
    scaled = gaussian_policy(3, 1, 8, 2, centre=(1.0, 2.0, 3.0), spread=(2.0, 4.0, 0.5))
    x = torch.randn(6, 3)
    back = x * torch.tensor([2.0, 4.0, 0.5]) + torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(scaled(back), plain(x))
    assert {name for name, _ in scaled.named_buffers()} == {"0.centre", "0.spread"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0, 4), "sizes of at least 1"),
        ((3, 1, 8, 0), "depth=0"),
        ((3, 1, 8, 2, (0.0,)), "received 1 and 3 numbers"),
        ((3, 1, 8, 2, (0.0, 0.0, 0.0), (1.0, 0.0, 1.0)), "spreads above 0"),
    ],
)
def test_what_cannot_be_built_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        gaussian_policy(*arguments)
