"""Networks of other packages by name: ``timm:NAME``, ``torchvision:NAME``, ``transformers:DIR``.

=======================================  ==============================================================================
``timm:NAME?num_classes=N&in_chans=C``   a network of `timm.list_models`, perhaps with the tag of its pretrained weights
                                         (``resnet50.a1_in1k``). Also ``img_size``, ``patch_size``, ``global_pool``,
                                         ``drop_rate``, ``drop_path_rate``, as `timm.create_model` takes them.
``torchvision:NAME?num_classes=N``       a classification network of `torchvision.models.list_models`. Also
                                         ``image_size`` (vision transformers) and ``aux_logits`` (googlenet and
                                         inception_v3, whose auxiliary classifiers are there by default, as in
                                         torchvision; in evaluation, the mode everything is measured in, such a network
                                         returns the logits of its main classifier alone).
``transformers:DIR``                     the classifier that the ``config.json`` in a folder describes, see
                                         `mdtree.networks.transformers_models`.
=======================================  ==============================================================================

``num_classes`` and ``in_chans`` come from the data where they are not given. Nothing is downloaded: the networks are
built with fresh weights, as their packages start them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mdtree.errors import InputError, MDTreeError
from mdtree.free_memory import check_memory
from mdtree.networks.transformers_models import build_transformers
from mdtree.specification import Kind, Specification, shown

MOST_CLASSES = 100_000
_LARGEST = {"num_classes": MOST_CLASSES, "in_chans": 4096, "img_size": 4096, "patch_size": 4096, "image_size": 4096}
_TIMM: dict[str, Kind] = {
    "num_classes": int,
    "in_chans": int,
    "img_size": int,
    "patch_size": int,
    "global_pool": str,
    "drop_rate": float,
    "drop_path_rate": float,
}
_TORCHVISION: dict[str, Kind] = {"num_classes": int, "image_size": int, "aux_logits": bool}
_WITH_AUXILIARY = ("googlenet", "inception_v3")

InputShape = tuple[int, ...] | None


def build_foreign(
    spec: Specification, num_classes: int | None, input_shape: InputShape, directory: Path | None
) -> nn.Module:
    """Build a network of another package with fresh weights, drawn from torch's global generator.

    Parameters
    ----------
    spec : Specification
        Its name is one of `FOREIGN_MODELS`.
    num_classes : int or None
        Classes of the data.
    input_shape : tuple of int or None
        Shape of one input of the data.
    directory : Path or None
        Where relative paths start; the current directory if None.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    InputError
        If the package is not installed, or has no such network or option, or the data and the network do not fit.
    ResourceError
        If the network would not fit into memory.
    """
    return FOREIGN_MODELS[spec.name](spec, num_classes, input_shape, directory)


def _timm(spec: Specification, num_classes: int | None, shape: InputShape, directory: Path | None) -> nn.Module:
    try:
        import timm
    except ImportError as error:
        raise _not_installed(spec, error, "timm") from error
    # only names it lists: its schemes (hf_hub:, local-dir:) fetch and read what they are told to
    name = spec.target.partition(".")[0]
    if name not in timm.list_models():
        raise _unknown(spec, timm.list_models(f"*{name[:20]}*") if name.isidentifier() else [])
    options = _options(spec, _TIMM)
    options["num_classes"] = _classes(spec, options["num_classes"], num_classes)
    options["in_chans"] = _channels(spec, options["in_chans"], shape)
    given = {key: value for key, value in options.items() if value is not None}
    return _built(spec, lambda: timm.create_model(spec.target, pretrained=False, **given))


def _torchvision(spec: Specification, num_classes: int | None, shape: InputShape, directory: Path | None) -> nn.Module:
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # a build that does not match torch's fails with a RuntimeError
        raise _not_installed(spec, error, "torchvision") from error
    names = models.list_models(module=models)
    if spec.target not in names:
        raise _unknown(spec, [name for name in names if spec.target[:20] in name])
    options = _options(spec, _TORCHVISION)
    options["num_classes"] = _classes(spec, options["num_classes"], num_classes)
    _channels(spec, 3, shape)
    given = {key: value for key, value in options.items() if value is not None}
    if spec.target in _WITH_AUXILIARY:
        given["init_weights"] = True  # its default, about which it warns where it is not given
    return _built(spec, lambda: models.get_model(spec.target, weights=None, **given))


def _transformers(spec: Specification, num_classes: int | None, shape: InputShape, directory: Path | None) -> nn.Module:
    return build_transformers(spec, num_classes, shape, directory)


FOREIGN_MODELS: dict[str, Callable[[Specification, int | None, InputShape, Path | None], nn.Module]] = {
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
"""The packages whose networks are known by name; to build one calls no function of the user's."""


def _options(spec: Specification, kinds: dict[str, Kind]) -> dict[str, Any]:
    options = spec.read(kinds)
    for key, value in options.items():
        largest = _LARGEST.get(key)
        if largest is not None and isinstance(value, int) and not 1 <= value <= largest:
            raise InputError(f"{key}={value} of {spec.name}:{spec.target}", f"1 to {largest:,}")
    return dict(options)


def _classes(spec: Specification, given: int | None, known: int | None) -> int | None:
    """The number of outputs; more than the data shows are no contradiction."""
    if given is not None and known is not None and given < known:
        raise InputError(f"num_classes={given} of {spec.name}:{spec.target}, but the data has {known}", "as many")
    return known if given is None else given


def _channels(spec: Specification, given: int | None, shape: InputShape) -> int | None:
    if shape is None:
        return given
    if len(shape) != 3:
        raise InputError(
            f"{spec.name}:{spec.target} takes images, the data has inputs of shape {shape}", "(channels, rows, columns)"
        )
    if given is not None and given != shape[0]:
        raise InputError(
            f"{spec.name}:{spec.target} takes images of {given} channels, but the data has {shape[0]}", "the same"
        )
    return shape[0]


def _built(spec: Specification, build: Callable[[], nn.Module]) -> nn.Module:
    """The network; its size is taken first where it can be had for nothing, without any values."""
    try:
        with torch.device("meta"):
            size = sum(value.numel() * value.element_size() for value in build().state_dict().values())
    except Exception:  # what is wrong with the options shows below; some networks compute with values to be built
        size = 0
    check_memory(f"the network {shown(str(spec))}", size, "name the network the weights are of")
    try:
        return build()
    except MDTreeError:
        raise
    except Exception as error:  # other packages raise anything
        text = " ".join(str(error).split())[:300]
        raise InputError(
            f"{shown(str(spec))} cannot be built ({type(error).__name__}: {text})", "", "correct its options"
        ) from error


def _unknown(spec: Specification, similar: list[str]) -> InputError:
    return InputError(
        f"{spec.name} has no network {shown(spec.target)!r}" if spec.target else f"{spec.name} without a name",
        f"one it lists, such as {', '.join(similar[:5])}" if similar else f"{spec.name}:NAME of those it lists",
        "or name a function that builds yours: --model package.module:factory",
    )


def _not_installed(spec: Specification, error: Exception, extra: str) -> InputError:
    if isinstance(error, ModuleNotFoundError):
        return InputError(f"{spec} needs the package {extra}", "", "run: pip install 'mdtree-diagnosis[timm]'")
    text = " ".join(str(error).split())[:200]
    return InputError(
        f"{extra} cannot be imported ({text})",
        f"a {extra} built for torch {torch.__version__}",
        "install the two together",
    )
