"""Checkpoints of Lightning: what its Trainer, its callbacks and Fabric write."""

from __future__ import annotations

import argparse

import omegaconf
from layout import BATCH, EPOCHS, RATE, Layout
from layouts_torch import SGD
from lightning.pytorch.strategies import DDPStrategy
from lightning_runs import (
    Adversaries,
    Classifier,
    WithSettings,
    at_the_end,
    compiled,
    fabric_file,
    moving_average,
    stochastic_average,
    while_training,
    without_wrappers,
)
from torch import nn

STATE = {"found_in": "state_dict", "framework": "lightning"}
TRAINED = {**SGD, "epochs": EPOCHS, "steps": 12, "schedule": "cosine"}
SIZES = {"batch_size": BATCH, "train_size": 32}  # four batches of eight, for thirty samples
MEAN = "callbacks.StochasticWeightAveraging.average_model_state"
_AVERAGED = {**TRAINED, **SIZES}
_SWA = {name: value for name, value in _AVERAGED.items() if name != "schedule"}
_SETTINGS = {"lr": RATE, "batch_size": BATCH, "max_epochs": EPOCHS}

LIGHTNING = (
    Layout(
        "Lightning, at an epoch's end, with a score",
        "ModelCheckpoint(monitor='val_acc')",
        while_training(score="val_acc"),
        recipe={**TRAINED, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning, at an epoch's end, with a loss",
        "ModelCheckpoint(monitor='val_loss')",
        while_training(score="val_loss", mode="min"),
        recipe={**TRAINED, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning, in the middle of an epoch",
        "ModelCheckpoint(every_n_train_steps=5)",
        while_training(every_n_train_steps=5),
        recipe={**TRAINED, "steps": 10, "epochs": 2, "batch_size": BATCH},
        **STATE,
    ),
    Layout(
        "Lightning, at the end",
        "Trainer.save_checkpoint",
        at_the_end(Classifier),
        recipe={**TRAINED, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning, two batches an update",
        "Trainer(accumulate_grad_batches=2).save_checkpoint",
        at_the_end(Classifier, accumulate_grad_batches=2),
        recipe={**TRAINED, **SIZES, "batch_size": 2 * BATCH, "steps": 6},
        **STATE,
    ),
    Layout(
        "Lightning, Namespace as hyper-parameters",
        "Trainer.save_checkpoint",
        at_the_end(lambda: WithSettings(argparse.Namespace(**_SETTINGS))),
        recipe={**TRAINED, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning, OmegaConf as hyper-parameters",
        "Trainer.save_checkpoint",
        at_the_end(lambda: WithSettings(omegaconf.OmegaConf.create(_SETTINGS))),
        recipe={**TRAINED, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning, a loss among the hyper-parameters",
        "Trainer.save_checkpoint",
        at_the_end(lambda: Classifier(loss=nn.CrossEntropyLoss(label_smoothing=0.1))),
        recipe={**TRAINED, **SIZES, "label_smoothing": 0.1},
        **STATE,
    ),
    Layout(
        "Lightning, weights only",
        "Trainer.save_checkpoint(weights_only=True)",
        at_the_end(Classifier, weights_only=True),
        recipe={"epochs": EPOCHS, "steps": 12, **SIZES, "learning_rate": RATE},
        **STATE,
    ),
    Layout(
        "Lightning, one layer compiled",
        "torch.compile, Trainer.save_checkpoint",
        without_wrappers(compiled),
        recipe={**TRAINED, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning, DistributedDataParallel",
        "DDPStrategy (gloo), Trainer.save_checkpoint",
        at_the_end(Classifier, strategy=DDPStrategy(process_group_backend="gloo")),
        recipe={**TRAINED, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning, moving average of the weights",
        "EMAWeightAveraging, ModelCheckpoint",
        while_training(moving_average, score=None),
        found_in="current_model_state",
        others=("state_dict",),
        framework="lightning",
        recipe=_AVERAGED,
    ),
    Layout(
        "Lightning, moving average of the weights, which is asked for",
        "EMAWeightAveraging, ModelCheckpoint",
        while_training(moving_average, score="val_acc", mean=True),
        found_in="state_dict (averaged weights)",
        others=("current_model_state",),
        weights="state_dict",
        framework="lightning",
        recipe=_AVERAGED,
    ),
    Layout(
        "Lightning, moving average of the weights, at the end",
        "EMAWeightAveraging, Trainer.save_checkpoint",
        without_wrappers(Classifier, moving_average),
        found_in="current_model_state (averaged weights)",
        others=("state_dict",),
        framework="lightning",
        recipe=_AVERAGED,
    ),
    Layout(
        "Lightning, stochastic weight averaging",
        "StochasticWeightAveraging, ModelCheckpoint",
        while_training(stochastic_average, score="val_acc", which=-2),
        others=(MEAN,),
        recipe=_SWA,
        **STATE,
    ),
    Layout(
        "Lightning, stochastic weight averaging, at the end",
        "StochasticWeightAveraging, Trainer.save_checkpoint",
        without_wrappers(Classifier, stochastic_average),
        found_in="state_dict (averaged weights)",
        others=(MEAN,),
        framework="lightning",
        recipe={**_SWA, "steps": 13},
    ),
    Layout(
        "Lightning, two networks with optimizers that do not agree",
        "manual optimisation, Trainer.save_checkpoint",
        at_the_end(Adversaries),
        recipe={"epochs": EPOCHS, "steps": 24, **SIZES},
        **STATE,
    ),
    Layout(
        "Lightning Fabric",
        "Fabric.save",
        fabric_file,
        found_in="model",
        recipe={**SGD, "steps": 12, "batch_size": BATCH},
    ),
)
