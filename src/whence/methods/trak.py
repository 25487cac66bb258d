"""TRAK: attribution by the after-kernel of trained networks.

Park, Georgiev, Ilyas, Leclerc, Madry 2023 (arXiv 2303.14186), equation 16: with phi the gradient of the
output at a checkpoint (projected or whole), Phi its rows for the training examples and Q = 1 - p_i,

    tau(z) = mean_c[ phi(z)' (Phi' Phi + lambda)^-1 Phi' ]  mean_c[ Q ],

means over checkpoints c. With a loss of the recipe's own phi is the gradient of that loss at the training
examples and Q = -1. Here lambda = ridge n mean_i |phi(x_i)|^2, so that a ridge means the same for every
network; the kernel is not rescaled, so checkpoints count by what they say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from whence.attribution import Attribution, Effect
from whence.attribution_files import check_place
from whence.errors import InputError
from whence.methods.base import Method, check_groups, first_output, group_rows, provenance
from whence.methods.gradients.check import check
from whence.methods.gradients.checkpoints import Checkpoint, Given, checkpoints
from whence.methods.gradients.inverse import dual, primal
from whence.methods.gradients.kernel import dots, pieces_of, squares
from whence.methods.gradients.network import Network
from whence.methods.gradients.plan import bytes_of
from whence.methods.gradients.projection import Projection, project
from whence.methods.gradients.stored import Stored, means, prepare, pulls
from whence.methods.gradients.streaming import stream, top

RIDGE = 3e-4


class TRAK(Method):
    """TRAK over an ensemble of checkpoints.

    Parameters
    ----------
    checkpoints : a Bank that kept some (those of its training part), state dicts or safetensors files, or a
        number of models to train on random halves. More are better, with the square root of their number.
    first : use only so many of them
    projection : dimensions that gradients are projected to; None takes them whole through the n x n kernel,
        which is exact and, up to some 10,000 training examples, faster
    ridge : see above. Too small and the inverse follows noise, too large and scores turn into dot products;
        tune it on validation retrainings (`path` costs hardly more than one).
    blocks : invert the Gram matrix in so many diagonal blocks (with a projection only); a block of about
        2,000 dimensions has been seen to work better than one large matrix
    store : directory in which projected gradients of the training examples are kept: a run that was stopped
        goes on where it was, other targets and ridges do not take them again, and they need not fit in memory
        (with a projection only, and without use_masks). Memory, disk and time are forecast on standard error
        before it is begun
    memory : that a pass into and out of the store may add to a process that holds the study, in bytes or as
        "1GiB". Scores that are returned in memory (targets, n) come on top; with ``attribute(..., to=path)``
        nothing does
    use_masks : let each checkpoint's kernel be that of the examples it was trained on
    soft_threshold : share of scores, the smallest in size, that are set to 0 and subtracted from the others
        (the paper's S_lambda, by quantile)
    groups : name -> ids of targets. The rows of the attribution are then these groups, and the output that
        is explained is the mean over a group; gradients of its targets are averaged before they are scored
        with, so that the scores of a large pool for one task are a single row (DsDm, Engstrom et al. 2024)
    seed : of the projection, and of the training where `checkpoints` is a number
    device : "cpu", "cuda", ...; default the CPU

    Scores are right up to scale. Needs labels (answers, with a loss of the recipe's own) and a Recipe.
    """

    needs = ("ids", "inputs", "answers", "training")

    def __init__(
        self,
        checkpoints: Given = 5,
        *,
        first: int | None = None,
        projection: int | None = None,
        ridge: float = RIDGE,
        blocks: int = 1,
        store: str | Path | None = None,
        memory: int | str = "1GiB",
        use_masks: bool = False,
        soft_threshold: float = 0.0,
        groups: Mapping[str, Sequence[Any]] | None = None,
        seed: int = 0,
        device: str | None = None,
    ) -> None:
        if not ridge > 0:
            raise InputError(f"ridge must be positive, received {ridge}; 1e-6 is very little.")
        if projection is not None and projection < 1:
            raise InputError(f"projection must be at least 1 or None, received {projection}.")
        if blocks < 1 or (projection is None and blocks > 1) or (projection or blocks) % blocks:
            raise InputError(
                f"blocks is {blocks}, but it must divide the projection's dimensions ({projection})."
            )
        if store is not None and (projection is None or use_masks):
            raise InputError(
                "store keeps projected gradients of all examples: it needs a projection, say 2048, and "
                "use_masks=False."
            )
        if not 0 <= soft_threshold < 1:
            raise InputError(f"soft_threshold is a share from 0 to below 1, received {soft_threshold}.")
        self._checkpoints = checkpoints
        self.first = first
        self.projection = projection
        self.ridge = ridge
        self.blocks = blocks
        self.store = None if store is None else str(store)
        self.memory = bytes_of(memory)
        self.use_masks = use_masks
        self.soft_threshold = soft_threshold
        self.groups = check_groups(groups)
        self.seed = seed
        self.device = device

    def require(self, source: Any, output: str | None = None) -> None:
        """As for every method; also that the groups are of targets."""
        super().require(source, output)
        self._groups(source)

    def attribute(
        self, study: Any, output: str | None = None, *, to: str | Path | None = None
    ) -> Attribution:
        """Scores (target or group, train).

        Parameters
        ----------
        to : write them here, a block of training examples at a time, and open what was written, of which
            weights are read when first used: for scores that do not fit in memory. Needs a store
        """
        if to is None:
            return self.path(study, (self.ridge,), output)[-1]
        self.require(study, output)
        if self.store is None or self.soft_threshold:
            raise InputError(
                "to= writes scores block by block: it needs store=, and soft_threshold=0, for a threshold is "
                "a property of all scores."
            )
        check_place(to)
        output = first_output(study, output)
        ready = self._stored(study, output, self._given(study), (self.ridge,), write_scores=True)
        shape = (len(self._rows(study)), study.n)
        labels = self._labels(study, output, self.ridge, ready.names)
        with Attribution.writing(to, shape, ready.store.block, **labels) as write:
            for span, scores in stream(ready.store, ready.queries[0], np.mean(ready.weights, 0)):
                write(span, scores)
        return Attribution.load(to)

    def top(
        self,
        study: Any,
        k: int = 10,
        output: str | None = None,
        order: Literal["helpful", "harmful"] = "helpful",
    ) -> dict[Any, list[Effect]]:
        """Target id -> its k training examples with the strongest effect, strongest first, as
        `Attribution.top` has them; from the store, without all scores at once."""
        self.require(study, output)
        if self.store is None:
            raise InputError("top searches stored gradients: pass store= and projection=.")
        if order not in ("helpful", "harmful"):
            raise InputError(f'order is {order!r}, but it must be "helpful" or "harmful".')
        if not 1 <= k <= study.n:
            raise InputError(f"k must lie between 1 and {study.n}, received {k}.")
        output = first_output(study, output)
        ready = self._stored(study, output, self._given(study), (self.ridge,), write_scores=False)
        lowest = (order == "harmful") != (output == "loss")
        weights = np.mean(ready.weights, 0)
        best, where = top(ready.store, ready.queries[0], k, weights, lowest)
        sign = -1 if lowest else 1
        return {
            target: [
                Effect(study.train_ids[j].item(), int(j), float(score))
                for score, j in zip(scores, positions, strict=True)
                if sign * score > 0
            ]
            for target, scores, positions in zip(self._rows(study), best, where, strict=True)
        }

    def path(
        self,
        study: Any,
        ridges: Sequence[float],
        output: str | None = None,
        *,
        counts: Sequence[int] | None = None,
    ) -> list[Attribution]:
        """Scores at several ridges, and with the first `counts` checkpoints, from one pass over the
        gradients.

        Returns
        -------
        One Attribution for each count (default: all checkpoints), ascending, and ridge, in the order given.
        """
        self.require(study, output)
        output = first_output(study, output)
        given = self._given(study, max(counts) if counts else None)
        counts = counts or (len(given),)
        if self.store is not None:
            return self._streamed(study, output, given, ridges, counts)
        network = Network(study, output, self.device)
        if self.use_masks and any(c.mask is None for c in given):
            raise InputError("use_masks needs checkpoints whose training subsets are known: pass a Bank.")
        groups = self._groups(study)
        totals = [torch.zeros(len(self._rows(study)), study.n, dtype=torch.float64) for _ in ridges]
        weights = torch.zeros(study.n, dtype=torch.float64)
        found = []
        for number, checkpoint in enumerate(given):
            check(network.load(checkpoint), network.linear, ridge=min(ridges))
            weights += pulls(network)
            found_here = self._scores(network, checkpoint, ridges, number, groups)
            for total, scores in zip(totals, found_here, strict=True):
                total += scores.cpu()
            done = number + 1
            if done in counts:
                names = [c.name for c in given[:done]]
                found += [
                    self._finish(study, output, total / done * (weights / done), ridge, names)
                    for ridge, total in zip(ridges, totals, strict=True)
                ]
        return found

    def _finish(
        self, study: Any, output: str, scores: torch.Tensor, ridge: float, names: list[str]
    ) -> Attribution:
        if self.soft_threshold:
            limit = scores.abs().flatten().kthvalue(int(self.soft_threshold * scores.numel()) or 1).values
            scores = scores.sign() * (scores.abs() - limit).clamp_min(0)
        return Attribution(scores.float().numpy(), **self._labels(study, output, ridge, names))

    def _labels(self, study: Any, output: str, ridge: float, names: list[str]) -> dict[str, Any]:
        return {
            "target_ids": self._rows(study),
            "train_ids": study.train_ids,
            "output": output,
            "units": f"{output if self.groups is None else f'mean {output}'}, up to scale",
            "method": f"TRAK ({len(names)} checkpoint{'s' if len(names) > 1 else ''}, ridge {ridge:g})",
            "provenance": provenance(study, self, checkpoints=names, ridge=ridge),
        }

    def _groups(self, study: Any) -> list[list[int]] | None:
        return None if self.groups is None else group_rows(self.groups, study)

    def _rows(self, study: Any) -> list[Any]:
        """What the rows of the attribution are called."""
        return study.target_ids.tolist() if self.groups is None else list(self.groups)

    def _given(self, study: Any, first: int | None = None) -> list[Checkpoint]:
        return checkpoints(
            study, self._checkpoints, first=first or self.first, seed=self.seed, device=self.device
        )

    def _scores(
        self,
        network: Network,
        checkpoint: Checkpoint,
        ridges: Sequence[float],
        number: int,
        groups: list[list[int]] | None,
    ) -> list[torch.Tensor]:
        """phi(z)' (Phi' Phi + lambda)^-1 phi(x) at each ridge, (targets or groups, n) float64."""
        if self.use_masks:
            seen = torch.as_tensor(checkpoint.mask, device=network.device).nonzero()[:, 0]
        else:
            seen = torch.arange(len(network.train.y), device=network.device)
        if self.projection is None:
            train = pieces_of(network, network.train, network.linear)
            targets = pieces_of(network, network.targets, network.output)
            kernel, cross = dots(train, train).double(), means(dots(targets, train).double(), groups)
            unit = float(squares(train)[seen].double().mean()) * len(seen)
            return [dual(kernel, cross, seen, ridge * unit, self.use_masks) for ridge in ridges]
        projection = Projection(self.projection, self.seed + number)
        train_rows = project(network, network.train, network.linear, projection)
        target_rows = means(project(network, network.targets, network.output, projection), groups)
        unit = float(train_rows[seen].double().square().sum(1).mean()) * len(seen)
        return [primal(train_rows, target_rows, seen, ridge * unit, self.blocks) for ridge in ridges]

    def _stored(
        self,
        study: Any,
        output: str,
        given: Sequence[Checkpoint],
        ridges: Sequence[float],
        write_scores: bool,
    ) -> Stored:
        assert self.store is not None and self.projection is not None
        return prepare(
            Network(study, output, self.device),
            given,
            path=self.store,
            study=study.fingerprint,
            projection=self.projection,
            seed=self.seed,
            memory=self.memory,
            ridges=ridges,
            blocks=self.blocks,
            write_scores=write_scores,
            groups=self._groups(study),
        )

    def _streamed(
        self,
        study: Any,
        output: str,
        given: Sequence[Checkpoint],
        ridges: Sequence[float],
        counts: Sequence[int],
    ) -> list[Attribution]:
        """`path` from the store, one result at a time."""
        ready = self._stored(study, output, given, ridges, write_scores=False)
        found = []
        for count in sorted(set(counts)):
            weights = np.mean(ready.weights[:count], 0)
            for ridge, queries in zip(ridges, ready.queries, strict=True):
                scores = torch.empty(len(self._rows(study)), study.n)
                for span, part in stream(ready.store, queries[:count], weights):
                    scores[:, span] = torch.from_numpy(part)
                found.append(self._finish(study, output, scores, ridge, ready.names[:count]))
        return found

    def __repr__(self) -> str:
        kind = self._checkpoints if isinstance(self._checkpoints, int) else type(self._checkpoints).__name__
        return super().__repr__().replace("TRAK(", f"TRAK(checkpoints={kind}, ", 1)
