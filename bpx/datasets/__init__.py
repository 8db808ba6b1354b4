"""Real data to begin with: digits (in scikit-learn's wheel) and MNIST (downloaded once)."""

from ._digits import digits
from ._mnist import DatasetError, mnist
from ._split import Dataset, Split

__all__ = ["Dataset", "DatasetError", "Split", "digits", "mnist"]
