"""Write the page that says how far a diagnosis travels: all reference zoos, every part left out in turn.

python docs/transfer.py [--workers N] [SAMPLES] [PAGE]    reads zoo_samples/*.csv; writes docs/transfer.md and, beside
it, transfer.png and transfer_scale.png   (`make figures`; some minutes on all cores)
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from mdtree.cli.progress import progress_bar
from mdtree.errors import InputError
from mdtree.files import write_atomically
from mdtree.transfer_methods import AGREEING
from mdtree.transfer_plots import TITLES, draw_transfers
from mdtree.transfer_text import Summary, method_words, summarise, transfer_text
from mdtree.zoo import EVIDENCE, QUESTIONS
from mdtree.zoo_parts import GROUPS, LEAVE_OUT, read_zoos
from mdtree.zoo_transfer import TransferResult, run_transfer

HERE = Path(__file__).parent

INTRODUCTION = """\
# How far a diagnosis travels

Every part of the reference zoos is left out in turn: a data set with all its families, a family, an architecture; and,
inside each family, wider networks, more data, all but fifty cells. All methods are fitted on the rest and asked about
the part. Written by `python docs/transfer.py`; `mdtree transfer zoo_samples/*.csv --leave-out family` prints one of its
tables.

The *trees* are those of `mdtree train`, one for each question and evidence set: the network *alone*, with a *sibling*
(the same training from another seed), with or without *test* metrics. Where several families are fitted on, the verdict
is composed of questions; inside one family it is a tree of its own. Beside them, fitted on the same rows: the
*majority* answer; a tree on the *settings* (width, amount of data, learning rate, temperature); on the number of
*parameters* alone; on errors and losses of training and *validation*. The true answers of a left-out part, and of what
is fitted on where scale is left out, come from the whole grid of its family.

Mean (worst) over the parts, each counting alike; percent. *Balanced*: mean recall over the causes, over networks whose
truth is clear. *Gain*: true gain of the advised changes over that of the best ones, over all networks.
"""


def main(samples: Path, page: Path, workers: int) -> None:
    """Run every transfer; write the page and its two pictures beside it."""
    tables = sorted(samples.glob("*.csv"))
    if not tables:
        raise InputError(f"{samples} holds no table", "zoo tables (*.csv)")
    frame = read_zoos(tables)
    results = []
    for leave_out in LEAVE_OUT:
        with progress_bar(f"{leave_out} left out") as show:
            results.append(run_transfer(frame, leave_out, workers=workers, progress=show))
    groups = [result for result in results if result.leave_out in GROUPS]
    scales = [result for result in results if result.leave_out not in GROUPS]
    lines = [INTRODUCTION]
    for chosen, picture in ((groups, page.with_suffix(".png")), (scales, page.with_name(f"{page.stem}_scale.png"))):
        _draw(chosen, picture)
        lines.append(f"![Balanced accuracy of every part left out]({picture.name})\n")
        lines += [line for result in chosen for line in (*overview(result), *withheld(result))]
    lines += [line for result in results for line in details(result)]
    write_atomically(page, ("\n".join(lines).rstrip() + "\n").encode())


def _draw(results: Sequence[TransferResult], picture: Path) -> None:
    figure = draw_transfers(results)
    # without the date and the versions that matplotlib would write, equal pictures are equal files
    figure.savefig(picture, dpi=100, metadata={"Software": None})
    plt.close(figure)


def overview(result: TransferResult) -> Iterator[str]:
    """A table for each kind of transfer: a row per method, a column per question."""
    for transfer in dict.fromkeys(run.transfer for run in result.runs):
        runs = [run for run in result.runs if run.transfer == transfer]
        summaries = [s for s in summarise(runs, result.default_method) if s.method != AGREEING]
        found = {(s.question, _name(s)): s for s in summaries}
        count = len({run.left_out for run in runs})
        yield f"## {TITLES[transfer][0].upper()}{TITLES[transfer][1:]}: {count} {'part' if count == 1 else 'parts'}\n"
        yield f"| balanced | {' | '.join(q.replace('_', ' ') for q in QUESTIONS)} | gain of the verdict |"
        yield "|---|" + "---:|" * (len(QUESTIONS) + 1)
        for name in dict.fromkeys(name for _, name in found):
            cells = [_mean_and_worst(found.get((q, name)), "balanced_accuracy", "worst") for q in QUESTIONS]
            cells.append(_mean_and_worst(found.get(("verdict", name)), "gain_captured", "worst_gain"))
            yield f"| {name} | {' | '.join(cells)} |"
        yield ""


def withheld(result: TransferResult) -> Iterator[str]:
    """The temperature where the readings agree: how often they do, and how often it is right then."""
    runs = [run for run in result.runs if run.method == AGREEING]
    if not runs:
        return
    words = result.leave_out.replace("_", " ")
    article = "an" if words[0] in "aeiou" else "a"
    yield f"### The temperature, withheld where its readings disagree; {article} {words} left out\n"
    yield "| evidence | answered, of all | answered, of the clear | right, of what is answered and clear | worst part |"
    yield "|---|---:|---:|---:|---|"
    for evidence in EVIDENCE:
        own = [run for run in runs if run.evidence == evidence and run.accuracy_answered]
        if own:
            clear = [(run.accuracy or 0.0) / (run.accuracy_answered or 1.0) for run in own]
            worst = min(own, key=lambda run: run.accuracy_answered or 0.0)
            yield (
                f"| {evidence.replace('_', ' ')} | {_mean_share([run.coverage for run in own])} | {_mean_share(clear)} "
                f"| {_mean_share([run.accuracy_answered or 0.0 for run in own])} "
                f"| {worst.left_out}: {100 * (worst.accuracy_answered or 0.0):.0f} |"
            )
    yield ""


def _mean_share(shares: Sequence[float]) -> str:
    return f"{100 * sum(shares) / len(shares):.0f} ({100 * min(shares):.0f})"


def _name(summary: Summary) -> str:
    return f"tree, {summary.evidence.replace('_', ' ')}" if summary.evidence else method_words(summary.method)


def _mean_and_worst(summary: Summary | None, mean: str, worst: str) -> str:
    value, least = (None, None) if summary is None else (getattr(summary, mean), getattr(summary, worst))
    return "-" if value is None or least is None else f"{100 * value:.0f} ({100 * least:.0f})"


def details(result: TransferResult) -> Iterator[str]:
    """What the command prints."""
    yield f"## `mdtree transfer zoo_samples/*.csv --leave-out {result.leave_out}`\n"
    yield f"```\n{transfer_text(result)}\n```\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("samples", nargs="?", type=Path, default=HERE.parent / "zoo_samples")
    parser.add_argument("page", nargs="?", type=Path, default=HERE / "transfer.md")
    parser.add_argument("--workers", type=int, default=1)
    given = parser.parse_args()
    main(given.samples, given.page, given.workers)
