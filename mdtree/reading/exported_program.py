"""Programs of ``torch.export`` (.pt2) as networks that can be measured. Only where the user trusts the file."""

from __future__ import annotations

import copy
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mdtree.errors import InputError
from mdtree.files import regular_file


class ExportedNetwork(nn.Module):
    """A network that runs an exported program.

    Parameters and buffers stand under the names they had in the network that was exported. The mode is the one the
    program was exported in: ``train()`` and ``eval()`` change nothing in it, where the program's own module raises.

    Parameters
    ----------
    program : torch.export.ExportedProgram
        Its weights are not copied.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        module = program.module()
        # out of reach of named_modules(): its own train() and eval() raise
        self._program = [program]
        self._called = [module]
        for name, parameter in module.named_parameters():
            _hold(self, name).register_parameter(name.rpartition(".")[2], parameter)
        kept = set(program.graph_signature.non_persistent_buffers)
        for name, buffer in module.named_buffers():
            _hold(self, name).register_buffer(name.rpartition(".")[2], buffer, persistent=name not in kept)

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """What the program returns, computed with the parameters and buffers this network holds now."""
        held: dict[str, Tensor] = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return torch.func.functional_call(self._called[0], held, arguments, named, strict=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> ExportedNetwork:
        made = ExportedNetwork(self._program[0])  # the graph never changes and is shared, the tensors are copied
        for ours, theirs in zip(self.modules(), made.modules(), strict=True):
            theirs._parameters = {name: copy.deepcopy(one, memo) for name, one in ours._parameters.items()}
            theirs._buffers = {name: copy.deepcopy(one, memo) for name, one in ours._buffers.items()}
            theirs.training = ours.training
        return made


def is_program(path: Path) -> bool:
    """Whether a file is a program of ``torch.export.save``, by the names in its archive; nothing in it is read."""
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
    return any(name == "archive_format" or name.startswith("serialized_exported_program") for name in names)


def open_program(path: Path) -> nn.Module:
    """Load a program that ``torch.export.save`` wrote.

    ``torch.export.load`` RUNS CODE FROM THE FILE: its sample inputs and constants are pickled, its shapes are
    expressions that are evaluated. Call this only where the user said that the file is theirs (``--trust``).

    Parameters
    ----------
    path : Path
        A .pt2 file, exported in evaluation mode and, to be measured, with a dynamic batch.

    Returns
    -------
    torch.nn.Module
        On the CPU; it can be copied, differentiated twice, and its modes switched without effect.

    Raises
    ------
    InputError
        If it is no program, or this torch cannot load it.
    """
    regular_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ExportedNetwork(torch.export.load(path))
    except Exception as error:  # other files raise a dozen kinds, old programs others
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(
            f"{path} cannot be loaded by torch {torch.__version__} ({reason})",
            "a program of torch.export.save",
            "export it again with this torch, or save model.state_dict()",
        ) from error


def _hold(network: nn.Module, name: str) -> nn.Module:
    """The module that holds the tensor of that name; empty modules are made on the way there."""
    for part in name.split(".")[:-1]:
        if part not in network._modules:
            network.add_module(part, nn.Module())
        network = network._modules[part]  # type: ignore[assignment]
    return network
