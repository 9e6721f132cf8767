"""Diagnoses as Markdown for pull requests, in GitHub's dialect. Text out of files can break no table and no tag."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import mdtree
from mdtree.comparison import Comparison, comparison
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.report_page import CheckpointPage, checkpoint_pages
from mdtree.report_words import visible

LARGEST = 60_000
"""Characters that a report stays below: a comment on GitHub may hold 65,536."""

_PLAIN = re.compile(r"[^\W_][\w ,.;:()'’“”?%±≤≥→×÷+=−/-]*")
_MARK = re.compile(r"[^\w -]|_")
_ALIGNED = {"l": ":--", "r": "--:"}


def markdown_report(diagnoses: Sequence[Diagnosis], diagnoser: Diagnoser) -> str:
    """One or several diagnoses for a comment or a job summary.

    Parameters
    ----------
    diagnoses : sequence of Diagnosis
        Of several, a table comes first, in this order, and each has a part of its own, folded, below.
    diagnoser : Diagnoser
        The one that made them.

    Returns
    -------
    str
        Below 60,000 characters: of many checkpoints less of each is told, and it is said what is left out.

    Raises
    ------
    InputError
        There is no diagnosis.
    """
    pages = checkpoint_pages(diagnoses, diagnoser)
    footer = f"<sub>mdtree {mdtree.__version__}, diagnoser {code(diagnoses[0].diagnoser['name'])}</sub>"
    if len(pages) == 1:
        return _fitting((_report(pages[0], "##", detail), footer) for detail in (2, 1, 0))
    together = comparison(diagnoses, pages)
    return _fitting(_several(together, footer))


def code(text: object) -> str:
    """Text of unknown origin as code, which no reader of Markdown takes for anything else, in a table or out of one."""
    shown = visible(text)
    if shown and not re.search(r"[`|]", shown) and shown == shown.strip():
        return f"`{shown}`"
    return in_tag(shown)


def in_tag(text: object) -> str:
    """Text of unknown origin within HTML, where Markdown is not read."""
    return f"<code>{_MARK.sub(lambda found: f'&#{ord(found[0])};', visible(text))}</code>"


def prose(text: str) -> str:
    """A sentence as it is if it holds nothing that Markdown or GitHub gives a meaning to; else as code."""
    if _PLAIN.fullmatch(text) and "://" not in text and "www." not in text:
        return text.replace("_", r"\_")
    return code(text)


def _table(heads: Sequence[str], aligned: str, rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, [_ALIGNED[one] for one in aligned], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _folded(summary: str, *parts: str) -> str:
    """A part that opens on a click; the blank lines make GitHub read Markdown inside."""
    return "\n\n".join((f"<details><summary>{summary}</summary>", *parts, "</details>"))


def _fitting(candidates: Iterable[Sequence[str]]) -> str:
    """The first of ever shorter reports that is short enough, else the last."""
    text = ""
    for parts in candidates:
        text = "\n\n".join(part for part in parts if part) + "\n"
        if len(text) < LARGEST:
            break
    return text


def _report(page: CheckpointPage, heading: str, detail: int) -> str:
    """One checkpoint: the verdict alone, with causes and path (1), or with all that was measured (2)."""
    reason = f", {page.reason}" if page.reason else ""
    reason = (" for the leading cause" if page.verdict == "undetermined" else "") + reason
    facts = [("Try", prose(page.advice)), ("Expect", page.expected), ("Like", prose(page.like) if page.like else "")]
    facts += [("Note", prose(note)) for note in page.notes] + [("To settle it", prose(text)) for text in page.settle]
    parts = [
        f"{heading} {page.verdict_text} ({page.confidence}{reason})",
        code(page.path or page.name),
        "\n".join(f"- **{label}:** {text}" for label, text in facts if text),
    ]
    if detail > 0:
        parts += [_causes(page), _path(page)]
    if detail > 1:
        parts += [_measured(page), _opened(page)]
    return "\n\n".join(part for part in parts if part)


def _causes(page: CheckpointPage) -> str:
    rows = [(c.name, f"{c.probability:.0%}", c.room, c.gain, prose(c.change) if c.change else "") for c in page.causes]
    return _table(("cause", "probability", "room, points", "expected gain, points", "change"), "lrrrl", rows)


def _path(page: CheckpointPage) -> str:
    parts = []
    for asked in page.asked:
        rows = [
            (
                code(step.metric),
                f"{step.value} {step.error}".strip(),
                f"{step.relation} {step.threshold}".replace(">", "&gt;"),
                step.share + ("; **within its error of the threshold**" if step.straddles else ""),
            )
            for step in asked.steps
        ]
        answer = f" → {asked.answer}" if asked.answer else ""
        question = f"**{asked.question}**{answer}" if asked.question else ""
        parts.append("\n\n".join((question, _table(("metric", "measured", "threshold", ""), "lrrl", rows))).strip())
    if page.end:
        parts.append(f"The tree ends at: {page.end}.")
    return _folded("How the verdict was reached", *parts)


def _measured(page: CheckpointPage) -> str:
    rows = [(code(name), value, error, samples) for name, value, error, samples in page.measured]
    table = _table(("metric", "value", "standard error", "samples"), "lrrr", rows)
    missing = [f"- {', '.join(map(code, metrics))}: {prose(reason)}" for reason, metrics in page.not_measured]
    told = "\n".join(["Not measured:", "", *missing]) if missing else ""
    return _folded("Measured, and not measured", *filter(None, (table, told)))


def _opened(page: CheckpointPage) -> str:
    rows = [(label, prose(text)) for label, text in (*page.opened, ("measured in", page.cost))]
    recipe = [(prose(name), code(value), prose(source) if source else "") for name, value, source in page.recipe]
    parts = [_table(("opened", ""), "ll", rows)]
    if recipe:
        parts.append(_table(("recipe", "value", "said by"), "lll", recipe))
    return _folded("What was opened", *parts)


def _several(together: Comparison, footer: str) -> Iterator[tuple[str, ...]]:
    """Ever shorter forms of a comparison."""
    head = f"## {len(together.rows)} checkpoints"
    counts = ", ".join(f"{count} × {verdict.replace('_', ' ')}" for verdict, count in together.counts)
    pages = [row.page for row in together.rows]
    for detail in (2, 1):
        each = [
            _folded(f"{row.number} {in_tag(row.page.name)}", _report(row.page, "###", detail)) for row in together.rows
        ]
        yield (head, counts, _rows(together, len(pages)), *each, footer)
    for shown in (len(pages), 300, 100, 30):
        left_out = f"{len(pages) - shown} more are left out here." if shown < len(pages) else ""
        yield (head, counts, _rows(together, shown), left_out, footer)


def _rows(together: Comparison, shown: int) -> str:
    heads = ("no.", "checkpoint", "verdict", "change", "gain, points", *together.metrics, *map(code, together.settings))
    rows = [
        (
            str(row.number),
            code(row.page.name),
            f"{row.page.verdict_text} ({row.page.confidence})" + (", out of the zoo" if row.page.outside else ""),
            prose(row.page.advice),
            row.page.expected.removesuffix(" points of test accuracy"),
            *row.metrics,
            *(code(value) if value else "" for value in row.settings),
        )
        for row in together.rows[:shown]
    ]
    return _table(heads, "rlllr" + "r" * len(together.metrics) + "l" * len(together.settings), rows)
