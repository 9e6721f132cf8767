"""Squared norms of per-sample gradients of any module's parameters: ``torch.func.vmap`` over its recorded calls."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from landscape.convolution_squares import CHUNK_ELEMENTS
from landscape.inputs import each_tensor, tensors
from landscape.network import without_fast_path
from landscape.recorded_calls import Call, Layout

SAMPLES_AT_ONCE = 32
"""Most samples of which a module's intermediate values are held at a time, beside those of the batch's own graph."""

Select = Callable[[Call, Any], list[Tensor]]
"""From a call and what the module returns for one sample to the tensors at which the call's gradients are known."""


def returned_tensors(call: Call, output: Any) -> list[Tensor]:
    """Those of a recorded call."""
    found = tensors(output)
    return [found[place] for place in call.places]


def module_squares(
    module: nn.Module,
    names: Sequence[str],
    calls: Sequence[Call],
    layouts: Sequence[Layout],
    select: Select = returned_tensors,
) -> Tensor:
    """Sum over the named parameters of ``||d(sum over calls and outputs of g_n . y_n)/dw||^2``, shape (n,).

    The module computes again what it computed in `calls`, for every sample by itself; the gradients g_n at its
    outputs are held fixed. Costs a forward pass of the module and the backward pass to the named parameters, plus
    room for their per-sample gradients.

    Parameters
    ----------
    module : nn.Module
    names : sequence of str
        Parameters, relative to the module.
    calls : sequence of Call
        At least one with a gradient.
    layouts : sequence of Layout
        Where the samples are in each call.
    select : callable
    """
    values = {name: parameter.detach() for name, parameter in module.named_parameters()}
    chosen = {name: values.pop(name) for name in names}
    known = [[i for i, gradient in enumerate(call.gradients) if gradient is not None] for call in calls]
    rows: list[Tensor] = []
    dimensions: list[int | None] = []
    for call, layout, indices in zip(calls, layouts, known, strict=True):
        rows += [*call.arguments(), *(gradient for gradient in call.gradients if gradient is not None)]
        dimensions += [*layout.arguments, *(layout.outputs[i] for i in indices)]
    count = next(row.shape[dimension] for row, dimension in zip(rows, dimensions, strict=True) if dimension is not None)

    def projection(chosen: dict[str, Tensor], *sample: Tensor) -> Tensor:
        parts, total = iter(sample), torch.zeros((), dtype=rows[-1].dtype, device=rows[-1].device)
        for call, layout, indices in zip(calls, layouts, known, strict=True):
            places = iter(layout.arguments)

            def given(_: Tensor, places: Iterator[int | None] = places) -> Tensor:
                place = next(places)
                return next(parts) if place is None else next(parts).unsqueeze(place)

            positional, named = each_tensor(given, call.positional), each_tensor(given, call.named)
            gradients = [next(parts) for _ in indices]
            if gradients:
                found = select(call, functional_call(module, {**values, **chosen}, positional, named))
                rows_of = (found[i].select(layout.outputs[i], 0) for i in indices)
                total = total + sum((row * g).sum() for row, g in zip(rows_of, gradients, strict=True))
        return total

    gradient_of = vmap(grad(projection), in_dims=(None, *dimensions))
    size = min(SAMPLES_AT_ONCE, max(1, CHUNK_ELEMENTS // sum(value.numel() for value in chosen.values())))
    squares = []
    with _vectorisable(module):
        for start in range(0, count, size):
            length = min(size, count - start)
            part = [r if d is None else r.narrow(d, start, length) for r, d in zip(rows, dimensions, strict=True)]
            gradients = gradient_of(chosen, *part)
            squares.append(sum(g.reshape(len(g), -1).square().sum(1) for g in gradients.values()))
    return torch.cat(squares)


@contextlib.contextmanager
def _vectorisable(module: nn.Module) -> Iterator[None]:
    """Recurrent layers computed by operations that torch vectorises, from an initial state that has samples."""
    recurrent = [m for m in module.modules() if isinstance(m, nn.RNNBase | nn.RNNCellBase)]
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        for message in ("There is a performance drop", "TF32 acceleration"):
            warnings.filterwarnings("ignore", message=message)
        stack.enter_context(without_fast_path())
        if any(isinstance(m, nn.LSTM) for m in recurrent):
            stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
        if recurrent and torch.cuda.is_available():
            stack.enter_context(torch.backends.cudnn.flags(enabled=False, deterministic=True))
        for layer in recurrent:
            stack.callback(layer.register_forward_pre_hook(_give_state, with_kwargs=True).remove)
        yield


def _give_state(module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The zeros that a recurrent layer starts from, made from its input: they must vary with the sample to torch."""
    arguments = dict(zip(("input", "hx"), positional, strict=False)) | named
    x = arguments["input"]
    if arguments.get("hx") is not None or not isinstance(x, Tensor):
        return None
    assert isinstance(module, nn.RNNBase | nn.RNNCellBase)
    if isinstance(module, nn.RNNCellBase):
        shapes = [(*x.shape[:-1], module.hidden_size)] * 2
    else:
        layers = module.num_layers * (2 if module.bidirectional else 1)
        batch = () if x.dim() == 2 else (x.shape[0 if module.batch_first else 1],)
        widths = (module.proj_size or module.hidden_size, module.hidden_size)
        shapes = [(layers, *batch, width) for width in widths]
    zeros = [torch.zeros_like(x.flatten()[0]).expand(shape) for shape in shapes]
    return (x, tuple(zeros) if isinstance(module, nn.LSTM | nn.LSTMCell) else zeros[0]), {}
