"""Data sets to try things on: a bundled sample, scikit-learn's digits, readers of the canonical files."""

from whence.study.datasets.bundled import digits, fashion_mnist_sample
from whence.study.datasets.cifar import cifar10
from whence.study.datasets.dataset import Dataset
from whence.study.datasets.idx import fashion_mnist, mnist
from whence.study.datasets.text import sst2

__all__ = ["Dataset", "cifar10", "digits", "fashion_mnist", "fashion_mnist_sample", "mnist", "sst2"]
