"""The report of `mdtree check`: as text of 80 columns, and as JSON values."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from mdtree.checking.check_report import CheckReport, FoundData, FoundNetwork, Missing, OpenedFile, RecipeRow
from mdtree.opened_text import balance_text
from mdtree.record import RECORD_METRICS
from mdtree.report import flag_text
from mdtree.specification import shown

WIDTH = 80
_LABEL = 11
_LONGEST_VALUE = 28


def check_values(report: CheckReport) -> dict[str, Any]:
    """The report as JSON values, by the names of the fields of `CheckReport`, and whether it is ``ready``.

    ``opened`` and each of ``siblings``: path, framework, layout, sha256, size (bytes), tensors, numbers, weights_from,
    weights_there, fine_tuned_from, notes. ``recipe`` and ``recorded``: a list of {name, value, source}. ``network``:
    spec, source, parameters, proposed, others, notes. ``data``: spec, source, name, train_samples, train_size_full,
    class_counts, input_shape, normalisation, test_samples, test_part, notes. ``plausible``: train_error_percent,
    standard_error, chance_error_percent, loss, chance_loss, samples, question, hints, test_error_percent.
    ``evidence``; ``metrics``; ``missing``: a list of {what, why, add, metrics, needed}. ``cost``: sample_gradients and
    seconds (each [least, most]), seconds_per_gradient, memory_bytes. ``command``, ``flags``, ``notes``. What is not
    known is null.
    """
    return {"ready": report.command is not None, **asdict(report)}


def check_text(report: CheckReport) -> str:
    """What `mdtree check` prints."""
    opened = report.opened
    parts = [_section(shown_line(opened.path), _file_rows(opened))]
    parts += [_section(f"sibling {shown_line(each.path)}", _file_rows(each)) for each in report.siblings]
    parts += [part for part in (_rows("Recipe", report.recipe), _rows("Recorded", report.recorded)) if part]
    if report.network is not None:
        parts.append(_section("Network", _network_rows(report.network)))
    if report.data is not None:
        parts.append(_section("Data", _data_rows(report.data)))
    parts += [part for part in (_gate(report), _measurable(report)) if part]
    parts += [_missing(each) for each in report.missing]
    parts.append(_end(report))
    return "\n\n".join(parts)


def shown_line(text: str) -> str:
    """A name of the user's or of a file's on one line, not cut: paths are to be found in it."""
    return text if text.isprintable() else ascii(text)


def _section(title: str, rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join([title, *(_row(label, text) for label, text in rows if text)])


def _row(label: str, text: str) -> str:
    return _filled(f"  {label:<{_LABEL}}", text)


def _filled(start: str, text: str) -> str:
    """Text behind `start`, its further lines as far to the right."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _file_rows(opened: OpenedFile) -> list[tuple[str, str]]:
    used = opened.weights_from.removesuffix(" (averaged weights)")
    # a manifest names its weights: what else stands around is no choice of the user's
    others = [name for name in opened.weights_there if name != used and used != "manifest"]
    there = f"; also there: {', '.join(shown(name) for name in others)} (--weights NAME takes others)" if others else ""
    tensors = "1 tensor" if opened.tensors == 1 else f"{opened.tensors:,} tensors"
    return [
        ("layout", f"{opened.layout}, written by {opened.framework}, {_bytes(opened.size)}"),
        ("weights", f"{shown(opened.weights_from)}: {tensors}, {opened.numbers:,} numbers{there}"),
        ("sha256", opened.sha256),
        ("start", f"fine-tuned from {shown(opened.fine_tuned_from)}" if opened.fine_tuned_from else ""),
        *(("note", shown_line(note)) for note in opened.notes),
    ]


def _rows(title: str, rows: Sequence[RecipeRow]) -> str:
    """Name, value and place in columns; what is too long of a place goes on below it."""
    if not rows:
        return ""
    cells = [(shown(row.name).replace("_", " "), _value(row.value)) for row in rows]
    widths = [max(len(cell[column]) for cell in cells) for column in (0, 1)]
    lines = [title]
    for (name, value), row in zip(cells, rows, strict=True):
        start = f"  {name:<{widths[0]}}  {value:<{widths[1]}}"
        lines.append(_filled(f"{start}  ", shown(row.source)) if row.source else start.rstrip())
    return "\n".join(lines)


def _value(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else shown(str(value))
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _network_rows(network: FoundNetwork) -> list[tuple[str, str]]:
    size = "" if network.parameters is None else f"{network.parameters:,} parameters; the weights fit"
    rows = [("named", f"{shown_line(network.spec)} ({network.source})"), ("size", size)]
    if network.proposed:
        others = f"; {', '.join(network.others)} look the same" if network.others else ""
        rows.append(("note", f"recognised by names and shapes, which show no stride and no activation{others}"))
    return [*rows, *(("note", shown_line(note)) for note in network.notes)]


def _data_rows(data: FoundData) -> list[tuple[str, str]]:
    part_of = data.train_size_full not in (None, data.train_samples)
    of = f"; {data.train_size_full:,} could be trained on" if part_of else ""
    part = f" ({data.test_part.replace('_', ' ')} of the test set)" if data.test_part != "all" else ""
    return [
        ("named", f"{shown_line(data.spec)} ({data.source})"),
        ("training", balance_text(data.class_counts) + of),
        ("test", f"{data.test_samples:,} samples{part}" if data.test_samples else "none"),
        ("inputs", f"{'×'.join(map(str, data.input_shape))}, {data.normalisation}"),
        *(("note", shown_line(note)) for note in data.notes),
    ]


def _gate(report: CheckReport) -> str:
    found = report.plausible
    if found is None:
        return ""
    right = f"right on {100 - found.train_error_percent:.1f} % ± {found.standard_error:.1f}"
    rows = [
        ("answers", f"{right} of {found.samples:,} training samples, the best constant answer on "
         f"{100 - found.chance_error_percent:.1f} %"),
        ("loss", f"{found.loss:.3g}, the best constant answer's {found.chance_loss:.3g}"),
    ]  # fmt: skip
    if found.test_error_percent is not None:
        rows.append(("test", f"right on {100 - found.test_error_percent:.1f} %"))
    if found.question is None:
        rows.append(("verdict", "nothing speaks against these data"))
    elif not any(each.why.startswith(found.question) for each in report.missing):
        asked = ": ".join((found.question, *found.hints))
        rows += [("question", shown_line(asked)), ("", "let through by --data-checked")]
    return _section("The network on its data", rows)


def _measurable(report: CheckReport) -> str:
    if report.evidence is None:
        return ""
    title = f"Can be measured: {len(report.metrics)} of {len(RECORD_METRICS)} metrics"
    evidence = report.evidence.replace("_", ", ")
    flags = [("flag", flag_text(flag)) for flag in report.flags]
    return _section(f"{title} (evidence: {evidence})", [("", _words(report.metrics)), *flags])


def _words(metrics: Iterable[str]) -> str:
    return ", ".join(name.replace("_", " ") for name in metrics)


def _missing(missing: Missing) -> str:
    title = f"Missing: {shown_line(missing.what)}"
    without = "nothing can be measured" if missing.needed else _words(missing.metrics)
    first, *further = (missing.add or "").split("\n")
    rows = [("why", shown_line(missing.why)), ("add", shown_line(first)), ("without it", without)]
    lines = [_row("", line) for line in map(shown_line, further)]
    section = [_row(label, text) for label, text in rows[:2] if text]
    return "\n".join([title, *section, *lines, _row(*rows[2])])


def _end(report: CheckReport) -> str:
    rows = []
    if (cost := report.cost) is not None:
        gradients = " to ".join(f"{count:,.0f}" for count in (_rounded(count) for count in cost.sample_gradients))
        rows.append(("time", f"{_time(*cost.seconds)} on this machine ({gradients} sample gradients)"))
        rows.append(("memory", f"about {_bytes(cost.memory_bytes, 2)} at its peak"))
    rows += [("note", note) for note in report.notes]
    if report.command is None:
        count = sum(each.needed for each in report.missing)
        needed = ", ".join(dict.fromkeys(shown_line(each.what) for each in report.missing if each.needed))
        rows.append(("not yet", f"{'one thing is' if count == 1 else f'{count} things are'} needed first: {needed}"))
        return _section("To diagnose it", rows)
    return "\n".join([_section("To diagnose it", rows), f"  {'run':<{_LABEL}}{report.command}"])


def _rounded(count: float) -> float:
    return round(count, -3) if count >= 10_000 else round(count, -2)


def _time(least: float, most: float) -> str:
    if most < 2:
        return "a second or two"
    for unit, size in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)):
        if most >= 2 * size:
            return f"about {least / size:.2g} to {most / size:.2g} {unit}"
    raise AssertionError("the loop ends at seconds")


def _bytes(size: int, digits: int = 3) -> str:
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= factor:
            places = digits - len(f"{size // factor}")
            return f"{round(size / factor, places):.{max(0, places)}f} {unit}"
    return f"{size} bytes"
