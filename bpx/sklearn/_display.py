"""The diagram in a notebook: scikit-learn's own, with the layers below the parameters."""

from __future__ import annotations

from typing import Any


class ShowsLayers:
    """Before `BaseEstimator`: its diagram, alone or in a Pipeline, shows a fitted one's layers."""

    def _get_params_html(self, *args: Any, **options: Any) -> Any:
        shown: Any = super()._get_params_html(*args, **options)  # type: ignore[misc]
        network = vars(self).get("_network")
        if network is not None:
            parameters, layers = shown._repr_html_inner, network.summary()._repr_html_()
            shown._repr_html_inner = lambda: (
                f'{parameters()}<div class="estimator-table"><details><summary>Network</summary>'
                f"{layers}</details></div>"
            )
        return shown
