"""Where a Hugging Face Trainer reports to: its reporters close before other callbacks learn that training has ended."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from mdtree.errors import InputError
from mdtree.integrations import mlflow, tensorboard, wandb
from mdtree.integrations.trackers import Logged, Writer

_BY_MLFLOW = frozenset({"mlflow", "dagshub"})


class Reporters:
    """The trackers that `report_to` names, as far as they take a diagnosis.

    TensorBoard's writer and MLflow's run are closed by the Trainer's own callbacks before this project's hear of the
    end. So the run of MLflow is noted while it is active, and written to when it has ended, which leaves its state as
    it is; and TensorBoard's folder, where the writer of this process left its file, gets another file. A run of
    Weights & Biases stays open.
    """

    def __init__(self) -> None:
        self._mlflow_run: mlflow.MLflowRun | None = None

    def note(self, args: TrainingArguments) -> None:
        """To be called whenever the Trainer logs."""
        module: Any = sys.modules.get("mlflow")
        if module is None or not _BY_MLFLOW & _reports(args):
            return
        run = module.active_run()
        if run is not None:
            self._mlflow_run = mlflow.MLflowRun(run.info.run_id, module.get_tracking_uri())

    def writers(self, args: TrainingArguments, step: int) -> list[Writer]:
        """For each tracker its name and the function that writes a diagnosis to it."""

        def to_tensorboard(everything: Logged) -> None:
            tensorboard.write_folder(_event_folder(args), everything, step)

        def to_mlflow(everything: Logged) -> None:
            if self._mlflow_run is None:
                raise InputError("no run of MLflow was active while training")
            mlflow.write_to(self._mlflow_run, everything, step)

        def to_wandb(everything: Logged) -> None:
            wandb.write_run(wandb.open_run(), everything, step, "train/global_step")

        reports = _reports(args)
        found: list[Writer] = []
        if "tensorboard" in reports:
            found.append(("TensorBoard", to_tensorboard))
        if _BY_MLFLOW & reports:
            found.append(("MLflow", to_mlflow))
        if "wandb" in reports:
            found.append(("Weights & Biases", to_wandb))
        return found


def _reports(args: TrainingArguments) -> set[str]:
    named = args.report_to
    return {named} if isinstance(named, str) else set(named or ())


def _event_folder(args: TrainingArguments) -> Path:
    """The folder that this process's latest TensorBoard writer writes to.

    Raises
    ------
    InputError
        It is not where the Trainer puts it: the writer is one of the user's.
    """
    told = os.environ.get("TENSORBOARD_LOGGING_DIR")
    folder = Path(told).expanduser() if told else Path(str(args.output_dir))
    # TensorBoard names a file by time, host, process and the number of the writer in the process
    files = list(folder.rglob(f"events.out.tfevents.*.{socket.gethostname()}.{os.getpid()}.*"))
    if not files:
        raise InputError(
            f"{folder} holds no events of this run",
            "",
            "mdtree.integrations.tensorboard.log_diagnosis(callback.diagnosis, WRITER) writes with one of your own",
        )
    return max(files, key=lambda file: int(file.name.rpartition(".")[2])).parent
