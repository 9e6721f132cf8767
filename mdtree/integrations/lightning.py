"""A Lightning callback: checkpoints of the run explain themselves, and the run can end with its diagnosis."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from mdtree.diagnosis import Diagnosis
from mdtree.errors import InputError
from mdtree.integrations.end_of_training import diagnose_at_end, read_scores
from mdtree.integrations.lightning_logging import writers
from mdtree.integrations.trackers import log_everywhere
from mdtree.manifest import Manifest, stamped
from mdtree.recipes.recipe import RecipeValue
from mdtree.training_record import TrainingRecord

_NORM = "initial_norm_squared"


class DiagnosisCallback(Callback):
    """Keeps the norm at initialisation, writes what is known into every checkpoint, and diagnoses when asked.

    ::

        trainer = Trainer(callbacks=[DiagnosisCallback(network="net", model_spec="nets:make", data_spec="data:load")])

    Every ``.ckpt`` that Lightning saves then opens with ``mdtree diagnose FILE`` alone.

    Parameters
    ----------
    network : str, optional
        The attribute of the LightningModule that is the classifier: the module that takes inputs and returns logits.
        The LightningModule itself by default.
    model_spec, data_spec : str, optional
        How to build that network and to load its data, see `mdtree.save_checkpoint`.
    scores : mapping of str to str, optional
        Which logged metrics are the training's and the test's accuracy and loss, for instance
        ``{"train_accuracy_percent": "train_acc"}``; an accuracy up to 1 is read as a share.
    diagnose : bool
        Whether to measure and diagnose the network when fitting ends, on what `data` gives.
    data : callable, optional
        Called without arguments when fitting ends; returns what a data function may return (see `mdtree.data`): the
        samples as the network sees them in evaluation, without augmentation. By default the train and validation
        loaders of the run.
    report : callable
        Gets the report's text; prints it by default.
    log : bool
        Whether a diagnosis goes to the trainer's loggers: to TensorBoard, MLflow and Weights & Biases with figure and
        report, to others its numbers. Names: `mdtree.integrations.trackers`. A logger that fails is warned of.

    Attributes
    ----------
    diagnosis : Diagnosis or None
        After fitting, where it was asked for.
    """

    def __init__(
        self,
        *,
        network: str | None = None,
        model_spec: str | None = None,
        data_spec: str | None = None,
        scores: Mapping[str, str] | None = None,
        diagnose: bool = False,
        data: Callable[[], object] | None = None,
        report: Callable[[str], object] = print,
        log: bool = True,
    ) -> None:
        self.network = network
        self.specs = (model_spec, data_spec)
        self.scores = dict(scores or {})
        self.diagnose = diagnose
        self.data = data
        self.report = report
        self.logs = log  # Lightning puts its own function in the attribute `log`
        self.diagnosis: Diagnosis | None = None
        self._record: TrainingRecord | None = None
        self._resumed_norm: float | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reads the norm of the weights before the first step, or the one that a resumed run began with."""
        optimizers = trainer.optimizers
        record = TrainingRecord(self._of(pl_module), optimizers[0] if len(optimizers) == 1 else None)
        if self._resumed_norm is not None:
            record.initial_norm_squared = self._resumed_norm
        self._record = record

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {} if self._record is None else {_NORM: self._record.initial_norm_squared}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the norm that the run began with."""
        self._resumed_norm = state_dict.get(_NORM)
        if self._record is not None and self._resumed_norm is not None:
            self._record.initial_norm_squared = self._resumed_norm

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Adds the manifest, under ``mdtree``."""
        if self._record is not None:
            checkpoint["mdtree"] = stamped(self._manifest(trainer))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Diagnoses and logs it, on the process of rank zero, if that was asked for."""
        if not self.diagnose or not trainer.is_global_zero or self._record is None:
            return
        source = self.data() if self.data is not None else _loaders(trainer)
        self.diagnosis = diagnose_at_end(self._of(pl_module), source, self._manifest(trainer), self.report)
        if self.logs and self.diagnosis is not None:
            log_everywhere(self.diagnosis, writers(trainer.loggers, trainer.global_step))

    def _of(self, module: LightningModule) -> nn.Module:
        if self.network is None:
            return module
        try:
            found = operator.attrgetter(self.network)(module)
        except AttributeError as error:
            raise InputError(
                f"{type(module).__name__} has no attribute {self.network!r}", "the one that holds the classifier"
            ) from error
        if not isinstance(found, nn.Module):
            raise InputError(f"{type(module).__name__}.{self.network} is a {type(found).__name__}", "a torch.nn.Module")
        return found

    def _manifest(self, trainer: Trainer) -> Manifest:
        assert self._record is not None
        model_spec, data_spec = self.specs
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if value.numel() == 1}
        return self._record.manifest(
            model_spec=model_spec,
            data_spec=data_spec,
            recipe=_recipe(trainer),
            scores=read_scores(metrics, self.scores),
        )


def _recipe(trainer: Trainer) -> dict[str, RecipeValue]:
    """Epochs and steps done, samples a step, and the training samples where the loader knows them."""
    recipe: dict[str, RecipeValue] = {"epochs": _epochs(trainer), "steps": trainer.global_step}
    loader: Any = trainer.train_dataloader
    size = getattr(loader, "batch_size", None)
    if isinstance(size, int):
        recipe["batch_size"] = size * trainer.accumulate_grad_batches * trainer.world_size
    with contextlib.suppress(AttributeError, TypeError):  # an iterable data set: nobody knows
        recipe["train_size"] = len(loader.dataset)
    return recipe


def _epochs(trainer: Trainer) -> int | float:
    """By the batches seen: `current_epoch` counts on only after the checkpoint of an epoch is saved."""
    seen, each = trainer.fit_loop.epoch_loop.batch_progress.total.completed, trainer.num_training_batches
    if not each or math.isinf(each):
        return trainer.current_epoch
    return seen // int(each) if seen % each == 0 else seen / each


def _loaders(trainer: Trainer) -> object:
    train, validation = trainer.train_dataloader, trainer.val_dataloaders
    if validation is None or isinstance(validation, list | tuple | dict):
        return {"train": train}  # none, or several: which one is the test data is not ours to say
    return {"train": train, "test": validation}
