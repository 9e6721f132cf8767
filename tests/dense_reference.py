"""Dense float64 Hessian and Gauss-Newton matrix of a cross-entropy by plain autograd, one row at a time.

Shares no code with the package under test: what it computes cleverly, this computes slowly.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def _twin(model: nn.Module) -> tuple[nn.Module, list[nn.Parameter]]:
    twin = copy.deepcopy(model).double().eval()
    parameters = list(twin.parameters())
    for parameter in parameters:
        parameter.requires_grad_(True)
    return twin, parameters


def _rows(values: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    """Gradient of every entry of a vector, shape (entries, P)."""
    rows = []
    for value in values:
        if value.requires_grad:
            parts = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
            rows.append(torch.cat([part.detach().reshape(-1) for part in parts]))
        else:
            rows.append(torch.zeros(sum(p.numel() for p in parameters), dtype=torch.float64))
    return torch.stack(rows)


def dense_hessian(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
) -> Tensor:
    """Hessian (P, P) of ``loss(model(inputs), targets)`` for all parameters."""
    twin, parameters = _twin(model)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    value = loss(twin(inputs), targets)
    gradients = torch.autograd.grad(value, parameters, create_graph=True, allow_unused=True, materialize_grads=True)
    return _rows(torch.cat([g.reshape(-1) for g in gradients]), parameters)


def dense_gradient(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy,
) -> Tensor:
    """Gradient (P,) of ``loss(model(inputs), targets)`` for all parameters."""
    twin, parameters = _twin(model)
    return _rows(loss(twin(inputs.double()), targets).reshape(1), parameters)[0]


def dense_jacobian(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) and their Jacobian (n, classes, P)."""
    twin, parameters = _twin(model)
    logits = twin(inputs.double())
    return logits.detach(), _rows(logits.reshape(-1), parameters).reshape(*logits.shape, -1)


def dense_gauss_newton(model: nn.Module, inputs: Tensor) -> Tensor:
    """``(1/n) sum_n J_n^T (diag(p_n) - p_n p_n^T) J_n``, shape (P, P), of the plain cross-entropy."""
    logits, jacobian = dense_jacobian(model, inputs)
    p = logits.softmax(1)
    middle = torch.diag_embed(p) - p[:, :, None] * p[:, None, :]
    return torch.einsum("ncp,ncd,ndq->pq", jacobian, middle, jacobian) / len(inputs)
