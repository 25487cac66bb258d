"""Dataset: labelled training and test examples, as arrays, with where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from whence.errors import InputError


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Training and test examples of a classification task.

    Attributes
    ----------
    train_x, test_x : (n, H, W) or (n, H, W, 3) uint8 images, (n, features) float32, or (n, length) tokens
    train_y, test_y : (n,) int64 labels, 0..classes-1
    classes : the name of each label
    name, licence, source : what it is, on which terms it may be used, and where it was published
    train_text, test_text : the texts that were made into tokens, str (n,), None where there are none
    """

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray
    classes: list[str]
    name: str = ""
    licence: str = ""
    source: str = ""
    train_text: np.ndarray | None = None
    test_text: np.ndarray | None = None

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            x, y = getattr(self, f"{part}_x"), getattr(self, f"{part}_y")
            if y.shape != (len(x),):
                raise InputError(f"{part}_y has shape {y.shape}, but {part}_x holds {len(x)} examples.")
            if len(y) and not 0 <= y.min() <= y.max() < len(self.classes):
                raise InputError(
                    f"{part}_y runs from {y.min()} to {y.max()}, but there are {len(self.classes)} classes."
                )

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train_x.shape[1:]))
        return (
            f"Dataset({self.name!r}: {len(self.train_y)} train and {len(self.test_y)} test, {shape} "
            f"{self.train_x.dtype}, {len(self.classes)} classes)"
        )

    def only(self, classes: Sequence[str | int]) -> Dataset:
        """Only the examples of these classes (names or labels), relabelled 0, 1, ... in the order given."""
        labels = [self._label(name) for name in classes]
        if len(set(labels)) < len(labels) or not labels:
            raise InputError(f"classes is {list(classes)}, but it must name one or more different classes.")
        new = np.full(len(self.classes), -1, np.int64)
        new[labels] = np.arange(len(labels))
        train, test = new[self.train_y] >= 0, new[self.test_y] >= 0
        return replace(
            self.rows(train, test),
            train_y=new[self.train_y[train]],
            test_y=new[self.test_y[test]],
            classes=[self.classes[label] for label in labels],
        )

    def sample(self, train: int, test: int, seed: int = 0) -> Dataset:
        """A random part with `train` and `test` examples, the classes as even as the numbers allow.

        The order of the data set is kept. InputError when a class has too few examples.
        """
        rng = np.random.default_rng(seed)
        train_rows = balanced(self.train_y, train, len(self.classes), "train", rng)
        test_rows = balanced(self.test_y, test, len(self.classes), "test", rng)
        return self.rows(train_rows, test_rows)

    def rows(self, train: np.ndarray | slice, test: np.ndarray | slice) -> Dataset:
        """Only these training and test examples (positions, a boolean mask or a slice)."""
        parts = {
            f"{part}_{kind}": None if array is None else array[rows]
            for part, rows in (("train", train), ("test", test))
            for kind, array in self._arrays(part).items()
        }
        return replace(self, **parts)  # type: ignore[arg-type]

    def _arrays(self, part: str) -> dict[str, np.ndarray | None]:
        return {kind: getattr(self, f"{part}_{kind}") for kind in ("x", "y", "text")}

    def _label(self, name: str | int) -> int:
        if isinstance(name, str):
            if name in self.classes:
                return self.classes.index(name)
        elif 0 <= name < len(self.classes):
            return int(name)
        raise InputError(f"classes names {name!r}, but {self.name} has {', '.join(self.classes)}.")


def balanced(
    labels: np.ndarray, count: int, classes: int, argument: str, rng: np.random.Generator
) -> np.ndarray:
    """Sorted rows of `count` examples, the classes as even as possible (the first take what is over)."""
    chosen = []
    for label in range(classes):
        rows = np.flatnonzero(labels == label)
        share = count // classes + (label < count % classes)
        if share > len(rows):
            raise InputError(
                f"{argument} is {count}, which asks for {share} of class {label}, but there are {len(rows)}."
            )
        chosen.append(rng.choice(rows, share, replace=False))
    return np.sort(np.concatenate(chosen))
