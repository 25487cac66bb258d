"""BehaviorRetrieval: choose what lies near the target in the latent space of a VAE of states and actions.

Du, Nair, Sadigh, Finn 2023 (arXiv 2304.08742).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from whence.applications.selection.base import Selector
from whence.applications.selection.pool import Pool
from whence.applications.selection.robots.retrieval import answers, nearest, standardised


@dataclass(frozen=True, eq=False)
class BehaviorRetrieval(Selector):
    """Minus the distance of a step's latent mean to the nearest one of a target step.

    A variational autoencoder of standardised (state, action) pairs is trained on the candidates; states and
    actions are scaled so that both weigh the same in the reconstruction.

    Parameters
    ----------
    latent, width : units of the latent space and of the two hidden layers either way.
    steps, batch_size, lr : of Adam.
    beta : weight of the divergence from the prior.
    """

    latent: int = 16
    width: int = 128
    steps: int = 2000
    batch_size: int = 256
    lr: float = 1e-3
    beta: float = 1e-2
    name: str = "BehaviorRetrieval"
    needs: ClassVar[tuple[str, ...]] = ("inputs",)

    def scores(self, pool: Pool, seed: int = 0) -> np.ndarray:
        """(n,) at most 0; `seed` is that of the autoencoder."""
        pairs, wanted = self._pairs(pool)
        encoder = self._train(pairs, seed)
        with torch.no_grad():
            mine, theirs = (encoder(torch.from_numpy(x))[:, : self.latent].numpy() for x in (pairs, wanted))
        return -nearest(mine, theirs)

    def _pairs(self, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        states, target_states = standardised(pool)
        actions, target_actions = answers(pool)
        centre, spread = actions.mean(0), np.maximum(actions.std(0), 1e-6)
        varying = max(1, int((states.std(0) > 0).sum()))
        weight = np.float32((varying / actions.shape[1]) ** 0.5)
        joined = [
            np.concatenate([s, weight * (a - centre) / spread], axis=1).astype(np.float32)
            for s, a in ((states, actions), (target_states, target_actions[pool.target_index]))
        ]
        return joined[0], joined[1]

    def _train(self, pairs: np.ndarray, seed: int) -> nn.Module:
        data = torch.from_numpy(pairs)
        size = data.shape[1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            encoder = _perceptron(size, self.width, 2 * self.latent)
            decoder = _perceptron(self.latent, self.width, size)
            optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], self.lr)
            for _ in range(self.steps):
                x = data[torch.randint(len(data), (self.batch_size,))]
                mean, log_variance = encoder(x).chunk(2, dim=1)
                log_variance = log_variance.clamp(-10, 10)
                z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
                divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
                loss = ((decoder(z) - x).square().sum(1) + self.beta * divergence).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return encoder


def _perceptron(inside: int, width: int, outside: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inside, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, outside)
    )
