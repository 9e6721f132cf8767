"""Write the networks behind the phase diagram: of those the reference diagnoser was fitted on, a few hundred.

python docs/phase_points.py        reads zoo_samples/*.csv; writes mdtree/data_files/phase_points.json   (a second)
"""

from __future__ import annotations

import json
from pathlib import Path

from mdtree.files import write_atomically
from mdtree.plots.phase_table import phase_table
from mdtree.zoo_parts import read_zoos

ROOT = Path(__file__).parents[1]


def main() -> None:
    rows = read_zoos(sorted((ROOT / "zoo_samples").glob("*.csv")))
    text = json.dumps(phase_table(rows[rows["split"] == "fit"]), indent=1) + "\n"
    write_atomically(ROOT / "mdtree" / "data_files" / "phase_points.json", text.encode())


if __name__ == "__main__":
    main()
