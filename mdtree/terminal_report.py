"""A diagnosis for a terminal or a log file. Everything printed here is read from the diagnosis, nothing derived again.

What to know stands in the first lines; what it rests on, below. Colours, where there are any, repeat what words, marks
and lengths say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from mdtree.diagnosis import Candidate, Diagnosis
from mdtree.opened_text import opened_text
from mdtree.path_tree_text import header, path_lines, short
from mdtree.record import Record
from mdtree.report_words import gain_text, name_of, note_text, notes, reasons, visible, what_to_try, words
from mdtree.terminal_look import BLOCKS, BOLD, INKS, PLAIN, Look

_LABEL = 9
_BAR = 16
_MOST_METRICS = 4
"""Of more metrics that were not measured for one reason, the number is told."""


def diagnosis_text(diagnosis: Diagnosis, look: Look = PLAIN) -> str:
    """What `mdtree diagnose` prints of one checkpoint.

    Parameters
    ----------
    diagnosis : Diagnosis
    look : Look
        Width, colours, characters; by default 80 columns without colours.

    Returns
    -------
    str
        Without a line end. No line is wider than `look.width`, but for paths of files, which are never broken.
    """
    parts = [
        _head(diagnosis, look),
        _causes(diagnosis.ranking, look),
        _notes(diagnosis, look),
        _path(diagnosis, look),
        _opened(diagnosis.record, look),
        _not_measured(diagnosis.record, look),
        _footer(diagnosis.record, look, "All of them: mdtree measure, or --json."),
    ]
    return "\n\n".join(part for part in parts if part)


def record_text(record: Record, look: Look = PLAIN) -> str:
    """What `mdtree measure` prints of one checkpoint; set as `diagnosis_text`, names as in JSON."""
    path = look.text(visible(record.checkpoint.get("path") or "record", longest=1000))
    flags = [note_text(str(flag)) for flag in record.flags]
    parts = [
        f"{path}\n\n  Evidence {record.evidence.replace('_', ' + ')}",
        _measured(record, look),
        _section("Notes", flags, look),
        _opened(record, look),
        _not_measured(record, look),
        _footer(record, look),
    ]
    return "\n\n".join(part for part in parts if part)


def _measured(record: Record, look: Look) -> str:
    """Every metric with its standard error; without one it is exact."""
    width = max(map(len, record.metrics), default=0)
    lines = [look.paint("Measured", BOLD)]
    for name, metric in record.metrics.items():
        error = f"  ± {metric.standard_error:.2g}" if metric.standard_error else ""
        lines.append(look.text(f"  {name:<{width}}  {metric.value:>12.6g}{error}"))
    return "\n".join(lines)


def comparison_text(diagnoses: Sequence[Diagnosis], look: Look = PLAIN) -> str:
    """Several checkpoints in one table: name, verdict, probability, what to try."""
    names = [look.text(visible(name_of(d.record), longest=30)) for d in diagnoses]
    verdicts = [words(d.verdict) for d in diagnoses]
    lines = [look.paint(f"{len(diagnoses)} checkpoints", BOLD)]
    for name, verdict, d in zip(names, verdicts, diagnoses, strict=True):
        start = f"  {name:<{max(map(len, names))}}  "
        cell = f" {verdict:<{max(map(len, verdicts))}} {d.confidence:>4.0%}  "
        best = d.ranking[0]
        change = visible(best.advice.text) if best.advice else ""
        if d.verdict == "undetermined":
            change = f"for {words(best.failure)}"
        indent = len(start) + 1 + len(cell)
        wrapped = textwrap.wrap(look.text(change), max(look.width - indent, 20)) or [""]
        lines.append(f"{start}{look.mark(d.verdict)}{cell}{wrapped[0]}".rstrip())
        lines += [" " * indent + line for line in wrapped[1:]]
    return "\n".join(lines)


def _opened(record: Record, look: Look) -> str:
    """Weights, network, data and recipe, and who named them; empty where the record does not say."""
    text = look.text(opened_text(record, look.width))
    return text.replace("Opened", look.paint("Opened", BOLD), 1)


def _head(diagnosis: Diagnosis, look: Look) -> str:
    """The file, and in three lines the verdict, what to try, what to expect."""
    record, best = diagnosis.record, diagnosis.ranking[0]
    about = f", {words(diagnosis.reason)}" if diagnosis.reason else ""
    if diagnosis.verdict == "undetermined":
        about = " for the leading cause"
    name = look.paint(words(diagnosis.verdict), BOLD)
    lines = [
        look.text(visible(record.checkpoint.get("path") or "record", longest=1000)),
        "",
        _row("Verdict", f"{look.mark(diagnosis.verdict)} {name}  {diagnosis.confidence:.0%}{about}"),
        *_rows("Try", look.text(what_to_try(diagnosis)), look),
    ]
    if diagnosis.verdict != "undetermined" and best.advice:
        lines.append(_row("Expect", look.text(f"{gain_text(best)} points of test accuracy")))
    distance = diagnosis.distance_from_zoo
    if "nearest" in distance:
        place = "outside" if distance["outside"] else "inside"
        like = f"{place} (distance {_beside(distance['overall'], distance['limit'])}), most like {distance['nearest']}"
        lines += _rows("Zoo", look.text(visible(like)), look)
    return "\n".join(lines)


def _beside(value: float, limit: float) -> str:
    """`0.74 ≤ 1.1`: both with two digits, or as many more as it takes to be true of what is printed."""
    for digits in range(2, 18):
        left, right = f"{value:.{digits}g}", f"{limit:.{digits}g}"
        if (float(left) <= float(right)) == (value <= limit):
            break
    return f"{left} {'≤' if value <= limit else '>'} {right}"


def _row(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{text}"


def _rows(label: str, text: str, look: Look) -> list[str]:
    """A label and its text, wrapped; further lines below the text."""
    return textwrap.wrap(
        text,
        look.width,
        initial_indent=f"  {label:<{_LABEL}}",
        subsequent_indent=" " * (_LABEL + 2),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _causes(ranking: Iterable[Candidate], look: Look) -> str:
    """Every cause with its probability as a number and a bar, room and expected gain, and below it the change."""
    ranked = list(ranking)
    width = max(len(words(c.failure)) for c in ranked)
    head = f"{'Causes':<{width + 4}}  {'probability':<{_BAR + 5}}  {'room':>5}  {'expected gain, points':>21}"
    lines = [look.paint(head, BOLD)]
    for c in ranked:
        bar = bar_of(c.probability)
        painted = look.paint(look.text(bar), INKS.get(c.failure, "")) + " " * (_BAR - len(bar))
        room = "" if c.room_points is None else f"{c.room_points:.1f}"
        gain = look.text(gain_text(c)) if c.advice else ""
        numbers = f"{painted}  {room:>5}  {gain:>21}"
        lines.append(f"  {look.mark(c.failure)} {words(c.failure):<{width}}  {c.probability:>4.0%} {numbers}".rstrip())
        if c.advice:
            lines += textwrap.wrap(
                look.text(visible(c.advice.text)), look.width, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
    return "\n".join(lines)


def bar_of(share: float) -> str:
    """A share (0...1) as a bar of `_BAR` characters at most, in eighths of a character; none of it only for 0."""
    eighths = min(max(round(share * _BAR * 8), 1 if share > 0 else 0), _BAR * 8)
    whole, rest = divmod(eighths, 8)
    return "█" * whole + (BLOCKS[rest - 1] if rest else "")


def _notes(diagnosis: Diagnosis, look: Look) -> str:
    settled = (f"to settle it: {visible(text)}" for text in diagnosis.settle)
    return _section("Notes", dict.fromkeys((*notes(diagnosis), *settled)), look)


def _section(title: str, texts: Iterable[str], look: Look) -> str:
    """A title and its items; empty without any."""
    items = _items(texts, look)
    return "\n".join([look.paint(title, BOLD), *items]) if items else ""


def _items(texts: Iterable[str], look: Look) -> list[str]:
    return [
        line
        for text in texts
        for line in textwrap.wrap(
            look.text(text),
            look.width,
            initial_indent="  - ",
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    ]


def _path(diagnosis: Diagnosis, look: Look) -> str:
    about = textwrap.wrap(look.text(header(diagnosis)), look.width - 6)
    head = [f"{look.paint('Path', BOLD)}  {about[0]}", *(f"      {line}" for line in about[1:])]
    return "\n".join([*head, *path_lines(diagnosis, look)])


def _not_measured(record: Record, look: Look) -> str:
    """Each reason once, with its metrics, or with how many they are."""
    lines = []
    for reason, metrics in reasons(record):
        told = ", ".join(map(short, metrics[:_MOST_METRICS]))
        rest = len(metrics) - _MOST_METRICS
        lines.append(f"{told}{f' and {rest} more' if rest > 0 else ''}: {reason}")
    return _section("Not measured", lines, look)


def _footer(record: Record, look: Look, more: str = "") -> str:
    digest = visible(record.protocol.get("digest", "?"), longest=64)
    seconds, gradients = record.cost.get("seconds", 0.0), record.cost.get("sample_gradients", 0.0)
    kept = ", kept from an earlier run (--no-cache measures again)" if record.cost.get("cached") else ""
    text = (
        f"{len(record.metrics)} metrics measured in {seconds:.1f} s, {gradients:,.0f} sample gradients{kept}; "
        f"protocol {digest}. {more}"
    )
    return "\n".join(textwrap.wrap(look.text(text), look.width, break_on_hyphens=False))
