"""Where a Lightning run logs: each kind of logger takes as much of a diagnosis as it can hold."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from mdtree.integrations import mlflow, tensorboard, wandb
from mdtree.integrations.trackers import Logged, Writer


def writers(loggers: Iterable[Logger], step: int) -> list[Writer]:
    """For each logger its name and the function that writes a diagnosis to it.

    TensorBoard, MLflow and Weights & Biases get numbers, words, figure and report; others, the CSV logger among them,
    the numbers.
    """
    return [(type(logger).__name__, partial(_write, logger, step)) for logger in loggers]


def _write(logger: Logger, step: int, everything: Logged) -> None:
    if isinstance(logger, TensorBoardLogger):
        tensorboard.write_run(logger.experiment, everything, step)
    elif isinstance(logger, MLFlowLogger):
        mlflow.write_run(logger.experiment, str(logger.run_id), everything, step)
    elif isinstance(logger, WandbLogger):
        wandb.write_run(logger.experiment, everything, step, "trainer/global_step")
    else:
        logger.log_metrics(everything.numbers, step)
        logger.save()
