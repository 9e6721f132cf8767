"""Numbers of a loss landscape: the sharpness, connectivity and similarity of trained classifiers, on fixed data.

Names are imported when they are first asked for, so that :mod:`landscape.protocol` and the errors cost no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from landscape.errors import LandscapeError
from landscape.measurement import Cost, Measurement, NotMeasured, Value
from landscape.protocol import ALONE_METRICS, METRICS, PAIR_METRICS, TEST_METRICS, Execution, Protocol

if TYPE_CHECKING:
    from landscape.connectivity import (
        Barrier,
        BezierCurve,
        Pair,
        Path,
        barrier,
        fit_curve,
        linear_barrier_percent,
        linear_path,
    )
    from landscape.features import Features, Spread, feature_rank_share, idle_feature_share, last_features, logit_spread
    from landscape.hessian import Eigenvalues, SpectralDensity, TraceEstimate, spectral_density, top_eigenvalues, trace
    from landscape.lanczos import SymmetricOperator
    from landscape.measure import measure
    from landscape.measure_many import measure_many
    from landscape.objective import ClassificationData, LossAndError, Objective, Samples, Task
    from landscape.similarity import disagreement, linear_cka, mixup, parameter_distance
    from landscape.spectra import LayerSpectrum, layer_spectra
    from landscape.surface import LossSurface, loss_surface
    from landscape.weight_noise import weight_noise_loss

__all__ = [
    "ALONE_METRICS",
    "METRICS",
    "PAIR_METRICS",
    "TEST_METRICS",
    "Barrier",
    "BezierCurve",
    "ClassificationData",
    "Cost",
    "Eigenvalues",
    "Execution",
    "Features",
    "LandscapeError",
    "LayerSpectrum",
    "LossAndError",
    "LossSurface",
    "Measurement",
    "NotMeasured",
    "Objective",
    "Pair",
    "Path",
    "Protocol",
    "Samples",
    "SpectralDensity",
    "Spread",
    "SymmetricOperator",
    "Task",
    "TraceEstimate",
    "Value",
    "barrier",
    "disagreement",
    "feature_rank_share",
    "fit_curve",
    "idle_feature_share",
    "last_features",
    "layer_spectra",
    "linear_barrier_percent",
    "linear_cka",
    "linear_path",
    "logit_spread",
    "loss_surface",
    "measure",
    "measure_many",
    "mixup",
    "parameter_distance",
    "spectral_density",
    "top_eigenvalues",
    "trace",
    "weight_noise_loss",
]

_NEEDS_TORCH = {
    **dict.fromkeys(
        ("Barrier", "BezierCurve", "Pair", "Path", "barrier", "fit_curve", "linear_barrier_percent", "linear_path"),
        "connectivity",
    ),
    **dict.fromkeys(
        ("Eigenvalues", "SpectralDensity", "TraceEstimate", "spectral_density", "top_eigenvalues", "trace"), "hessian"
    ),
    **dict.fromkeys(("ClassificationData", "LossAndError", "Objective", "Samples", "Task"), "objective"),
    **dict.fromkeys(("disagreement", "linear_cka", "mixup", "parameter_distance"), "similarity"),
    **dict.fromkeys(("LayerSpectrum", "layer_spectra"), "spectra"),
    **dict.fromkeys(
        ("Features", "Spread", "feature_rank_share", "idle_feature_share", "last_features", "logit_spread"), "features"
    ),
    "SymmetricOperator": "lanczos",
    "LossSurface": "surface",
    "loss_surface": "surface",
    "measure": "measure",
    "measure_many": "measure_many",
    "weight_noise_loss": "weight_noise",
}


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module 'landscape' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"landscape.{_NEEDS_TORCH[name]}"), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """``landscape.measure`` is the function, also after its module of the same name was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _NEEDS_TORCH and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
