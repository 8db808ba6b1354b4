"""scikit-learn's MLPClassifier and MLPRegressor, trained by bpx: drop-in estimators.

``from bpx.sklearn import MLPClassifier`` where ``sklearn.neural_network`` stood, and nothing else
changes: the same parameters, attributes, messages, and with the same ``random_state`` the same
weights and mini-batches, so that results agree to rounding.
"""

from ..extras import PACKAGES, not_imported

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise not_imported("bpx.sklearn needs", PACKAGES["sklearn"], error) from error

from ._classifier import MLPClassifier
from ._network_classifier import NetworkClassifier
from ._network_regressor import NetworkRegressor
from ._regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "NetworkClassifier", "NetworkRegressor"]
