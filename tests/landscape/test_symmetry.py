"""Double backward is believed only where it gives a symmetric matrix."""

from __future__ import annotations

import pytest
import torch
from dense_reference import dense_hessian
from small_networks import ARCHITECTURES, CLASSES, build, data_for
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from landscape import Execution, Objective, Task, trace
from landscape.network import Network, differentiable
from landscape.objective import MOST_ANTISYMMETRIC
from landscape.symmetry import antisymmetric_share


class Product(torch.autograd.Function):
    """``a b``, whose gradient for a takes b for a constant: d2/da db is told as 0, d2/db da rightly as 1."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[no-untyped-def]
        a, b = ctx.saved_tensors
        return gradient * b.detach(), gradient * a


class Gated(nn.Module):
    """``W3 (W1 x * tanh(W2 x))``."""

    def __init__(self, wrong: bool) -> None:
        super().__init__()
        self.first, self.gate, self.last = nn.Linear(6, 8), nn.Linear(6, 8), nn.Linear(8, CLASSES)
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.gate(x).tanh()
        return self.last(Product.apply(a, b) if self.wrong else a * b)


def share(model: nn.Module, dtype: str) -> float:
    objective = Objective(model, data_for("mlp"), Task(CLASSES), execution=Execution(dtype=dtype, batch_size=64))
    with differentiable():
        return antisymmetric_share(objective.network, objective.batch_loss(next(objective.batches())))


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.endswith("mlp")])
def test_a_hessian_is_symmetric_up_to_rounding(name: str) -> None:
    assert share(build(name), "float64") < 1e-13
    assert share(build(name), "float32") < 1e-5


def test_a_wrong_second_derivative_is_met_by_differences() -> None:
    torch.manual_seed(1)
    wrong, right, data = Gated(True), Gated(False), data_for("mlp")
    right.load_state_dict(wrong.state_dict())
    hessian = dense_hessian(right, data.inputs, data.targets)
    assert share(right, "float64") < 1e-13
    assert share(wrong, "float64") > 3 * MOST_ANTISYMMETRIC

    objective = Objective(wrong, data, Task(CLASSES), execution=Execution(dtype="float64"))
    vector = torch.randn(objective.parameter_count, dtype=torch.float64)
    product = objective.hessian_vector_product(vector)

    assert objective.product_method == "finite_difference"
    assert float((product - hessian @ vector).norm()) < 1e-5 * float((hessian @ vector).norm())
    found = trace(objective, relative_error=0.1)
    assert found.method == "hutchinson"  # nothing is concluded from the wrong derivative
    assert abs(found.value - float(hessian.trace())) < 4 * found.standard_error


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm_is_measured_with_a_right_second_derivative(dim: int | None) -> None:
    """Torch's own operation takes the norm for a constant in double backward."""
    torch.manual_seed(0)
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 5), dim=dim), nn.Tanh(), nn.Linear(5, CLASSES)
    ).double()
    data = data_for("mlp")
    network = Network(model, Execution(dtype="float64"))

    assert torch.allclose(network(data.inputs.double()), model(data.inputs.double()), rtol=1e-14)
    assert share(model, "float64") < 1e-13
    if dim == 0:
        hessian = dense_hessian(model, data.inputs, data.targets)  # by torch's own
        assert float((hessian - hessian.mT).abs().max()) > 0.01 * float(hessian.abs().max())
