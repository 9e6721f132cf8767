"""Every comparison on the way to the verdict, question by question: value, error and threshold on the zoo's scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from mdtree.composition import QUESTION_TEXT
from mdtree.cut_points import format_threshold
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.nodes import Step
from mdtree.plots.gauge import Gauge, draw_gauge, gauge_of
from mdtree.plots.numbers import with_error
from mdtree.plots.style import ink, line_colour, new_axes, words


@dataclass(frozen=True)
class PathStep:
    """One comparison.

    Attributes
    ----------
    metric : str
    value : str
        With its error, on its own side of the threshold; "not measured" where it has none.
    sign : str
        `≤` or `>`; empty where nothing was measured and both branches were taken.
    threshold : str
        As it decides, never rounded.
    straddles : bool
        Whether the threshold lies within 1.96 standard errors of the value.
    share_of_zoo : float
    gauge : Gauge or None
    """

    metric: str
    value: str
    sign: str
    threshold: str
    straddles: bool
    share_of_zoo: float
    gauge: Gauge | None


@dataclass(frozen=True)
class AskedQuestion:
    """A question and its comparisons; without words where the verdict has one tree of its own.

    `answer` is `yes`, `no`, or `divided` where a missing metric left both open.
    """

    question: str
    text: str
    answer: str
    steps: tuple[PathStep, ...]


_SAID = {True: "yes", False: "no", None: "divided"}


def path_steps_data(diagnosis: Diagnosis, diagnoser: Diagnoser) -> tuple[AskedQuestion, ...]:
    """The path of a diagnosis in its own order, a group for each question that was asked."""
    answers = {question: _SAID[answer] for question, answer in diagnosis.answers.items()}
    return tuple(
        AskedQuestion(
            question=question,
            text=" ".join(QUESTION_TEXT[question].split()) if question else "",
            answer=answers.get(question, ""),
            steps=tuple(_step(step, diagnoser) for step in diagnosis.path if step.question == question),
        )
        for question in dict.fromkeys(step.question for step in diagnosis.path)
    )


def _step(step: Step, diagnoser: Diagnoser) -> PathStep:
    missing = step.value is None
    return PathStep(
        metric=step.feature,
        value="not measured" if step.value is None else with_error(step.value, step.standard_error, step.threshold),
        sign="" if missing else "≤" if step.side == "left" else ">",
        threshold=format_threshold(step.threshold),
        straddles=step.straddles,
        share_of_zoo=step.share_of_zoo,
        gauge=gauge_of(step, diagnoser),
    )


_ROW, _HEAD, _NAME, _GAUGE_WIDTH, _VALUE, _THRESHOLD = 16.0, 22.0, 208.0, 120.0, 96.0, 84.0
"""Heights and widths in points."""


def draw_path_steps(data: Sequence[AskedQuestion], ax: Axes | None = None) -> Axes:
    """Draw a line for every comparison: the metric, a scale over the zoo's range, value and threshold in numbers."""
    height = sum((_HEAD if asked.text else 0.0) + _ROW * len(asked.steps) for asked in data) + 24
    width = _NAME + _GAUGE_WIDTH + _VALUE + _THRESHOLD + 8
    if ax is None:
        ax = new_axes(width / 72 + 0.1, height / 72 + 0.1)
    tone, y = ink(), height - 8
    middle = _NAME + 8
    for x, text, side in (
        (middle, "zoo: 1 %", "left"),
        (middle + _GAUGE_WIDTH, "99 %", "right"),
        (middle + _GAUGE_WIDTH + _VALUE, "here", "right"),
        (width, "threshold", "right"),
    ):
        ax.text(x, y, text, fontsize=7.5, color=tone.faint, ha=side, va="center")
    y -= _ROW
    for asked in data:
        if asked.text:
            ax.text(0, y - 2, asked.text, fontsize=9, fontweight="bold", va="center")
            ax.text(width, y - 2, asked.answer, fontsize=9, fontweight="bold", va="center", ha="right")
            y -= _HEAD
        for step in asked.steps:
            _draw_step(ax, step, y + 3, width)
            y -= _ROW
    ax.set_xlim(-2, width + 2)
    ax.set_ylim(0, height)
    ax.set_aspect("equal")
    ax.axis("off")
    return ax


def _draw_step(ax: Axes, step: PathStep, y: float, width: float) -> None:
    tone, middle = ink(), _NAME + 8
    ax.text(8, y, words(step.metric), fontsize=8.5, va="center_baseline")
    if step.gauge is not None:
        draw_gauge(ax, step.gauge, (middle, y, _GAUGE_WIDTH), line_colour(1 if step.straddles else 0))
    bold = "bold" if step.straddles else "normal"
    for x, text, weight in (
        (middle + _GAUGE_WIDTH + _VALUE, step.value, bold),
        (width, f"{step.sign} {step.threshold}".strip(), "normal"),
    ):
        ax.text(x, y, text.replace("-", "−"), fontsize=8.5, ha="right", va="center_baseline", fontweight=weight,
                color=tone.text if step.sign else tone.faint)  # fmt: skip
