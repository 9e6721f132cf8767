"""Results as text: a diagnosis, a record, scores, tables. All of it is read from the result, nothing derived again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mdtree.flag_text import flag_text
from mdtree.report_words import words
from mdtree.terminal_report import diagnosis_text, record_text

__all__ = ["diagnosis_text", "flag_text", "record_text", "scores_text", "table"]


def scores_text(result: Mapping[str, Any]) -> str:
    """What `mdtree evaluate` prints: per question and evidence the scores, with every baseline beside them."""
    parts = [str(result["rows"])]
    for question, by_evidence in result["questions"].items():
        rows: list[tuple[str, ...]] = [("method", "balanced", "accuracy", "gain captured", "regret", "n", "ambiguous")]
        rows += [(f"tree, {words(evidence)}", *_score_cells(scores)) for evidence, scores in by_evidence.items()]
        # the baselines see the same rows in every evidence set
        baselines = next(iter(by_evidence.values()))["baselines"]
        rows += [(name, *_score_cells(scores)) for name, scores in baselines.items()]
        parts.append(f"{words(question)}\n" + table(rows, right=range(1, 7)))
    return "\n\n".join(parts)


def _score_cells(scores: Mapping[str, Any]) -> tuple[str, ...]:
    def share(name: str) -> str:
        value = scores.get(name)
        return "" if value is None else f"{value:.1%}"

    regret = scores.get("regret_points")
    return (
        share("balanced_accuracy"),
        share("accuracy"),
        share("gain_captured"),
        "" if regret is None else f"{regret:.2f}",
        str(scores["n"]),
        str(scores["n_ambiguous"]),
    )


def table(rows: Sequence[Sequence[str]], right: Iterable[int]) -> str:
    """Rows as columns of even width, indented by two."""
    aligned_right = set(right)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))] if rows else []
    lines = []
    for row in rows:
        cells = [
            cell.rjust(w) if i in aligned_right else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(cells)).rstrip())
    return "\n".join(lines)
