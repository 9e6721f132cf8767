"""Which networks and data sets a client may name: the built-in ones that need no file, and those the operator chose.

A client's word is looked up here and never called, opened or fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mdtree.errors import InputError
from mdtree.specification import listing, parse, shown

BUILT_IN_NETWORKS = ("mlp", "layernorm_mlp", "cnn", "groupnorm_cnn", "resnet18", "vit", "gru")
"""Networks of this package, with their options (see `mdtree.models.ARCHITECTURES`, which takes torch to import)."""

BUILT_IN_DATA = ("digits",)
"""Data sets that lie in an installed package: no file of the server's is named."""

REGISTERED = "registered on the server"


@dataclass(frozen=True)
class Registry:
    """What the operator lets clients name.

    Attributes
    ----------
    networks, data_sets : mapping of str to str
        Name -> specification, as for ``--model`` and ``--data``; what these call is the operator's own code.
    directory : Path or None
        Where relative paths and modules of these specifications lie.
    """

    networks: Mapping[str, str] = field(default_factory=dict)
    data_sets: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None

    def network(self, name: str) -> str:
        """The specification of a network that a client names.

        Raises
        ------
        InputError
            Neither registered nor built in; lists what is.
        """
        return _specification(name, self.networks, BUILT_IN_NETWORKS, "network", "mlp?width=32")

    def data(self, name: str) -> str:
        """The specification of a data set that a client names; errors as for `network`."""
        return _specification(name, self.data_sets, BUILT_IN_DATA, "data set", "digits?train=160")

    def knows_network(self, specification: str) -> bool:
        """Whether a specification out of a client's file names a built-in network."""
        return _is_built_in(specification, BUILT_IN_NETWORKS)

    def knows_data(self, specification: str) -> bool:
        """Whether a specification out of a client's file names a built-in data set."""
        return _is_built_in(specification, BUILT_IN_DATA)


def _specification(name: str, registered: Mapping[str, str], built_in: tuple[str, ...], what: str, example: str) -> str:
    if name in registered:
        return registered[name]
    if _is_built_in(name, built_in):
        return name
    known = listing([*registered, *built_in], at_most=20)
    raise InputError(f"no {what} named {shown(name)} is registered here", f"one of {known} (such as {example})")


def _is_built_in(text: str, built_in: tuple[str, ...]) -> bool:
    try:
        parsed = parse(text)
    except InputError:
        return False
    return parsed.name in built_in and not parsed.target
