"""The pictures of a report, each for a light and a dark page and told in words for those who do not see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup
from matplotlib.axes import Axes

from mdtree import plots
from mdtree.composition import QUESTION_TEXT
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.plots import CurveProfile, DrawnNode, Layers, PhaseDiagram, Spectrum
from mdtree.record import Record
from mdtree.report_words import gain_text, visible, words

T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A picture, or the reason why there is none.

    Attributes
    ----------
    title, caption : str
    light, dark : str
        `<svg>` elements as `Markup`, made of numbers and escaped text; empty where nothing was drawn.
    missing : str
        Why it was not drawn; empty where it was.
    """

    title: str
    caption: str
    light: str = ""
    dark: str = ""
    missing: str = ""

    @property
    def size(self) -> int:
        """Characters it takes."""
        return len(self.light) + len(self.dark)


@dataclass(frozen=True)
class Pictures:
    """Those of one checkpoint: the trees by question ("verdict" first), and one of each other kind or none."""

    trees: dict[str, Picture]
    gains: Picture | None
    place: Picture | None
    spectrum: Picture | None
    curve: Picture | None
    layers: Picture | None = None

    @property
    def size(self) -> int:
        """Characters they take together."""
        drawn = (*self.trees.values(), self.gains, self.place, self.spectrum, self.curve, self.layers)
        return sum(picture.size for picture in drawn if picture is not None)


def pictures_of(diagnosis: Diagnosis, diagnoser: Diagnoser) -> Pictures:
    """Draw what a diagnosis and its record hold."""
    questions = dict.fromkeys(("verdict", *plots.path_questions(diagnosis)))
    return Pictures(
        trees={question: _tree(diagnosis, diagnoser, question) for question in questions},
        gains=_gains(diagnosis),
        place=phase_picture([diagnosis], diagnoser),
        spectrum=_spectrum(diagnosis.record),
        curve=_curve(diagnosis.record),
        layers=_layers(diagnosis.record) if diagnosis.record.layers else None,
    )


def series_pictures(diagnosis: Diagnosis) -> Pictures:
    """Of one of several checkpoints: what a picture of all of them cannot show."""
    return Pictures({}, None, None, _spectrum(diagnosis.record), _curve(diagnosis.record))


def _picture(
    title: str, caption: str, data: Callable[[], T], draw: Callable[[T], Axes], told: Callable[[T], str]
) -> Picture:
    """A picture in both schemes; where a record lacks what it shows, the reason."""
    try:
        shown = data()
    except InputError as error:
        return Picture(title, caption, missing=visible(error.got))
    except (KeyError, TypeError, ValueError, OverflowError):
        return Picture(title, caption, missing="what the record holds of it is damaged")
    light, dark = (Markup(plots.svg(draw, shown, dark=dark, title=told(shown))) for dark in (False, True))
    return Picture(title, caption, light, dark)


def _tree(diagnosis: Diagnosis, diagnoser: Diagnoser, question: str) -> Picture:
    asked = QUESTION_TEXT.get(question, "").replace("\n", " ")
    title = f"The tree of the question “{asked}”" if asked else "The tree of the verdict"
    caption = (
        "Lit: the way of this network. In each box the measured value; the scale spans the zoo's 1st to 99th "
        "percentile, the stroke is the threshold, the dot the value with 1.96 standard errors, hollow beyond the scale."
    )

    leaves = "Lit: the way of this network. At the ends the probability of each answer, before what the notes change."

    def told(nodes: Sequence[DrawnNode]) -> str:
        lit = [node.text.replace("\n", " ") for node in nodes if node.taken]
        return f"{title}. Passed from the top: {'; '.join(lit)}."

    return _picture(
        title,
        leaves if question == "verdict" and plots.path_questions(diagnosis) else caption,
        lambda: plots.decision_path_data(diagnosis, diagnoser, question),
        plots.draw_decision_path,
        told,
    )


def _gains(diagnosis: Diagnosis) -> Picture:
    told = "; ".join(
        f"{words(c.failure)} ({c.probability:.0%}): {c.advice.text}, {gain_text(c)} points"
        for c in diagnosis.ranking
        if c.advice
    )
    return _picture(
        "What each change is expected to gain",
        "Filled: the expected gain with its 95 % interval; dashed: the room that was there in the zoo.",
        lambda: plots.gains_data(diagnosis),
        plots.draw_gains,
        lambda _: f"Expected gains with their standard errors. {told}.",
    )


def phase_picture(diagnoses: Sequence[Diagnosis], diagnoser: Diagnoser) -> Picture:
    """Where one or several checkpoints lie among the zoo's networks."""

    caption = (
        "A map of two of the signs; the trees ask more: a network may lie in one region and be told another cause."
    )
    if len(diagnoses) > 1:
        caption += " The numbers are those of the table."

    def told(data: PhaseDiagram) -> str:
        placed = "; ".join(
            f"{visible(point.name, longest=80)} ({words(point.verdict)}) at growth {point.temperature:.3g} and "
            f"{point.load:.1%} of chance"
            for point in data.checkpoints
        )
        return f"Plane of the growth of the weights and the train error, with {len(data.zoo):,} networks. {placed}."

    return _picture(
        "Among the networks of the zoo",
        caption,
        lambda: plots.phase_diagram_data(diagnoses, diagnoser),
        plots.draw_phase_diagram,
        told,
    )


def _spectrum(record: Record) -> Picture:
    def told(data: Spectrum) -> str:
        top = ", ".join(f"{value:.4g}" for value in data.top) or "not kept"
        smallest = "" if data.smallest is None else f" Smallest: {data.smallest:.3g}."
        return f"Density of the Hessian's eigenvalues. Largest: {top}.{smallest} Negative: {data.negative_share:.1%}."

    return _picture(
        "Spectrum of the Hessian",
        "Density of the curvatures around the network; to the right steep directions, left of zero falling ones.",
        lambda: plots.spectrum_data(record),
        plots.draw_spectrum,
        told,
    )


def _curve(record: Record) -> Picture:
    def told(data: CurveProfile) -> str:
        ends, peak = f"{data.ends_percent:.1f} % at the ends on average", ""
        if data.peak_percent is not None and data.barrier_percent is not None:
            peak = f", {data.peak_percent:.1f} % at the peak: a barrier of {data.barrier_percent:+.1f} points"
        return f"Train error along the trained curve to the sibling: {ends}{peak}."

    return _picture(
        "Error on the way to the sibling",
        "Train error along a trained curve, and along the straight line, between two networks of different seeds.",
        lambda: plots.curve_data(record),
        plots.draw_curve,
        told,
    )


def _layers(record: Record) -> Picture:
    def told(data: Layers) -> str:
        rows = "; ".join(
            f"{visible(layer.name, longest=60)}: weights {layer.weight_rms:.3g}, gradient {layer.gradient_rms:.3g}"
            for layer in data.shown
        )
        return f"Root mean squares of the weights and of the gradient in each layer. {rows}."

    return _picture(
        "Layer by layer",
        "Root mean squares of the weights and of the gradient, so that layers of different sizes compare.",
        lambda: plots.layers_data(record),
        plots.draw_layers,
        told,
    )
