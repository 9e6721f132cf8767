"""A private copy of the caller's network whose parameters are one vector, and the surroundings it computes in."""

from __future__ import annotations

import contextlib
import copy
import random
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations

from landscape.errors import LandscapeError
from landscape.failures import first_line
from landscape.inputs import Inputs, arguments, each_tensor
from landscape.protocol import Execution

DTYPES = {"float32": torch.float32, "float64": torch.float64}


class Network:
    """A copy of a model in evaluation mode, in one precision, its parameters views of one vector.

    Every floating-point parameter counts, frozen or not; a shared one counts once. The caller's model is left alone.

    Parameters
    ----------
    model : nn.Module
        Wrappers of ``torch.compile`` and of data-parallel training are taken off.
    execution : Execution
        Device and precision of the copy.

    Attributes
    ----------
    module : nn.Module
        The copy.
    names, shapes : lists
        Name and shape of each parameter tensor, in the model's order.
    flat : Tensor, shape (P,)
        The parameters; writing to it changes the module.
    products_checked : bool
        Whether double backward was tried on this network.

    Raises
    ------
    LandscapeError
        If the model cannot be copied, has no floating-point parameter, or holds NaN or infinite values.
    """

    def __init__(self, model: nn.Module, execution: Execution) -> None:
        self.dtype = DTYPES[execution.dtype]
        self.device = torch.device(execution.device)
        self.module = _copy(model).to(device=self.device, dtype=self.dtype).eval()
        named = [(name, p) for name, p in self.module.named_parameters() if p.is_floating_point()]
        if not named:
            raise LandscapeError("the model has no floating-point parameter", "a trained network")
        self.names = [name for name, _ in named]
        self.shapes = [tuple(p.shape) for _, p in named]
        self.parameters = [p for _, p in named]
        self.sizes = [p.numel() for p in self.parameters]
        self.flat = torch.cat([p.detach().reshape(-1) for p in self.parameters])
        for parameter, view in zip(self.parameters, self.split(self.flat), strict=True):
            parameter.data = view
            parameter.grad = None
            parameter.requires_grad_(True)
        self.products_checked = False
        self.batch_norms = [m for m in self.module.modules() if isinstance(m, _BatchNorm)]
        self._check()

    def _check(self) -> None:
        state = [*self.module.named_parameters(), *self.module.named_buffers()]
        broken = [n for n, t in state if t.is_floating_point() and not bool(torch.isfinite(t).all())]
        if broken:
            more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
            raise LandscapeError(
                f"NaN or infinite values in {', '.join(broken[:5])}{more}", "finite weights", "the training diverged"
            )
        if any(not norm.track_running_stats for norm in self.batch_norms):
            raise LandscapeError(
                "BatchNorm without running statistics: the answer to one sample depends on its batch",
                "track_running_stats=True",
            )

    @property
    def parameter_count(self) -> int:
        """Number of parameters P."""
        return self.flat.numel()

    def load(self, flat: Tensor) -> None:
        """Set every parameter from a vector (P,)."""
        self.flat.copy_(flat)

    def split(self, vector: Tensor) -> list[Tensor]:
        """A vector (P,) as tensors of the parameters' shapes, sharing its memory."""
        parts = vector.split(self.sizes)
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def gradient(
        self,
        outputs: Tensor | Sequence[Tensor],
        grad_outputs: Sequence[Tensor] | None = None,
        retain_graph: bool | None = None,
    ) -> Tensor:
        """Gradient of `outputs` (weighted by `grad_outputs`) for every parameter, as one vector (P,)."""
        parts = torch.autograd.grad(
            outputs, self.parameters, grad_outputs, retain_graph=retain_graph, allow_unused=True, materialize_grads=True
        )
        return torch.cat([part.reshape(-1) for part in parts])

    def place(self, value: Any) -> Any:
        """A tensor, or a batch of them, on this network's device and, where floating, in its precision."""
        return each_tensor(lambda t: t.to(self.device, self.dtype if t.is_floating_point() else None), value)

    def __call__(self, inputs: Inputs) -> Any:
        """What the module returns for `inputs`, in evaluation mode."""
        positional, named = arguments(inputs)
        return self.module(*positional, **named)

    @contextlib.contextmanager
    def batch_statistics(self) -> Iterator[None]:
        """BatchNorm layers normalise by the batch at hand (as in training); every other layer stays in evaluation."""
        for norm in self.batch_norms:
            norm.train()
        try:
            yield
        finally:
            for norm in self.batch_norms:
                norm.eval()

    @torch.no_grad()
    def refresh_batch_norm(self, batches: list[Any]) -> None:
        """Replace the running statistics by their averages over `batches` of inputs; other layers evaluate."""
        momenta = [norm.momentum for norm in self.batch_norms]
        for norm in self.batch_norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain average over the batches, not an exponential one
        try:
            with self.batch_statistics():
                for inputs in batches:
                    self(self.place(inputs))
        finally:
            for norm, momentum in zip(self.batch_norms, momenta, strict=True):
                norm.momentum = momentum


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside the wrappers of ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
            model = model.module
        else:
            return model


def _copy(model: nn.Module) -> nn.Module:
    model = unwrap(model)
    if any(isinstance(p, nn.parameter.UninitializedParameter) for p in model.parameters()):
        raise LandscapeError("the model has lazy layers without weights", "one that has seen its first batch")
    try:
        twin = copy.deepcopy(model)
    except Exception as error:
        raise LandscapeError(
            f"the model cannot be copied ({first_line(error)})",
            "a module that copy.deepcopy takes",
        ) from error
    for module in twin.modules():
        if isinstance(module, nn.Embedding | nn.EmbeddingBag):
            module.sparse = False  # sparse gradients cannot be differentiated again, nor added to a vector
        if isinstance(module, parametrizations._WeightNorm):
            module.forward = partial(_weight_norm, module.dim)  # type: ignore[method-assign]
    return twin


def _weight_norm(dim: int, weight_g: Tensor, weight_v: Tensor) -> Tensor:
    """``g v / ||v||``: torch's own takes the norm for a constant in double backward."""
    if dim == -1:
        return weight_v * (weight_g / weight_v.norm())
    others = [axis for axis in range(weight_v.dim()) if axis != dim]
    return weight_v * (weight_g / weight_v.square().sum(others, keepdim=True).sqrt())


@contextlib.contextmanager
def without_fast_path() -> Iterator[None]:
    """Transformer layers compute in evaluation what they compute in training, by operations that can be vectorised."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextlib.contextmanager
def differentiable() -> Iterator[None]:
    """Gradients on, whatever the caller set, and the attention kernel that can be differentiated twice."""
    with torch.inference_mode(False), torch.enable_grad(), without_fast_path(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextlib.contextmanager
def evaluating() -> Iterator[None]:
    """Gradients off, and the operations of :func:`differentiable`, so that both give the same loss."""
    with torch.inference_mode(False), torch.no_grad(), without_fast_path(), sdpa_kernel(SDPBackend.MATH):
        yield


@contextlib.contextmanager
def computing(execution: Execution) -> Iterator[None]:
    """The threads asked for, no autocast and, on a GPU, full float32 precision and repeatable kernels; then undone."""
    check_device(execution.device)
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_num_threads, torch.get_num_threads())
        if execution.threads:
            torch.set_num_threads(execution.threads)
        if torch.device(execution.device).type == "cuda":
            stack.enter_context(_full_precision())
        stack.enter_context(torch.autocast(torch.device(execution.device).type, enabled=False))
        stack.enter_context(differentiable())
        yield


def check_device(name: str) -> None:
    """Refuse a device that torch does not know or cannot use here.

    Raises
    ------
    LandscapeError
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].split(": ")[0][:120]
        raise LandscapeError(
            f"the device {name!r} cannot be used ({reason})", "a device torch has here, such as 'cpu'"
        ) from error


@contextlib.contextmanager
def _full_precision() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    places = [torch.backends.cuda.matmul, *(getattr(cudnn, name) for name in ("conv", "rnn"))]
    before = [place.fp32_precision for place in places], cudnn.deterministic, cudnn.benchmark
    for place in places:
        place.fp32_precision = "ieee"
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        for place, precision in zip(places, before[0], strict=True):
            place.fp32_precision = precision
        cudnn.deterministic, cudnn.benchmark = before[1], before[2]


@contextlib.contextmanager
def seeded_global_state(seed: int) -> Iterator[None]:
    """For code that knows only the global generators: seed torch, NumPy and Python, restore them afterwards."""
    legacy, python = np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(legacy)
            random.setstate(python)
