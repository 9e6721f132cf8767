"""Draw the pictures of the README: a sample checkpoint's way through the embedded trees, and its place in the zoo.

python docs/decision_path.py    writes docs/decision_path.png and docs/phase_diagram.png   (`make figures`)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

import mdtree
from mdtree import plots

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "zoo_samples" / "checkpoints" / "temperature_too_low-1.pt"


def main() -> None:
    diagnosis = mdtree.diagnose(SAMPLE, siblings=[SAMPLE.with_suffix(".sibling.pt")])
    diagnoser = mdtree.default_diagnoser()
    with plots.style():
        figure, panels = plt.subplots(2, 1, figsize=(9.2, 11.4), layout="constrained", height_ratios=(4.5, 6.2))
        for panel, question in zip(panels, ("verdict", "temperature"), strict=True):
            plots.draw_decision_path(plots.decision_path_data(diagnosis, diagnoser, question), panel)
        panels[0].set_title("The questions")
        panels[1].set_title("The last of them: is the temperature too high or too low?")
        # without the date and the versions that matplotlib would write, equal pictures are equal files
        figure.savefig(HERE / "decision_path.png", dpi=100, metadata={"Software": None})
        place = plots.draw_phase_diagram(plots.phase_diagram_data(diagnosis, diagnoser))
        place.figure.savefig(HERE / "phase_diagram.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
