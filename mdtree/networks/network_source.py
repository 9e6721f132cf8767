"""Which network a checkpoint is of, what it was trained on, and who says so.

The first that speaks decides: the command line; the manifest inside a file of this package; ``[tool.mdtree]`` of the
current project; for the network also the file itself (a Hugging Face ``config.json`` beside the weights, the ``arch``
in a recipe), and last its names and shapes. A function is called where the user names it, and where the file does only
if it is trusted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from mdtree.data import BUILT_IN_DATA
from mdtree.errors import InputError
from mdtree.models import ARCHITECTURES
from mdtree.networks.fingerprint import recognise
from mdtree.networks.foreign_models import FOREIGN_MODELS
from mdtree.project_settings import ProjectSettings, project_settings
from mdtree.specification import Specification, parse, shown

FLAG = "--{}"
MANIFEST = "the file's manifest"
PROJECT = "[tool.mdtree] in pyproject.toml"
CONFIG = "config.json"
ARCH = "arch in the file"
NAMES_AND_SHAPES = "names and shapes"
PROGRAM = "the program itself"

_CALLS_NOBODY = frozenset({*ARCHITECTURES, *FOREIGN_MODELS})
_DATA_CALLS_NOBODY = frozenset(BUILT_IN_DATA)


class Opened(Protocol):
    """What is asked of an opened checkpoint."""

    @property
    def path(self) -> Path: ...
    @property
    def state(self) -> Mapping[str, Tensor]: ...
    @property
    def model_spec(self) -> str | None: ...
    @property
    def data_spec(self) -> str | None: ...
    @property
    def framework(self) -> str: ...
    @property
    def network(self) -> str | None: ...
    @property
    def beside(self) -> Mapping[str, Any]: ...
    @property
    def program(self) -> object: ...


@dataclass(frozen=True)
class NetworkSource:
    """Which network it is.

    Parameters
    ----------
    spec : str
        For `mdtree.models.build_model`.
    source : str
        Who says so: "--model", "the file's manifest", "[tool.mdtree] in pyproject.toml", "config.json", "arch in the
        file", "names and shapes".
    directory : Path or None
        Where its modules and relative paths lie; the current directory if None.
    others : tuple of str
        Other networks of the same names and shapes.
    proposed : bool
        Whether it was only recognised: strides and activations are not seen in names and shapes, so the loss on the
        user's data has to confirm it.
    """

    spec: str
    source: str
    directory: Path | None = None
    others: tuple[str, ...] = ()
    proposed: bool = False


@dataclass(frozen=True)
class DataSource:
    """What it was trained on; attributes as those of `NetworkSource`."""

    spec: str
    source: str
    directory: Path | None = None


def network_source(
    opened: Opened,
    flag: str | None = None,
    trust: bool = False,
    directory: Path | None = None,
    settings: ProjectSettings | None = None,
) -> NetworkSource:
    """Say which network a checkpoint is of.

    Parameters
    ----------
    opened : Checkpoint
        The opened file.
    flag : str, optional
        What the user gave with ``--model``.
    trust : bool
        Whether functions that the file itself names may be called.
    directory : Path, optional
        Where the user's modules and files lie, and the project starts; the current directory by default.
    settings : ProjectSettings, optional
        Those of the project in `directory` by default.

    Returns
    -------
    NetworkSource

    Raises
    ------
    InputError
        If nothing tells, with the lines the user has to write; if the file names a function and is not trusted; or if
        the project's settings cannot be read.
    """
    if opened.program is not None:
        return NetworkSource("program", PROGRAM)
    if flag:
        return NetworkSource(flag, FLAG.format("model"), directory)
    if opened.model_spec is not None:
        if not trust and parse(opened.model_spec).name not in _CALLS_NOBODY:
            raise _untrusted(opened.path, "build its network", opened.model_spec, "--model")
        return NetworkSource(opened.model_spec, MANIFEST, directory)
    settings = settings or project_settings(directory)
    if settings.model is not None:
        return NetworkSource(settings.model, PROJECT, settings.directory)
    for spec, source in ((_spec_of_config(opened), CONFIG), (opened.network, ARCH)):
        if spec is not None:
            if not trust and parse(spec).name not in _CALLS_NOBODY:
                raise _untrusted(opened.path, "build its network", spec, "--model")
            return NetworkSource(spec, source)
    recognised = recognise(opened.state)
    if recognised is not None:
        return NetworkSource(recognised.spec, NAMES_AND_SHAPES, directory, recognised.others, proposed=True)
    raise _unknown_network(opened, settings)


def data_source(
    opened: Opened, flag: str | None = None, trust: bool = False, directory: Path | None = None
) -> DataSource:
    """Say what a checkpoint was trained on; parameters and errors as for `network_source`, the flag is ``--data``."""
    if flag:
        return DataSource(flag, FLAG.format("data"), directory)
    if opened.data_spec is not None:
        if not trust and parse(opened.data_spec).name not in _DATA_CALLS_NOBODY:
            raise _untrusted(opened.path, "load its data", opened.data_spec, "--data")
        return DataSource(opened.data_spec, MANIFEST, directory)
    settings = project_settings(directory)
    if settings.data is not None:
        return DataSource(settings.data, PROJECT, settings.directory)
    raise InputError(
        f"{opened.path} does not say what it was trained on",
        "",
        f"give it: mdtree diagnose {opened.path} --data npz:FILE.npz (or digits?..., package.module:function); "
        f"what its weights alone tell: mdtree layers {opened.path}",
    )


def _spec_of_config(opened: Opened) -> str | None:
    """The network that a ``config.json`` beside the weights describes; None for a configuration of something else."""
    config = opened.beside.get("config.json")
    if not isinstance(config, Mapping):
        return None
    wrapped = config.get("model_type") == "timm_wrapper"
    if isinstance(config.get("model_type"), str) and not wrapped:
        folder = opened.path if opened.path.is_dir() else opened.path.parent
        return str(Specification("transformers", str(folder)))
    name = config.get("architecture")
    if isinstance(name, str) and (wrapped or "pretrained_cfg" in config):
        return _timm_spec(name, config)
    return None


def _timm_spec(name: str, config: Mapping[str, Any]) -> str:
    given, labels = config.get("model_args"), config.get("id2label")
    classes = config.get("num_classes", len(labels) if isinstance(labels, Mapping) and labels else None)
    arguments = {"num_classes": classes, **(given if isinstance(given, Mapping) else {})}
    options = {str(key): str(value) for key, value in arguments.items() if isinstance(value, int | float | str)}
    return str(Specification("timm", name, options))


def _untrusted(path: Path, purpose: str, spec: str, option: str) -> InputError:
    """A file that names a function to call could name any function: only its owner may say that it is called."""
    named = shown(str(parse(spec)))
    return InputError(
        f"{path} names the function {named} to {purpose}; nothing that a checkpoint names is called unasked",
        "",
        f"if the file is yours add --trust, or name it yourself: {option} '{named}'",
    )


def _unknown_network(opened: Opened, settings: ProjectSettings) -> InputError:
    """The error that shows what to write, on three lines, with the user's own paths."""
    name, tensor = next(iter(opened.state.items()))
    shape = "×".join(map(str, tensor.shape)) or "scalar"
    built = "MyLightningModule(...)" if opened.framework == "lightning" else "Net(...)"
    data = "" if opened.data_spec or settings.data else " --data npz:FILE"
    project = settings.file or Path(os.curdir) / "pyproject.toml"
    return InputError(
        f"{opened.path} does not say which network it is ({len(opened.state)} tensors, first {shown(name)} {shape})",
        "",
        "\n".join(
            (
                "write a function that builds it, say in nets.py:",
                f"    def make(): return {built}",
                f"then: mdtree diagnose {opened.path} --model nets:make{data} "
                f'(or put model = "nets:make" under [tool.mdtree] in {project})',
            )
        ),
    )
