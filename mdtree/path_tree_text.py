"""The path of a diagnosis as a small tree of text: each comparison with its error bar on a scale of its own."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, fields

from mdtree.composition import QUESTION_TEXT
from mdtree.cut_points import format_threshold
from mdtree.diagnosis import Diagnosis
from mdtree.nodes import STRADDLE, Step
from mdtree.report_words import beside, error_text, visible, words
from mdtree.terminal_look import BOLD, FAINT, Look

DIGITS = 4
"""Of a value; more where it takes more to read on its own side of the threshold."""
HALF = 4
"""Characters of a gauge on either side of the threshold."""

_SHORTER = (
    ("hessian_", ""),
    ("connectivity_", ""),
    ("gradient_norm_squared", "gradient norm²"),
    ("_over_chance", " / chance"),
    ("_per_parameter", " / parameter"),
    ("_percent", " %"),
    ("_position", ", rank in set"),
)


@dataclass(frozen=True)
class _Line:
    """One comparison in cells: metric, value with its error, relation and threshold, gauge, share of the zoo."""

    metric: str
    value: str
    threshold: str
    gauge: str
    share: str


def path_lines(diagnosis: Diagnosis, look: Look) -> list[str]:
    """The path from its first question to the leaf and what its signs mean, at most `look.width` columns wide.

    A trunk of light lines, on it the questions (where the verdict is composed of some) and at its end the leaf. Names
    of metrics are shortened for people; thresholds are written in full, values so that they read on the side that was
    taken.
    """
    cells = [_cells(step, look) for step in diagnosis.path]
    is_composed = any(step.question for step in diagnosis.path)
    lead = "  │ " if is_composed else "  ├ "
    rows, with_gauges = _columns(cells, look.width - len(lead))
    lines: list[str] = []
    for number, (step, row) in enumerate(zip(diagnosis.path, rows, strict=True)):
        if is_composed and (number == 0 or step.question != diagnosis.path[number - 1].question):
            lines.append(_question(diagnosis, step.question, look))
        lines.append(f"{look.text(lead)}{row}")
    lines.append(_end(diagnosis, look))
    return [*lines, *_legend(diagnosis, with_gauges, look)] if diagnosis.path else lines


def _legend(diagnosis: Diagnosis, with_gauges: bool, look: Look) -> list[str]:
    """What the signs of the path mean, as far as they stand there."""
    signs = ["┃ threshold, ● here, ━ its 95 %"] if with_gauges else []
    signs += ["≈ within its error"] if any(step.straddles for step in diagnosis.path) else []
    text = look.text(", ".join([*signs, "last: share of the zoo"]))
    wrapped = textwrap.wrap(text, look.width, initial_indent=" " * 4, subsequent_indent=" " * 4)
    return [look.paint(line, FAINT) for line in wrapped]


def gauge(step: Step) -> str:
    """Where a value that was measured lies beside the threshold, in `2 * HALF + 1` characters.

    The threshold (``┃``) stands in the middle. The distance of the value (``●``) is its difference from the threshold
    over the sum of both magnitudes: 0 at the threshold, the whole half where the value is 0, of the other sign, or
    beyond all measure. ``━`` reaches 1.96 standard errors to either side. The value never stands on the threshold's
    place: left of it means at most the threshold.
    """
    assert step.value is not None
    scale = abs(step.value) + abs(step.threshold) or 1.0
    error = STRADDLE * (step.standard_error or 0.0)
    cells = ["┄"] * (2 * HALF + 1)
    low, high = (_place((step.value + sign * error - step.threshold) / scale) for sign in (-1, 1))
    for place in range(low, high + 1):
        cells[HALF + place] = "━"
    cells[HALF] = "┃"
    cells[HALF + (_place((step.value - step.threshold) / scale) or (-1 if step.side == "left" else 1))] = "●"
    return "".join(cells)


def _place(share: float) -> int:
    """The cell of a distance (-1...1), counted from the threshold; what differs from it at all is never on it."""
    steps = math.ceil(min(abs(share), 1.0) * HALF)
    return steps if share > 0 else -steps


def short(metric: str) -> str:
    """A metric's name for people: `hessian_top_eigenvalue_per_parameter` is "top eigenvalue / parameter"."""
    for name, shorter in _SHORTER:
        metric = metric.replace(name, shorter)
    return words(metric)


def _cells(step: Step, look: Look) -> _Line:
    metric, threshold = look.text(short(step.feature)), format_threshold(step.threshold)
    if step.value is None:
        return _Line(metric, "not measured", f"? {threshold}", "both ways", "")
    relation = "≤" if step.side == "left" else ">"
    value = beside(step.value, step.threshold, DIGITS)
    # an error that changes no digit that is shown tells nothing
    if (step.standard_error or 0.0) > 10**-DIGITS * abs(step.value):
        value = f"{value} {error_text(step.standard_error)}"
    share = f"{step.share_of_zoo:.0%}{' ≈' if step.straddles else ''}"
    return _Line(
        metric, look.text(value), look.text(f"{relation} {threshold}"), look.text(gauge(step)), look.text(share)
    )


def _columns(cells: Sequence[_Line], width: int) -> tuple[list[str], bool]:
    """Cells in columns, and whether with the gauges, which are left out where they would make the lines too long."""
    kinds = [field.name for field in fields(_Line)]
    widths = {kind: max(len(getattr(line, kind)) for line in cells) for kind in kinds} if cells else {}
    fits = sum(widths.values()) + sum(map(len, _GAPS.values())) <= width
    if not fits:
        kinds.remove("gauge")
    rows = ["".join(getattr(line, kind).ljust(widths[kind]) + _GAPS[kind] for kind in kinds) for line in cells]
    return [row.rstrip() for row in rows], fits


_GAPS = {"metric": "  ", "value": "  ", "threshold": " ", "gauge": " ", "share": ""}


def _question(diagnosis: Diagnosis, question: str, look: Look) -> str:
    asked = look.text(visible(QUESTION_TEXT.get(question, words(question)).replace("\n", " ")))
    answer = _ANSWERS[diagnosis.answers[question]] if question in diagnosis.answers else ""
    return f"{look.text('  ├ ')}{asked}{look.paint(f' {answer}', BOLD) if answer else ''}"


_ANSWERS = {True: "Yes.", False: "No.", None: "Both: a metric is missing."}


def _end(diagnosis: Diagnosis, look: Look) -> str:
    """The leaf that was reached, or the leaves with their weights; the verdict where a diagnosis does not name them."""
    ends = diagnosis.leaves or {diagnosis.verdict: 1.0}
    names = [
        f"{look.mark(label)} {look.paint(words(label), BOLD)}" + (f" ({weight:.0%})" if len(ends) > 1 else "")
        for label, weight in sorted(ends.items(), key=lambda end: -end[1])
    ]
    verdict = "" if set(ends) == {diagnosis.verdict} else f"; the verdict: {words(diagnosis.verdict)}"
    return f"{look.text('  └ ')}{', '.join(names)}{verdict}"


def header(diagnosis: Diagnosis) -> str:
    """What the path rests on."""
    about = diagnosis.diagnoser
    evidence = str(about["evidence"]).replace("_", " + ")
    name, zoo = visible(about["name"], longest=40), about["zoo"]
    return f"evidence {evidence}; diagnoser {name}: {zoo['rows']:,} networks, {zoo['cells']:,} cells"
