"""The key of a measurement: a hash of everything its numbers depend on, and of nothing else.

Where a file lies and what it is called does not enter. What a user's module does enters by what comes out of it: the
weights of a fresh instance, and loss and gradient on a few samples, so that an edited `forward` is another network
although its name and its weights are the same.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import landscape
import mdtree
from landscape import ClassificationData, Execution, Protocol, Samples, Task
from landscape.network import Network, computing, seeded_global_state
from mdtree.record import SCHEMA_VERSION

PROBE_SAMPLES = 8
"""Training samples whose loss and gradient stand for what the network's code does."""

_LIBRARIES = ("torch", "numpy", "scipy", "pyhessian")


@dataclass(frozen=True)
class MeasurementInput:
    """What a measurement is given.

    Attributes
    ----------
    models, data, protocol, execution, fresh, initial_norm_squared
        As `landscape.measure` takes them.
    model_spec : str
        How the network is named.
    """

    models: Sequence[nn.Module]
    data: ClassificationData
    protocol: Protocol
    execution: Execution
    fresh: Callable[[], nn.Module] | None
    initial_norm_squared: float | None
    model_spec: str


def measurement_key(given: MeasurementInput) -> str:
    """SHA-256, in hexadecimal, of what is measured and of what measures it.

    Hashed are name, type, shape and bytes of every parameter and buffer of every model and of one fresh instance; all
    the data; loss and gradient on the first `PROBE_SAMPLES` training samples; protocol, precision, device, batch size
    and threads; the norm at initialisation; the specification; versions, and the source of `landscape`. A time budget
    is not: what it cuts is not kept. No model is changed, and no random state.

    Raises
    ------
    LandscapeError
        If the network or the data cannot be used.
    """
    digest = _Digest()
    digest.add("versions", _versions())
    digest.add("protocol", given.protocol.to_dict())
    digest.add("execution", _what_moves_digits(given.execution))
    digest.add("model", [given.model_spec, given.initial_norm_squared])
    digest.add("classes", given.data.num_classes)
    for part, samples in (("train", given.data.train), ("test", given.data.test)):
        digest.add(part, None if samples is None else [samples.inputs, samples.targets])
    for model in given.models:
        digest.add("network", _state(model))
    with seeded_global_state(0):
        digest.add("fresh", None if given.fresh is None else _state(given.fresh()))
        digest.add("behaviour", _behaviour(given.models[0], given.data, given.execution))
    return digest.hexdigest()


class _Digest:
    """SHA-256 over a nest of plain values and tensors; each part says its kind and size, so no two nests read alike."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, name: str, value: Any) -> None:
        self._say("part", name)
        self._add(value)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()

    def _say(self, *words: Any) -> None:
        self._hash.update(json.dumps(words).encode() + b"\n")

    def _add(self, value: Any) -> None:
        if isinstance(value, Tensor):
            self._say("tensor", str(value.dtype), list(value.shape))
            # the bytes as they lie in memory, not copied where they lie in order
            flat = value.detach().cpu().contiguous().reshape(-1)
            self._hash.update(flat.view(torch.uint8).numpy().data)
        elif isinstance(value, Mapping):
            self._say("mapping", len(value))
            for key, item in value.items():
                self._say(str(key))
                self._add(item)
        elif isinstance(value, tuple | list):
            self._say("sequence", len(value))
            for item in value:
                self._add(item)
        else:
            self._say(type(value).__name__, repr(value))


def _state(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by its name, a shared one once, also those that no state dict holds."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _behaviour(model: nn.Module, data: ClassificationData, execution: Execution) -> list[Tensor]:
    """Loss of a few samples, one by one, and the gradient of their mean.

    On the CPU with one thread, whatever measures: kernels of a GPU may add up in another order the next time.
    """
    task = Task(data.num_classes)
    few: Samples = data.train.at(torch.arange(min(PROBE_SAMPLES, len(data.train))))
    with computing(replace(execution, device="cpu", threads=1)):
        network = Network(model, replace(execution, device="cpu"))
        logits = task.logits(network(network.place(few.inputs)))
        losses = task.losses(logits, task.check_targets(network.place(few.targets)))
        return [losses, network.gradient(losses.mean())]


def _what_moves_digits(execution: Execution) -> dict[str, Any]:
    device = torch.device(execution.device)
    return {
        "dtype": execution.dtype,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "batch_size": execution.batch_size,
        "threads": execution.threads or torch.get_num_threads(),
    }


@functools.cache
def _versions() -> dict[str, Any]:
    """Of the record, the package and the libraries that compute; and the source of what measures."""
    source = hashlib.sha256()
    for file in sorted(Path(landscape.__file__ or "").parent.glob("*.py")):
        source.update(f"{file.name} {file.stat().st_size}\n".encode() + file.read_bytes())
    return {
        "record": SCHEMA_VERSION,
        "mdtree": mdtree.__version__,
        "landscape": source.hexdigest(),
        **{name: importlib.metadata.version(name) for name in _LIBRARIES},
    }
