"""Write the gallery: what mdtree says of the sample checkpoints, with pictures, and whether it is right.

python docs/gallery.py [PAGE]        writes docs/gallery.md and docs/gallery/*.png, in half a minute

The first word of a sample's name is its true cause: that of the largest gain which a single change brings in the grid
the sample was drawn from.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import mdtree
from mdtree import plots
from mdtree.diagnosis import Diagnosis
from mdtree.files import write_atomically
from mdtree.report import diagnosis_text
from mdtree.zoo import CAUSES

HERE = Path(__file__).parent
ROOT = HERE.parent
SAMPLES = ROOT / "zoo_samples" / "checkpoints"

CHANGES = ("higher temperature", "lower temperature", "larger model", "more data")
"""The single changes, in the order of the samples' own table."""

CURES = dict(zip(CAUSES.values(), CHANGES, strict=True))

INTRODUCTION = """\
# Gallery

The eight sample checkpoints of the repository, none of which a diagnoser was fitted on, and what mdtree says of them.
Their true causes are known: in the grid they were drawn from, every single change was trained too
(`zoo_samples/checkpoints/README.md`; *best change* below is the largest gain there, in points of test accuracy).
{right} of the {total} verdicts are right. The others come first: this is what being wrong looks like.

This page is written by `python docs/gallery.py`.

{table}
"""


def true_cause(sample: Path) -> str:
    """The failure mode a sample is named by."""
    return sample.stem.rsplit("-", 1)[0]


def samples() -> list[Path]:
    """The sample checkpoints, without their siblings."""
    return sorted(file for file in SAMPLES.glob("*.pt") if not file.name.endswith(".sibling.pt"))


def diagnosed() -> list[tuple[Path, Diagnosis]]:
    """Every sample with its diagnosis, those that are wrong first."""
    with contextlib.chdir(ROOT):  # the reports name the files as a reader of the repository would
        files = [file.relative_to(ROOT) for file in samples()]
        found = [(file, mdtree.diagnose(file, siblings=[file.with_suffix(".sibling.pt")])) for file in files]
    return sorted(found, key=lambda one: one[1].verdict == true_cause(one[0]))


def gains() -> dict[str, list[str]]:
    """The rooms for improvement that the samples' own table gives: up, down, larger model, more data."""
    rows = [line.split("|")[1:-1] for line in (SAMPLES / "README.md").read_text(encoding="utf-8").splitlines()]
    return {
        row[0].strip(" `").removesuffix(".pt"): [cell.strip() for cell in row[5:9]] for row in rows if len(row) == 9
    }


def best_change(rooms: Sequence[str]) -> str:
    """The largest of four rooms, in words; what lies at the edge of the grid has none."""
    known = {name: room for name, room in zip(CHANGES, rooms, strict=True) if room != "-"}
    best = max(known, key=lambda name: float(known[name].split(" ± ")[0]))
    return f"{best}, {known[best]}"


def advised_change(diagnosis: Diagnosis, rooms: Sequence[str]) -> str:
    """What the advised direction is worth in the grid, as a sentence; empty where nothing is advised."""
    if diagnosis.verdict not in CURES:
        return ""
    name, room = CURES[diagnosis.verdict], dict(zip(CHANGES, rooms, strict=True))[CURES[diagnosis.verdict]]
    if room == "-":
        return f" The grid ends in the direction advised ({name})."
    return f" The best that the direction advised ({name}) brings in the grid: {room} points."


def words(name: str) -> str:
    return name.replace("_", " ")


def page(found: Sequence[tuple[Path, Diagnosis]]) -> str:
    """The whole page as Markdown."""
    right = sum(diagnosis.verdict == true_cause(file) for file, diagnosis in found)
    count = ("None", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight")[right]
    rooms = gains()
    table = ["| sample | true cause | best change | verdict | |", "|---|---|---|---|---|"]
    for file, diagnosis in found:
        judged = "right" if diagnosis.verdict == true_cause(file) else "**wrong**"
        verdict = f"{words(diagnosis.verdict)} ({diagnosis.confidence:.0%})"
        best = best_change(rooms[file.stem])
        table.append(f"| [{file.stem}](#{file.stem}) | {words(true_cause(file))} | {best} | {verdict} | {judged} |")
    parts = [
        INTRODUCTION.format(right=count, total=("eight" if len(found) == 8 else len(found)), table="\n".join(table))
    ]
    return "\n".join([*parts, *(section(file, diagnosis, rooms[file.stem]) for file, diagnosis in found)])


def section(file: Path, diagnosis: Diagnosis, rooms: Sequence[str]) -> str:
    """One sample: what is true, what is said, the picture, the report."""
    truth = true_cause(file)
    told = (
        f"True cause: {words(truth)}; the best change in the grid: {best_change(rooms)} points. "
        f"Verdict: {words(diagnosis.verdict)}, {diagnosis.confidence:.0%}."
    )
    if diagnosis.verdict == truth:
        judged = f"**Right.** {told}"
    else:
        own = next(candidate for candidate in diagnosis.ranking if candidate.failure == truth)
        rest = advised_change(diagnosis, rooms)
        judged = f"**Wrong.** {told} The true cause is given {own.probability:.0%}.{rest}"
    lines = [
        f"## {file.stem}",
        "",
        judged,
        "",
        f"![Where {file.stem} lies among the zoo's networks, what each change is expected to gain, and its way through "
        f"the questions](gallery/{file.stem}.png)",
        "",
        "```text",
        without_cost(diagnosis_text(diagnosis)),
        "```",
        "",
    ]
    return "\n".join(lines)


def without_cost(text: str) -> str:
    """A report without its last paragraph, in which the time it took is another one every time."""
    report, _, last = text.rstrip().rpartition("\n\n")
    assert "sample gradients" in last, last
    return report


def draw(diagnosis: Diagnosis, target: Path) -> None:
    """One picture: the plane of temperature and load, the gains, the tree of questions."""
    diagnoser = mdtree.default_diagnoser()
    with plots.style():
        # as wide as a page's text, so that it is read at its own size
        figure = plt.figure(figsize=(7.4, 12.2), layout="constrained")
        panels = [part.subplots() for part in figure.subfigures(3, 1, height_ratios=(4.6, 2.8, 4.8))]
        plots.draw_phase_diagram(plots.phase_diagram_data(diagnosis, diagnoser), panels[0])
        plots.draw_gains(plots.gains_data(diagnosis), panels[1])
        plots.draw_decision_path(plots.decision_path_data(diagnosis, diagnoser), panels[2])
        # without the date and the versions that matplotlib would write, equal pictures are equal files
        figure.savefig(target, dpi=110, metadata={"Software": None})
        plt.close(figure)


def main(target: Path) -> None:
    found = diagnosed()
    pictures = target.parent / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    for file, diagnosis in found:
        draw(diagnosis, pictures / f"{file.stem}.png")
    write_atomically(target, page(found).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "gallery.md")
