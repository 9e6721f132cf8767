"""Networks per second of the embedded zoo: training stacked against looped, and measuring, one thread each.

    python benchmarks/zoo_build.py [--json]

One block (one width; all learning rates and seeds) per width, stacked and looped in turn, then measured.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import torch

from mdtree.grid import measured_rows, train_block
from mdtree.grid_spec import read_spec

SPECIFICATION = Path(__file__).parent.parent / "zoo_samples" / "digits_mlp.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    as_json = parser.parse_args().json
    torch.set_num_threads(1)
    spec = read_spec(SPECIFICATION)
    looped = dataclasses.replace(spec, stacked=False)
    middle = spec.train_sizes[len(spec.train_sizes) // 2]
    blocks = [b for b in spec.blocks() if b.train_size == middle and b.label_noise == spec.label_noises[0]]
    rows = []
    for block in blocks:
        start = time.perf_counter()
        trained = train_block(spec, block)
        stacked_seconds = time.perf_counter() - start
        start = time.perf_counter()
        train_block(looped, block)
        looped_seconds = time.perf_counter() - start
        start = time.perf_counter()
        list(measured_rows(spec, block, trained))
        measuring_seconds = time.perf_counter() - start
        rows.append(
            {
                "width": block.width,
                "networks": len(trained),
                "stacked_networks_per_second": len(trained) / stacked_seconds,
                "looped_networks_per_second": len(trained) / looped_seconds,
                "ratio": looped_seconds / stacked_seconds,
                "measured_networks_per_second": len(trained) / measuring_seconds,
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(f"{'width':>6} {'networks':>9} {'stacked/s':>10} {'looped/s':>9} {'ratio':>6} {'measured/s':>11}")
    for row in rows:
        print(
            f"{row['width']:>6} {row['networks']:>9} {row['stacked_networks_per_second']:>10.1f} "
            f"{row['looped_networks_per_second']:>9.1f} {row['ratio']:>6.1f} "
            f"{row['measured_networks_per_second']:>11.1f}"
        )


if __name__ == "__main__":
    main()
