"""Where the numbers of a report come from: what was opened, the recipe, protocol and provenance, as rows of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from mdtree.diagnosis import Diagnosis
from mdtree.opened_text import balance_text
from mdtree.record import Record
from mdtree.report_words import cost_text, value_text, visible, words, zoo_text

_CALLED = {"manifest": "the file's own", "file": "all of the file"}
"""What weights are called that stand under no name."""


def _others(about: Mapping[str, Any]) -> list[str]:
    """The weights that were not used; a file of this package holds one set, which its manifest names."""
    used = str(about.get("weights_from")).removesuffix(" (averaged weights)")
    return [] if used == "manifest" else [name for name in _several(about.get("weights_there")) if name != used]


def opened_rows(record: Record) -> list[tuple[str, str]]:
    """Which weights, network and data, and who said so."""
    about = record.checkpoint
    counts = about.get("class_counts")
    rows = [
        ("weights", _CALLED.get(str(about.get("weights_from")), about.get("weights_from"))),
        ("other weights there", _others(about)),
        ("layout", about.get("layout")),
        ("written by", about.get("framework")),
        ("network", _said(about, "model")),
        ("data", _said(about, "data")),
        ("training samples", balance_text(counts) if _are_counts(counts) else counts),
        ("inputs", about.get("normalisation")),
        ("siblings", about.get("siblings")),
        ("fine-tuned from", about.get("fine_tuned_from")),
        *(("note", note) for note in (*_several(about.get("notes")), *_several(about.get("file_notes")))),
    ]
    return [(label, value_text(value)) for label, value in rows if value]


def _several(value: Any) -> Sequence[Any]:
    """A list as it is; a record may come from anywhere, and hold something else where a list belongs."""
    return value if isinstance(value, list | tuple) else [value] if value else []


def _are_counts(value: Any) -> TypeGuard[Sequence[int]]:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(count, int) for count in value)


def _said(about: Mapping[str, Any], what: str) -> str:
    source = about.get(f"{what}_from")
    return f"{about.get(what) or ''}" + (f" (from {source})" if source and about.get(what) else "")


def recipe_rows(record: Record) -> list[tuple[str, str, str]]:
    """Settings of the training, their values and who said so."""
    sources = record.checkpoint.get("recipe_from")
    found = sources if isinstance(sources, Mapping) else {}
    return [
        (visible(words(str(name))), value_text(value), visible(found.get(name, "")))
        for name, value in record.recipe.items()
        if value is not None
    ]


def provenance_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Protocol, diagnoser, machine: what it takes to reach the same numbers again."""
    record, about = diagnosis.record, diagnosis.diagnoser
    rows = [
        ("checkpoint, SHA-256", record.checkpoint.get("sha256")),
        ("evidence", words(str(about["evidence"]))),
        ("diagnoser", f"{about['name']}, fitted on {zoo_text(diagnosis)}"),
        ("protocol", record.protocol.get("digest")),
        *((words(str(name)), value) for name, value in record.protocol.items() if name != "digest"),
        *((f"execution: {words(str(name))}", value) for name, value in record.execution.items()),
        ("cost", cost_text(record)),
    ]
    return [(visible(label), value_text(value)) for label, value in rows if value is not None]
