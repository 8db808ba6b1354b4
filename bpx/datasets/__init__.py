"""Real data to begin with: digits (in scikit-learn's wheel) and MNIST (downloaded once)."""

from typing import TYPE_CHECKING, Any

from ..elsewhere import ATTRIBUTES_OF_DATASETS
from ..keywords import missing
from ._digits import digits
from ._mnist import DatasetError, mnist
from ._split import Dataset, Split

__all__ = ["Dataset", "DatasetError", "Split", "digits", "mnist"]


if not TYPE_CHECKING:  # a checker knows the names by itself

    def __getattr__(name: str) -> Any:
        raise missing(f"module {__name__!r}", name, __all__, ATTRIBUTES_OF_DATASETS)
