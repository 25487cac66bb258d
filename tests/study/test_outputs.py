"""Output functions against their formulas."""

import numpy as np
import pytest
import torch

from whence.errors import InputError
from whence.study.outputs import check_outputs, compute

torch.manual_seed(0)
LOGITS = torch.randn(4, 6, 5, dtype=torch.float64) * 3  # models, targets, classes
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])
P = torch.softmax(LOGITS, -1).gather(-1, LABELS.expand(4, 6)[..., None])[..., 0]


def test_margin_is_the_log_odds_of_the_correct_class():
    found = compute(("margin",), LOGITS, LABELS)["margin"]
    torch.testing.assert_close(found, torch.log(P / (1 - P)))


def test_loss_and_probability():
    found = compute(("loss", "probability"), LOGITS, LABELS)
    torch.testing.assert_close(found["probability"], P)
    torch.testing.assert_close(found["loss"], -torch.log(P))


def test_margin_max_is_positive_exactly_when_the_prediction_is_right():
    found = compute(("margin_max",), LOGITS, LABELS)["margin_max"]
    assert ((found > 0) == (LOGITS.argmax(-1) == LABELS)).all()
    best_other = LOGITS.clone()
    best_other.scatter_(-1, LABELS.expand(4, 6)[..., None], -np.inf)
    torch.testing.assert_close(
        found + best_other.max(-1).values, LOGITS.gather(-1, LABELS.expand(4, 6)[..., None])[..., 0]
    )


def test_a_margin_does_not_saturate():
    logits = torch.tensor([[200.0, -200.0]])
    assert compute(("margin",), logits, torch.tensor([0]))["margin"].item() == 400.0


def test_logits_are_themselves():
    assert compute(("logits",), LOGITS, LABELS)["logits"] is LOGITS


@pytest.mark.parametrize("bad", [(), ("margins",), ("margin", "x")])
def test_unknown_outputs_are_named_beside_the_known(bad):
    with pytest.raises(InputError, match="margin, margin_max, loss, probability, logits"):
        check_outputs(bad)
