"""Tiny trainings by Lightning's Trainer and Fabric, and what they, or their callbacks, save."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning
import torch
import torch.distributed as dist
from layout import BATCH, EPOCHS, RATE, SAMPLES, Built, copied, fit, network, samples
from lightning.fabric import Fabric
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Points(lightning.LightningDataModule):
    """The samples."""

    def __init__(self, batch_size: int = BATCH) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(*samples()), batch_size=self.hparams["batch_size"])

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(TensorDataset(*samples()), batch_size=SAMPLES)


class Classifier(lightning.LightningModule):
    """A network in ``model``, as people write it."""

    def __init__(self, lr: float = RATE, batch_size: int = BATCH, loss: nn.Module | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = network()
        self.rate = lr

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self.model(batch[0]), batch[1])

    def validation_step(self, batch: Any, _: int) -> None:
        logits = self.model(batch[0])
        self.log("val_loss", nn.functional.cross_entropy(logits, batch[1]))
        self.log("val_acc", (logits.argmax(1) == batch[1]).double().mean())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.rate, momentum=0.9, weight_decay=1e-4)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)]


class WithSettings(Classifier):
    """Its hyper-parameters are one object."""

    def __init__(self, settings: Any) -> None:
        super().__init__()
        self._hparams.clear()  # type: ignore[union-attr]
        self.save_hyperparameters(settings)


class Adversaries(lightning.LightningModule):
    """Two networks and two optimizers that do not agree."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator, self.discriminator = network(), network(1)

    def training_step(self, batch: Any, _: int) -> None:
        for optimizer, model in zip(self.optimizers(), (self.generator, self.discriminator), strict=True):  # type: ignore[arg-type]
            optimizer.zero_grad()
            self.manual_backward(nn.functional.cross_entropy(model(batch[0]), batch[1]))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.SGD(self.generator.parameters(), 0.1),
            torch.optim.Adam(self.discriminator.parameters(), 0.01),
        ]


def trainer(folder: Path, *callbacks: Any, **options: Any) -> lightning.Trainer:
    """A quiet trainer."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **{"enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks), **options},
        **dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary"), False),
    )


def at_the_end(
    make: Callable[[], lightning.LightningModule],
    callbacks: tuple[Callable[[], Any], ...] = (),
    weights_only: bool = False,
    **options: Any,
) -> Callable[[Path], Built]:
    """``Trainer.save_checkpoint`` after fitting."""

    def build(folder: Path) -> Built:
        module, fitting = make(), trainer(folder, *(one() for one in callbacks), **options)
        with patch.dict(os.environ):  # where a strategy of several processes leaves their addresses
            fitting.fit(module, datamodule=Points())
        fitting.save_checkpoint(folder / "end.ckpt", weights_only=weights_only)
        if dist.is_initialized():
            dist.destroy_process_group()
        return Built(folder / "end.ckpt", copied(module))

    return build


def while_training(
    *callbacks: Callable[[], Any], score: str | None = None, mean: bool = False, which: int = -1, **options: Any
) -> Callable[[Path], Built]:
    """What ``ModelCheckpoint`` saves last (or before), with the weights and the score as they were at that moment."""

    def build(folder: Path) -> Built:
        seen: list[tuple[dict[str, Tensor], float]] = []

        class Noting(ModelCheckpoint):
            def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
                state = checkpoint["state_dict"] if mean else pl_module.state_dict()
                value = float(trainer.callback_metrics.get(score or "", torch.nan))
                seen.append(({name: tensor.clone() for name, tensor in state.items()}, value))

        saving = ModelCheckpoint(folder, "{step}", monitor=score, save_top_k=-1, **options)
        noting = Noting(folder / "unused", save_top_k=0)
        trainer(folder, *(make() for make in callbacks), noting, saving).fit(Classifier(), datamodule=Points())
        files = sorted(folder.glob("*.ckpt"), key=lambda file: int(file.stem.partition("=")[2]))
        scores = {"val_acc": ("test_accuracy_percent", 100.0), "val_loss": ("test_loss", 1.0)}
        name, unit = scores.get(score or "", ("", 1.0))
        assert len(files) == len(seen)
        state, value = seen[which]
        return Built(files[which], state, {name: unit * value} if name else {})

    return build


def compiled() -> Classifier:
    module = Classifier()
    module.model[0] = torch.compile(module.model[0], backend="eager")  # type: ignore[operator]
    return module


def without_wrappers(make: Callable[[], Any], *callbacks: Callable[[], Any]) -> Callable[[Path], Built]:
    """A file of the end of training, and the names without what compiling put in."""

    def build(folder: Path) -> Built:
        built = at_the_end(make, callbacks)(folder)
        return Built(built.path, {name.replace("_orig_mod.", ""): one for name, one in built.state.items()})

    return build


def fabric_file(folder: Path) -> Built:
    fabric = Fabric(accelerator="cpu", devices=1)
    model = network()
    wrapped, optimizer = fabric.setup(
        model, torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
    )
    fit(wrapped, optimizer)
    fabric.save(folder / "fabric.ckpt", {"model": wrapped, "optimizer": optimizer, "step": 12, "batch_size": BATCH})
    return Built(folder / "fabric.ckpt", copied(model))


def moving_average() -> Any:
    return EMAWeightAveraging(decay=0.9)


def stochastic_average() -> Any:
    return StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=2)
