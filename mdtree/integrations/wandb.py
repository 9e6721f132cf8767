"""A diagnosis in Weights & Biases: numbers, figure and report in the run's history, the verdict in its summary.

The files are an artefact of type ``diagnosis`` named ``mdtree-RUN``. Names: `mdtree.integrations.trackers`. Works
offline (``WANDB_MODE=offline``) like any run.
"""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from mdtree.diagnoser_schema import Diagnoser
from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.integrations.trackers import PREFIX, Logged, logged

if TYPE_CHECKING:
    from wandb import Run


def log_diagnosis(
    diagnosis: Diagnosis,
    destination: Run | None = None,
    step: int | None = None,
    *,
    diagnoser: Diagnoser | None = None,
) -> None:
    """Write a diagnosis into a run of Weights & Biases, which stays open.

    ::

        with wandb.init(project="digits") as run:
            log_diagnosis(mdtree.diagnose("checkpoint.pt"), run)

    Parameters
    ----------
    diagnosis : Diagnosis
    destination : wandb.Run, optional
        The run that is open by default.
    step : int, optional
        The updates of training that the network had seen; not before the run's own last step.
    diagnoser : Diagnoser, optional
        The one that decided, where it is not the embedded one: for the drawn path.

    Raises
    ------
    InputError
        Weights & Biases is not installed, or no run is open; or as `mdtree.integrations.trackers.logged`.
    """
    everything = logged(diagnosis, diagnoser)
    write_run(destination or open_run(), everything, step)


def open_run() -> Run:
    """The run that is open in this process.

    Raises
    ------
    InputError
        Weights & Biases is not installed, or no run is open.
    """
    run: Run | None = _wandb().run
    if run is None:
        raise InputError("no run of Weights & Biases is open", "one", "with wandb.init(...) as run: ...")
    return run


def write_run(run: Run, everything: Logged, step: int | None, step_name: str | None = None) -> None:
    """Write into an open run.

    Parameters
    ----------
    run : wandb.Run
    everything : Logged
    step : int, optional
    step_name : str, optional
        The number in the history that counts steps, where the run's own does not: trainers have one.
    """
    wandb = _wandb()
    row: dict[str, Any] = {**everything.numbers, f"{PREFIX}/report": wandb.Html(_page(everything), inject=False)}
    if everything.picture is not None:
        row[f"{PREFIX}/decision_path"] = wandb.Image(everything.picture)
    if step_name is not None and step is not None:
        row[step_name] = step
        run.log(row)
    else:
        run.log(row, step=step)
    run.summary.update({f"{PREFIX}/{name}": text for name, text in everything.words.items()})
    artifact = wandb.Artifact(re.sub(r"[^0-9A-Za-z_.-]", "_", f"{PREFIX}-{run.id}"), type="diagnosis")
    for name, content in everything.files.items():
        with artifact.new_file(name, mode="wb") as file:
            file.write(content)
    run.log_artifact(artifact)


def _page(everything: Logged) -> str:
    if "report.html" in everything.files:
        return everything.files["report.html"].decode()
    return f"<pre>{html.escape(everything.text)}</pre>"


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            f"Weights & Biases is not installed ({error})", "", "pip install 'mdtree-diagnosis[wandb]'"
        ) from error
    return wandb
