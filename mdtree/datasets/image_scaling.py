"""From a picture to what a network takes: resize, crop, scale, normalise; exactly as torchvision does it on pictures.

Options of every data set of pictures (``imagefolder``, ``torchvision``):

``size=S``
    Rows and columns of the inputs, ``224`` or ``256x128`` (rows x columns). Without it pictures keep their size.
``resize=R``
    The shorter side is resized to R before the crop; by default to the larger of rows and columns of `size`.
``crop=center|none|squash``
    The centre of the resized picture (torchvision's `Resize(R)`, `CenterCrop(S)`); the whole of it, its shorter side S
    long; or resized to `size` without regard to its proportions (`Resize((S, S))`). center by default.
``interpolation=bilinear|bicubic|lanczos|hamming|box|nearest``
    Pillow's filter, which smooths where it shrinks; bilinear by default, as in torchvision.
``mean=``, ``std=``
    Subtracted from, then dividing, pixels scaled to [0, 1]: one number, or one for each channel, or ``imagenet``,
    ``cifar10``, ``none``.
``channels=1|3``
    Grey, or red, green and blue.
``preprocessor=PATH``, ``timm=PATH|NAME``
    All of that from a Hugging Face ``preprocessor_config.json``, or from the data settings of a timm network.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdtree.errors import InputError
from mdtree.specification import Kind

if TYPE_CHECKING:
    from PIL.Image import Image

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "hamming", "box", "nearest")
CROPS = ("center", "none", "squash")

NAMED_SCALES: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "none": ((0.0,), (1.0,)),
}
"""Mean and standard deviation per channel (red, green, blue) of pixels in [0, 1], by name."""

SCALING_KINDS: Mapping[str, Kind] = {
    "size": str,
    "resize": int,
    "crop": CROPS,
    "interpolation": INTERPOLATIONS,
    "mean": str,
    "std": str,
    "channels": ("1", "3"),
    "preprocessor": str,
    "timm": str,
}


@dataclass(frozen=True)
class ImageScaling:
    """What becomes of a picture.

    Parameters
    ----------
    resize : int, pair of int or None
        The shorter side becomes so long; or rows and columns; or nothing is resized.
    crop : pair of int or None
        Rows and columns of the centre that is kept. What is smaller is framed in black.
    interpolation : str
        One of `INTERPOLATIONS`.
    mean, std : tuple of float
        One number, or one for each channel.
    factor : float
        Pixels of 0...255 are multiplied by it first.
    rounded_crop : bool
        Whether an odd margin is halved with rounding (torchvision, timm) or downwards (Hugging Face).
    channels : int or None
        1 or 3; None keeps grey grey and colour colour.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    factor: float = 1 / 255
    rounded_crop: bool = True
    channels: int | None = 3

    def apply(self, image: Image) -> NDArray[np.float32]:
        """The inputs of one picture of mode L or RGB: float32 of shape (channels, rows, columns)."""
        from PIL.Image import Resampling

        if self.resize is not None:
            columns, rows = self._resized(image.size)
            image = image.resize((columns, rows), Resampling[self.interpolation.upper()])
        if self.crop is not None:
            image = image.crop(self._box(image.size))
        pixels = np.asarray(image).astype(np.float32)
        planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        # by 255 where that is meant, so that the last digit is torchvision's
        scaled = planes / np.float32(255) if self.factor == 1 / 255 else planes * np.float32(self.factor)
        mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (self.mean, self.std))
        return np.ascontiguousarray((scaled - mean) / std)

    def _resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """Columns and rows after the resize: the longer side is rounded down."""
        if isinstance(self.resize, tuple):
            return self.resize[1], self.resize[0]
        assert self.resize is not None
        columns, rows = size
        longer = int(self.resize * max(size) / min(size))
        return (self.resize, longer) if columns <= rows else (longer, self.resize)

    def _box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, upper, right, lower; what lies outside the picture is black."""
        assert self.crop is not None
        left, upper = (self._start(length, kept) for length, kept in zip(size, reversed(self.crop), strict=True))
        return left, upper, left + self.crop[1], upper + self.crop[0]

    def _start(self, length: int, kept: int) -> int:
        if kept > length:
            return -((kept - length) // 2)
        return round((length - kept) / 2) if self.rounded_crop else (length - kept) // 2

    def for_image(self, image: Image, where: str) -> ImageScaling:
        """These settings with the channels and, where nothing is cropped, the size that one picture gives.

        Raises
        ------
        InputError
            If it has other channels than mean and standard deviation have numbers.
        """
        channels = len(image.getbands())
        for numbers in (self.mean, self.std):
            if len(numbers) not in (1, channels):
                raise InputError(
                    f"{len(numbers)} numbers to normalise by, but {where} has {channels} channels",
                    "one number" if channels == 1 else f"1 or {channels} numbers",
                    f"channels={len(numbers)} to convert it",
                )
        return replace(self, channels=channels)

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and columns of every input, where the settings alone say so."""
        return self.crop or (self.resize if isinstance(self.resize, tuple) else None)

    def __str__(self) -> str:
        steps = []
        if isinstance(self.resize, tuple):
            steps.append(f"resized to {self.resize[0]}×{self.resize[1]} pixels ({self.interpolation})")
        elif self.resize is not None:
            steps.append(f"shorter side resized to {self.resize} pixels ({self.interpolation})")
        if self.crop is not None and self.crop != self.resize:
            steps.append(f"centre of {self.crop[0]}×{self.crop[1]} pixels")
        steps.append("pixels in 0...1" if self.factor == 1 / 255 else f"pixels of 0...255 times {self.factor:.6g}")
        if any(self.mean) or set(self.std) != {1.0}:
            steps.append(f"mean {_shown(self.mean)}, standard deviation {_shown(self.std)}")
        return ", ".join(steps)


def scaling_of(name: str, options: Mapping[str, Any], directory: Path, channels: int | None) -> ImageScaling:
    """The `SCALING_KINDS` options of a specification; `channels` is what holds if they do not say.

    Raises
    ------
    InputError
        If an option is out of range, contradicts another, or a named file cannot be used.
    """
    if options["preprocessor"] is not None or options["timm"] is not None:
        return _from_settings(name, options, directory)
    channels = channels if options["channels"] is None else int(options["channels"])
    mean, std = (_numbers(name, key, options[key], channels) for key in ("mean", "std"))
    if 0 in std:
        raise InputError(f"std={options['std']} of {name}", "numbers other than 0")
    if (len(mean) > 1) != (len(std) > 1) and options["mean"] is not None and options["std"] is not None:
        width = max(len(mean), len(std))
        mean, std = (numbers * width if len(numbers) == 1 else numbers for numbers in (mean, std))
    interpolation = str(options["interpolation"] or "bilinear")
    resize, crop = _geometry(name, options)
    return ImageScaling(resize, crop, interpolation, mean, std, channels=channels)


def _from_settings(name: str, options: Mapping[str, Any], directory: Path) -> ImageScaling:
    from mdtree.datasets.preprocessor_config import read_preprocessor_config, read_timm_config

    given = [key for key in SCALING_KINDS if options[key] is not None]
    if len(given) > 1:
        raise InputError(f"{' and '.join(given[-2:])} of {name}", f"{given[-1]} alone: it says all the rest")
    if given == ["preprocessor"]:
        return read_preprocessor_config(str(options["preprocessor"]), directory)
    return read_timm_config(str(options["timm"]), directory)


def _geometry(name: str, options: Mapping[str, Any]) -> tuple[int | tuple[int, int] | None, tuple[int, int] | None]:
    """What is resized to what, and what is cropped."""
    size, resize, crop = options["size"], options["resize"], options["crop"]
    if resize is not None and resize < 1:
        raise InputError(f"resize={resize} of {name}", "a number of pixels, for instance resize=256")
    if size is None:
        if crop not in (None, "none"):
            raise InputError(f"crop={crop} of {name} without size", "size=224 too")
        return resize, None
    match = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", size, re.ASCII)
    if match is None:
        raise InputError(f"size={size} of {name}", "pixels, size=224, or rows and columns, size=256x128")
    wanted = int(match[1]), int(match[2] or match[1])
    if crop in ("none", "squash") and resize is not None:
        raise InputError(f"resize={resize} of {name} with crop={crop}", "size alone, or crop=center")
    if crop == "squash":
        return wanted, None
    if crop == "none":
        if match[2]:
            raise InputError(f"size={size} of {name} with crop=none", "the length of the shorter side, size=224")
        return wanted[0], None
    if resize is not None and resize < max(wanted):
        raise InputError(f"resize={resize} of {name} is smaller than size={size}", "at least as large, resize=256")
    return resize or max(wanted), wanted


def _numbers(name: str, key: str, text: Any, channels: int | None) -> tuple[float, ...]:
    """``imagenet``, ``0.5`` or ``0.49,0.48,0.45`` as one number for all channels or one for each."""
    shown = "none" if text is None else str(text)
    if shown in NAMED_SCALES:
        numbers = NAMED_SCALES[shown][("mean", "std").index(key)]
    else:
        try:
            numbers = tuple(float(part) for part in shown.split(","))
        except ValueError:
            numbers = (math.nan,)
        if not all(map(math.isfinite, numbers)):
            words = f"numbers, {key}=0.5 or {key}=0.49,0.48,0.45, or one of {', '.join(NAMED_SCALES)}"
            raise InputError(f"{key}={shown} of {name}", words)
    if len(numbers) not in (1, channels or len(numbers)):
        wanted = "one number" if channels == 1 else f"1 or {channels} numbers"
        raise InputError(f"{key}={shown} of {name} is {len(numbers)} numbers for {channels} channels", wanted)
    return numbers


def _shown(numbers: tuple[float, ...]) -> str:
    return " ".join(f"{number:.6g}" for number in numbers)
