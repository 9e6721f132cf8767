"""What a tracker of experiments gets of a diagnosis: numbers, words, the drawn path and files, under the same names.

Numbers (every tracker):

=============================================  =======================================================================
``mdtree/confidence``                          the verdict's probability, 0...1
``mdtree/probability/CAUSE``                   of each cause and of ``healthy``, 0...1
``mdtree/expected_gain_points/CAUSE``          of the change it advises, and ``..._standard_error``
``mdtree/room_points/CAUSE``                   mean room for improvement in that direction
``mdtree/metrics/METRIC``                      as in `mdtree.record.RECORD_METRICS`, natural scale; and
                                               ``..._standard_error`` where the number is an estimate
=============================================  =======================================================================

Words (tags in MLflow, the summary in Weights & Biases): ``verdict``, ``reason``, ``leading`` (the most probable cause),
``advice``, ``evidence``, ``flags``, ``diagnoser``, ``protocol``. TensorBoard has ``mdtree/verdict`` and the report.
Picture: ``mdtree/decision_path``. Files (MLflow, Weights & Biases): ``diagnosis.json`` (what `mdtree report` reads),
``report.txt``, ``report.html``, ``decision_path.png``.
"""

from __future__ import annotations

import io
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdtree.composition import QUESTION_TEXT
from mdtree.diagnoser import default_diagnoser
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.report import diagnosis_text
from mdtree.specification import shown

PREFIX = "mdtree"
_log = logging.getLogger("mdtree")
_DPI = 120
_GAP = 24
"""Pixels between the trees of a picture."""


@dataclass(frozen=True)
class Logged:
    """A diagnosis as trackers take it.

    Attributes
    ----------
    numbers : dict of str to float
        Finite, under the names above.
    words : dict of str to str
        One line each, of printable characters.
    text : str
        The report, as in a terminal.
    picture : ndarray of uint8, shape (height, width, 3), or None
        The drawn path; None where the diagnoser that decided is not at hand.
    files : dict of str to bytes
    """

    numbers: dict[str, float]
    words: dict[str, str]
    text: str
    picture: NDArray[np.uint8] | None = field(repr=False)
    files: dict[str, bytes] = field(repr=False)


def logged(diagnosis: Diagnosis, diagnoser: Diagnoser | None = None) -> Logged:
    """Everything that is logged of a diagnosis.

    Parameters
    ----------
    diagnosis : Diagnosis
    diagnoser : Diagnoser, optional
        The one that decided. By default the embedded one; of a diagnosis that another made, there is neither picture
        nor HTML then.

    Raises
    ------
    InputError
        The diagnoser given is not the one that decided.
    """
    own = _decided_by(diagnosis, diagnoser)
    text = diagnosis_text(diagnosis)
    files = {
        "diagnosis.json": json.dumps(diagnosis.to_dict(), indent=1, ensure_ascii=False).encode(),
        "report.txt": (text + "\n").encode(),
    }
    picture = None
    if own is not None:
        from mdtree.html_report import html_report

        picture = decision_path_picture(diagnosis, own)
        files |= {"decision_path.png": png(picture), "report.html": html_report([diagnosis], own).encode()}
    return Logged(diagnosis_numbers(diagnosis), diagnosis_words(diagnosis), text, picture, files)


Writer = tuple[str, Callable[[Logged], object]]
"""A tracker's name for people, and what writes a diagnosis to it."""


def log_everywhere(diagnosis: Diagnosis, writers: Iterable[Writer]) -> None:
    """Log a diagnosis by the embedded diagnoser to every tracker; one that fails is warned of.

    For the end of a training, which is not lost because a server cannot be reached.
    """
    everything: Logged | None = None
    for name, write in writers:
        try:
            everything = everything or logged(diagnosis)
            write(everything)
        except Exception as error:  # trackers raise what they like
            _log.warning("mdtree: the diagnosis is not in %s (%s: %s)", name, type(error).__name__, error)


def diagnosis_numbers(diagnosis: Diagnosis) -> dict[str, float]:
    """All finite numbers of a diagnosis by the names trackers know them by, for loggers that take numbers alone.

    ::

        trainer.log(diagnosis_numbers(callback.diagnosis))
    """
    found: dict[str, float | None] = {"confidence": diagnosis.confidence}
    for candidate in diagnosis.ranking:
        cause = _plain(candidate.failure)
        found[f"probability/{cause}"] = candidate.probability
        if candidate.advice:
            found[f"expected_gain_points/{cause}"] = candidate.expected_gain_points
            found[f"expected_gain_points/{cause}_standard_error"] = candidate.expected_gain_standard_error
        found[f"room_points/{cause}"] = candidate.room_points
    for name, metric in diagnosis.record.metrics.items():
        found[f"metrics/{_plain(name)}"] = metric.value
        if metric.standard_error:
            found[f"metrics/{_plain(name)}_standard_error"] = metric.standard_error
    return {
        f"{PREFIX}/{name}": float(value) for name, value in found.items() if value is not None and math.isfinite(value)
    }


def diagnosis_words(diagnosis: Diagnosis) -> dict[str, str]:
    """Verdict and what goes with it; what there is none of is left out."""
    best = diagnosis.ranking[0]
    found: dict[str, Any] = {
        "verdict": diagnosis.verdict,
        "reason": diagnosis.reason,
        "leading": best.failure,
        "advice": best.advice.text if best.advice and diagnosis.verdict == best.failure else None,
        "evidence": diagnosis.diagnoser.get("evidence"),
        "flags": ", ".join(dict.fromkeys((*diagnosis.record.flags, *diagnosis.flags))),
        "diagnoser": diagnosis.diagnoser.get("name"),
        "protocol": diagnosis.record.protocol.get("digest"),
    }
    return {name: one_line(value) for name, value in found.items() if value}


def decision_path_picture(diagnosis: Diagnosis, diagnoser: Diagnoser) -> NDArray[np.uint8]:
    """The verdict's tree with its path lit, and the trees of the questions that were asked on the way.

    Drawn without pyplot and in matplotlib's Agg: no figure stays open, no setting changes.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
    """
    from mdtree.plots import path_questions

    pictures = [_drawn(diagnosis, diagnoser, question) for question in ("verdict", *path_questions(diagnosis))]
    return _page([_beside(pictures[n : n + 2]) for n in range(0, len(pictures), 2)])


def _decided_by(diagnosis: Diagnosis, diagnoser: Diagnoser | None) -> Diagnoser | None:
    """The diagnoser that decided: the one given, or the embedded one if that is it."""
    own, about = diagnoser or default_diagnoser(), diagnosis.diagnoser
    if (own.name, dict(own.zoo)) == (about.get("name"), dict(about.get("zoo", {}))):
        return own
    if diagnoser is None:
        return None
    raise InputError(
        f"the diagnosis is by {shown(str(about.get('name')))}, the diagnoser given is {shown(own.name)} or of another "
        "zoo",
        "the diagnoser that decided",
    )


def _drawn(diagnosis: Diagnosis, diagnoser: Diagnoser, question: str) -> NDArray[np.uint8]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from mdtree.plots import decision_path_data, draw_decision_path, style

    if question == "verdict":
        title = f"Verdict: {diagnosis.verdict.replace('_', ' ')}, {diagnosis.confidence:.0%}"
    else:
        title = QUESTION_TEXT.get(question, question).replace("\n", " ").capitalize()
    with style():
        axes = draw_decision_path(decision_path_data(diagnosis, diagnoser, question))
        axes.set_title(title.replace("$", r"\$"))
        figure = axes.get_figure(root=True)
        assert figure is not None  # it was just made
        figure.set_dpi(_DPI)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def _page(rows: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures one below the other from the left edge, on white."""
    width = max(row.shape[1] for row in rows)
    height = sum(row.shape[0] for row in rows) + _GAP * (len(rows) - 1)
    page = np.full((height, width, 3), 255, dtype=np.uint8)
    top = 0
    for row in rows:
        page[top : top + row.shape[0], : row.shape[1]] = row
        top += row.shape[0] + _GAP
    return page


def _beside(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Pictures side by side from the top edge, on white."""
    return _page([picture.transpose(1, 0, 2) for picture in pictures]).transpose(1, 0, 2)


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a PNG file."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, picture, format="png", dpi=_DPI)
    return buffer.getvalue()


def one_line(value: object, longest: int = 480) -> str:
    """A value as trackers store it: printable characters on one line, not endless."""
    text = str(value)
    return (text if text.isprintable() else ascii(text))[:longest]


def _plain(name: str) -> str:
    """A name that every tracker takes: letters, digits, ``_`` and ``-``."""
    return re.sub(r"[^0-9A-Za-z_-]", "_", name)[:80]
