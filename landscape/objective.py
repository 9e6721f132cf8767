"""The loss of one network on fixed data: error, loss, gradient, products with its Hessian, per-sample gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from landscape.errors import LandscapeError
from landscape.failures import first_line, out_of_memory
from landscape.inputs import Inputs, each_tensor, sample_count, shape_text, take
from landscape.network import Network, differentiable, evaluating
from landscape.per_sample import PerSampleNorms
from landscape.products import SecondDerivative
from landscape.protocol import Execution
from landscape.task import ClassificationData, Samples, Task

__all__ = ["ClassificationData", "LossAndError", "LossFunction", "Objective", "Samples", "Task"]

LossFunction = Callable[[nn.Module, Any], Tensor]
"""``loss_fn(model, batch)``: the mean loss over the batch, a scalar."""


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
        Standard deviation of the loss over the samples (divisor n).
    samples : int
    """

    loss: float
    error_percent: float | None
    loss_deviation: float | None
    samples: int


class Objective:
    """``L(w) = (1/N) sum_n loss_n(w)`` of a copy of a network, in evaluation mode, on data that never change.

    Products are summed over micro-batches with their true weights, so that uneven batches make no difference, and
    are taken with respect to every floating-point parameter, frozen or not, as one vector of length P.

    Parameters
    ----------
    model : nn.Module
        Copied; the caller's stays as it is.
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
    sample_gradients : float
        Cost so far: forward + backward of one sample is 1, a forward 1/3, a Hessian product 2.

    Raises
    ------
    LandscapeError
        If the model or the data cannot be measured (see :class:`Network` and :class:`Task`).
    """

    def __init__(
        self,
        model: nn.Module,
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
        self.network = Network(model, self.execution)
        self.data: Samples | None = None
        self._batches = self._prepare(batches)
        self._hessian = SecondDerivative(self.network, self.batches, self._batch_loss)
        self._residual = SecondDerivative(self.network, self.batches, self._batch_residual)
        self._norms = PerSampleNorms(self.network, task) if task is not None else None
        self.sample_gradients = 0.0
        self.samples, self.normaliser = self._count()
        self._try()

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
                inputs, targets = _pair(batch)
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

    def of(self, model: nn.Module) -> Objective:
        """The same objective of another model."""
        data = self._batches if self.data is None else self.data
        return Objective(model, data, self.task, loss_fn=self.loss_fn, execution=self.execution)

    def on(self, data: Samples) -> Objective:
        """The objective of the same model, task or loss function on other samples."""
        return Objective(self.network.module, data, self.task, loss_fn=self.loss_fn, execution=self.execution)

    def _count(self) -> tuple[int, float]:
        samples, normaliser = 0, 0.0
        for batch in self.batches():
            size = sample_count(batch)
            samples += size
            normaliser += self.task.normaliser(batch[1]) if self.task is not None else size
        if samples == 0 or normaliser <= 0:
            raise LandscapeError("the data hold no sample that counts", "at least one, with a class weight above 0")
        return samples, normaliser

    def _try(self) -> None:
        """One forward pass: refuses what cannot be measured before anything is spent."""
        batch = next(self.batches())
        try:
            with evaluating():
                self._evaluate(batch)
        except LandscapeError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if out_of_memory(error):
                raise
            shape = f" of shape {shape_text(batch[0])}" if self.task is not None else ""
            raise LandscapeError(
                f"the model fails on a batch{shape}: {first_line(error)}", "inputs of the kind it was trained on"
            ) from error

    def require_task(self) -> Task:
        """The task; raises LandscapeError where only a loss function is known."""
        if self.task is None:
            raise LandscapeError("only a loss function is known", "a Task, which gives the logits")
        return self.task

    def _evaluate(self, batch: Any) -> Tensor:
        """Logits of a batch, or its loss where only that is known."""
        if self.loss_fn is not None:
            loss = self.loss_fn(self.network.module, batch)
            if not isinstance(loss, Tensor) or loss.numel() != 1:
                raise LandscapeError("the loss function did not return one number", "the mean loss as a scalar tensor")
            return loss.reshape(())
        logits = self.require_task().logits(self.network(batch[0]))
        if len(logits) != len(batch[1]):
            raise LandscapeError(f"{len(logits)} rows of logits for {len(batch[1])} samples", "one row a sample")
        return logits

    def _batch_loss(self, batch: Any) -> Tensor:
        """This batch's part of the mean loss, a scalar."""
        value = self._evaluate(batch)
        if self.task is None:
            return value * (sample_count(batch) / self.normaliser)
        return self.task.losses(value, batch[1]).sum() / self.normaliser

    def loss_and_error(self) -> LossAndError:
        """Loss, error and the loss's spread over the samples; per-sample losses are summed in float64."""
        self.sample_gradients += self.samples / 3
        with evaluating():
            if self.task is None:
                return LossAndError(sum(float(self._batch_loss(b)) for b in self.batches()), None, None, self.samples)
            losses, wrong = [], 0
            for batch in self.batches():
                logits = self._evaluate(batch).double()
                losses.append(self.task.losses(logits, batch[1]))
                wrong += int((logits.argmax(1) != self.task.labels(batch[1])).sum())
        values = torch.cat(losses)
        return LossAndError(
            loss=float(values.sum()) / self.normaliser,
            error_percent=100.0 * wrong / self.samples,
            loss_deviation=float(values.std(correction=0)),
            samples=self.samples,
        )

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
                total += self.network.gradient(self._batch_loss(batch))
        return total

    def hessian_vector_product(self, vector: Tensor) -> Tensor:
        """``H v`` with H the Hessian of the mean loss, shape (P,), by double backward."""
        self.sample_gradients += 2 * self.samples
        with differentiable():
            return self._hessian(vector)

    def residual_vector_product(self, vector: Tensor) -> Tensor:
        """``(H - G) v`` with G the Gauss-Newton matrix, shape (P,).

        H - G is the Hessian of ``(1/N) sum_n r_n . z_n(w)``, where the residual r = dloss/dz stays as it is at w.
        """
        self.require_task()
        self.sample_gradients += 2 * self.samples
        with differentiable():
            return self._residual(vector)

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
            if signs is None:
                vectors = torch.eye(logits.shape[1], dtype=logits.dtype, device=logits.device)[:, None]
            else:
                vectors = signs[:, start : start + len(logits)].to(logits)
            p = logits.softmax(1)
            scale = task.coefficients(targets, logits).sum(1, keepdim=True).sqrt()
            root = p.sqrt() * vectors
            return scale * (root - p * root.sum(2, keepdim=True))

        return self._squares(cotangents)

    def per_sample_gradient_squares(self) -> Tensor:
        """Squared norm of the gradient of each sample's own loss, shape (n,), float64."""
        task = self.require_task()
        return self._squares(lambda targets, start, logits: task.residual(logits, targets)[None])[0]

    def _squares(self, cotangents: Callable[[Tensor, int, Tensor], Tensor]) -> Tensor:
        assert self._norms is not None
        parts, start = [], 0
        with differentiable():
            for inputs, targets in self.batches():
                rows = self._norms.squares(inputs, partial(cotangents, targets, start)).double()
                self.sample_gradients += rows.shape[1] * (1 + 2 * rows.shape[0]) / 3
                start += rows.shape[1]
                parts.append(rows)
        return torch.cat(parts, dim=1)

    def _batch_residual(self, batch: Any) -> Tensor:
        logits = self._evaluate(batch)
        residual = self.require_task().residual(logits.detach(), batch[1])
        return (residual * logits).sum() / self.normaliser


def _pair(batch: Any) -> tuple[Any, Tensor]:
    """Inputs and targets of one batch of a loader."""
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            raise LandscapeError(f"a batch with the keys {', '.join(map(str, batch))}", "the targets under 'labels'")
        return {key: item for key, item in batch.items() if key != "labels"}, batch["labels"]
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise LandscapeError(
            f"a batch of type {type(batch).__name__}", "a pair (inputs, targets), or a mapping with 'labels'"
        )
    return batch[0], batch[1]
