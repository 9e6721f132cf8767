"""A diagnosis as a table, as JSON text and as a piece of a notebook's page."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING

from mdtree.report_words import compared, gain_text, name_of, visible, what_to_try, words

if TYPE_CHECKING:
    import pandas as pd

    from mdtree.diagnosis import Diagnosis

FRAME_COLUMNS = (
    "checkpoint",
    "evidence",
    "verdict",
    "confidence",
    "reason",
    "rank",
    "failure",
    "probability",
    "room_points",
    "expected_gain_points",
    "expected_gain_standard_error",
    "parameter",
    "from",
    "to",
    "step",
    "advice",
)


def to_frame(diagnosis: Diagnosis) -> pd.DataFrame:
    """One row for every cause, most probable first: what the ranking says, beside the verdict of the checkpoint.

    Returns
    -------
    pandas.DataFrame
        Columns `FRAME_COLUMNS`. Frames of several diagnoses put one below the other
        (``pd.concat(d.to_frame() for d in diagnoses)``) are a table to group by `checkpoint`; ``rank == 1`` are the
        leading causes.
    """
    import pandas as pd

    rows = []
    for rank, c in enumerate(diagnosis.ranking, start=1):
        advice = c.advice
        rows.append(
            (
                diagnosis.record.checkpoint.get("path"),
                diagnosis.diagnoser["evidence"],
                diagnosis.verdict,
                diagnosis.confidence,
                diagnosis.reason,
                rank,
                c.failure,
                c.probability,
                c.room_points,
                c.expected_gain_points,
                c.expected_gain_standard_error,
                advice.parameter if advice else None,
                advice.from_value if advice else None,
                advice.to_value if advice else None,
                advice.step if advice else None,
                advice.text if advice else None,
            )
        )
    return pd.DataFrame(rows, columns=list(FRAME_COLUMNS))


def to_json(diagnosis: Diagnosis) -> str:
    """The text that `mdtree diagnose --json` prints; `mdtree.read_record` and `mdtree report` read it again."""
    return json.dumps(diagnosis.to_dict(), indent=1, ensure_ascii=False)


def to_html(diagnosis: Diagnosis) -> str:
    """A few lines of HTML for a notebook: verdict, advice, causes and path. Text from files is escaped."""
    best = diagnosis.ranking[0]
    reason = f", {words(diagnosis.reason)}" if diagnosis.reason else ""
    told = diagnosis.verdict != "undetermined" and best.advice is not None
    expected = f"<br>{escape(gain_text(best))} points of test accuracy expected" if told else ""
    rows = "".join(
        f'<tr><td style="text-align:left">{escape(words(c.failure))}</td><td>{c.probability:.0%}</td>'
        f"<td>{escape(gain_text(c)) if c.advice else ''}</td>"
        f'<td style="text-align:left">{escape(visible(c.advice.text)) if c.advice else ""}</td></tr>'
        for c in diagnosis.ranking
    )
    path = "".join(
        f'<tr><td style="text-align:left">{escape(step.feature)}</td><td>{escape(" ".join(cells))}</td></tr>'
        for step in diagnosis.path
        for cells in [[cell for cell in compared(step) if cell]]
    )
    return (
        f"<div><p>{escape(name_of(diagnosis.record))}<br><strong>{escape(words(diagnosis.verdict))}</strong> "
        f"{diagnosis.confidence:.0%}{escape(reason)}<br>{escape(what_to_try(diagnosis))}{expected}</p>"
        "<table><thead><tr><th>cause</th><th>probability</th><th>expected gain, points</th><th>change</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
        f"<details><summary>How the verdict was reached</summary><table><tbody>{path}</tbody></table></details></div>"
    )
