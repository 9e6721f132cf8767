"""Data sets by name: ``digits``, ``npz:FILE``, ``imagefolder:DIR``, ``text:FILE``, ..., ``module:function``.

==============================================  ====================================================================
``digits``                                      scikit-learn's 1,797 digits
``npz:FILE``, ``parquet:FILE``                  arrays; pictures or a table of numbers (`mdtree.datasets.parquet_data`)
``safetensors:FILE``                            arrays, as in ``npz``
``cifar10:DIR``, ``idx:DIR``                    CIFAR-10 in parquet files; MNIST and its like
``imagefolder:DIR?size=224&mean=imagenet&...``  pictures in class folders (`mdtree.datasets.image_folder`)
``torchvision:NAME?root=DIR``                   a data set of torchvision on disk (`mdtree.datasets.torchvision_data`)
``text:FILE.csv?text=COLUMN&label=COLUMN&...``  texts, tokenized (`mdtree.datasets.text_data`)
``hf:NAME?split=train``                         Hugging Face datasets, from the local cache (`mdtree.datasets.hub_data`)
``module:function?key=value``                   whatever a function of yours returns (`mdtree.datasets.user_data`)
==============================================  ====================================================================

A named data set is a *pool* to train on and a fixed *test set*. The same options choose from all of them but the last:

``train=N``
    N samples of the pool, in an order drawn from ``seed`` (all of them by default). The order takes the classes in
    turn, so every prefix is balanced, and for one seed a smaller ``train`` is contained in a larger one.
``seed=S``
    Draws that order and the label noise; 0 by default.
``label_noise=P``
    Each label is replaced, with probability P, by one of the other classes. Drawn once for the whole pool: a sample
    keeps its wrong label whatever ``train`` is, and the wrong labels at a smaller P are among those at a larger one.
``test=first_half|second_half|all``
    The test set is cut in two fixed halves. The first, the default, is what ``test_*`` metrics are measured on; the
    second is kept for scoring gains. ``npz``, ``safetensors``, pictures in folders, torchvision, texts and the hub keep
    theirs whole by default. `cut_test_set` gives both halves.
``only=A,B,C``
    Keeps these classes alone, in pool and test set, before anything else is chosen, and renumbers them 0, 1, 2 in the
    order given. All of them by default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import cast

from mdtree.datasets.data_set import TEST_GAIN_HALF, TEST_METRIC_HALF, DataSet, cut_test_set
from mdtree.errors import InputError
from mdtree.specification import Specification, parse

__all__ = ["BUILT_IN_DATA", "KNOWN_FORMS", "TEST_GAIN_HALF", "TEST_METRIC_HALF", "DataSet", "cut_test_set", "load_data"]

KNOWN_FORMS = (
    "digits?train=N&label_noise=P&seed=S",
    "npz:FILE",
    "cifar10:DIR?train=N&size=32",
    "idx:DIR?train=N&size=28",
    "safetensors:FILE",
    "parquet:FILE?image=COLUMN&label=COLUMN",
    "imagefolder:DIR?size=224&mean=imagenet&std=imagenet",
    "torchvision:NAME?root=DIR",
    "text:FILE.csv?text=COLUMN&label=COLUMN&tokenizer=DIR",
    "hf:NAME?split=train",
    "module:function?key=value",
)

_LOADERS: Mapping[str, tuple[str, str]] = {
    "digits": ("mdtree.datasets.data_files", "load_digits"),
    "npz": ("mdtree.datasets.data_files", "load_npz"),
    "safetensors": ("mdtree.datasets.safetensors_data", "load_safetensors"),
    "cifar10": ("mdtree.datasets.parquet_data", "load_cifar10"),
    "idx": ("mdtree.datasets.data_files", "load_idx"),
    "parquet": ("mdtree.datasets.parquet_data", "load_parquet"),
    "imagefolder": ("mdtree.datasets.image_folder", "load_image_folder"),
    "torchvision": ("mdtree.datasets.torchvision_data", "load_torchvision"),
    "text": ("mdtree.datasets.text_data", "load_text"),
    "hf": ("mdtree.datasets.hub_data", "load_hub"),
}
"""Module and function that read a data set, imported when it is asked for."""

BUILT_IN_DATA = tuple(name for name in _LOADERS if name != "torchvision")
"""Data sets that are read without calling anybody's function; some of torchvision's are pickles, which it unpickles."""


def load_data(spec: str, directory: Path | None = None) -> DataSet:
    """Load the data set a specification names.

    Parameters
    ----------
    spec : str
        One of the forms above with the options of this module and those of its own loader (``digits`` also
        ``shape=flat|image``, ``cifar10`` also ``size=32|16|8``, ``npz`` and ``safetensors`` also ``classes=C``; the
        others in their modules). In a path, ``$NAME`` and ``${NAME}`` stand for environment variables; ``cifar10`` and
        ``idx`` without a folder look for ``cifar10`` and ``mnist10k`` in the folder that the environment variable
        MDTREE_DATA names. A function, given the options as keyword arguments, returns what
        `mdtree.datasets.user_data` lists: arrays, a torch Dataset, a DataLoader, a pair (train, test) of them, ...
    directory : Path, optional
        Where relative paths and the user's modules start; the current directory by default.

    Returns
    -------
    DataSet

    Raises
    ------
    InputError
        If the name, an option, or the data itself cannot be used.
    ResourceError
        If the data would not fit in memory.
    """
    parsed = parse(spec)
    start = directory or Path.cwd()
    if parsed.name in _LOADERS:
        module, function = _LOADERS[parsed.name]
        loader = cast(Callable[[Specification, Path], DataSet], getattr(import_module(module), function))
        return loader(parsed, start)
    if not parsed.target:
        raise InputError(f"unknown data set {parsed.name!r}", f"one of {', '.join(KNOWN_FORMS)}")
    from mdtree.datasets.user_data import load_user_data

    return load_user_data(parsed, start)
