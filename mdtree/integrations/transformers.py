"""A callback for the Hugging Face Trainer: its checkpoints explain themselves, and a run can end with its diagnosis."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from mdtree.diagnosis import Diagnosis
from mdtree.files import write_atomically
from mdtree.integrations.end_of_training import diagnose_at_end, read_scores
from mdtree.integrations.trackers import log_everywhere
from mdtree.integrations.transformers_logging import Reporters
from mdtree.manifest import MANIFEST_FILE, Manifest, stamped
from mdtree.recipes.recipe import RecipeValue
from mdtree.training_record import TrainingRecord


class DiagnosisCallback(TrainerCallback):
    """Keeps the norm at the start, writes ``mdtree.json`` beside every checkpoint, and diagnoses when asked.

    ::

        trainer = Trainer(model, args, ..., callbacks=[DiagnosisCallback(data_spec="text:reviews.csv?...")])

    Every ``checkpoint-N`` folder then opens with ``mdtree diagnose FOLDER`` alone: the network comes from its
    ``config.json``, the data from `data_spec`.

    Parameters
    ----------
    data_spec, model_spec : str, optional
        How to load the data, and to build the network where ``config.json`` does not say it.
    fine_tuned_from : str, optional
        What the weights were taken from; growth is then against these weights.
    scores : mapping of str to str, optional
        Which logged values are accuracies and losses, for instance ``{"test_accuracy_percent": "eval_accuracy"}``; an
        accuracy up to 1 is read as a share.
    diagnose : bool
        Whether to measure and diagnose the network when training ends.
    data : callable, optional
        Called without arguments then; returns what a data function may return (see `mdtree.data`). By default the
        trainer's own loaders.
    report : callable
        Gets the report's text; prints it by default.
    log : bool
        Whether a diagnosis goes to what `report_to` names: TensorBoard, MLflow, Weights & Biases, with figure and
        report. Names: `mdtree.integrations.trackers`. One that fails is warned of. Other reporters take the numbers by
        ``trainer.log(diagnosis_numbers(callback.diagnosis))`` after training.

    Attributes
    ----------
    diagnosis : Diagnosis or None
        After training, where it was asked for.
    """

    def __init__(
        self,
        *,
        data_spec: str | None = None,
        model_spec: str | None = None,
        fine_tuned_from: str | None = None,
        scores: Mapping[str, str] | None = None,
        diagnose: bool = False,
        data: Callable[[], object] | None = None,
        report: Callable[[str], object] = print,
        log: bool = True,
    ) -> None:
        self.specs = (model_spec, data_spec)
        self.fine_tuned_from = fine_tuned_from
        self.scores = dict(scores or {})
        self.diagnose = diagnose
        self.data = data
        self.report = report
        self.log = log
        self.diagnosis: Diagnosis | None = None
        self._record: TrainingRecord | None = None
        self._reporters = Reporters()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Reads the norm of the weights before the first step; a resumed run finds it in what it resumes from."""
        record = TrainingRecord(kwargs["model"], kwargs.get("optimizer"), fine_tuned_from=self.fine_tuned_from)
        if state.global_step > 0:
            folder = _folder(args, state)
            record.initial_norm_squared = _kept_norm(folder / MANIFEST_FILE)
        self._record = record

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Writes the manifest into the folder just saved."""
        folder = _folder(args, state)
        if self._record is not None and state.is_world_process_zero and folder.is_dir():
            text = json.dumps(stamped(self._manifest(args, state)), indent=1, sort_keys=True)
            write_atomically(folder / MANIFEST_FILE, text.encode())

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Notes where the trainer reports to, while that is open."""
        if self.diagnose and self.log and state.is_world_process_zero:
            self._reporters.note(args)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Diagnoses and logs it, on the process of rank zero, if that was asked for."""
        if not self.diagnose or not state.is_world_process_zero or self._record is None:
            return
        model: nn.Module = kwargs["model"]
        source = self.data() if self.data is not None else _loaders(kwargs)
        self.diagnosis = diagnose_at_end(model, source, self._manifest(args, state), self.report)
        if self.log and self.diagnosis is not None:
            log_everywhere(self.diagnosis, self._reporters.writers(args, state.global_step))

    def _manifest(self, args: TrainingArguments, state: TrainerState) -> Manifest:
        assert self._record is not None
        model_spec, data_spec = self.specs
        logged: dict[str, float] = {}
        for entry in state.log_history:  # the last of each name counts
            logged.update({name: float(value) for name, value in entry.items() if isinstance(value, int | float)})
        return self._record.manifest(
            model_spec=model_spec,
            data_spec=data_spec,
            recipe=_recipe(args, state),
            scores=read_scores(logged, self.scores),
        )


def _folder(args: TrainingArguments, state: TrainerState) -> Path:
    return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def _recipe(args: TrainingArguments, state: TrainerState) -> dict[str, RecipeValue]:
    recipe: dict[str, RecipeValue] = {
        "learning_rate": float(args.learning_rate),
        "weight_decay": float(args.weight_decay),
        "schedule": str(getattr(args.lr_scheduler_type, "value", args.lr_scheduler_type)),
        "batch_size": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
        "steps": state.global_step,
        "seed": args.seed,
    }
    if state.epoch is not None:
        recipe["epochs"] = float(state.epoch)
    return recipe


def _kept_norm(file: Path) -> float | None:
    """What an earlier part of this run kept; if it did not, nothing rather than a norm in mid-training."""
    try:
        norm = json.loads(file.read_text(encoding="utf-8"))["manifest"]["initial_norm_squared"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(norm) if isinstance(norm, int | float) else None


def _loaders(given: Mapping[str, Any]) -> object:
    train, test = given.get("train_dataloader"), given.get("eval_dataloader")
    return {"train": train} if test is None else {"train": train, "test": test}
