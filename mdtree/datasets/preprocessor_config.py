"""How pictures were prepared for a network, out of files that say so: Hugging Face's and timm's.

Pictures are resized by Pillow, as transformers' slow image processors and timm's transforms do; transformers' fast ones
resize tensors, which may move a pixel by one in 255.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mdtree.datasets.data_files import data_path
from mdtree.datasets.image_scaling import INTERPOLATIONS, NAMED_SCALES, ImageScaling
from mdtree.errors import InputError
from mdtree.files import regular_file
from mdtree.specification import listing, shown

PREPROCESSOR_FILE = "preprocessor_config.json"

_LARGEST_FILE = 16 * 2**20
_LARGEST_NUMBER = 1e6
_LARGEST_SIDE = 10_000
_MEND = "say size=, resize=, crop=, interpolation=, mean= and std= instead"

_PILLOW_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}

_STANDARD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class _Processor:
    """What an image processor of transformers does where its file does not say."""

    size: Mapping[str, int]
    crop: bool
    resample: int
    scale: tuple[tuple[float, ...], tuple[float, ...]]


_PROCESSORS: Mapping[str, _Processor] = {
    "ViT": _Processor({"height": 224, "width": 224}, False, 2, _STANDARD),
    "DeiT": _Processor({"height": 256, "width": 256}, True, 3, _STANDARD),
    "Beit": _Processor({"height": 224, "width": 224}, False, 3, _STANDARD),
    "Siglip": _Processor({"height": 224, "width": 224}, False, 3, _STANDARD),
    "CLIP": _Processor({"shortest_edge": 224}, True, 3, _CLIP),
    "Bit": _Processor({"shortest_edge": 224}, True, 3, _CLIP),
    "MobileNetV2": _Processor({"shortest_edge": 256}, True, 2, _STANDARD),
    "ConvNext": _Processor({"shortest_edge": 384}, False, 3, _STANDARD),
}

_READ = frozenset(
    (
        "do_resize",
        "size",
        "do_center_crop",
        "crop_size",
        "resample",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "crop_pct",
        "image_processor_type",
        "feature_extractor_type",
    )
)
_HARMLESS = frozenset(
    (
        "processor_class",
        "_processor_class",
        "do_convert_rgb",
        "data_format",
        "input_data_format",
        "return_tensors",
        "device",
        "disable_grouping",
        "default_to_square",
        "num_channels",
        "do_reduce_labels",
        "reduce_labels",
        "_valid_processor_keys",
        "image_seq_length",
        "transformers_version",
    )
)


def read_preprocessor_config(text: str, directory: Path) -> ImageScaling:
    """The settings of a Hugging Face ``preprocessor_config.json``, or of the one in a folder.

    Raises
    ------
    InputError
        If the file cannot be read, is of an image processor not known here, or says something that would change pixels
        and is not understood.
    """
    path = data_path(text, directory)
    file = regular_file(path / PREPROCESSOR_FILE if path.is_dir() else path)
    return preprocessor_scaling(_json(file), str(file))


def preprocessor_scaling(config: Mapping[str, Any], where: str) -> ImageScaling:
    """The contents of a ``preprocessor_config.json`` as settings; `where` names it in errors."""
    kind, processor = _processor(config, where)
    unknown = [key for key, value in config.items() if key not in _READ | _HARMLESS and value not in (None, False)]
    if unknown:
        raise InputError(f"{where} says {listing(unknown)}, which may change pixels and is not understood", "", _MEND)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    if _given(config, "do_normalize", True):
        mean = _floats(_given(config, "image_mean", processor.scale[0]), "image_mean", where)
        std = _floats(_given(config, "image_std", processor.scale[1]), "image_std", where)
        if 0 in std or len(mean) not in (1, len(std)):
            raise InputError(f"image_std of {where} does not fit image_mean, or holds 0", "as many numbers", _MEND)
    factor = _given(config, "rescale_factor", 1 / 255) if _given(config, "do_rescale", True) else 1.0
    if not isinstance(factor, int | float) or not 0 < factor < _LARGEST_NUMBER:
        raise InputError(f"rescale_factor of {where} is {shown(str(factor))}", "a number above 0", _MEND)
    number = _given(config, "resample", processor.resample)
    if type(number) is not int or number not in _PILLOW_FILTERS:
        raise InputError(f"resample of {where} is {shown(str(number))}", "Pillow's number of a filter, 0 to 5", _MEND)
    resize, crop = _resize_and_crop(config, kind, processor, where)
    outer = resize if isinstance(resize, tuple) else (resize, resize)
    if crop is not None and any(kept > (side or kept) for kept, side in zip(crop, outer, strict=True)):
        raise InputError(f"crop_size of {where} is larger than size", "one that lies inside", _MEND)
    # the file rounds 1/255 to the digits of a double, written by hand now and then
    factor = 1 / 255 if math.isclose(factor, 1 / 255, rel_tol=1e-6) else float(factor)
    channels = 1 if isinstance(config.get("image_mean"), list) and len(mean) == 1 else 3
    return ImageScaling(resize, crop, _PILLOW_FILTERS[number], mean, std, factor, False, channels)


def _processor(config: Mapping[str, Any], where: str) -> tuple[str, _Processor]:
    name = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    kind = name
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        kind = kind.removesuffix(ending)
    if kind not in _PROCESSORS:
        found = f"is of {shown(name)}" if name else "names no image_processor_type"
        raise InputError(f"{where} {found}", f"one of {', '.join(_PROCESSORS)} (ImageProcessor)", _MEND)
    return kind, _PROCESSORS[kind]


def _resize_and_crop(
    config: Mapping[str, Any], kind: str, processor: _Processor, where: str
) -> tuple[int | tuple[int, int] | None, tuple[int, int] | None]:
    """What is resized to what, and what is cropped."""
    resize: int | tuple[int, int] | None = None
    crop = None
    if _given(config, "do_resize", True):
        square = "height" in processor.size
        resize = _extent(_given(config, "size", processor.size), square, "size", where)
        if kind == "ConvNext":
            return _convnext_geometry(resize, _given(config, "crop_pct", 224 / 256), where)
    if config.get("crop_pct") is not None:
        raise InputError(f"{where} says crop_pct, which may change pixels and is not understood", "", _MEND)
    if _given(config, "do_center_crop", processor.crop):
        found = _extent(_given(config, "crop_size", 224), True, "crop_size", where)
        crop = found if isinstance(found, tuple) else (found, found)
    return resize, crop


def _convnext_geometry(
    resize: int | tuple[int, int], share: Any, where: str
) -> tuple[int | tuple[int, int], tuple[int, int] | None]:
    """Below 384 pixels ConvNeXT's processor enlarges by 1 / crop_pct and crops; from there on it squashes."""
    if not isinstance(resize, int) or not isinstance(share, int | float) or not 0.01 <= share <= 1:
        raise InputError(f"size and crop_pct of {where} do not fit", "shortest_edge, and a share of 1", _MEND)
    if resize >= 384:
        return (resize, resize), None
    return int(resize / share), (resize, resize)


def _extent(size: Any, square: bool, key: str, where: str) -> int | tuple[int, int]:
    """``{"shortest_edge": n}``, ``{"height": rows, "width": columns}`` or one number, which means either."""
    if isinstance(size, int):
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    if isinstance(size, dict):
        said = {name: value for name, value in size.items() if value is not None}
        if all(type(value) is int and 0 < value < _LARGEST_SIDE for value in said.values()):
            if set(said) == {"shortest_edge"}:
                return int(said["shortest_edge"])
            if set(said) == {"height", "width"}:
                return int(said["height"]), int(said["width"])
    raise InputError(f"{key} of {where} is {shown(str(size))}", "shortest_edge, or height and width", _MEND)


def read_timm_config(text: str, directory: Path) -> ImageScaling:
    """The data settings of a timm network: of a ``config.json``, of the one in a folder, or of a name timm knows.

    Raises
    ------
    InputError
        If there is neither such a file nor such a network, or the settings cannot be used.
    """
    path = data_path(text, directory)
    if path.exists() or "/" in text or text.endswith(".json"):
        file = regular_file(path / "config.json" if path.is_dir() else path)
        config = _json(file)
        found = config.get("pretrained_cfg", config)
        if not isinstance(found, dict) or "input_size" not in found:
            raise InputError(f"{file} holds no data settings of timm", "pretrained_cfg with input_size", _MEND)
        return timm_scaling(found, str(file))
    try:
        from timm.models import get_pretrained_cfg
    except ImportError as error:
        raise InputError(f"timm={text} needs the package timm", "", "pip install 'mdtree-diagnosis[timm]'") from error
    settings = get_pretrained_cfg(text)
    if settings is None:
        raise InputError(f"timm knows no network {shown(text)}", "a name of timm's, or its config.json")
    return timm_scaling(settings.to_dict(), f"timm's {text}")


def timm_scaling(config: Mapping[str, Any], where: str) -> ImageScaling:
    """A timm ``pretrained_cfg`` as settings, by timm's rules for evaluation; `where` names it in errors."""
    size = config.get("input_size") or (3, 224, 224)
    share = config.get("crop_pct") or 0.875
    mode = config.get("crop_mode") or "center"
    interpolation = config.get("interpolation") or "bicubic"
    sound = (
        isinstance(size, list | tuple)
        and len(size) == 3
        and all(type(n) is int and 0 < n < _LARGEST_SIDE for n in size)
    )
    if not sound or size[0] not in (1, 3) or not isinstance(share, int | float) or not 0.01 <= share <= 1:
        raise InputError(f"input_size or crop_pct of {where} cannot be used", "(3, rows, columns), a share", _MEND)
    if mode not in ("center", "squash") or interpolation not in INTERPOLATIONS:
        raise InputError(
            f"crop_mode {shown(str(mode))} or interpolation {shown(str(interpolation))} of {where}",
            f"center or squash, and one of {', '.join(INTERPOLATIONS)}",
            _MEND,
        )
    scaled = math.floor(size[1] / share), math.floor(size[2] / share)
    if mode == "center" and scaled[0] != scaled[1]:
        raise InputError(f"input_size of {where} is not square", "as many rows as columns with crop_mode center", _MEND)
    mean, std = (
        _floats(config.get(key) or default, key, where)
        for key, default in zip(("mean", "std"), NAMED_SCALES["imagenet"], strict=True)
    )
    if 0 in std or {len(mean), len(std)} - {1, size[0]}:
        raise InputError(f"mean or std of {where} does not fit {size[0]} channels", "a number for each, not 0", _MEND)
    resize = scaled if mode == "squash" else scaled[0]
    return ImageScaling(resize, (size[1], size[2]), str(interpolation), mean, std, channels=size[0])


def _given(config: Mapping[str, Any], key: str, default: Any) -> Any:
    value = config.get(key)
    return default if value is None else value


def _floats(value: Any, key: str, where: str) -> tuple[float, ...]:
    numbers = value if isinstance(value, list | tuple) else [value]
    if len(numbers) not in (1, 3) or not all(type(n) in (int, float) and abs(n) < _LARGEST_NUMBER for n in numbers):
        raise InputError(f"{key} of {where} is {shown(str(value))}", "1 or 3 numbers", _MEND)
    return tuple(float(number) for number in numbers)


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise ValueError("too large")
        read = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is no JSON file", "settings of pictures as JSON", _MEND) from error
    if not isinstance(read, dict):
        raise InputError(f"{file} holds no JSON object", "settings of pictures as JSON", _MEND)
    return read
