"""Networks per second of a zoo: training stacked against looped, in turn, one thread.

    python benchmarks/zoo_build.py [--json] [--rounds N]

First table: the embedded zoo (`zoo_samples/digits_mlp.toml`), all rates and seeds of one width in one stack, to the end
of their training. Second: small convolutional networks, per update (a stack of 24, noise for pictures: the cost does
not depend on them). Every round times the stack and then some of its networks in a loop; the tables give medians, and
the least and the greatest ratio of a round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from mdtree.data import load_data
from mdtree.models import build_model
from mdtree.training import Recipe, StackMember, train_loop, train_stack, trains_in_stack

SPECIFICATION = Path(__file__).parent.parent / "zoo_samples" / "digits_mlp.toml"
TRAIN_SIZE = 650
CONVOLUTIONS = [
    (name, width, shape, steps)
    for shape, widths, steps in [((1, 8, 8), (4, 16), 60), ((1, 28, 28), (4, 8), 8), ((3, 32, 32), (4, 8), 6)]
    for name in ("cnn", "groupnorm_cnn")
    for width in widths
]
SETUP_STEPS = 2  # of the training that is subtracted to leave the cost of an update


@dataclass(frozen=True)
class Case:
    """A stack, and the positions in it of the networks that each round trains in a loop."""

    make_model: Callable[[int], nn.Module]
    members: Sequence[StackMember]
    inputs: Tensor
    recipe: Recipe
    looped: Sequence[Sequence[int]]


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def stack_seconds(case: Case, recipe: Recipe) -> float:
    """Seconds per network."""
    seconds = timed(lambda: train_stack(case.make_model, case.members, case.inputs, recipe))
    return seconds / len(case.members)


def loop_seconds(case: Case, recipe: Recipe, chosen: Sequence[int]) -> float:
    """Seconds per network."""

    def train_chosen() -> None:
        for m in (case.members[i] for i in chosen):
            own = replace(recipe, learning_rate=m.learning_rate)
            train_loop(case.make_model(m.seed), case.inputs, m.targets, own, m.seed)

    return timed(train_chosen) / len(chosen)


def whole_training(case: Case, rounds: int) -> dict[str, float]:
    chosen_of_rounds = case.looped[:rounds]
    pairs = [(stack_seconds(case, case.recipe), loop_seconds(case, case.recipe, c)) for c in chosen_of_rounds]
    return summary(pairs, 1.0)


def per_update(case: Case, rounds: int) -> dict[str, float]:
    """The cost of an update: a training less one of two updates, so that building and recording do not count."""
    setup = replace(case.recipe, steps=SETUP_STEPS)
    pairs = []
    for chosen in case.looped[:rounds]:
        stack = stack_seconds(case, case.recipe) - stack_seconds(case, setup)
        loop = loop_seconds(case, case.recipe, chosen) - loop_seconds(case, setup, chosen)
        pairs.append((stack, loop))
    return summary(pairs, case.recipe.steps - SETUP_STEPS)


def summary(pairs: Sequence[tuple[float, float]], updates: float) -> dict[str, float]:
    ratios = [loop / stack for stack, loop in pairs]
    return {
        "stacked_per_second": updates / statistics.median(stack for stack, _ in pairs),
        "looped_per_second": updates / statistics.median(loop for _, loop in pairs),
        "ratio": statistics.median(ratios),
        "least": min(ratios),
        "greatest": max(ratios),
    }


def digits_case(width: int) -> Case:
    spec = tomllib.loads(SPECIFICATION.read_text(encoding="utf-8"))
    training = spec["training"]
    data = load_data(f"{spec['data']['name']}?train={TRAIN_SIZE}&label_noise=0&seed={spec['data']['seed']}")
    rates, seeds = training["learning_rate"], range(spec["seeds"])
    names = ("batch_size", "steps", "momentum", "weight_decay", "schedule")
    return Case(
        lambda seed: build_model(f"mlp?width={width}", num_classes=10, input_shape=data.input_shape, seed=seed),
        [StackMember(1000 + seed, rate, data.y_train) for rate in rates for seed in seeds],
        data.x_train,
        Recipe(rates[0], **{name: training[name] for name in names}),
        [[rate * len(seeds) + seed for rate in range(0, len(rates), 2)] for seed in seeds],
    )


def convolution_case(name: str, width: int, shape: tuple[int, ...], steps: int) -> Case:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, *shape, generator=generator)
    targets = torch.randint(10, (200,), generator=generator)
    return Case(
        lambda seed: build_model(f"{name}?width={width}", num_classes=10, input_shape=shape, seed=seed),
        [StackMember(seed, 0.001 * rate, targets) for rate in range(1, 9) for seed in range(3)],
        inputs,
        Recipe(0.001, steps=steps + SETUP_STEPS),
        [list(range(first, 24, 4)) for first in (0, 1, 2, 3)],
    )


def show(title: str, rows: Sequence[dict[str, object]]) -> None:
    print(f"{title}\n{'network':<24} {'stacked/s':>10} {'looped/s':>9} {'ratio':>6} {'least':>6} {'most':>6}  rule")
    for row in rows:
        print(
            f"{row['network']:<24} {row['stacked_per_second']:>10.1f} {row['looped_per_second']:>9.1f} "
            f"{row['ratio']:>6.2f} {row['least']:>6.2f} {row['greatest']:>6.2f}  {row['rule']}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--rounds", type=int, default=3, choices=(1, 2, 3, 4), help="rounds per network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    train_stack(*warm_up())
    tables: dict[str, list[dict[str, object]]] = {"networks per second": [], "updates per second": []}
    for width in tomllib.loads(SPECIFICATION.read_text(encoding="utf-8"))["model"]["width"]:
        case = digits_case(width)
        row = {"network": f"mlp w={width} 8×8", "rule": rule(case), **whole_training(case, options.rounds)}
        tables["networks per second"].append(row)
    for name, width, shape, steps in CONVOLUTIONS:
        case = convolution_case(name, width, shape, steps)
        label = f"{name} w={width} {shape[1]}×{shape[2]}"
        row = {"network": label, "rule": rule(case), **per_update(case, options.rounds)}
        tables["updates per second"].append(row)
    if options.json:
        print(json.dumps(tables, indent=1))
        return
    for title, rows in tables.items():
        show(title, rows)


def warm_up() -> tuple[Callable[[int], nn.Module], Sequence[StackMember], Tensor, Recipe]:
    case = digits_case(4)
    return case.make_model, case.members, case.inputs, replace(case.recipe, steps=10)


def rule(case: Case) -> str:
    return "stack" if trains_in_stack(case.make_model(0)) else "loop"


if __name__ == "__main__":
    main()
