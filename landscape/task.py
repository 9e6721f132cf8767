"""Single-label classification: the data, what the targets mean, and the cross-entropy of the logits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from landscape.errors import LandscapeError
from landscape.inputs import Inputs, check_lengths, sample_count, shape_text, take

SUPPORTED = "single-label classification with logits of shape (samples, classes), or one logit a sample"


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs and their targets, in a fixed order.

    Parameters
    ----------
    inputs : Inputs
        A tensor (n, ...), or a tuple, list or mapping of such: see :data:`landscape.inputs.Inputs`.
    targets : Tensor
        Class indices, int64 of shape (n,), or class probabilities, floating of shape (n, classes).
    """

    inputs: Inputs
    targets: Tensor

    def __post_init__(self) -> None:
        check_lengths(self.inputs)
        if self.targets.dim() == 0 or sample_count(self.inputs) != len(self.targets):
            raise LandscapeError(
                f"inputs of shape {shape_text(self.inputs)} and targets of shape {tuple(self.targets.shape)}",
                "one target for each input",
            )
        if len(self.targets) == 0:
            raise LandscapeError("the data hold no sample", "at least one")

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int) -> Iterator[tuple[Any, Tensor]]:
        """Consecutive batches of `size` samples, the last one as short as it comes."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            yield take(self.inputs, part), self.targets[part]

    def subset(self, most: int, seed: int) -> Samples:
        """At most so many of these samples, in an order fixed by `seed`: the first of them are a random part of all."""
        generator = torch.Generator().manual_seed(seed)
        return self.at(torch.randperm(len(self), generator=generator)[:most])

    def at(self, chosen: Tensor) -> Samples:
        """The samples of the given numbers, in their order."""
        return Samples(take(self.inputs, chosen), self.targets[chosen.to(self.targets.device)])


@dataclass(frozen=True, eq=False)
class ClassificationData:
    """The training data of a classifier and, where there are any, its test data."""

    train: Samples
    test: Samples | None
    num_classes: int


@dataclass(frozen=True)
class Task:
    """Cross-entropy of the logits: ``loss_n = sum_c a_nc (-log softmax(z_n)_c)``, averaged over the samples.

    ``a_n`` is the one-hot target (or the given class probabilities), smoothed and weighted as in
    :func:`torch.nn.functional.cross_entropy`. A model with one logit z is one with two classes and logits [0, z],
    whose cross-entropy is the binary one of z.

    Parameters
    ----------
    num_classes : int
    label_smoothing : float
        Share of the target spread evenly over the classes.
    class_weights : tuple of float, optional
        One weight a class. The mean then divides by the summed weights of the labels, as torch does.
    """

    num_classes: int
    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise LandscapeError(f"num_classes is {self.num_classes}", "at least 2 (a model with one logit has two)")
        if not 0 <= self.label_smoothing <= 1:
            raise LandscapeError(f"label_smoothing is {self.label_smoothing}", "a share between 0 and 1")
        weights = self.class_weights
        if weights is not None and (len(weights) != self.num_classes or min(weights) < 0 or max(weights) <= 0):
            raise LandscapeError(f"class_weights is {weights}", f"{self.num_classes} weights, none below 0, not all 0")

    def check_targets(self, targets: Tensor) -> Tensor:
        """The targets as int64 class indices (n,) or class probabilities (n, classes).

        Raises
        ------
        LandscapeError
            If they are those of a regression, of several labels a sample, or outside the classes.
        """
        if targets.is_floating_point():
            return self._check_probabilities(targets)
        if targets.is_complex() or targets.dim() != 1:
            raise LandscapeError(
                f"targets of shape {tuple(targets.shape)} and type {targets.dtype} (several labels a sample?)",
                SUPPORTED,
            )
        labels = targets.long()
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0 or highest >= self.num_classes:
            raise LandscapeError(
                f"labels from {lowest} to {highest}",
                f"labels from 0 to {self.num_classes - 1}",
                "set num_classes, or map the labels to 0, 1, ...",
            )
        return labels

    def _check_probabilities(self, targets: Tensor) -> Tensor:
        flat = targets.flatten() if targets.shape[1:].numel() == 1 else targets
        if flat.dim() == 1:
            if self.num_classes == 2 and bool(((flat == 0) | (flat == 1)).all()):
                return flat.long()  # the usual form of the targets of a binary cross-entropy
            raise LandscapeError("floating targets, one a sample (a regression?)", SUPPORTED)
        if flat.shape[1:] != (self.num_classes,):
            raise LandscapeError(
                f"floating targets of shape {tuple(targets.shape)}", f"{SUPPORTED}: (samples, {self.num_classes})"
            )
        if bool((flat < 0).any()) or not torch.allclose(flat.sum(1), flat.new_ones(()), atol=1e-4):
            raise LandscapeError(
                "floating targets whose rows are not class probabilities (several labels a sample?)", SUPPORTED
            )
        return flat

    def logits(self, output: Any) -> Tensor:
        """The logits (n, classes) in what the model returned: a tensor, or its ``logits`` entry.

        Raises
        ------
        LandscapeError
            If there are none, or they are not one row of `num_classes` (or one number) a sample.
        """
        if isinstance(output, Mapping):
            output = output.get("logits", output)
        elif not isinstance(output, Tensor):
            output = getattr(output, "logits", output)
        if not isinstance(output, Tensor):
            raise LandscapeError(f"the model returned {type(output).__name__}", f"a tensor or .logits: {SUPPORTED}")
        if output.dim() == 1:
            output = output[:, None]
        if output.dim() != 2 or output.is_complex():
            raise LandscapeError(
                f"the model returned a tensor of shape {tuple(output.shape)} (dense prediction or a language model?)",
                SUPPORTED,
            )
        if output.shape[1] == 1 and self.num_classes == 2:
            return torch.cat([torch.zeros_like(output), output], dim=1)
        if output.shape[1] != self.num_classes:
            raise LandscapeError(
                f"the model returned {output.shape[1]} logits a sample",
                f"{self.num_classes}, one a class",
                f"set num_classes={output.shape[1]} if the model is right",
            )
        return output

    def coefficients(self, targets: Tensor, like: Tensor) -> Tensor:
        """The a_nc of the loss, shape (n, classes), in the type of `like`."""
        hot = targets if targets.dim() == 2 else functional.one_hot(targets, self.num_classes)
        smooth = hot.to(like) * (1 - self.label_smoothing) + self.label_smoothing / self.num_classes
        return smooth if self.class_weights is None else smooth * like.new_tensor(self.class_weights)

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Loss of each sample before the mean, shape (n,)."""
        if targets.dim() == 1 and not self.label_smoothing and self.class_weights is None:
            return functional.cross_entropy(logits, targets, reduction="none")
        return -(self.coefficients(targets, logits) * functional.log_softmax(logits, dim=1)).sum(1)

    def residual(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Gradient of each sample's loss for its logits, ``(sum_c a_c) p - a``, shape (n, classes)."""
        a = self.coefficients(targets, logits)
        return a.sum(1, keepdim=True) * logits.softmax(1) - a

    def trace_cotangents(self, targets: Tensor, signs: Tensor | None, logits: Tensor) -> Tensor:
        """Cotangents u of the logits with ``E_s u u^T`` (or ``sum_k u_k u_k^T``) the Hessian of the loss for them.

        ``u = sqrt(c) (sqrt(p) s - p (sqrt(p) . s))``, c the sum of a sample's coefficients and p its softmax.

        Parameters
        ----------
        signs : Tensor, shape (R, n, classes), or None
            Random signs s; None stands for the unit vectors e_k of all classes.
        logits : Tensor, shape (n, classes)

        Returns
        -------
        Tensor, shape (R, n, classes), or (classes, n, classes)
        """
        if signs is None:
            vectors = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)[:, None]
        else:
            vectors = signs.to(logits)
        p = logits.softmax(1)
        scale = self.coefficients(targets, logits).sum(1, keepdim=True).sqrt()
        root = p.sqrt() * vectors
        return scale * (root - p * root.sum(2, keepdim=True))

    def normaliser(self, targets: Tensor) -> float:
        """What the summed losses are divided by: the samples, or the summed weights of their labels."""
        if self.class_weights is None or targets.dim() == 2:
            return float(len(targets))
        return float(targets.new_tensor(self.class_weights, dtype=torch.float64)[targets].sum())

    def sample_weights(self, targets: Tensor) -> Tensor:
        """What each sample adds to :meth:`normaliser`, shape (n,), float64."""
        if self.class_weights is None or targets.dim() == 2:
            return torch.ones(len(targets), dtype=torch.float64)
        return torch.tensor(self.class_weights, dtype=torch.float64)[targets.cpu()]

    def labels(self, targets: Tensor) -> Tensor:
        """The class indices (n,): the given ones, or the likeliest class."""
        return targets if targets.dim() == 1 else targets.argmax(1)

    def chance_error_percent(self, targets: Tensor) -> float:
        """Error in percent of the best constant answer on these targets."""
        labels = self.labels(targets)
        return 100.0 * (1.0 - int(torch.bincount(labels).max()) / len(labels))

    def chance_loss(self, targets: Tensor) -> float:
        """Loss in nats of the best constant answer on these targets: for labels the entropy of their (weighted) shares.

        Label smoothing, which lifts it, is left out.
        """
        like = torch.ones((), dtype=torch.float64, device=targets.device)
        counts = replace(self, label_smoothing=0.0).coefficients(targets, like).sum(0)
        shares = counts / counts.sum()
        shares = shares[shares > 0]
        return max(0.0, -float((shares * shares.log()).sum() * counts.sum()) / self.normaliser(targets))
