"""Peak memory of a measurement over that of one training step with the same batch.

    python benchmarks/memory.py -o benchmarks/memory.md     # the committed table
    python benchmarks/memory.py --network cnn --json

Every number is from a process of its own, with one thread. The process imports everything, makes the network (or two)
and 4,096 samples, runs both kinds of work once on a toy, resets the kernel's high-water mark, then works. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import nn
from torch.nn import functional

from landscape import ClassificationData, Execution, Protocol, Samples, measure
from mdtree.models import build_model

IMAGE = (3, 32, 32)
CLASSES = 10
STORED = 4096
WORK = ("step", "alone", "pair")


@dataclass(frozen=True)
class Subject:
    """A network, the batch, and how many of the stored samples are measured: the peak is that of one batch."""

    make: Callable[[], nn.Module]
    batch_size: int
    samples: int


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(3072, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, CLASSES)
    )


def cnn(width: int = 32) -> nn.Module:
    widths = (3, width, width, 2 * width, 2 * width)
    layers: list[nn.Module] = []
    for index in range(4):
        layers += [nn.Conv2d(widths[index], widths[index + 1], 3, padding=1), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if index % 2 else []
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width * 64, CLASSES))


def resnet() -> nn.Module:
    return build_model("resnet18?width=64", num_classes=CLASSES, input_shape=IMAGE)


SUBJECTS = {
    "mlp 3072-1024-1024-10": Subject(mlp, 256, 4096),
    "cnn, 4 convolutions": Subject(cnn, 256, 1024),
    "resnet18, BatchNorm": Subject(resnet, 256, 512),
    "cnn, small": Subject(lambda: cnn(8), 128, 256),
}
TABLE = tuple(SUBJECTS)[:3]


@dataclass(frozen=True)
class Memory:
    """Mebibytes resident before the work, and at its peak."""

    before: float
    peak: float

    @property
    def added(self) -> float:
        """What the work took."""
        return self.peak - self.before


def training_step(model: nn.Module, data: Samples, batch_size: int) -> None:
    """Two steps of SGD with momentum, the first of which makes the momentum's buffers."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    for step in range(2):
        chosen = torch.arange(step * batch_size, (step + 1) * batch_size) % len(data)
        optimizer.zero_grad()
        functional.cross_entropy(model(data.inputs[chosen]), data.targets[chosen]).backward()
        optimizer.step()


def measurement(models: list[nn.Module], data: Samples, batch_size: int, samples: int) -> None:
    """Everything of the default protocol; a shorter curve, the length of which takes time and no memory."""
    protocol = Protocol(samples=samples, curve_steps=8)
    measure(models, ClassificationData(data, None, CLASSES), protocol, Execution(batch_size=batch_size))


def work(kind: str, subject: Subject) -> Memory:
    """Do one kind of work in this process."""
    torch.set_num_threads(1)
    toy = Samples(torch.randn(32, *IMAGE), torch.arange(32) % CLASSES)
    measurement([cnn(4), cnn(4)], toy, 16, 32)
    training_step(cnn(4), toy, 16)
    torch.manual_seed(0)
    data = Samples(torch.randn(STORED, *IMAGE), torch.randint(CLASSES, (STORED,)))
    models = [subject.make() for _ in range(2 if kind == "pair" else 1)]
    reset_peak()
    before = resident("VmRSS")
    if kind == "step":
        training_step(models[0], data, subject.batch_size)
    else:
        measurement(models, data, subject.batch_size, subject.samples)
    return Memory(before, resident("VmHWM"))


def reset_peak() -> None:
    """Set the high-water mark of this process to what is resident now (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


def resident(field: str) -> float:
    """A field of /proc/self/status, in mebibytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def in_own_process(kind: str, name: str) -> Memory:
    """The same in a fresh interpreter."""
    command = [sys.executable, __file__, "--work", kind, "--network", name]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return Memory(**json.loads(answer))


def compare(name: str, repeats: int = 1) -> dict[str, dict[str, float]]:
    """Median over repeats of each kind of work, and its ratio to the training step's, added and in all."""
    found: dict[str, dict[str, float]] = {}
    for kind in WORK:
        runs = sorted((in_own_process(kind, name) for _ in range(repeats)), key=lambda memory: memory.added)
        memory = runs[len(runs) // 2]
        step = found.get("step", {"added": memory.added, "peak": memory.peak})
        found[kind] = {
            **asdict(memory),
            "added": memory.added,
            "added_ratio": memory.added / step["added"],
            "peak_ratio": memory.peak / step["peak"],
        }
    return found


def table(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """The comparison as text."""
    names = {"step": "training step", "alone": "measure, one network", "pair": "measure, with sibling"}
    lines = [f"{'network':<22} {'work':<22} {'added MiB':>10} {'ratio':>6} {'peak MiB':>9} {'ratio':>6}"]
    for name, kinds in rows.items():
        for kind, row in kinds.items():
            lines.append(
                f"{name:<22} {names[kind]:<22} {row['added']:>10.0f} {row['added_ratio']:>6.2f} "
                f"{row['peak']:>9.0f} {row['peak_ratio']:>6.2f}"
            )
    return "\n".join(lines)


def page(rows: dict[str, dict[str, dict[str, float]]]) -> str:
    """The committed page."""
    measured = ", ".join(f"{SUBJECTS[name].samples:,} ({name})" for name in rows)
    worst = max(row["added_ratio"] for kinds in rows.values() for row in kinds.values())
    middle = median(kinds["alone"]["added_ratio"] for kinds in rows.values())
    return f"""# Memory of a measurement

`python benchmarks/memory.py -o benchmarks/memory.md`, torch {torch.__version__}, one thread, every row in a process of
its own: resident memory beyond imports, networks and 4,096 stored samples of 3×32×32, at its peak, for one step of SGD
with momentum (forward, backward, update) on 256 samples and for the default measurement with the same batch size, on
{measured} samples. `peak` counts everything in the process.

```
{table(rows)}
```

One network adds {middle:.1f} times the memory of a training step in the middle case; the worst row is {worst:.1f}.
Where weights outweigh activations, as in the MLP, it is vectors as long as the weights that are added: those of the
Lanczos basis (up to 128 MiB), and a copy in float64 for the test of the trace identity. The allocator does not always
give back what was freed, so that the MLP's rows vary by some 200 MiB from run to run.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SUBJECTS, action="append", help="only this one (may be given again)")
    parser.add_argument("--repeats", type=int, default=1, help="processes a number, of which the median is taken")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("-o", "--output", type=Path, help="write the page here")
    parser.add_argument("--work", choices=WORK, help="do this in the present process and print its memory as JSON")
    options = parser.parse_args()
    names = options.network or TABLE
    if options.work:
        print(json.dumps(asdict(work(options.work, SUBJECTS[names[0]]))))
        return
    rows = {name: compare(name, options.repeats) for name in names}
    print(json.dumps(rows, indent=1) if options.json else table(rows))
    if options.output:
        options.output.write_text(page(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
