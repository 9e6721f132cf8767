"""Spectra of layers as text: what `mdtree layers` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mdtree.report import table
from mdtree.specification import listing, shown

if TYPE_CHECKING:
    from landscape.spectra import LayerSpectrum

_HEAD = ("layer", "kind", "shape", "α", "± SE", "in tail", "stable rank", "spectral norm", "reading")
_RULE = """\
α: exponent of the eigenvalues in the tail. Above 6 a layer looks under-trained, from 2 to 6 well trained, below 2
over-trained: a rule of thumb from large published networks (Martin and Mahoney, 2021), not a test."""


def layers_text(layers: Sequence[LayerSpectrum], not_read: int = 0) -> str:
    """A table of the layers in the order given, what its readings mean, and which layers look under-trained.

    Parameters
    ----------
    layers : sequence of LayerSpectrum
    not_read : int
        Tensors of the checkpoint that are no layer's weights.

    Returns
    -------
    str
    """
    parts = [table([_HEAD, *(_row(layer) for layer in layers)], right=range(3, 8))]
    reasons = _reasons(layers)
    if reasons:
        parts.append("Why\n" + "\n".join(reasons))
    notes = _RULE
    if not_read:
        tensors = "1 other tensor is" if not_read == 1 else f"{not_read:,} other tensors are"
        notes += f"\n{tensors} not read: biases, norms and whatever else is no layer's weight."
    return "\n\n".join([*parts, notes, _conclusion(layers)])


def _row(layer: LayerSpectrum) -> tuple[str, ...]:
    return (
        shown(layer.name),
        layer.kind,
        "×".join(map(str, layer.shape)),
        _number(layer.alpha, ".2f"),
        _number(layer.alpha_standard_error, ".2f"),
        _number(layer.tail, "d") and f"{layer.tail} of {layer.rank}",
        _number(layer.stable_rank, ".1f"),
        _number(layer.spectral_norm, ".3g"),
        layer.reading or "not fitted",
    )


def _number(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)


def _reasons(layers: Sequence[LayerSpectrum]) -> list[str]:
    """Each reason once, with the layers it holds for."""
    names: dict[str, list[str]] = {}
    for layer in layers:
        if layer.reason:
            names.setdefault(layer.reason, []).append(layer.name)
    return [f"  {listing(who)}: {reason}" for reason, who in names.items()]


def _conclusion(layers: Sequence[LayerSpectrum]) -> str:
    under = [layer.name for layer in layers if layer.reading == "under-trained"]
    unclear = sum(layer.reading in (None, "uncertain") for layer in layers)
    if unclear == len(layers):
        return "No layer can be read: none is shown to be under-trained, nor well trained"
    rest = f" ({unclear} of {len(layers)} cannot be read)" if unclear else ""
    return (f"Look under-trained: {listing(under, len(under))}" if under else "No layer looks under-trained") + rest
