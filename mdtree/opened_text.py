"""What was opened, as text: which weights, network, data and recipe, and who said so. Read from a record alone."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mdtree.record import Record
from mdtree.specification import shown
from mdtree.terminal_look import WIDTH

MOST_SIZES = 10
"""Up to so many classes each is told its samples; of more, the fewest and the most."""


def opened_text(record: Record, width: int = WIDTH) -> str:
    """The section "Opened" of a report; empty for a record that says nothing of it."""
    about = record.checkpoint
    rows = [
        ("weights", _weights(about)),
        ("network", _named(about, "model")),
        ("data", _data(about)),
        ("recipe", recipe_text(record.recipe)),
        ("start", f"fine-tuned from {about['fine_tuned_from']}" if about.get("fine_tuned_from") else ""),
        *(("note", str(note)) for note in about.get("notes") or ()),
    ]
    # a record may come from anywhere, and names stand in files: nothing in them reaches the terminal as a command
    lines = [line for label, text in rows if text for line in _wrapped(label, _printable(text), width)]
    return "\n".join(["Opened", *lines]) if "layout" in about else ""


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """``learning rate 0.1, momentum 0.9, epochs 50``; where each was found, `mdtree check` tells, and the record."""
    known = {name: value for name, value in recipe.items() if value is not None}
    return ", ".join(
        f"{shown(name).replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else shown(str(value))}"
        for name, value in known.items()
    )


def balance_text(counts: Sequence[int]) -> str:
    """``650 samples, 60 to 70 a class``."""
    total = f"{sum(counts):,} samples"
    if len(set(counts)) == 1:
        return f"{total}, {counts[0]:,} in each of {len(counts)} classes"
    if len(counts) <= MOST_SIZES:
        return f"{total}, by class {', '.join(f'{count:,}' for count in counts)}"
    return f"{total}, {min(counts):,} to {max(counts):,} in each of {len(counts)} classes"


def _weights(about: Mapping[str, Any]) -> str:
    if "layout" not in about:
        return ""
    used, there = str(about.get("weights_from", "")), list(about.get("weights_there") or ())
    # a manifest names its weights: what else stands around is no choice of the user's
    others = [name for name in there if name != used.removesuffix(" (averaged weights)") and used != "manifest"]
    called = {"manifest": "the file's own", "file": "all of the file"}.get(used, used)
    text = f"{called}, {about['layout']}, written by {about.get('framework', '?')}"
    return text + (f"; also there: {', '.join(others)} (--weights NAME takes others)" if others else "")


def _named(about: Mapping[str, Any], what: str) -> str:
    spec, source = about.get(what), about.get(f"{what}_from")
    return f"{spec} ({source})" if spec and source else ""


def _data(about: Mapping[str, Any]) -> str:
    named = _named(about, "data")
    if not named:
        return ""
    counts = about.get("class_counts")
    parts = [named]
    if isinstance(counts, list) and counts and all(isinstance(count, int) for count in counts):
        parts.append(balance_text(counts))
    if about.get("normalisation"):
        parts.append(f"inputs {about['normalisation']}")
    return "; ".join(parts)


def _printable(text: str) -> str:
    return text if text.isprintable() else ascii(text)[1:-1]


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        width,
        initial_indent=f"  {label:<9}",
        subsequent_indent=" " * 11,
        break_long_words=False,
        break_on_hyphens=False,
    )
