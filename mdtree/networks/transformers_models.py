"""The classifier that a Hugging Face ``config.json`` describes, built by `transformers` from the configuration alone.

The file is data from anywhere: it is read as JSON of bounded size, depth and numbers, and names its network by one of
the model types below, whose code is part of `transformers`. Nothing is downloaded, no code beside the file is run
(``auto_map``), and the network is first built without any memory, to compare its size with the weights beside it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from mdtree.datasets.data_files import data_path
from mdtree.errors import InputError
from mdtree.free_memory import check_memory
from mdtree.networks.transformers_config import IMAGES, checked_kind, number_of_labels, read_config
from mdtree.specification import Specification, listing

_MOST_MODULES = 20_000
_WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".distcp")

# what decides how a network runs or what it returns, not which network it is
_SET_ASIDE = frozenset(
    [
        "attn_implementation",
        "experts_implementation",
        "dtype",
        "torch_dtype",
        "return_dict",
        "use_return_dict",
        "output_attentions",
        "output_hidden_states",
        "torchscript",
        "use_cache",
        "name_or_path",
        "transformers_version",
        "model_type",
        "task_specific_params",
        "reference_compile",
        "use_kernels",
        "sub_configs",
        "attribute_map",
    ]
)


def build_transformers(
    spec: Specification, num_classes: int | None, input_shape: tuple[int, ...] | None, directory: Path | None
) -> nn.Module:
    """Build the network of ``transformers:DIR`` with fresh weights.

    Parameters
    ----------
    spec : Specification
        Its target is a folder with a ``config.json``, or that file.
    num_classes : int or None
        Classes of the data: no more than the configuration has labels.
    input_shape : tuple of int or None
        Shape of one input of the data.
    directory : Path or None
        Where a relative path starts; the current directory if None.

    Returns
    -------
    torch.nn.Module
        In single precision, its attention written out ("eager"): fused kernels have no second derivatives.

    Raises
    ------
    InputError
        If `transformers` is not installed, or the file cannot be read, or describes something that is no classifier of
        a known type, or another size than the weights beside it have.
    ResourceError
        If the network would not fit into memory.
    """
    spec.read({})
    file = data_path(spec.target, directory or Path.cwd())
    if file.is_dir():
        file = file / "config.json"
    config = read_config(file)
    kind = checked_kind(config, file)
    labels = number_of_labels(config, file)
    if num_classes is not None and labels < num_classes:
        raise InputError(f"{file} describes {labels} labels, but the data has {num_classes} classes", "as many")
    _check_images(kind, config, file, input_shape)
    try:
        import transformers
    except ImportError as error:
        raise InputError(
            f"{spec} needs the package transformers", "", "run: pip install 'mdtree-diagnosis[transformers]'"
        ) from error
    try:
        settings = _configuration(transformers.CONFIG_MAPPING[config["model_type"]], config, file, kind, labels)
        automatic = getattr(transformers, f"AutoModel{kind}")
        with torch.device("meta"), _limited_modules():
            outline = automatic.from_config(settings, attn_implementation="eager", dtype=torch.float32)
    except Exception as error:  # a configuration that makes no sense raises anything
        raise _not_built(file, error) from error
    _check_size(outline, file)
    try:
        model = automatic.from_config(settings, attn_implementation="eager", dtype=torch.float32)
    except Exception as error:
        raise _not_built(file, error) from error
    assert isinstance(model, nn.Module)
    return model


def _check_images(kind: str, config: Mapping[str, Any], file: Path, shape: tuple[int, ...] | None) -> None:
    if kind != IMAGES or shape is None:
        return
    channels = config.get("num_channels", 3)
    if len(shape) != 3 or shape[0] != channels:
        raise InputError(
            f"the network of {file} takes images of {channels} channels, the data has inputs of shape {shape}",
            "(channels, rows, columns)",
        )


def _configuration(kind_of: Any, config: Mapping[str, Any], file: Path, kind: str, labels: int) -> Any:
    """The configuration object, made of the values that say which network it is."""
    known = {*inspect.signature(kind_of.__init__).parameters, *kind_of.attribute_map, "num_labels"}
    kept = {
        key: value
        for key, value in config.items()
        # a value under the name of a method would take its place
        if key not in _SET_ASIDE and not key.startswith("_") and (key in known or not hasattr(kind_of, key))
    }
    for key in ("num_labels", "id2label", "label2id"):
        kept.pop(key, None)
    if not kept.get("architectures"):
        kept["architectures"] = [f"Some{kind}"]
    return kind_of(**kept, num_labels=labels)


@contextmanager
def _limited_modules() -> Iterator[None]:
    """End the building of a network that has more parts than any has: numbers of layers and blocks multiply."""
    count, thread = 0, threading.get_ident()

    def counted(module: nn.Module, name: str, submodule: nn.Module | None) -> None:
        nonlocal count
        count += threading.get_ident() == thread
        if count > _MOST_MODULES:
            raise ValueError(f"more than {_MOST_MODULES:,} modules")

    hook = register_module_module_registration_hook(counted)
    try:
        yield
    finally:
        hook.remove()


def _check_size(outline: nn.Module, file: Path) -> None:
    """Hold a configuration that would fill the memory against the weights it stands beside."""
    parameters = sum(parameter.numel() for parameter in outline.parameters())
    beside = [one for one in file.parent.iterdir() if one.suffix in _WEIGHT_FILES and one.is_file()]
    size = sum(one.stat().st_size for one in beside)
    if beside and parameters > size:  # no format takes less than a byte for a number
        raise InputError(
            f"{file} describes {parameters:,} parameters, and {listing([one.name for one in beside], 2)} "
            f"beside it {'have' if len(beside) > 1 else 'has'} {size:,} bytes",
            "the configuration the weights were saved with",
        )
    check_memory(f"the network of {file}", 4 * parameters, "give a smaller network")


def _not_built(file: Path, error: Exception) -> InputError:
    text = " ".join(str(error).split())[:300]
    return InputError(
        f"transformers cannot build the network of {file} ({type(error).__name__}: {text})",
        "a configuration of save_pretrained",
    )
