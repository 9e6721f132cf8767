"""Diagnoses as one HTML file that asks nothing of any network: light, dark, on paper, on a phone, without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

import mdtree
from mdtree.comparison import Comparison, comparison
from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.report_page import CheckpointPage, checkpoint_pages
from mdtree.report_pictures import Picture, Pictures, phase_picture, pictures_of, series_pictures

LARGEST = 2_000_000
"""Bytes that a page stays below; of many checkpoints it shows less of each."""

PICTURES = 800_000
"""Characters of pictures of single checkpoints that a comparison may hold."""

PLACED = 20
"""Checkpoints that the map of all shows at most."""

PARTS = (
    ("verdict", "Verdict"),
    ("causes", "Causes"),
    ("path", "Path"),
    ("zoo", "Zoo"),
    ("measured", "Landscape"),
    ("opened", "Opened"),
    ("provenance", "Provenance and JSON"),
)

_LEFT_OUT = (
    "",
    "So that the page stays small, the pictures of the single checkpoints are left out",
    "So that the page stays small, pictures and JSON of the single checkpoints are left out",
    "So that the page stays small, only the verdicts are shown, not how each was reached",
)
_SOME_PICTURES = "So that the page stays small, only the first {} checkpoints have pictures of their own"
_ALONE = "; a report of fewer records shows all."


@dataclass(frozen=True)
class ShownCheckpoint:
    """One checkpoint as laid out.

    Attributes
    ----------
    page : CheckpointPage
    pictures : Pictures or None
    json : str
        Empty where it is left out.
    detailed : bool
        Whether more than the verdict is shown.
    """

    page: CheckpointPage
    pictures: Pictures | None
    json: str
    detailed: bool


def html_report(diagnoses: Sequence[Diagnosis], diagnoser: Diagnoser, pictures: bool = True) -> str:
    """One or several diagnoses as a page.

    Parameters
    ----------
    diagnoses : sequence of Diagnosis
        Of several, the page begins with their comparison, in this order.
    diagnoser : Diagnoser
        The one that made them.
    pictures : bool
        Whether to draw; without, a page takes milliseconds.

    Returns
    -------
    str
        A whole HTML document below 2 MB. It loads nothing and sends nothing, which its content security policy
        enforces; all text out of files is escaped.

    Raises
    ------
    InputError
        There is no diagnosis.
    """
    pages = checkpoint_pages(diagnoses, diagnoser)
    together = comparison(diagnoses, pages) if len(pages) > 1 else None
    place = phase_picture(diagnoses[:PLACED], diagnoser) if together and pictures else None
    drawn = _pictures(diagnoses, diagnoser) if pictures else [None] * len(pages)
    text = ""
    for level in range(len(_LEFT_OUT)):
        text = _rendered(_shown(pages, drawn, level), together, place, _left_out(drawn if pictures else (), level))
        if len(text.encode()) < LARGEST:
            break
    return text


def _pictures(diagnoses: Sequence[Diagnosis], diagnoser: Diagnoser) -> list[Pictures | None]:
    """All pictures of a single checkpoint; of several some of each, as long as there is room."""
    if len(diagnoses) == 1:
        return [pictures_of(diagnoses[0], diagnoser)]
    drawn: list[Pictures | None] = []
    room = PICTURES
    for diagnosis in diagnoses:
        own = series_pictures(diagnosis) if room > 0 else None
        room -= own.size if own else 0
        drawn.append(own)
    return drawn


def _shown(pages: Sequence[CheckpointPage], pictures: Sequence[Pictures | None], level: int) -> list[ShownCheckpoint]:
    return [
        ShownCheckpoint(page, own if level == 0 else None, page.json if level < 2 else "", detailed=level < 3)
        for page, own in zip(pages, pictures, strict=True)
    ]


def _left_out(pictures: Sequence[Pictures | None], level: int) -> str:
    """In words; `pictures` is empty where none was asked for."""
    count = sum(own is not None for own in pictures)
    text = _LEFT_OUT[level] if pictures or level > 1 else ""
    if level == 0 and count < len(pictures):
        text = _SOME_PICTURES.format(count)
    return text + _ALONE if text else ""


def _rendered(
    shown: Sequence[ShownCheckpoint], together: Comparison | None, place: Picture | None, left_out: str
) -> str:
    script = _asset("report.js")
    heading = f"{len(shown)} checkpoints compared" if together else shown[0].page.name
    verdicts = "" if together else f": {shown[0].page.verdict_text}"
    return _templates().get_template("page.html.j2").render(
        version=mdtree.__version__,
        title=f"{heading}{verdicts} · mdtree",
        heading=heading,
        parts=PARTS,
        comparison=together,
        place=place,
        checkpoints=shown,
        left_out=left_out,
        css=_asset("report.css"),
        script=script,
        script_hash="sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _templates() -> Environment:
    return Environment(
        loader=PackageLoader("mdtree", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _asset(name: str) -> Markup:
    """Style or script of the page: text of this package, with nothing of anybody's file in it."""
    return Markup((files("mdtree") / "templates" / name).read_text(encoding="utf-8").strip())
