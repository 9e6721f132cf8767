"""Draw the picture of the README: a sample checkpoint's way through the embedded trees.

python docs/decision_path.py        writes docs/decision_path.png   (`make docs`)
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
    figure, panels = plt.subplots(2, 1, figsize=(13.5, 12), layout="constrained")
    for panel, question in zip(panels, ("verdict", "temperature"), strict=True):
        plots.draw_decision_path(plots.decision_path_data(diagnosis, diagnoser, question), panel)
    panels[0].set_title("The questions", loc="left", fontweight="bold")
    panels[1].set_title("The last of them: is the temperature too high or too low?", loc="left", fontweight="bold")
    # without the date and the versions that matplotlib would write, equal pictures are equal files
    figure.savefig(HERE / "decision_path.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
