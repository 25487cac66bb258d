"""What the peers of `benchmarks.peers` are given, and how each is asked in its own words.

All of them run in float32, on the CPU unless told otherwise; all scores come back as (target, train),
positive where including the example raises the margin.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

import whence
from whence.methods.gradients.checkpoints import checkpoints
from whence.methods.gradients.network import Network
from whence.study.outputs import margin

Cross = nn.functional.cross_entropy


@dataclass
class Given:
    """What every peer receives.

    Attributes
    ----------
    module : the network; peers get copies
    train, targets : inputs as the network takes them, and labels
    weights : a state dict for each checkpoint
    masks : for each checkpoint the examples it was trained on, None where it counts as all
    """

    module: nn.Module
    train: TensorDataset
    targets: TensorDataset
    weights: list[dict[str, torch.Tensor]]
    masks: list[np.ndarray | None]
    projection: int
    batch: int

    def one(self) -> Given:
        """The first checkpoint alone, taken as trained on everything, as our methods take a state dict."""
        return Given(
            self.module, self.train, self.targets, self.weights[:1], [None], self.projection, self.batch
        )

    def at(self, weights: dict[str, torch.Tensor]) -> nn.Module:
        module = copy.deepcopy(self.module)
        module.load_state_dict(weights)
        return module.eval()

    def loader(self, data: TensorDataset) -> DataLoader:
        return DataLoader(data, batch_size=self.batch)


def given(study: whence.Study, bank: whence.Bank, settings: dict[str, Any]) -> Given:
    found = checkpoints(study, bank, first=settings["checkpoints"])
    weights = [checkpoint.load() for checkpoint in found]
    whole = given_weights(study, weights, settings["projection"], settings["batch"])
    return replace(whole, masks=[checkpoint.mask for checkpoint in found])


def given_weights(
    study: whence.Study, weights: list[dict[str, torch.Tensor]], projection: int, batch: int
) -> Given:
    """Models given by their weights alone, which count as trained on everything."""
    network = Network(study, "margin")

    def whole(data: Any) -> TensorDataset:
        _, x, y = next(iter(network.batches(data, len(data.y))))
        return TensorDataset(x.cpu(), y.cpu())

    return Given(
        copy.deepcopy(network.module),
        whole(network.train),
        whole(network.targets),
        weights,
        [None] * len(weights),
        projection,
        batch,
    )


def traker(of: Given, ridge: float = 0.0, device: str = "cpu") -> np.ndarray:
    """TRAK by traker. On a CPU, and on a GPU without fast_jl, it takes its BasicProjector (which fails for
    one model and a single block, 100 dimensions or fewer). Its scores are (train, target) and positive where
    the example raises the margin.

    ridge : 0, as it comes, or in our units: times the sum of the squared gradients (of the last checkpoint)
    """
    from trak import TRAKer

    def on_device(data: TensorDataset) -> Iterator[list[torch.Tensor]]:
        return ([part.to(device) for part in batch] for batch in of.loader(data))

    with tempfile.TemporaryDirectory() as folder:
        trak = TRAKer(
            model=copy.deepcopy(of.module).to(device),
            task="image_classification",
            train_set_size=len(of.train),
            save_dir=folder,
            device=device,
            proj_dim=of.projection,
            use_half_precision=False,
            logging_level=40,
        )
        for number, weights in enumerate(of.weights):
            trak.load_checkpoint(weights, model_id=number)
            for batch in on_device(of.train):
                trak.featurize(batch=batch, num_samples=len(batch[1]))
        if ridge:
            rows = np.asarray(trak.saver.current_store["grads"], np.float64)
            trak.score_computer.lambda_reg = ridge * float(np.square(rows).sum())
        trak.finalize_features()
        for number, weights in enumerate(of.weights):
            trak.start_scoring_checkpoint("all", weights, model_id=number, num_targets=len(of.targets))
            for batch in on_device(of.targets):
                trak.score(batch=batch, num_samples=len(batch[1]))
        return np.array(trak.finalize_scores("all")).T


def captum(of: Given) -> np.ndarray:
    """TracInCP by captum with all rates 1: products of the gradients of loss and margin, (target, train). A
    step on the example lowers its loss, so it raises the margin where the product is negative."""
    from captum.influence import TracInCP

    def loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return Cross(logits, y, reduction="sum")

    def output(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return margin(logits, y).sum()

    loss.reduction = output.reduction = "sum"  # type: ignore[attr-defined]  # captum asks for it

    def load(module: nn.Module, weights: dict[str, torch.Tensor]) -> float:
        module.load_state_dict(weights)
        return 1.0

    total = 0.0
    for weights in of.weights:  # one at a time: it holds the targets' gradients of all that it is given
        tracin = TracInCP(
            of.at(weights),
            of.loader(of.train),
            iter([weights]),
            checkpoints_load_func=load,
            loss_fn=loss,
            test_loss_fn=output,
            sample_wise_grads_per_batch=True,
        )
        total = total - tracin.influence(of.loader(of.targets)).detach().numpy() / len(of.weights)
    return total


def dattri(of: Given) -> np.ndarray:
    """Grad-Dot by dattri, (train, target), of the same sign as captum's. Its default projection to 512
    dimensions is switched off: both sides take whole gradients."""
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    module = copy.deepcopy(of.module).eval()

    def logits(parameters: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, parameters, (x[None],))

    def loss(parameters: Any, example: Any) -> torch.Tensor:
        x, y = example
        return Cross(logits(parameters, x), y[None])

    def output(parameters: Any, example: Any) -> torch.Tensor:
        x, y = example
        return margin(logits(parameters, x), y[None])[0]

    task = AttributionTask(loss_func=loss, model=module, checkpoints=of.weights, target_func=output)
    each = torch.full((len(of.weights),), 1 / len(of.weights))
    attributor = TracInAttributor(task, weight_list=each, normalized_grad=False)
    attributor.projector_kwargs = None  # the constructor takes None for its default
    # It goes through all targets again for each batch of training examples.
    scores = attributor.attribute(of.loader(of.train), of.loader(of.targets))
    return -scores.detach().numpy().T


def kronfluence(of: Given) -> np.ndarray:
    """EK-FAC influence by kronfluence, averaged over checkpoints: factors from what each was trained on,
    (target, train); the sign as captum's. Its damping is a tenth of each layer's mean eigenvalue, as ours."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classification(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> torch.Tensor:
            x, y = batch
            logits = model(x)
            if sample:
                with torch.no_grad():
                    y = torch.multinomial(logits.softmax(1), 1)[:, 0]
            return Cross(logits, y, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> torch.Tensor:
            x, y = batch
            return margin(model(x), y).sum()

    task, total = Classification(), 0.0
    for weights, mask in zip(of.weights, of.masks, strict=True):
        seen = of.train if mask is None else Subset(of.train, np.flatnonzero(mask).tolist())
        with tempfile.TemporaryDirectory() as folder:
            analyzer = Analyzer(
                analysis_name="peers",
                model=prepare_model(of.at(weights), task),
                task=task,
                cpu=True,
                log_level=40,
                disable_tqdm=True,
                output_dir=folder,
            )
            analyzer.fit_all_factors(
                "factors",
                dataset=seen,
                per_device_batch_size=of.batch,
                factor_args=FactorArguments(strategy="ekfac"),
            )
            analyzer.compute_pairwise_scores(
                "scores",
                factors_name="factors",
                query_dataset=of.targets,
                train_dataset=of.train,
                per_device_query_batch_size=of.batch,
                per_device_train_batch_size=of.batch,
                score_args=ScoreArguments(damping_factor=None),
            )
            scores = analyzer.load_pairwise_scores("scores")["all_modules"]
        total = total - scores.double().numpy() / len(of.weights)
    return total
