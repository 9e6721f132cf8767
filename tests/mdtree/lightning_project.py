"""A project as a user of Lightning has it: digits of MNIST, a network, a LightningModule with a loss, a data module."""

NETS = """
import gzip
import os
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, 5, stride=2), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 5, stride=2), nn.BatchNorm2d(2 * width), nn.ReLU(),
        )
        self.head = nn.Linear(2 * width * 16, 10)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class LitNet(pl.LightningModule):
    def __init__(self, width=8, learning_rate=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.net = Net(width)
        self.loss = nn.CrossEntropyLoss(weight=torch.ones(10))  # its weight stands in the state dict, too

    def training_step(self, batch, index):
        x, y = batch
        logits = self.net(x)
        self.log("train_acc", (logits.argmax(1) == y).float().mean(), on_step=False, on_epoch=True)
        return self.loss(logits, y)

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.learning_rate, momentum=0.9, weight_decay=5e-4)
        return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)]


def images():
    folder = Path(os.environ["MDTREE_DATA"]) / "mnist10k"
    x = np.frombuffer(gzip.open(next(folder.glob("*images*"))).read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    y = np.frombuffer(gzip.open(next(folder.glob("*labels*"))).read(), np.uint8, offset=8)
    x = (torch.tensor(x) / 255 - 0.1307) / 0.3081
    y = torch.tensor(y).long()
    return TensorDataset(x[:1024], y[:1024]), TensorDataset(x[5000:], y[5000:])


def make(width=8):
    return Net(width)


def data():
    return images()


def fit(folder, seed, callbacks=(), epochs=4, **options):
    pl.seed_everything(seed, verbose=False)
    trainer = pl.Trainer(
        default_root_dir=folder, max_epochs=epochs, accelerator="cpu", devices=1, logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False, enable_model_summary=False,
    )
    module = LitNet()
    trainer.fit(module, DataLoader(images()[0], batch_size=32, shuffle=True), **options)
    return trainer, module
"""
"""What stands in the user's nets.py."""
