"""The loss of one network on fixed data: error, loss, gradient, products with its Hessian, per-sample gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.failures import first_line, out_of_memory
from landscape.inputs import Inputs, each_tensor, inputs_and_targets, sample_count, shape_text, take
from landscape.network import Network, differentiable, evaluating
from landscape.per_sample import PerSampleNorms
from landscape.products import NO_SECOND_DERIVATIVE, SecondDerivative
from landscape.protocol import Execution
from landscape.symmetry import CHECKED_VECTORS, antisymmetric_share
from landscape.task import ClassificationData, Samples, Task

__all__ = ["ClassificationData", "LossAndError", "LossFunction", "Objective", "Samples", "Task"]

LossFunction = Callable[[nn.Module, Any], Tensor]
"""``loss_fn(model, batch)``: the mean loss over the batch, a scalar."""


CHECKED_SAMPLES = 8
"""Samples on which the second derivative is tried."""

MOST_ANTISYMMETRIC = 0.01
"""Antisymmetric share of a Hessian above which double backward is not trusted: it is 1e-7 by rounding in float32."""


@dataclass(frozen=True)
class LossAndError:
    """Mean loss and error of one network on fixed data.

    Parameters
    ----------
    loss : float
        In nats for a cross-entropy.
    error_percent : float or None
        Share of the samples whose largest logit is not the label's; None where only a loss function is known.
    loss_deviation : float or None
        Over the root of n the standard error of the loss: the standard deviation over the samples (divisor n).
    samples : int
    """

    loss: float
    error_percent: float | None
    loss_deviation: float | None
    samples: int


@dataclass
class Spent:
    """Cost so far in sample gradients, counted by an objective and all that share its network."""

    sample_gradients: float = 0.0


class Objective:
    """``L(w) = (1/N) sum_n loss_n(w)`` of a copy of a network, in evaluation mode, on data that never change.

    Products are summed over micro-batches with their true weights, so that uneven batches make no difference, and
    are taken with respect to every floating-point parameter, frozen or not, as one vector of length P.

    Parameters
    ----------
    model : nn.Module, or Network
        Copied; the caller's stays as it is. A network is shared.
    batches : Samples, or an iterable of batches that can be walked again and again
        With a `task` each batch is a pair (inputs, targets), or a mapping whose ``labels`` are the targets and whose
        other entries are the named inputs; a loss function gets them as they are.
    task : Task, optional
        Cross-entropy of logits: gives error, logits and Gauss-Newton quantities.
    loss_fn : LossFunction, optional
        Instead of `task`: any mean loss. What needs logits is then refused.
    execution : Execution

    Attributes
    ----------
    data : Samples or None
        The data, where they were given as samples.
    samples : int
        How many there are.
    normaliser : float
        What the summed losses are divided by.

    Raises
    ------
    LandscapeError
        If the model or the data cannot be measured (see :class:`Network` and :class:`Task`).
    """

    def __init__(
        self,
        model: nn.Module | Network,
        batches: Samples | Iterable[Any],
        task: Task | None = None,
        *,
        loss_fn: LossFunction | None = None,
        execution: Execution | None = None,
    ) -> None:
        if (task is None) == (loss_fn is None):
            raise LandscapeError("an objective needs a task or a loss function", "exactly one of the two")
        self.execution = execution or Execution()
        self.task = task
        self.loss_fn = loss_fn
        self.network = model if isinstance(model, Network) else Network(model, self.execution)
        self.spent = Spent()
        self.data: Samples | None = None
        self._batches = self._prepare(batches)
        self._prepare_products()
        self._norms = PerSampleNorms(self.network, task) if task is not None else None
        self.samples, self.normaliser = self._count()
        if self.samples == 0 or self.normaliser <= 0:
            raise LandscapeError("the data hold no sample that counts", "at least one, with a class weight above 0")
        self._try()

    def _prepare_products(self) -> None:
        divisible = self.data is not None
        self._hessian = SecondDerivative(self.network, self.batches, self.batch_loss, divisible=divisible)
        self._residual = SecondDerivative(
            self.network, self.batches, self._batch_residual, divisible=divisible, freeze=self._frozen_residual
        )

    @property
    def sample_gradients(self) -> float:
        """Cost so far: forward + backward of one sample is 1, a forward 1/3, a Hessian product 2."""
        return self.spent.sample_gradients

    @sample_gradients.setter
    def sample_gradients(self, value: float) -> None:
        self.spent.sample_gradients = value

    @property
    def norms(self) -> PerSampleNorms:
        """Per-sample gradient norms; raises LandscapeError where only a loss function is known."""
        self.require_task()
        assert self._norms is not None
        return self._norms

    @property
    def parameter_count(self) -> int:
        """Number of parameters P, the length of every vector here."""
        return self.network.parameter_count

    def batches(self) -> Iterator[Any]:
        """The micro-batches, on the device and in the precision of the network, targets checked."""
        for batch in self._batches:
            if self.task is None or self.data is not None:
                yield self.network.place(batch)
            else:
                inputs, targets = inputs_and_targets(batch)
                yield self.network.place(inputs), self.network.place(self.task.check_targets(targets))

    def _prepare(self, data: Samples | Iterable[Any]) -> Iterable[Any]:
        """Samples, checked once and cut into micro-batches; anything else as it is."""
        if not isinstance(data, Samples):
            if isinstance(data, Iterator):
                raise LandscapeError("the batches can be walked only once", "a list or a loader, walked for every pass")
            return data
        targets = data.targets if self.task is None else self.task.check_targets(data.targets)
        kind = self.network.dtype
        inputs = each_tensor(lambda t: t.to(kind) if t.is_floating_point() else t, data.inputs)
        self.data = Samples(inputs, targets)
        return list(self.data.batches(self.execution.batch_size))

    def halve_batch(self) -> int:
        """Half as many samples at a time from now on, graphs freed; returns that number, or 0 if there is no half."""
        size = min(self.execution.batch_size, self.samples)
        if self.data is None or size == 1:
            return 0
        self.release()
        self.execution = replace(self.execution, batch_size=size // 2)
        self._batches = list(self.data.batches(size // 2))
        return size // 2

    def of(self, model: nn.Module) -> Objective:
        """The same objective of another model."""
        data = self._batches if self.data is None else self.data
        return Objective(model, data, self.task, loss_fn=self.loss_fn, execution=self.execution)

    def on(self, data: Samples) -> Objective:
        """The objective of the same network, which is shared, on other samples."""
        other = Objective(self.network, data, self.task, loss_fn=self.loss_fn, execution=self.execution)
        other.spent, other._norms = self.spent, self._norms
        return other

    def at(self, start: int, stop: int) -> Objective:
        """The objective of the same network, which is shared, on the samples from `start` to before `stop`."""
        data = self._require_data()
        return self._part(Samples(take(data.inputs, slice(start, stop)), data.targets[start:stop]))

    def spread(self, count: int) -> Objective:
        """The objective of the same network on so many of its samples, at even distances."""
        data = self._require_data()
        return self._part(data.at(torch.arange(count) * len(data) // count))

    def _require_data(self) -> Samples:
        if self.data is None:
            raise LandscapeError("the data are batches in an order of their own", "Samples, which can be cut")
        return self.data

    def _part(self, data: Samples) -> Objective:
        part = object.__new__(Objective)
        part.__dict__.update(self.__dict__)  # the parent was tried: no forward pass for a part of it
        part.data = data
        part._batches = list(data.batches(self.execution.batch_size))
        part._prepare_products()
        part.samples, part.normaliser = part._count()
        part.normaliser = part.normaliser or 1.0  # samples of weight 0 alone: every sum is 0
        return part

    def _count(self) -> tuple[int, float]:
        if self.data is not None:
            count = len(self.data)
            return count, count if self.task is None else self.task.normaliser(self.data.targets)
        samples, normaliser = 0, 0.0
        for batch in self.batches():
            size = sample_count(batch)
            samples += size
            normaliser += self.task.normaliser(batch[1]) if self.task is not None else size
        return samples, normaliser

    def _try(self) -> None:
        """One forward pass: refuses what cannot be measured before anything is spent."""
        with evaluating():
            self.evaluate(next(self.batches()))

    def require_task(self) -> Task:
        """The task; raises LandscapeError where only a loss function is known."""
        if self.task is None:
            raise LandscapeError("only a loss function is known", "a Task, which gives the logits")
        return self.task

    def evaluate(self, batch: Any) -> Tensor:
        """Logits of a batch, or its loss where only that is known.

        Raises
        ------
        LandscapeError
            If the model or the loss function fails on it, or returns something else.
        """
        try:
            value = self.loss_fn(self.network.module, batch) if self.loss_fn is not None else self.network(batch[0])
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError) as error:
            if out_of_memory(error) or isinstance(error, LandscapeError):
                raise
            shape = f" of shape {shape_text(batch if self.task is None else batch[0])}"
            raise LandscapeError(
                f"the model fails on a batch{shape}: {first_line(error)}", "inputs of the kind it was trained on"
            ) from error
        if self.task is None:
            if not isinstance(value, Tensor) or value.numel() != 1:
                raise LandscapeError("the loss function did not return one number", "the mean loss as a scalar tensor")
            return value.reshape(())
        logits = self.task.logits(value)
        if len(logits) != len(batch[1]):
            raise LandscapeError(f"{len(logits)} rows of logits for {len(batch[1])} samples", "one row a sample")
        return logits

    def batch_loss(self, batch: Any) -> Tensor:
        """This batch's part of the mean loss, a scalar."""
        value = self.evaluate(batch)
        if self.task is None:
            return value * (sample_count(batch) / self.normaliser)
        return self.task.losses(value, batch[1]).sum() / self.normaliser

    def loss_and_error(self) -> LossAndError:
        """Loss, error and the loss's spread over the samples; per-sample losses are summed in float64."""
        self.sample_gradients += self.samples / 3
        with evaluating():
            if self.task is None:
                return LossAndError(sum(float(self.batch_loss(b)) for b in self.batches()), None, None, self.samples)
            losses, wrong, finite = [], 0, True
            for batch in self.batches():
                logits = self.evaluate(batch).double()
                finite = finite and not bool(torch.isnan(logits).any())
                losses.append(self.task.losses(logits, batch[1]))
                wrong += int((logits.argmax(1) != self.task.labels(batch[1])).sum())
        return self.loss_of(torch.cat(losses), 100.0 * wrong / self.samples if finite else math.nan)

    def loss_of(self, losses: Tensor, error_percent: float) -> LossAndError:
        """The mean of the samples' losses (n,) and its spread, that of ``loss_n - loss w_n`` for weighted classes."""
        mean = float(losses.sum()) / self.normaliser
        if self.data is None:
            spread = losses - losses.mean()
        else:
            weights = self.require_task().sample_weights(self.data.targets).to(losses)
            spread = (losses - mean * weights) * (self.samples / self.normaliser)
        return LossAndError(mean, error_percent, float(spread.square().mean().sqrt()), self.samples)

    def logits(self, inputs: Inputs | None = None) -> Tensor:
        """Logits of every sample, or of other inputs, shape (n, classes), float64."""
        task = self.require_task()
        if inputs is None:
            source = (batch[0] for batch in self.batches())
        else:
            size, count = self.execution.batch_size, sample_count(inputs)
            source = (self.network.place(take(inputs, slice(i, i + size))) for i in range(0, count, size))
        parts = []
        with evaluating():
            for batch in source:
                parts.append(task.logits(self.network(batch)).double())
                self.sample_gradients += sample_count(batch) / 3
        return torch.cat(parts)

    def check_determinism(self) -> LossAndError:
        """Evaluate twice; the results, which must be the same to the last bit, are returned.

        Raises
        ------
        LandscapeError
            If they differ.
        """
        first, second = self.loss_and_error(), self.loss_and_error()
        if repr(first) != repr(second):  # by text, so that NaN equals NaN
            raise LandscapeError(
                f"two evaluations of the same network gave the losses {first.loss!r} and {second.loss!r}",
                "the same number twice",
                "take out dropout that ignores eval(), random augmentation and shuffling",
            )
        return first

    def gradient(self) -> Tensor:
        """Gradient of the mean loss, shape (P,)."""
        self.sample_gradients += self.samples
        total = torch.zeros_like(self.network.flat)
        with differentiable():
            for batch in self.batches():
                total += self.network.gradient(self.batch_loss(batch))
        return total

    def hessian_vector_product(self, vector: Tensor) -> Tensor:
        """``H v`` with H the Hessian of the mean loss, shape (P,), by double backward."""
        self.check_second_derivative()
        self.sample_gradients += 2 * self.samples
        self._residual.release()  # memory for the graphs of one of the two
        with differentiable():
            return self._hessian(vector)

    def residual_vector_product(self, vector: Tensor) -> Tensor:
        """``(H - G) v`` with G the Gauss-Newton matrix, shape (P,).

        H - G is the Hessian of ``(1/N) sum_n r_n . z_n(w)``, where the residual r = dloss/dz stays as it is at w.
        """
        self.require_task()
        self.check_second_derivative()
        self.sample_gradients += 2 * self.samples
        self._hessian.release()
        with differentiable():
            return self._residual(vector)

    def check_second_derivative(self) -> None:
        """Once for each network: whether double backward gives a symmetric matrix, on a few samples.

        Some of torch's operations have a wrong second derivative (``torch._weight_norm``) and some none at all: the
        products are then differences of gradients, and :attr:`product_method` says so.
        """
        if self.network.products_checked:
            return
        self.network.products_checked = True
        batch = next(self.batches())
        if self.task is not None:
            batch = take(batch, slice(CHECKED_SAMPLES))
        self.sample_gradients += (1 + 2 * CHECKED_VECTORS) * sample_count(batch)
        with differentiable():
            try:
                share = antisymmetric_share(self.network, self.batch_loss(batch))
            except RuntimeError as error:
                if not NO_SECOND_DERIVATIVE.search(str(error)):
                    raise
                share = math.inf
        if share > MOST_ANTISYMMETRIC:
            self._hessian.distrust()

    @property
    def product_method(self) -> str:
        """``double_backward``, or ``finite_difference`` where a layer turned out to have no second derivative."""
        return self._hessian.method

    def release(self) -> None:
        """Free the graphs kept between products."""
        self._hessian.release()
        self._residual.release()

    def gauss_newton_squares(self, signs: Tensor | None = None) -> Tensor:
        """Squared norms from which the trace of the Gauss-Newton matrix G follows, shape (R, n), float64.

        With ``S S^T = c (diag(p) - p p^T)``, p the softmax of a sample's logits and c the sum of its coefficients,
        these are ``||J_n^T S e_k||^2`` for each class k, whose sum over k is tr(G_n); or, for given sign vectors s,
        ``||J_n^T S s_n||^2``, whose mean over random signs is tr(G_n). tr(G) = sum_n tr(G_n) / normaliser.

        Parameters
        ----------
        signs : Tensor, shape (R, n, classes), optional
            Entries -1 and 1.
        """
        task = self.require_task()

        def cotangents(targets: Tensor, start: int, logits: Tensor) -> Tensor:
            drawn = None if signs is None else signs[:, start : start + len(logits)]
            return task.trace_cotangents(targets, drawn, logits)

        return self._squares(cotangents)

    def per_sample_gradient_squares(self) -> Tensor:
        """Squared norm of the gradient of each sample's own loss, shape (n,), float64."""
        task = self.require_task()
        return self._squares(lambda targets, start, logits: task.residual(logits, targets)[None])[0]

    def _squares(self, cotangents: Callable[[Tensor, int, Tensor], Tensor]) -> Tensor:
        parts, start = [], 0
        with differentiable():
            for inputs, targets in self.batches():
                rows = self.norms.squares(inputs, partial(cotangents, targets, start)).double()
                self.sample_gradients += rows.shape[1] * (1 + 2 * rows.shape[0]) / 3
                start += rows.shape[1]
                parts.append(rows)
        return torch.cat(parts, dim=1)

    def _batch_residual(self, batch: Any) -> Tensor:
        logits = self.evaluate(batch)
        residual = self.require_task().residual(logits.detach(), batch[1])
        return (residual * logits).sum() / self.normaliser

    def _frozen_residual(self, batch: Any) -> Callable[[], Tensor]:
        """The same as a function of the weights, the residual as it is at the present ones."""
        with torch.no_grad():
            residual = self.require_task().residual(self.evaluate(batch), batch[1])
        return lambda: (residual * self.evaluate(batch)).sum() / self.normaliser
