"""Random horizontal flips and shifted crops of images, drawn from a network's own seed.

The draws of every update are made before training, from generators that only the seed decides: the caller's random
state is not touched, and a network sees the same pictures whether it trains alone or in a stack.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from mdtree.errors import InputError

AUGMENTATIONS = ("none", "flip", "crop", "flip_crop")

_FLIPS, _SHIFTS = 1, 2  # second word of the generators' seeds


@dataclass(frozen=True)
class Draws:
    """What happens to each sample of each update.

    Attributes
    ----------
    flipped : torch.Tensor of bool, shape (steps, batch)
        Mirrored left to right.
    shifts : torch.Tensor of int64, shape (steps, batch, 2)
        Rows and columns the window is moved by, in [-(h // 8), h // 8] and [-(w // 8), w // 8].
    """

    flipped: Tensor
    shifts: Tensor


def check_augmentation(augmentation: str, inputs: Tensor) -> None:
    """Refuse an augmentation that these inputs cannot have.

    Raises
    ------
    InputError
        The name is not known, the inputs are no images (n, c, h, w), or the images are too small to be cropped.
    """
    if augmentation not in AUGMENTATIONS:
        raise InputError(f"augmentation {augmentation!r}", f"one of {', '.join(AUGMENTATIONS)}")
    if augmentation == "none":
        return
    if inputs.dim() != 4:
        raise InputError(
            f"augmentation {augmentation!r} on inputs of shape {tuple(inputs.shape)}",
            "images (n, channels, rows, columns)",
            "load the data with shape=image, or use augmentation 'none'",
        )
    if "crop" in augmentation and min(inputs.shape[2:]) < 8:
        rows, columns = inputs.shape[2:]
        raise InputError(f"augmentation {augmentation!r} on images of {rows}×{columns} pixels", "8×8 or more")


def draw(augmentation: str, seed: int, steps: int, batch: int, size: tuple[int, int]) -> Draws:
    """Draw the augmentation of a whole training: each sample mirrored with probability ½, each shift equally likely.

    Flips and shifts come from generators of their own, so `flip_crop` mirrors the samples that `flip` mirrors.

    Parameters
    ----------
    augmentation : str
        One of `AUGMENTATIONS`; what it leaves out is drawn as "no flip" or "no shift".
    seed : int
    steps, batch : int
    size : tuple of int
        Rows and columns of an image.
    """
    flipped = np.zeros((steps, batch), dtype=bool)
    shifts = np.zeros((steps, batch, 2), dtype=np.int64)
    if "flip" in augmentation:
        flipped = np.random.default_rng([seed, _FLIPS]).random((steps, batch)) < 0.5
    if "crop" in augmentation:
        pads = np.array([size[0] // 8, size[1] // 8])
        shifts = np.random.default_rng([seed, _SHIFTS]).integers(-pads, pads + 1, size=(steps, batch, 2))
    return Draws(torch.from_numpy(flipped), torch.from_numpy(shifts))


def augment(images: Tensor, flipped: Tensor, shifts: Tensor) -> Tensor:
    """Shift each image by its own offset, zeros coming in at the border, then mirror the flipped ones.

    Parameters
    ----------
    images : torch.Tensor, shape (n, c, h, w)
    flipped : torch.Tensor of bool, shape (n,)
    shifts : torch.Tensor of int64, shape (n, 2)
        As in `Draws`.

    Returns
    -------
    torch.Tensor, shape (n, c, h, w)
        ``out[i, :, r, s] = images[i, :, r + shifts[i, 0], s' + shifts[i, 1]]`` with s' = w − 1 − s where flipped, s
        elsewhere; 0 outside the image.
    """
    n, channels, rows, columns = images.shape
    pad_rows, pad_columns = rows // 8, columns // 8
    padded = nn.functional.pad(images, (pad_columns, pad_columns, pad_rows, pad_rows))
    across = torch.arange(columns, device=images.device).expand(n, columns)
    across = torch.where(flipped.unsqueeze(1), columns - 1 - across, across) + shifts[:, 1:] + pad_columns
    down = torch.arange(rows, device=images.device) + shifts[:, :1] + pad_rows
    flat = down.unsqueeze(2) * padded.shape[3] + across.unsqueeze(1)
    source = flat.view(n, 1, rows * columns).expand(n, channels, rows * columns)
    return padded.flatten(2).gather(2, source).view(n, channels, rows, columns)
