"""Draw the picture of the README: a sample checkpoint's way through the embedded tree.

python docs/decision_path.py        writes docs/decision_path.png   (`make docs`)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import mdtree
from mdtree import plots

HERE = Path(__file__).parent
SAMPLE = HERE.parent / "zoo_samples" / "checkpoints" / "temperature_too_low-1.pt"


def main() -> None:
    diagnosis = mdtree.diagnose(SAMPLE, siblings=[SAMPLE.with_suffix(".sibling.pt")])
    axes = plots.draw_decision_path(plots.decision_path_data(diagnosis, mdtree.default_diagnoser()))
    # without the date and the versions that matplotlib would write, equal pictures are equal files
    axes.figure.savefig(HERE / "decision_path.png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
