"""What clients send to the service, and what the command line says of each: once a sample, in a folder of its files."""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKPOINTS = Path(__file__).parent.parent / "zoo_samples" / "checkpoints"
COST = re.compile(r'("cost": \{\s*"seconds": )[-+.0-9e]+')


@dataclass(frozen=True)
class Sample:
    """One job.

    Attributes
    ----------
    name : str
    files : tuple of str
        Names in the folder of samples: the checkpoint, then its siblings; for a record, the record.
    data : str or None
        An ``.npz`` file of it.
    architecture : str or None
    record : bool
        Sent as a measured record, not as a checkpoint.
    """

    name: str
    files: tuple[str, ...]
    data: str | None = None
    architecture: str | None = None
    record: bool = False


@dataclass(frozen=True)
class Expected:
    """What the command line says: the JSON without its seconds, or the sentence of its refusal."""

    diagnosis: str | None
    refusal: str | None


PAIRED = tuple(
    Sample(f"{stem}, with sibling", (f"{stem}.pt", f"{stem}.sibling.pt"))
    for stem in ("temperature_too_low-1", "healthy-1", "too_little_data-2")
)
ALONE = tuple(
    Sample(f"{stem}, alone", (f"{stem}.pt",)) for stem in ("temperature_too_high-1", "model_too_small-1", "healthy-1")
)
CONVOLUTIONAL = Sample("a convolutional network", ("cnn.pt",))
WITH_DATA = Sample("weights alone, with data", ("weights.pt",), "digits.npz", "mlp?width=8")
DAMAGED = (Sample("half a file", ("half.pt",)), Sample("no checkpoint at all", ("letter.pt",)))
MALICIOUS = Sample("a file that runs code", ("runs.pt",))
BAD = (*DAMAGED, MALICIOUS)
RECORDS = tuple(
    Sample(f"record of {stem}", (f"{stem}.json",), record=True) for stem in ("healthy-1", "temperature_too_high-2")
)


class _Runs:
    """Would leave a file where it is unpickled as usual."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("executed",)


def make_samples(folder: Path, samples: Iterable[Sample]) -> dict[str, Expected]:
    """Write the files that these samples name, and give back what the command line says of each, by name."""
    chosen = list(dict.fromkeys(samples))
    for stored in CHECKPOINTS.glob("*.pt"):
        (folder / stored.name).write_bytes(stored.read_bytes())
    whole = (folder / "healthy-1.pt").read_bytes()
    (folder / "half.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "letter.pt").write_text("Dear server, here is my network. " * 1000, encoding="utf-8")
    (folder / "runs.pt").write_bytes(pickle.dumps({"state_dict": _Runs()}))
    if {CONVOLUTIONAL, WITH_DATA} & set(chosen):
        _make_networks(folder)
    records = [sample.files[0] for sample in chosen if sample.record]
    measuring = [
        Command(("measure", Path(record).with_suffix(".pt").name, "--json", "--no-cache"), record) for record in records
    ]
    answers = command_lines(folder, [*measuring, *(Command(_words(sample)) for sample in chosen)])[len(measuring) :]
    return {sample.name: _expected(sample, answer) for sample, answer in zip(chosen, answers, strict=True)}


def _make_networks(folder: Path) -> None:
    """A small convolutional network of ours, and weights without a word beside data without a name."""
    import numpy as np
    import torch

    from mdtree.checkpoint_saving import save_checkpoint
    from mdtree.data import load_data
    from mdtree.models import build_model
    from mdtree.training import Recipe, train_loop

    for network, shape, file in (("cnn?width=4", "image", "cnn.pt"), ("mlp?width=8", "flat", "weights.pt")):
        specification = f"digits?train=160&shape={shape}"
        data = load_data(specification)
        model = build_model(network, num_classes=10, input_shape=data.input_shape, seed=0)
        trained = train_loop(model, data.x_train, data.y_train, Recipe(0.05, steps=400), 0)
        model.load_state_dict(trained.state)
        if file == "cnn.pt":
            recipe = {"learning_rate": 0.05, "batch_size": 16, "steps": 400}
            save_checkpoint(folder / file, model, model_spec=network, data_spec=specification, recipe=recipe)
            continue
        torch.save(model.state_dict(), folder / file)
        arrays = io.BytesIO()
        np.savez(arrays, x_train=data.x_train.numpy(), y_train=data.y_train.numpy())
        (folder / "digits.npz").write_bytes(arrays.getvalue())


COMMANDS = """
import contextlib, io, json, sys
from pathlib import Path
from mdtree.cli import main

for words, file in json.load(sys.stdin):
    out, error, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            main(words)
        except SystemExit as ended:
            code = ended.code
    if file is not None:
        Path(file).write_text(out.getvalue(), encoding="utf-8")
    print(json.dumps([code, out.getvalue(), error.getvalue()]))
"""


@dataclass(frozen=True)
class Command:
    """Words after `mdtree`, and the file that its output goes to as well."""

    words: Sequence[str]
    file: str | None = None


@dataclass(frozen=True)
class Ended:
    """What a command wrote, and its exit code."""

    code: int
    output: str
    error: str


def command_lines(folder: Path, commands: Sequence[Command]) -> list[Ended]:
    """Run commands in this folder, one after another in one process, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent.parent)}
    ended = subprocess.run(
        [sys.executable, "-c", COMMANDS],
        input=json.dumps([[list(command.words), command.file] for command in commands]),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    return [Ended(*json.loads(line)) for line in ended.stdout.splitlines()]


def _words(sample: Sample) -> list[str]:
    first, *siblings = sample.files
    words = ["diagnose", first, *(word for sibling in siblings for word in ("--sibling", sibling))]
    words += ["--data", f"npz:{sample.data}"] if sample.data else []
    words += ["--model", sample.architecture] if sample.architecture else []
    return [*words, "--json", *([] if sample.record else ["--no-cache"])]


def _expected(sample: Sample, ended: Ended) -> Expected:
    if ended.code == 0:
        return Expected(without_seconds(ended.output), None)
    if ended.code != 2 or not ended.error.startswith("mdtree: "):
        raise RuntimeError(f"{sample.name}: exit code {ended.code}, {ended.error}")
    # whoever uploads a file names no path
    return Expected(None, ended.error.removeprefix("mdtree: ").strip().removesuffix("; check the path"))


def without_seconds(diagnosis: str) -> str:
    """The text of a diagnosis with 0 for the seconds it took, which no two runs share."""
    return COST.sub(r"\g<1>0", diagnosis)
