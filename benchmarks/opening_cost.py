"""What it costs to open a checkpoint safely: time and memory of `open_checkpoint` over the bare loader.

    python benchmarks/opening_cost.py [--megabytes 100 1000] [--pairs 7] [--folder DIR] [--write]

A state dict of float32 tensors (64 MB each at most, as in large networks, and a hundred small ones) is written by
torch.save and by safetensors. Every reading is a fresh process that has imported the reader and then opens the file
once, with the file in the page cache; the bare loader is torch.load(weights_only=True) or safetensors.torch.load_file.
Safetensors maps the file and reads nothing until the weights are used, so both sides sum every tensor once after
opening: what is compared is a network whose weights are in memory. The two are interleaved in pairs, and the first of
a pair alternates. Memory is the peak of resident memory during the reading, above the process before it. With --write
the table replaces benchmarks/opening_cost.md.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

TENSOR_BYTES = 64 * 2**20
SMALL_TENSORS = 100


@dataclass(frozen=True)
class Reading:
    """One opening: seconds until open, seconds until every weight was read, peak memory above the start, in MB."""

    opened: float
    used: float
    memory: float


def write_files(folder: Path, megabytes: int) -> dict[str, Path]:
    """The same weights in both formats."""
    generator = torch.Generator().manual_seed(0)
    state = {f"norm{n}.weight": torch.randn(512, generator=generator) for n in range(SMALL_TENSORS)}
    left = megabytes * 10**6 // 4 - SMALL_TENSORS * 512
    while left > 0:
        count = min(left, TENSOR_BYTES // 4)
        state[f"layer{len(state)}.weight"] = torch.randn(count, generator=generator)
        left -= count
    files = {"torch.save": folder / f"{megabytes}.pt", "safetensors": folder / f"{megabytes}.safetensors"}
    torch.save(state, files["torch.save"])
    safetensors.torch.save_file(state, files["safetensors"])
    return files


def read_once(path: Path, how: str) -> Reading:
    """Open one file in this process, which should be a fresh one."""
    from mdtree.checkpoint import open_checkpoint  # both sides have imported the same

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = _memory("VmRSS")
    started = time.perf_counter()
    if how == "mdtree":
        state = open_checkpoint(path).state
    elif path.suffix == ".pt":
        state = torch.load(path, map_location="cpu", weights_only=True)
    else:
        state = safetensors.torch.load_file(path)
    opened = time.perf_counter()
    for tensor in state.values():
        tensor.sum()
    return Reading(opened - started, time.perf_counter() - started, (_memory("VmHWM") - before) / 1024)


def compare(path: Path, pairs: int) -> tuple[list[Reading], list[Reading]]:
    """Readings of the bare loader and of the product, in turn."""
    readings: dict[str, list[Reading]] = {"bare": [], "mdtree": []}
    for number in range(pairs):
        for how in ("bare", "mdtree") if number % 2 else ("mdtree", "bare"):
            command = [sys.executable, __file__, "--read", str(path), "--how", how]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            readings[how].append(Reading(**json.loads(answer)))
    return readings["bare"], readings["mdtree"]


def row(name: str, megabytes: int, bare: list[Reading], ours: list[Reading]) -> str:
    """One line of the table: medians, and the median and range of the ratio of each pair."""

    def median(readings: list[Reading], field: str) -> float:
        return statistics.median(getattr(one, field) for one in readings)

    def ratios(field: str) -> str:
        each = sorted(getattr(o, field) / getattr(b, field) for b, o in zip(bare, ours, strict=True))
        return f"{statistics.median(each):.2f} ({each[0]:.2f} to {each[-1]:.2f})"

    times = [f"{median(readings, field):.2f}" for field in ("opened", "used") for readings in (bare, ours)]
    memory = [f"{median(readings, 'memory'):.0f}" for readings in (bare, ours)]
    cells = [f"{name}, {megabytes} MB", *times, ratios("used"), *memory, ratios("memory")]
    return f"| {' | '.join(cells)} |"


def page(rows: list[str], pairs: int) -> str:
    """The text of opening_cost.md."""
    return f"""# What opening a checkpoint safely costs

Wall time in seconds and peak memory in MB of `mdtree.open_checkpoint` and of the bare loader
(`torch.load(weights_only=True)`, `safetensors.torch.load_file`): {pairs} interleaved pairs of fresh processes on one
thread, file in the page cache, torch {torch.__version__}. "Used" is after every weight was read once: a safetensors
file is mapped, and the bare loader reads nothing of it before. Memory is above the process that imported the reader
and opened nothing. Made by `benchmarks/opening_cost.py --write`.

| file | bare, opened | mdtree, opened | bare, used | mdtree, used | ratio, used | bare, MB | mdtree, MB | ratio, MB |
|---|---|---|---|---|---|---|---|---|
{chr(10).join(rows)}

The difference pays for, each over every byte of the file:

- the SHA-256 of the file, which names it in every report;
- for torch.save, the CRC-32 of every member of the archive, in the same pass: a flipped bit is found, where the bare
  loader gives other weights in silence (a safetensors payload carries no checksum);
- a look at every weight for NaN and infinity.

The pickle of a torch.save file is also followed once before it is loaded, about a millisecond for twenty tensors.
"""


def _memory(name: str) -> int:
    """A line of this process's status, in kB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> None:
    """Run the benchmark, or one reading of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--how", choices=("bare", "mdtree"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.read:
        print(json.dumps(vars(read_once(options.read, options.how))))
        return
    rows = []
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for name, path in write_files(Path(folder), megabytes).items():
                rows.append(row(name, megabytes, *compare(path, options.pairs)))
                print(rows[-1], flush=True)
    if options.write:
        Path(__file__).with_suffix(".md").write_text(page(rows, options.pairs))


if __name__ == "__main__":
    main()
