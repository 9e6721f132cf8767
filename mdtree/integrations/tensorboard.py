"""A diagnosis in TensorBoard: numbers under SCALARS, the drawn path under IMAGES, report and verdict under TEXT.

Names: `mdtree.integrations.trackers`. A click on the picture shows it in full size.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.integrations.trackers import PREFIX, Logged, logged

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


def log_diagnosis(
    diagnosis: Diagnosis,
    destination: SummaryWriter | str | os.PathLike[str],
    step: int | None = None,
    *,
    diagnoser: Diagnoser | None = None,
) -> None:
    """Write a diagnosis where TensorBoard finds it.

    ::

        log_diagnosis(mdtree.diagnose("checkpoint.pt"), "runs/today")

    Parameters
    ----------
    diagnosis : Diagnosis
    destination : torch.utils.tensorboard.SummaryWriter or path
        A writer, which is flushed and stays open, or the folder of a run.
    step : int, optional
        The updates of training that the network had seen.
    diagnoser : Diagnoser, optional
        The one that decided, where it is not the embedded one: for the drawn path.

    Raises
    ------
    InputError
        TensorBoard is not installed; or as `mdtree.integrations.trackers.logged`.
    """
    everything = logged(diagnosis, diagnoser)
    if isinstance(destination, str | os.PathLike):
        write_folder(destination, everything, step)
    else:
        write_run(destination, everything, step)


def write_folder(folder: str | os.PathLike[str], everything: Logged, step: int | None) -> None:
    """Write into the folder of a run, in a file of its own beside those that are there.

    Raises
    ------
    InputError
        TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError(
            f"TensorBoard is not installed ({error})", "", "pip install 'mdtree-diagnosis[tensorboard]'"
        ) from error
    writer = SummaryWriter(log_dir=os.fspath(folder))
    try:
        write_run(writer, everything, step)
    finally:
        writer.close()


def write_run(writer: SummaryWriter, everything: Logged, step: int | None) -> None:
    """Write with a writer, which is flushed and stays open."""
    for name, value in everything.numbers.items():
        writer.add_scalar(name, value, global_step=step)
    if everything.picture is not None:
        writer.add_image(f"{PREFIX}/decision_path", everything.picture, global_step=step, dataformats="HWC")
    writer.add_text(f"{PREFIX}/report", _literal(everything.text), global_step=step)
    writer.add_text(f"{PREFIX}/verdict", _literal(everything.words["verdict"]), global_step=step)
    writer.flush()


def _literal(text: str) -> str:
    """As an indented block: TensorBoard reads Markdown, and a name in a file may look like a link or a picture."""
    return "\n".join("    " + line for line in text.splitlines())
