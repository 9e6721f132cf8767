"""What `mdtree.tree.MDTree` is given, checked and brought into the form the fitters take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import compute_class_weight

from mdtree.errors import InputError
from mdtree.priors import GaussianPrior, LogDensity
from mdtree.shapes import SHAPES, Shape


def shape_of(shape: Shape | str | None) -> Shape | None:
    """A shape itself, by its name in `SHAPES`, or None."""
    if shape is None or isinstance(shape, Shape):
        return shape
    if not isinstance(shape, str) or shape not in SHAPES:
        raise InputError(f"shape {shape!r}", f"a Shape, None or one of {', '.join(SHAPES)}")
    return SHAPES[shape]


def gaussian_priors(prior: Mapping[str, LogDensity] | None) -> dict[str, GaussianPrior] | None:
    """The priors, if the posterior can use them: it needs their distribution, not only a density."""
    given = dict(prior or {})
    if any(not isinstance(density, GaussianPrior) for density in given.values()):
        raise InputError(f"priors for {', '.join(given)} with sharpness", "every one a GaussianPrior")
    return {name: density for name, density in given.items() if isinstance(density, GaussianPrior)} or None


def sample_weights(sample_weight: ArrayLike | None, n: int) -> np.ndarray:
    """One finite weight >= 0 per row, not all 0; 1 each where none are given."""
    if sample_weight is None:
        return np.ones(n)
    weight = np.asarray(sample_weight, dtype=np.float64)
    if weight.ndim == 0:
        weight = np.full(n, float(weight))
    if weight.shape != (n,):
        raise InputError(f"sample_weight of shape {weight.shape}", f"one weight for each of the {n} rows")
    if not np.all(np.isfinite(weight)) or np.any(weight < 0):
        raise InputError("sample_weight holds a negative or infinite value or NaN", "finite weights of 0 or more")
    if not np.any(weight > 0):
        raise InputError("every sample_weight is zero", "some weight above 0")
    return weight


def gains_by_class(
    gains: Mapping[Any, ArrayLike] | None, classes: np.ndarray, counted: np.ndarray
) -> np.ndarray | None:
    """Gains as an array (counted rows, classes)."""
    if gains is None:
        return None
    unknown = sorted(str(label) for label in set(gains) - set(classes.tolist()))
    columns = [np.asarray(gains.get(label, np.zeros(counted.size)), dtype=float) for label in classes]
    if unknown or any(c.shape != counted.shape for c in columns) or not np.all(np.isfinite(columns)):
        raise InputError(
            f"gains for {', '.join(map(str, gains))}",
            f"labels of y, each with one finite number for every one of {counted.size} rows",
        )
    return np.stack(columns, axis=1)[counted]


def classes_of(y: np.ndarray, shape: Shape | None) -> tuple[np.ndarray, np.ndarray]:
    """Sorted classes and the index of each row's class among them."""
    if shape is None:
        classes, codes = np.unique(y, return_inverse=True)
        return classes, codes.reshape(-1)
    labels = np.asarray([str(label) for label in y])
    if not set(labels) & set(shape.labels()):
        raise InputError(f"y holds none of the answers of shape {shape.name}", f"some of {', '.join(shape.labels())}")
    classes = np.union1d(labels, np.asarray(shape.labels()))
    return classes, np.searchsorted(classes, labels)


def class_factors(given: Any, classes: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Factor per class; "balanced" is total weight / (number of classes present * weight of the class)."""
    if given is None:
        return np.ones(classes.size)
    if isinstance(given, str) and given == "balanced":
        held = np.bincount(codes, weight, minlength=classes.size)
        present = held > 0
        return np.where(present, held.sum() / (present.sum() * np.where(present, held, 1.0)), 1.0)
    if not isinstance(given, Mapping):
        raise InputError(f"class_weight {given!r}", "None, balanced or a mapping from label to factor")
    factors = np.asarray(compute_class_weight(dict(given), classes=classes, y=classes), dtype=np.float64)
    if not np.all(np.isfinite(factors)) or np.any(factors < 0):
        raise InputError(f"class_weight {given!r}", "finite factors of 0 or more")
    return factors
