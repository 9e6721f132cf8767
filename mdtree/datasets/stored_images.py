"""Images as files hold them, PNG or JPEG bytes, to the arrays a network takes. Needs Pillow."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdtree.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

_COLOUR_OF_MODE = {
    **dict.fromkeys(("1", "L", "LA"), "L"),
    **dict.fromkeys(("P", "RGB", "RGBA", "CMYK", "YCbCr"), "RGB"),
}
"""Pillow's modes of 8 bits a channel, as the grey or the colour image they are read as; transparency is dropped."""


@dataclass(frozen=True, eq=False)
class InputScale:
    """What is subtracted from inputs, then divided by: one number for all channels (or columns), or one for each."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass(frozen=True, eq=False)
class ImageFormat:
    """What every image of a data set must be, and what becomes of it.

    Parameters
    ----------
    rows, columns, channels : int
        As stored; one channel is grey, three are red, green and blue.
    convert : bool
        Turn grey images into colour ones, and colour into grey, instead of refusing them.
    block : int
        Side of the blocks of pixels that are averaged; it divides rows and columns.
    scale : InputScale
        Of pixels scaled to [0, 1].
    like : str
        Where the shape comes from, for an error: "row 0 of train.parquet".
    """

    rows: int
    columns: int
    channels: int
    convert: bool
    block: int
    scale: InputScale
    like: str


def read_image(data: object, channels: int | None, where: str) -> Image:
    """One encoded image, decoded. Its EXIF orientation is left aside, as torchvision leaves it.

    Parameters
    ----------
    data : bytes or Path
        PNG, JPEG or whatever else Pillow reads, or the file that holds it.
    channels : int or None
        1 converts to grey, by way of RGB as torchvision does; 3 to RGB; None keeps what it is, grey or colour.
    where : str
        What to call the image in an error: "row 3 of train.parquet".

    Returns
    -------
    PIL.Image.Image
        Of mode L or RGB.

    Raises
    ------
    InputError
        If the bytes are no image, one of more than 8 bits a channel, or one of so many pixels that Pillow refuses it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # beyond twice that size Pillow refuses; what is wrong with a palette's transparency changes no colour
            warnings.simplefilter("ignore")
            with Image.open(data if isinstance(data, Path) else io.BytesIO(data)) as image:  # type: ignore[arg-type]
                colour = _COLOUR_OF_MODE.get(image.mode)
                if colour is None:
                    raise InputError(f"the image in {where} is of Pillow's mode {image.mode}", "8 bits a channel")
                if channels == 1 and colour == "RGB":
                    return image.convert("RGB").convert("L")
                return image.convert({None: colour, 1: "L", 3: "RGB"}[channels])
    except Image.DecompressionBombError as error:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise InputError(
            f"the image in {where} has more than {limit} pixels", "an image of a network's size", "scale it down"
        ) from error
    except (UnidentifiedImageError, OSError, SyntaxError, TypeError, ValueError, EOFError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{where} holds no image", "PNG or JPEG bytes", "write or copy the file again") from error


def decode_image(data: object, channels: int | None, where: str) -> NDArray[np.uint8]:
    """Pixels of one encoded image, uint8 of shape (rows, columns, channels); see `read_image`."""
    pixels = np.asarray(read_image(data, channels, where))
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def decode_images(
    encoded: Sequence[object], rows: NDArray[np.int64], file: str, wanted: ImageFormat
) -> NDArray[np.float32]:
    """Encoded images as float32 of shape (images, channels, rows / block, columns / block).

    Pixels are scaled to [0, 1], averaged over blocks, less the mean, over the standard deviation. `rows` says where
    each image stands in `file`.

    Raises
    ------
    InputError
        For the first image that cannot be decoded or is of another shape.
    """
    shape = (wanted.rows, wanted.columns, wanted.channels)
    pixels = np.empty((len(encoded), *shape), dtype=np.uint8)
    for number, data in enumerate(encoded):
        where = f"row {rows[number]} of {file}"
        image = decode_image(data, wanted.channels if wanted.convert else None, where)
        if image.shape != shape:
            raise InputError(f"the image in {where} is {shown(image.shape)}", f"{shown(shape)}, as in {wanted.like}")
        pixels[number] = image
    block = wanted.block
    blocks = pixels.reshape(len(pixels), shape[0] // block, block, shape[1] // block, block, shape[2])
    x = blocks.mean(axis=(2, 4), dtype=np.float32) / np.float32(255)
    x = (x - np.array(wanted.scale.mean, np.float32)) / np.array(wanted.scale.std, np.float32)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def shown(shape: tuple[Any, ...]) -> str:
    """``(28, 28, 1)`` as words: "grey, 28×28 pixels"."""
    return f"{'grey' if shape[2] == 1 else 'colour'}, {shape[0]}×{shape[1]} pixels"
